"""`dltrain -m`: a grid of runs, one after another, each the same as its own command alone.

Hydra's launcher is not used: it composes a job only when it is its turn, and a job that is wrong must keep all of
them from starting. Everything is composed and checked first; then `sweep.csv` is kept up to date, job by job.
"""

import copy
import gc
import hashlib
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dltrain import atomic, run, signals
from dltrain.config.lists import runs_word
from dltrain.config.messages import Failure, Mistake, command
from dltrain.config.mode import Train
from dltrain.config.precheck import precheck
from dltrain.config.quote import unquote
from dltrain.config.spec import DataSpec
from dltrain.grid import LAUNCHING, as_typed, expand, foreign_launcher, own_words
from dltrain.job import Job, prepare, under_hydra
from dltrain.report.recipe import recipe
from dltrain.report.sweeps import Row, jobs_table, result, seeds_table, sweep_csv
from dltrain.report.table import count, near
from dltrain.report.terminal import Screen

FLAGS = ("-m", "--multirun")
SLUG_BYTES = 80
MOST_COMMANDS = 10  # shown on the screen


@dataclass
class Planned:
    """One run to be: its words as they are typed alone, composed and checked."""

    words: list[str]
    row: Row
    job: Job


def sweep(argv: Sequence[str], screen: Screen) -> int:
    """Check every job, then run them all. Returns the exit code.

    0: all completed; 1: at least one failed; 2: none could start; 130 or 75: stopped by a signal, or 75: a job's
    `trainer.max_time` is over. Raises Mistake, before anything is made, if one job is wrong.
    """
    words = [word for word in precheck(list(argv)) if word not in FLAGS]
    words, output = own_words(words)
    began = time.strftime("%Y-%m-%d/%H-%M-%S")
    jobs = plan(words, screen)
    folder = _claim(Path(output).expanduser() if output else run.OUTPUTS / "sweeps" / began)
    _write_multirun(folder, words, jobs[0].job)
    return run_all(jobs, folder, screen)


# ---- before anything is made


def plan(words: list[str], screen: Screen) -> list[Planned]:
    """Every job of the grid, composed and checked, each data set described once. Raises Mistake naming the job."""
    grid, keys = expand(words)
    described: dict[str, DataSpec] = {}
    jobs: list[Planned] = []
    for number, job_words in enumerate(grid):
        screen.progress("checking jobs", number, len(grid))
        typed = dict(word.split("=", 1) for word in job_words)
        row = Row(number, {key: unquote(typed[key]) for key in keys}, command(as_typed(job_words)))
        try:
            job = prepare(job_words, screen, described)
            _refuse_what_is_ignored(job, row.command)
        except Mistake as mistake:
            raise Mistake(
                f"job {number} of the sweep ({row.settings or 'the only one'}): {mistake.what}",
                allowed=mistake.allowed,
                nearest=mistake.nearest,
                type_this=mistake.type_this,
            ) from None
        jobs.append(Planned(job_words, row, job))
    screen.clear()
    return jobs


def _refuse_what_is_ignored(job: Job, alone: str) -> None:
    """An experiment's YAML may choose a launcher too."""
    for key in LAUNCHING:
        chosen = job.composed.hydra.runtime.choices[key]
        if chosen != "basic":
            raise foreign_launcher(key, chosen)
    if not isinstance(job.cfg, Train):
        raise Mistake(f"mode={job.cfg.mode} makes no runs, and -m sweeps over runs", allowed="mode=train")
    if job.cfg.trainer.dry_run:
        raise Mistake(
            "trainer.dry_run=true makes no runs, and -m sweeps over runs", allowed="a dry run alone", type_this=alone
        )


# ---- one after another


def run_all(jobs: list[Planned], folder: Path, screen: Screen) -> int:
    """Run the jobs, keep `sweep.csv` up to date, end with the tables."""
    rows = [job.row for job in jobs]
    codes: list[int] = []
    screen.brief = True
    screen.line(f"sweep of {count(len(jobs), 'job')}   {near(folder)}")
    try:
        for job in jobs:
            if signals.requested():
                break
            codes.append(_one(job, rows, folder, screen))
    except KeyboardInterrupt:
        for row in rows:
            if row.status == "running":
                _finish(row, 130, rows, folder, screen)
        codes.append(130)
    finally:
        screen.brief, screen.place = False, ""
    with signals.patient():
        _tell_end(rows, folder, screen)
    return _exit_code(codes)


def _one(job: Planned, rows: Sequence[Row], folder: Path, screen: Screen) -> int:
    try:
        _begin(job.row, rows, folder, screen)
    except OSError as error:  # a full disk, say: other jobs are told of it in their turn
        job.row.status = "failed"
        screen.error(f"{_place(job.row, rows)}  failed  no folder can be made: {error}")
        return 1
    code = _run(job, screen)
    _finish(job.row, code, rows, folder, screen)
    return code


def _begin(row: Row, rows: Sequence[Row], folder: Path, screen: Screen) -> None:
    with signals.patient():
        row.folder = run.claim(folder / slug(row))
        row.status = "running"
        screen.place = f"job {rows.index(row) + 1}/{len(rows)}  "
        _write_csv(folder, rows, screen)
        screen.line(f"{_place(row, rows)}  {row.settings}".rstrip() + f"   run {near(row.folder)}")


def _finish(row: Row, code: int, rows: Sequence[Row], folder: Path, screen: Screen) -> None:
    with signals.patient():
        assert row.folder is not None
        row.results = run.Run(row.folder).results()
        row.folder = row.folder if row.folder.is_dir() else None  # a mistake that only torch could see leaves none
        row.status = {0: "completed", 75: "interrupted", 130: "interrupted"}.get(code, "failed")
        _write_csv(folder, rows, screen)
        told = [_place(row, rows), row.status, row.settings, result(row)]
        screen.line("  ".join(word for word in told if word))


def _place(row: Row, rows: Sequence[Row]) -> str:
    return f"job {row.number} ({rows.index(row) + 1} of {len(rows)})"


def _run(planned: Planned, screen: Screen) -> int:
    assert planned.row.folder is not None
    screen.typed = as_typed(planned.words)
    screen.notes = recipe(dict(planned.job.composed.hydra.runtime.choices), planned.words)
    try:
        return under_hydra(planned.job, planned.row.folder, screen)
    finally:
        screen.detach()
        gc.collect()
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
            sys.modules["torch"].cuda.empty_cache()  # so that the next job measures its own memory


def _exit_code(codes: Sequence[int]) -> int:
    asked = signals.requested()
    if asked or 130 in codes:
        return 130 if asked in (None, "SIGINT") else 75
    if codes and all(code == 2 for code in codes):
        return 2
    if any(code not in (0, 75) for code in codes):
        return 1
    return 75 if 75 in codes else 0


def _tell_end(rows: Sequence[Row], folder: Path, screen: Screen) -> None:
    screen.line()
    for text in jobs_table(rows, screen.room):
        screen.line(text)
    spread = seeds_table(rows)
    for text in ["", *spread] if spread else []:
        screen.line(text)
    screen.line()
    failed = [row for row in rows if row.status == "failed"]
    for row in failed:
        log = f"   {near(row.folder / 'run.log')}" if row.folder else ""
        screen.line(f"failed   job {row.number}  {row.settings}{log}")
    screen.line(f"table    {near(folder / 'sweep.csv')}")
    stopped = [row.folder for row in rows if row.status == "interrupted" and row.folder]
    go_on = [command([f"resume={near(path)}"]) for path in stopped]
    go_on += [row.command for row in rows if row.status == "waiting"]
    for i, text in enumerate(go_on[:MOST_COMMANDS]):
        screen.line(f"{'' if i else 'go on':<9}{text}")
    if len(go_on) > MOST_COMMANDS:
        screen.line(f"         and {len(go_on) - MOST_COMMANDS} more, in the last column of the table")
    done = [row for row in rows if row.status == "completed"]
    if done and done[0].folder and not go_on:
        following = [command(["mode=reproduce", f"run={near(done[0].folder)}"])]
        if len(done) > 1:
            following.insert(0, command(["mode=compare", runs_word([Path(near(folder))])]))
        for i, text in enumerate(following):
            screen.line(f"{'' if i else 'next':<9}{text}")


# ---- files


def _claim(wanted: Path) -> Path:
    try:
        return run.claim(wanted)
    except OSError as error:
        raise Mistake(
            f"the sweep's folder {wanted} cannot be made: {error.strerror}",
            allowed="a folder that you may write to",
            type_this="output=FOLDER",
        ) from None


def slug(row: Row) -> str:
    """`3-model=mlp,seed=1`: the number and what differs, at most 80 bytes, then a hash of all of it."""
    text = ",".join(f"{key}={value}" for key, value in row.differs.items())
    name = re.sub(r"[^\w.=,+-]", "_", text)
    if len(name.encode()) > SLUG_BYTES:
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        name = f"{name.encode()[: SLUG_BYTES - 9].decode(errors='ignore')}-{digest}"
    return f"{row.number}-{name}" if name else str(row.number)


def _write_csv(folder: Path, rows: Sequence[Row], screen: Screen) -> None:
    try:
        atomic.write_text(folder / "sweep.csv", sweep_csv(rows))
    except (Failure, OSError) as error:
        screen.warn(f"{near(folder / 'sweep.csv')} is not up to date: {error}")


def _write_multirun(folder: Path, words: list[str], first: Job) -> None:
    """The sweep's own words, as Hydra keeps them; keys that are swept over stand at their first value."""
    from omegaconf import OmegaConf, open_dict, read_write

    composed = copy.deepcopy(first.composed)
    with read_write(composed), open_dict(composed):
        OmegaConf.update(composed, "hydra.overrides.task", words)
        OmegaConf.update(composed, "hydra.sweep.dir", str(folder))
        OmegaConf.update(composed, "hydra.mode", "MULTIRUN")
    atomic.write_text(folder / "multirun.yaml", OmegaConf.to_yaml(composed))
