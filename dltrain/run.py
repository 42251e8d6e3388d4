"""The run directory: what lies in it, how runs are found. Needs no torch; `checkpoint.py` has the checkpoints.

Nothing in a run folder is trusted: what is read back is bounded in size and checked against what dltrain writes.
"""

import csv
import difflib
import io
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain import atomic, lock
from dltrain.config import saved
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.overlay import anew
from dltrain.config.spec import DataSpec, spec_from_json
from dltrain.text import safe_text

OUTPUTS = Path("outputs")
CHECKPOINTS = "checkpoints"
MAX_JSON = 8 * 1024 * 1024
MAX_METRICS = 256 * 1024 * 1024
UNKNOWN: dict[str, Any] = {
    "status": "running",
    "metrics": {},
    "best": None,
    "parameters": None,
    "weights_sha256": None,
    "steps": None,
    "epochs": None,
    "seconds": None,
    "images_per_second": None,
    "peak_memory_bytes": None,
    "device": None,
    "precision": None,
    "seed": None,
}
STATUSES = {"running", "completed", "interrupted", "failed"}


class Run:
    """One run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Own the folder while the block runs; what a killed owner left half-written is cleared away.

        Raises Mistake if a live process owns it or if it cannot be written.
        """
        with lock.hold(self.path):
            atomic.clear_temporaries(self.path)
            atomic.clear_temporaries(self.path / CHECKPOINTS)
            yield

    def results(self) -> dict[str, Any]:
        """`results.json` with every key of `UNKNOWN`; raises Mistake if it is not what dltrain writes."""
        path = self.path / "results.json"
        if not path.exists():
            return dict(UNKNOWN, metrics={})
        read = _read_json(path)
        if read.get("status") not in STATUSES or not isinstance(read.get("metrics"), dict):
            raise Mistake(f"{path} does not hold the results of a run")
        return {name: read.get(name, unknown) for name, unknown in UNKNOWN.items()}

    def write_results(self, **changes: Any) -> None:
        """Change some keys of `results.json`; the others stay as they are."""
        unknown = sorted(set(changes) - set(UNKNOWN))
        if unknown or changes.get("status", "running") not in STATUSES:
            raise ValueError(f"not a key or status of results.json: {unknown or changes['status']}")
        atomic.write_json(self.path / "results.json", self.results() | changes)

    @property
    def status(self) -> str:
        """The last word of `results.json`; `running` if it says nothing that can be read."""
        try:
            return str(self.results()["status"])
        except Mistake:
            return "running"

    @property
    def has_checkpoint(self) -> bool:
        return any((self.path / CHECKPOINTS / f"{name}.pt").is_file() for name in ("last", "previous"))

    def write_metrics(self, rows: Sequence[dict[str, float]]) -> None:
        """`metrics.csv`, whole: epoch, step, train/…, val/…, others. Floats by repr, so that every bit survives."""
        columns = _columns(rows)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[_cell(row[name]) if name in row else "" for name in columns] for row in rows])
        atomic.write_text(self.path / "metrics.csv", text.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, empty cells left out; no file: no rows."""
        path = self.path / "metrics.csv"
        if not path.exists():
            return []
        try:
            rows = list(csv.DictReader(io.StringIO(_read(path, MAX_METRICS), newline="")))
            return [{name: _number(cell) for name, cell in row.items() if cell} for row in rows]
        except (csv.Error, ValueError, TypeError, AttributeError) as error:
            raise Mistake(f"{path} is not a table of numbers: {error}") from error

    def write_config(self, cfg: Config) -> None:
        atomic.write_json(self.path / "config.json", saved.to_json(cfg))

    def read_config(self) -> Config:
        """The config that the run was started with; raises Mistake if it is not one of ours."""
        path = self.path / "config.json"
        return saved.from_json(_read(path, saved.MAX_BYTES), str(path))

    def write_environment(self, env: dict[str, Any]) -> None:
        """`environment.json`, as `environment.to_json` made it."""
        atomic.write_json(self.path / "environment.json", env)

    def environment(self) -> dict[str, Any]:
        """What `write_environment` wrote; empty if the run was killed before."""
        path = self.path / "environment.json"
        return _read_json(path) if path.exists() else {}

    def spec(self) -> DataSpec | None:
        """The data set as the run saw it; None if the run was killed before that was known."""
        described = self.environment().get("data_spec")
        if described is None:
            return None
        try:
            return spec_from_json(described)
        except ValueError as error:
            raise Mistake(f"{self.path / 'environment.json'}: {error}") from error


def claim(wanted: Path) -> Path:
    """Make a run folder that nobody else has: `wanted`, or with -2, -3, … behind it. Raises Mistake, OSError."""
    if wanted.name in ("", ".."):  # `output=`, `output=.`, `output=/`: -2 cannot stand behind it
        raise Mistake(
            f"output={safe_text(str(wanted))} names no new folder",
            allowed="a folder to be made, or null for one below outputs/",
            type_this="output=runs/first",
        )
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def all_runs() -> list[Path]:
    """Every run below `outputs/`, newest first by the date and time in its path; jobs of sweeps too."""
    found = [*OUTPUTS.glob("[0-9]*/*/config.json"), *OUTPUTS.glob("sweeps/*/*/*/config.json")]
    return sorted((path.parent for path in found if path.is_file()), key=_age_key, reverse=True)


def _age_key(path: Path) -> tuple[object, ...]:
    parts = path.relative_to(OUTPUTS).parts
    date, time, rest = (parts[0], parts[1][:8], parts[1][8:]) if len(parts) == 2 else parts[1:]
    # Digits by value: job 10 of a sweep is newer than job 9, and -10 behind a name newer than -2.
    return date, time, [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", rest)]


def find(text: str, key: str, *, unfinished: bool = False, longer: bool = False) -> Path:
    """The run that `key=text` names: a folder, or `last`.

    `last` is the newest run with a checkpoint; with `unfinished` the newest that neither completed nor is being
    written by a live process, with or without a checkpoint. With `unfinished`, a run that completed is a mistake
    unless `longer` says that its length is being changed. Raises Mistake.
    """
    if text == "last":
        path = _find_last(key, unfinished)
        _refuse_links(path)
        return path
    path = Path(text).expanduser()
    if not os.path.isfile(path / "config.json"):  # noqa: PTH113 - Path.is_file raises for names that are too long
        raise _no_run(text, key, path)
    _refuse_links(path)
    run = Run(path)
    if unfinished and run.status == "completed" and not longer:
        raise Mistake(
            f"{key}={text} has completed",
            allowed="a run that was interrupted, killed or failed; or a new run from its weights",
            type_this=_anew(path),
        )
    if unfinished and (owner := lock.live_owner(path)):
        raise lock.owned(f"{key}={text}", owner)
    return path


def _refuse_links(path: Path) -> None:
    """What is written into a run must not lie elsewhere: dltrain makes no links, so whoever made one meant that."""
    for found in (*path.iterdir(), *path.glob("*/*")):
        if found.is_symlink():
            raise Mistake(
                f"{safe_text(str(found))} is a link, and what a run holds lies in its folder",
                allowed="files and folders; put what the link leads to in its place",
            )


def _find_last(key: str, unfinished: bool) -> Path:
    runs = all_runs()
    for path in runs:
        if unfinished and Run(path).status != "completed" and not lock.live_owner(path):
            return path
        if not unfinished and Run(path).has_checkpoint:
            return path
    if not runs:
        raise Mistake(f"{key}=last: there is no run below {OUTPUTS}/ here", type_this="dltrain")
    if unfinished:
        raise Mistake(
            f"{key}=last: every run here has completed or is running",
            allowed=f"a new run from the weights of one: {_newest(runs)}",
            type_this=_anew(runs[0]),
        )
    raise Mistake(f"{key}=last: no run here has a checkpoint yet", type_this="dltrain resume=last")


def _anew(path: Path) -> str:
    try:
        return anew(path, Run(path).read_config())
    except Mistake:  # what it says of a broken run is told where that run is opened
        return f"dltrain init=run init.source={shown(path)}"


def _no_run(text: str, key: str, path: Path) -> Mistake:
    what = "has no config.json, so it is no run" if os.path.isdir(path) else "is not there"  # noqa: PTH112
    runs = all_runs()
    names = {str(run): run for run in runs} | {run.name: run for run in reversed(runs)}
    close = difflib.get_close_matches(text[:1000].rstrip("/"), list(names), n=1, cutoff=0.6)
    below = [run for run in runs if path in run.parents]
    nearest = below[0] if below else names[close[0]] if close else None
    return Mistake(
        f"{key}={safe_text(text)} {what}",
        allowed="last, or a run folder" + (f": {_newest(runs)}" if runs else f"; there is none below {OUTPUTS}/ here"),
        nearest=str(nearest) if nearest else "",
        type_this=f"{key}={shown(nearest)}" if nearest else "",
    )


def _newest(runs: list[Path]) -> str:
    return ", ".join(str(path) for path in runs[:3]) + (", …" if len(runs) > 3 else "")


def shown(path: Path) -> str:
    """A path as it can be pasted into a shell."""
    return shlex.quote(str(path))


def _columns(rows: Sequence[dict[str, float]]) -> list[str]:
    """Every name of every row once: epoch, step, then train/, val/ and the rest, each in order of appearance."""
    names = list(dict.fromkeys(["epoch", "step"] + [name for row in rows for name in row]))
    rank = {"train": 1, "val": 2}
    return sorted(names, key=lambda name: 0 if name in ("epoch", "step") else rank.get(name.split("/")[0], 3))


def _cell(value: float) -> str:
    if type(value) not in (int, float):
        raise TypeError(f"a cell of metrics.csv is an int or a float, not {type(value).__name__}")
    return repr(value)


def _number(cell: str) -> float:
    return int(cell) if re.fullmatch(r"-?\d{1,18}", cell) else float(cell)


def _read(path: Path, limit: int) -> str:
    """Text of a regular file of at most `limit` bytes; raises Mistake."""
    try:
        if not path.is_file():
            raise Mistake(f"{path} is not there, or no file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Mistake(f"{path} is larger than {limit:,} bytes: dltrain did not write it")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path, MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise Mistake(f"{path} is not what dltrain writes: {error}") from error
    if not isinstance(value, dict):
        raise Mistake(f"{path} is not what dltrain writes: no object")
    return value
