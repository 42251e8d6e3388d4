"""Runs that are looked at side by side: what was chosen in each, what came out, whether that can be compared. No torch.

Nothing in a run is trusted: its files are read as `run.py` reads them, and numbers are taken only where they are some.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain import lock
from dltrain.config.compose import leaves
from dltrain.config.messages import Mistake
from dltrain.config.mode import GROUPS, Config
from dltrain.config.overlay import WITHOUT_EFFECT
from dltrain.config.spec import DataSpec
from dltrain.config.value import written
from dltrain.report.sweeps import REPLICATES, Row
from dltrain.report.table import near
from dltrain.run import Run
from dltrain.text import safe_text

OF_THE_DATA = ("test images", "targets")
LARGEST = 1e100  # of a result: squares of it are finite still
_CIRCUMSTANCES = ("device", "precision", "threads", "determinism")


@dataclass
class Opened(Row):
    """A run that has been read. `chosen` are its settings that have a say in what comes out, as they are typed."""

    chosen: dict[str, str] = field(default_factory=dict)
    usual: dict[str, str] = field(default_factory=dict)  # the same keys as they are by default
    spec: DataSpec | None = None
    test_sha256: str = ""
    judge: str = ""  # SHA-256 of the network that a generator was measured by
    circumstances: dict[str, str] = field(default_factory=dict)


def open_runs(paths: Sequence[Path]) -> tuple[list[Opened], list[str]]:
    """The runs that can be read, with the settings that differ between them; and a line for each that cannot.

    Raises Mistake if less than two can.
    """
    rows: list[Opened] = []
    notes: list[str] = []
    for path in paths:
        try:
            rows.append(_open(path, len(rows)))
        except Mistake as mistake:
            notes.append(f"{near(path)} is left out: {mistake.what}")
    if len(rows) < 2:
        raise Mistake(
            "\n".join([f"runs=…: {len(rows)} of {len(paths)} runs can be read", *notes]), allowed="two runs or more"
        )
    keys = [*differing(rows), *(key for key in REPLICATES if any(key in row.chosen for row in rows))]
    for row in rows:
        row.differs = {key: row.chosen.get(key, "") for key in keys}
    return rows, notes


def _open(path: Path, number: int) -> Opened:
    record = Run(path)
    cfg = record.read_config()
    results = sound(record.results())
    status = str(results["status"])
    if status == "running" and not lock.live_owner(path):
        status = "killed"
    environment, spec = record.environment(), record.spec()
    digests = environment.get("data_sha256")
    versions, judge = environment.get("versions"), environment.get("judge")
    chosen = {key: written(value) for key, value in _with_a_say(cfg)}
    usual = {key: written(value) for key, value in _with_a_say(_by_default(cfg))}
    facts = {name: environment.get(name, "") for name in _CIRCUMSTANCES}
    facts |= {name: versions.get(name, "") if isinstance(versions, dict) else "" for name in ("torch", "cpu")}
    return Opened(
        number=number,
        differs={},
        command="",
        folder=path,
        status=status,
        results=results,
        chosen=chosen | _of_the_data(spec),
        usual=usual,
        spec=spec,
        test_sha256=str(digests.get("test", "")) if isinstance(digests, dict) else "",
        judge=str(judge.get("weights_sha256", "")) if isinstance(judge, dict) else "",
        circumstances={name: safe_text(str(value), 60) for name, value in facts.items()},
    )


def sound(results: dict[str, Any]) -> dict[str, Any]:
    """What `results.json` holds, less all that is no finite number where one belongs."""
    best, weights = results["best"], results["weights_sha256"]
    numbers = ("steps", "epochs", "seconds", "images_per_second", "parameters")
    kept: dict[str, Any] = {name: _finite(results[name]) for name in numbers}
    kept |= {"status": results["status"], "best": None}
    if isinstance(best, dict) and isinstance(best.get("metric"), str) and _finite(best.get("value")) is not None:
        kept["best"] = {name: _finite(best.get(name)) for name in ("value", "epoch", "step")}
        kept["best"]["metric"] = safe_text(best["metric"], 60)
    metrics = results["metrics"].items()
    kept["metrics"] = {safe_text(name, 60): value for name, value in metrics if _finite(value) is not None}
    kept["weights_sha256"] = weights if isinstance(weights, str) and len(weights) <= 64 else None
    return kept


def _finite(value: Any) -> float | int | None:
    """The number, if it is one that a mean can be made of."""
    whole = type(value) in (int, float) and abs(value) <= LARGEST  # NaN is not, either
    return value if whole else None


def _with_a_say(cfg: Config) -> Iterator[tuple[str, Any]]:
    """The settings that can change what comes out; a group by its name alone."""
    for key, value in leaves(cfg):
        without = key in ("mode", "run", "checkpoint", "resume", "trust", "output") or key.startswith("log.")
        if key == "data.root" and type(cfg.data).native is None:  # the user's own images: others below another root
            without = False
        elif key == "data.fold" and cfg.data.folds is None:
            without = True
        else:
            without = without or key in WITHOUT_EFFECT
        if not without:
            yield key.removesuffix(".name") if key.removesuffix(".name") in GROUPS else key, value


def _by_default(cfg: Config) -> Config:
    groups = {group: type(getattr(cfg, group))() for group in GROUPS if hasattr(cfg, group) and group != "mode"}
    return type(cfg)(**groups)


def _of_the_data(spec: DataSpec | None) -> dict[str, str]:
    """What can differ though the settings are the same: another folder of that name, say."""
    if spec is None:  # killed before that was known
        return {}
    names = safe_text(", ".join([*spec.class_names, *spec.value_names]), 60)
    return dict(zip(OF_THE_DATA, (f"{spec.counts.get('test', 0):,}", names or "none"), strict=True))


def differing(rows: Sequence[Opened]) -> list[str]:
    """Keys that do not say the same in every run, seed and fold left out; in the order of the config.

    A key that some runs do not have (a depth, for a model without) differs only if the others have no one value, or
    one that is not the default: that they are other models is told by `model`.
    """
    keys = dict.fromkeys(key for row in rows for key in row.chosen if key not in REPLICATES)
    found = []
    for key in keys:
        having = [row for row in rows if key in row.chosen]
        values = {row.chosen[key] for row in having}
        absent = len(having) < len(rows) and key not in OF_THE_DATA
        if len(values) > 1 or (absent and having[0].chosen[key] != having[0].usual.get(key)):
            found.append(key)
    return sorted(found, key=lambda key: (key in OF_THE_DATA, key not in GROUPS))


def why_not_comparable(one: Opened, other: Opened) -> str:
    """Why a figure of one run's test says nothing beside the other's; empty if it does."""
    a, b = one.spec, other.spec
    if a is None or b is None:
        return "what data it saw is not recorded"
    tests = [f"{spec.counts.get('test', 0):,} images of {safe_text(spec.name, 60)}" for spec in (a, b)]
    if tests[0] != tests[1]:
        return f"another test set: {tests[0]}, not {tests[1]}"
    if (a.class_names, a.value_names) != (b.class_names, b.value_names):
        return "another set of classes" if a.class_names else "other values"
    if a.shape == b.shape and one.test_sha256 and other.test_sha256 and one.test_sha256 != other.test_sha256:
        return "other images in the test set"
    if one.judge != other.judge:
        return "measured by another judge"
    if one.chosen.get("task.samples") != other.chosen.get("task.samples"):
        return "measured on another number of samples"
    return ""


def apart(rows: Sequence[Opened]) -> list[str]:
    """A line for each circumstance that is not the same in all runs: it may have a part in the differences."""
    lines = []
    for name in dict.fromkeys(name for row in rows for name in row.circumstances):
        values = dict.fromkeys(row.circumstances.get(name, "") or "not recorded" for row in rows)
        if len(values) > 1:
            lines.append(f"not made alike: {name} {', '.join(values)}")
    return lines


def twins(rows: Sequence[Opened]) -> tuple[list[Opened], list[str]]:
    """Each setting's runs, one a seed and fold: repetitions of one seed are no independent runs.

    Of several the first that completed is kept; the others are named.
    """
    kept: dict[tuple[str, ...], Opened] = {}
    lines = []
    for row in rows:
        key = tuple(row.differs.values())
        other = kept.setdefault(key, row)
        if other is row:
            continue
        first, second = (other, row) if other.status == "completed" or row.status != "completed" else (row, other)
        kept[key] = first
        assert first.folder is not None
        assert second.folder is not None
        weights = [one.results["weights_sha256"] for one in (first, second)]
        same = "the same weights" if weights[0] is not None and weights[0] == weights[1] else "other weights"
        lines.append(f"{near(second.folder)} has the setting and seed of {near(first.folder)} and is left out ({same})")
    return list(kept.values()), lines
