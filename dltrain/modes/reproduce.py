"""mode=reproduce: train a run again in a new run, and say, bit for bit, whether the same came out."""

from dataclasses import fields
from itertools import zip_longest
from typing import Any

from dltrain import environment, job
from dltrain.config.compose import leaves
from dltrain.config.mode import Config, Reproduce, Train
from dltrain.config.overlay import WITHOUT_EFFECT
from dltrain.config.spec import DataSpec, spec_to_json
from dltrain.report.table import columns, count, near
from dltrain.report.terminal import Screen
from dltrain.run import Run, find, shown
from dltrain.text import safe_text

Row = dict[str, float]


def run(cfg: Reproduce, spec: DataSpec, screen: Screen, composed: Any) -> int:
    """Train `cfg.run` again. Returns 0 if weights and every cell are the same, 1 if not, 75 or 130 if stopped.

    `composed` is Hydra's composition behind `cfg`, for the new run's name and its `.hydra/`.
    """
    original = Run(find(cfg.run or "", "run"))
    settings = Train(**{entry.name: getattr(cfg, entry.name) for entry in fields(Config)} | {"mode": "train"})
    settings.trainer.max_time = None  # a stop, not a length: this run is to come to its end
    anew = job.Job(settings, spec, composed)
    again = Run(job.claim(anew))
    code = job.under_hydra(anew, again.path, screen, original.environment())
    if code in (job.INTERRUPTED, job.ASKED_TO_STOP):
        screen.line(f"not finished, so not compared; to go on:  dltrain resume={shown(again.path)}")
        screen.line(f"and then:  diff {shown(original.path / 'metrics.csv')} {shown(again.path / 'metrics.csv')}")
        return code
    return code or compare(original, again, screen)


def compare(original: Run, again: Run, screen: Screen) -> int:
    """Say whether two completed runs are the same to the last bit, and what differs between them. Returns 0 or 1."""
    then, now = original.results(), again.results()
    rows = original.read_metrics(), again.read_metrics()
    found = first_difference(*rows)
    tests = first_difference([then["metrics"]], [now["metrics"]])
    same = found is None and tests is None and then["weights_sha256"] == now["weights_sha256"]
    if same:
        same_rows = count(len(rows[1]), "row")
        screen.line(f"identical      weights sha256 {now['weights_sha256'][:12]}, {same_rows} of metrics.csv")
    else:
        hashes = [results["weights_sha256"][:12] for results in (then, now)]
        screen.line(f"different      weights sha256 {hashes[0]} then, {hashes[1]} now")
    if found is not None:
        row, column, old, new = found
        known = rows[0][row] if row < len(rows[0]) else rows[1][row]
        place = ", ".join(f"{name} {known[name]}" for name in ("epoch", "step") if name in known)
        screen.line(f"first in       metrics.csv, row {row + 1} ({place}), {column}: {old} then, {new} now")
    elif tests is not None:
        screen.line(f"first in       results.json, {tests[1]}: {tests[2]} then, {tests[3]} now")
    elif not same:
        screen.line("first in       the weights: every row of metrics.csv is the same")
    causes = what_differs(original, again)
    if causes:
        for line in columns(["although" if same else "differs", "then", "now"], causes):
            screen.line(line)
    elif not same:
        screen.line("differs        nothing that is recorded: one of them was not exact, or files were changed")
    screen.line(f"run            {near(again.path)}")
    return 0 if same else 1


def first_difference(then: list[Row], now: list[Row]) -> tuple[int, str, str, str] | None:
    """(row, column, then, now) of the first cell that is not the same number to the last bit; None if none is."""
    for index in range(max(len(then), len(now))):
        if index >= len(then) or index >= len(now):
            words = ["there" if index < len(rows) else "missing" for rows in (then, now)]
            return index, "the row", words[0], words[1]
        for column in dict.fromkeys([*then[index], *now[index]]):
            old, new = (repr(rows[index].get(column, "missing")) for rows in (then, now))
            if old != new:
                return index, column, old, new
    return None


def what_differs(original: Run, again: Run) -> list[tuple[str, str, str]]:
    """(name, then, now) of every setting, fact of the data, version, thread count or device that is not the same."""
    then, now = original.environment(), again.environment()
    pairs: list[tuple[str, str, str]] = []
    # What a run of an earlier version did not know of was as it is by default.
    spec = original.spec()
    seen = {} if spec is None else {name: _listed(value) for name, value in spec_to_json(spec).items()}
    older = {"settings": dict(leaves(original.read_config())), "data_spec": seen}
    for key, prefix in (("settings", ""), ("data_spec", "data: "), ("data_sha256", "images: sha256 of ")):
        facts = [env[key] if isinstance(env.get(key), dict) else {} for env in (then, now)]
        facts[0] = {name: value for name, value in older.get(key, {}).items() if name in facts[1]} | facts[0]
        pairs += _unequal(facts[0], facts[1], prefix)
    pairs += _told(then, now)
    judges = [env["judge"] if isinstance(env.get("judge"), dict) else {} for env in (then, now)]
    judges = [{"weights sha256": one.get("weights_sha256", "")} for one in judges]
    pairs += _unequal(judges[0], judges[1], "judge: ")
    pairs += environment.differences(then, now)
    earlier = then.get("earlier")
    for index, before in enumerate(earlier if isinstance(earlier, list) else []):
        if not isinstance(before, dict):
            continue
        words = f"part {index + 1} of the run"
        pairs += [(f"{words}: {name}", old, new) for name, old, new in environment.differences(before, now)]
    return pairs


def _told(then: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Which files the splits hold, and what was said of the data, where that is not the same."""
    specs = [env["data_spec"] if isinstance(env.get("data_spec"), dict) else {} for env in (then, now)]
    lists = [spec["listing"] if isinstance(spec.get("listing"), dict) else {} for spec in specs]
    pairs = _unequal(lists[0], lists[1], "files: sha256 of ") if all(lists) else []
    notes = [spec["notes"] if isinstance(spec.get("notes"), list | tuple) else () for spec in specs]
    gone, come = ([note for note in ours if note not in others] for ours, others in (notes, notes[::-1]))
    return pairs + [
        ("data", safe_text(str(old)), safe_text(str(new))) for old, new in zip_longest(gone, come, fillvalue="")
    ]


def _listed(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _unequal(then: dict[str, Any], now: dict[str, Any], prefix: str) -> list[tuple[str, str, str]]:
    return [
        (prefix + name, safe_text(str(then.get(name, ""))), safe_text(str(now.get(name, ""))))
        for name in dict.fromkeys([*then, *now])
        if then.get(name, "") != now.get(name, "")
        and name not in WITHOUT_EFFECT
        and not name.startswith("log.")
        and name not in ("where", "notes", "listing")  # of the data spec: the folder, and what is told line by line
    ]
