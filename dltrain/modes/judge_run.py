"""LeNet-5, trained once on a set's own labels and kept in the user's cache: what `task.judge=auto` and `digits` mean.

It is a run as every other, but that it computes on the CPU in one thread and always with seed 0: so the same judge
measures runs of every seed, device and number of threads, and one whose folder was lost comes out the same again.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dltrain import atomic, environment
from dltrain import data as sets
from dltrain.config import saved
from dltrain.config.compose import compose
from dltrain.config.data import Data
from dltrain.config.messages import Failure, Mistake
from dltrain.config.mode import Config, Train
from dltrain.config.overlay import WITHOUT_EFFECT, option_of
from dltrain.config.spec import DataSpec
from dltrain.data.fetch import cache_folder
from dltrain.environment import Environment
from dltrain.measuring.judge import tell
from dltrain.report.table import count, near, percent
from dltrain.report.terminal import Screen
from dltrain.run import CHECKPOINTS, Run
from dltrain.versions import versions

FORMAT = 2  # of what is kept, and of how it is made
EPOCHS, LEAST_EPOCHS = 20, 3  # the recipe's; fewer where there are many images:
IMAGES = 400_000  # that it learns from in all, about a minute on one core
WORDS = ("model=lenet5", "seed=0", "device=cpu", "precision=fp32", "trainer.threads=1")
QUIET = ("log.tensorboard=false", "log.pictures=false")
WEIGHTS, DIGEST = f"{CHECKPOINTS}/best.pt", "best.sha256"
KEPT = ("config.json", "environment.json", "results.json", WEIGHTS)


def config_for(settings: Data, trust: Sequence[str] = (), *, dry_run: bool = False) -> Train:
    """What `dltrain model=lenet5 data=…` trains by on these data: all of their classes and images, at its own size."""
    trusted = [f"trust=[{','.join(trust)}]"] if trust else []
    cfg, _ = compose([*WORDS, *QUIET, f"data={option_of('data', settings)}", *trusted])
    assert isinstance(cfg, Train)
    own: dict[str, Any] = {"size": "auto", "mean": None, "std": None, "augment": cfg.data.augment}
    whole: dict[str, Any] = {"train_per_class": None, "folds": None, "fold": 0}
    cfg.data = replace(settings, **own, **whole)
    cfg.trainer.dry_run = dry_run
    return cfg


def with_length(cfg: Train, spec: DataSpec) -> Train:
    """The recipe's 20 epochs, or as many as show it 400,000 images."""
    images = max(1, spec.counts.get("train", 0))
    cfg.trainer.epochs = min(EPOCHS, max(LEAST_EPOCHS, -(-IMAGES // images)))
    return cfg


def name_of(cfg: Train, spec: DataSpec, pixels: str) -> str:
    """The judge's name in the cache: a hash of all that it follows from. `pixels` is a digest of the set's images.

    It is empty where they are streamed: then names and targets alone tell a set from another.
    """
    found = versions(torch.device("cpu"))
    facts = {
        "format": FORMAT,
        "settings": _settings(cfg),
        "listing": spec.listing,
        "shape": spec.shape,
        "classes": spec.class_names,
        "pixels": pixels,
        "versions": {name: found[name] for name in ("dltrain", "torch")},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _settings(cfg: Config) -> dict[str, Any]:
    """The settings that a judge follows from."""
    tree = saved.to_json(cfg)
    del tree["log"]
    for key in WITHOUT_EFFECT:
        group, _, name = key.partition(".")
        tree[group].pop(name, None)
    return tree


@contextmanager
def trained(cfg: Train, spec: DataSpec, pixels: str, env: Environment, screen: Screen) -> Iterator[Path]:
    """The folder of the judge of this config: from the cache, or trained now. It is only sure to be there inside.

    torch is set up as `env` says afterwards, and the generators are seeded by whoever draws next. Raises Failure if it
    cannot be trained, KeyboardInterrupt if that is broken off.
    """
    if cfg.trainer.dry_run:  # a judge of one step is not kept
        with _elsewhere(cfg, spec, env, screen) as folder:
            yield folder
        return
    folder = cache_folder() / "judges" / name_of(cfg, spec, pixels)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, lambda: tell(screen, "waits for the judge that another process is training")):
            if not is_whole(folder, cfg, screen):
                _make(folder, cfg, spec, env, screen)
    except (OSError, Failure) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error).partition("\n")[0]
        tell(screen, f"the judge cannot be kept in {near(folder.parent)}: {reason}")
        with _elsewhere(cfg, spec, env, screen) as folder:
            yield folder
        return
    yield folder


def is_whole(folder: Path, cfg: Train, screen: Screen) -> bool:
    """Whether a folder of the cache holds the finished judge of this config; a damaged one is told and taken away."""
    from dltrain import checkpoint

    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)  # whatever it is, it is in a judge's place
        return False
    try:
        record = Run(folder)
        if record.status == "completed" and _settings(record.read_config()) == _settings(cfg) and record.spec():
            checkpoint.read(folder / WEIGHTS)
            if _digest(folder) == (folder / DIGEST).read_text(encoding="ascii"):
                return True
        trouble = f"{folder} is not the judge that its name says"
    except (Mistake, Failure, OSError, UnicodeError, checkpoint.BrokenError) as error:
        trouble = str(error).partition("\n")[0]
    tell(screen, f"the judge in the cache is not to be trusted, and is trained again: {trouble}")
    shutil.rmtree(folder)
    return False


def _digest(folder: Path) -> str:
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make(folder: Path, cfg: Train, spec: DataSpec, env: Environment, screen: Screen) -> None:
    """Train it beside its place and put it there in one rename."""
    for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed: none else is at work here
        shutil.rmtree(left, ignore_errors=True)
    temporary = atomic.temporary_name(folder)
    temporary.mkdir()
    try:
        _train(temporary, cfg, spec, env, screen)
        _keep_only(temporary, KEPT)
        atomic.write_text(temporary / DIGEST, _digest(temporary))
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was as fast, where files cannot be locked: the same judge
                raise
        atomic.sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _elsewhere(cfg: Train, spec: DataSpec, env: Environment, screen: Screen) -> Iterator[Path]:
    """A judge in a temporary folder, for this run alone."""
    try:
        with tempfile.TemporaryDirectory(prefix="dltrain-judge-") as place:
            _train(Path(place), cfg, spec, env, screen)
            yield Path(place)
    except OSError as error:
        raise Failure(f"the judge cannot be trained: {error}") from error


def _train(folder: Path, cfg: Train, spec: DataSpec, env: Environment, screen: Screen) -> None:
    from dltrain.modes import train

    record = Run(folder)
    record.write_config(cfg)
    images, epochs = count(spec.counts["train"], "image"), count(cfg.trainer.epochs, "epoch")
    tell(screen, f"trains a judge: {cfg.model.title} on the classes of {spec.name}, {images}, {epochs}")
    try:
        code = train.run(cfg, spec, folder, Quiet(screen))
    finally:
        environment.apply(env)
        screen.clear()
    if code:
        raise KeyboardInterrupt
    found = record.results()["metrics"]
    told = [f"{percent(value)} of {split}" for split in ("test", "val") if (value := found.get(f"{split}/accuracy"))]
    tell(screen, f"the judge tells {' and '.join(told) or 'no image'} right")


def _keep_only(folder: Path, names: Sequence[str]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in names:
            path.unlink()


@contextmanager
def _alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """One process at a time for each judge, where the file system can lock; a lock ends with its process."""
    handle = os.open(folder.with_name(f"{folder.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def described(cfg: Train) -> tuple[Train, DataSpec]:
    """The judge's config with its length, and its data. Raises Mistake."""
    spec = sets.describe(cfg, lambda text: None)
    return with_length(cfg, spec), spec


class Quiet(Screen):
    """A judge's training on the screen of the run that it is for: its live line and warnings, nothing else."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(io.StringIO(), io.StringIO())
        self._screen = screen
        self.place = f"{screen.place}judge  "

    def progress(self, label: str, done: float, total: int, parts: Callable[[], Sequence[str]] = tuple) -> None:
        """On the other screen."""
        self._screen.progress(label, done, total, parts)

    def warn(self, text: str) -> None:
        """On the other screen."""
        self._screen.warn(f"judge: {text}")
