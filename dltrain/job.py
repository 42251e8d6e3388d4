"""One job: composed and checked without torch, then run by its mode, every exception a status and an exit code.

Workers import it: torch comes with the mode's module only, and nothing here exits.
"""

import shutil
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain import lock, run, signals
from dltrain.config.check import check, check_data
from dltrain.config.check_task import check_tile
from dltrain.config.messages import Failure, Mistake, command, ready_to_paste
from dltrain.config.mode import Compare, Config, Eval, Export, Generate, LookAtData, Predict, Reproduce, Summary, Train
from dltrain.config.spec import DataSpec
from dltrain.report.terminal import Screen

INTERRUPTED = 130
ASKED_TO_STOP = 75


@dataclass
class Job:
    """What a command line asks for, composed and checked."""

    cfg: Config
    spec: DataSpec | None  # None where the mode finds out by itself
    composed: Any  # Hydra's composition, for the folder's name and `.hydra/`


def prepare(words: list[str], screen: Screen, described: dict[str, DataSpec] | None = None) -> Job:
    """Compose and check without torch. Raises Mistake; makes nothing.

    `described` holds the data sets that earlier jobs of a sweep have looked at already.
    """
    from dltrain.config.compose import compose

    cfg, composed = compose(words)
    check(cfg)
    if isinstance(cfg, Compare | LookAtData):  # these look at runs and files themselves
        return Job(cfg, None, composed)
    of_a_run = isinstance(cfg, Eval | Predict | Export | Generate | Reproduce)
    if of_a_run or (isinstance(cfg, Summary) and cfg.run is not None):
        from dltrain import opened

        spec = opened.spec_for(cfg, screen.line)
        check_tile(cfg, spec)
        return Job(cfg, spec, composed)
    if cfg.init.name == "run":
        source = run.find(cfg.init.source, "init.source")
        if not run.Run(source).has_checkpoint:
            raise Mistake(f"init.source={source} has no checkpoint yet", type_this=command([f"resume={source}"]))
        cfg.init.source = str(source)  # `last` is looked up once
    # numpy and Pillow: not before what needs no data is known to be right
    from dltrain.data import describe, identity, known

    if isinstance(cfg, Summary) and (seen := known(cfg)):  # a table of layers fetches nothing
        check_data(cfg, seen)
        return Job(cfg, seen, composed)
    described = {} if described is None else described
    data = identity(cfg)
    if data not in described:
        described[data] = describe(cfg, screen.line)
    spec = described[data]
    check_data(cfg, spec)
    if isinstance(cfg, Train) and cfg.resume is not None:
        from dltrain import opened

        opened.to_resume(cfg, spec)
    return Job(cfg, spec, composed)


def start(job: Job, screen: Screen) -> int:
    """Run a prepared job; a run that trains anew gets its folder, with `.hydra/` in it."""
    cfg = job.cfg
    if not isinstance(cfg, Train):
        return _watched(lambda: _look(job, screen), screen, None, fresh=False)
    assert job.spec is not None
    if cfg.resume is not None:
        return run_job(cfg, job.spec, Path(cfg.resume), screen)
    return try_out(job, screen) if cfg.trainer.dry_run else under_hydra(job, claim(job), screen)


def try_out(job: Job, screen: Screen) -> int:
    """A dry run: in a folder that no `run=` finds, and that is gone afterwards. Raises Mistake if none can be made."""
    place = run.OUTPUTS if job.cfg.output is None else Path(job.cfg.output).expanduser().parent
    try:
        if place == run.OUTPUTS:
            place.mkdir(exist_ok=True)
        there = next(path for path in (place, *place.absolute().parents) if path.is_dir())
        # by its name: since Python 3.12 mkdtemp gives an absolute path
        folder = there / Path(tempfile.mkdtemp(prefix=".dry-run-", dir=there)).name
    except OSError as error:
        raise _no_folder(place, error) from None
    try:
        return under_hydra(job, folder, screen)
    finally:
        _remove(folder)


def claim(job: Job) -> Path:
    """A folder that no other run has. Raises Mistake if none can be made there."""
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().set_config(job.composed)
    wanted = Path(job.composed.hydra.run.dir if job.cfg.output is None else job.cfg.output).expanduser()
    try:
        return run.claim(wanted)
    except OSError as error:
        raise _no_folder(wanted, error) from None


def _no_folder(wanted: Path, error: OSError) -> Mistake:
    return Mistake(
        f"the run folder {wanted} cannot be made: {error.strerror}",
        allowed="a folder that you may write to",
        type_this="output=FOLDER",
    )


def under_hydra(job: Job, folder: Path, screen: Screen, recorded_environment: dict[str, Any] | None = None) -> int:
    """The job as Hydra runs it, which writes `.hydra/`."""
    from hydra._internal.callbacks import Callbacks
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.utils import run_job as hydra_job
    from hydra.types import HydraContext
    from omegaconf import OmegaConf, read_write

    composed, spec = job.composed, job.spec
    assert spec is not None
    with read_write(composed.hydra):
        OmegaConf.update(composed, "hydra.run.dir", str(folder))
    done = hydra_job(
        task_function=lambda _: run_job(job.cfg, spec, folder, screen, recorded_environment),
        config=composed,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
        hydra_context=HydraContext(ConfigLoaderImpl(create_config_search_path(None)), Callbacks(composed)),
        configure_logging=False,
    )
    return int(done.return_value)


def run_job(
    cfg: Config,
    spec: DataSpec,
    folder: Path,
    screen: Screen,
    recorded_environment: dict[str, Any] | None = None,
) -> int:
    """Train by a checked config. Returns 0, 1 (failed), 2 (a mistake that only torch could see), 75 or 130.

    The folder is the run's own already; with `cfg.resume` it goes on there. `recorded_environment` is what a
    reproduced run resolved its `auto` values to.
    """
    if not isinstance(cfg, Train):
        raise ValueError("to train takes a config to train by")
    fresh = cfg.resume is None

    def work() -> int:
        if fresh:
            record = run.Run(folder)
            record.write_config(cfg)
            record.write_results(status="running", seed=cfg.seed)
        from dltrain.modes import train

        return train.run(cfg, spec, folder, screen, recorded_environment)

    return _watched(work, screen, folder, fresh=fresh, kept=not cfg.trainer.dry_run)


def _look(job: Job, screen: Screen) -> int:
    """Run a mode that trains nothing, or that trains in a run of its own. Its module is imported only now."""
    cfg, spec = job.cfg, job.spec
    if isinstance(cfg, Compare):
        from dltrain.modes import compare

        return compare.run(cfg, screen)
    if isinstance(cfg, LookAtData):
        from dltrain.modes import look_at_data

        return look_at_data.run(cfg, screen)
    assert spec is not None
    if isinstance(cfg, Eval):
        from dltrain.modes import evaluate

        return evaluate.run(cfg, spec, screen)
    if isinstance(cfg, Predict):
        from dltrain.modes import predict

        return predict.run(cfg, spec, screen)
    if isinstance(cfg, Export):
        from dltrain.modes import export

        return export.run(cfg, spec, screen)
    if isinstance(cfg, Generate):
        from dltrain.modes import generate

        return generate.run(cfg, spec, screen)
    if isinstance(cfg, Summary):
        from dltrain.modes import summary

        return summary.run(cfg, spec, screen)
    if isinstance(cfg, Reproduce):
        from dltrain.modes import reproduce

        return reproduce.run(cfg, spec, screen, job.composed)
    raise ValueError(f"no mode {cfg.mode}")


def _watched(
    work: Callable[[], int],
    screen: Screen,
    folder: Path | None,
    *,
    fresh: bool,
    kept: bool = True,
) -> int:
    """Do the work of a job; what it raises becomes the run's status, a line on the screen and an exit code.

    `fresh`: the folder was made for this job, so that a mistake found before the first checkpoint leaves none; `kept`:
    it stays there, so that it may be named.
    """
    if folder is not None:
        try:
            screen.attach(folder / "run.log")
        except OSError as error:
            raise lock.unwritable(folder, error) from None
        screen.log_only(command(screen.typed))
    try:
        return work()
    except Mistake as mistake:
        mistake.type_this = ready_to_paste(mistake.type_this, screen.typed)
        screen.error(str(mistake))
        if folder is not None and fresh and not run.Run(folder).has_checkpoint:
            screen.detach()
            _remove(folder)
        return 2
    except KeyboardInterrupt:
        _end(folder, "interrupted")
        screen.error("stopped at once" + _go_on(folder if kept else None))
        return INTERRUPTED if signals.requested() in (None, "SIGINT") else ASKED_TO_STOP
    except Exception as error:
        screen.log_only(traceback.format_exc())
        _end(folder, "failed")
        what = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        shown = folder if kept else None
        log = "" if shown is None or isinstance(error, Failure) else f"\n  traceback  {shown / 'run.log'}"
        go_on = "" if isinstance(error, Failure) and not error.resumes else _go_on(shown)
        screen.error(f"failed  {what}{log}{go_on}")
        return 1
    finally:
        screen.detach()


def _end(folder: Path | None, status: str) -> None:
    """Of a run that has begun, or begun again: one that may not go on stays what it was."""
    if folder is not None and run.Run(folder).status == "running":
        with suppress(OSError, Mistake, Failure):
            run.Run(folder).write_results(status=status)


def _go_on(folder: Path | None) -> str:
    if folder is None:
        return ""
    where = "from the last checkpoint" if run.Run(folder).has_checkpoint else "from the start"
    return f"\n  go on      {command([f'resume={folder}'])}   {where}"


def _remove(folder: Path) -> None:
    """Take away a folder that this job made and that holds no checkpoint, and the folders above that are now empty."""
    shutil.rmtree(folder, ignore_errors=True)
    for above in list(folder.parents)[:-1]:
        if not above.is_relative_to(run.OUTPUTS):
            return
        try:
            above.rmdir()
        except OSError:
            return
