"""The pictures of a run, below `pictures/`."""

import io
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from dltrain import atomic
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec
from dltrain.report.frames import Frames
from dltrain.report.rows import Rows
from dltrain.report.table import metric, rank, spoken
from dltrain.report.terminal import Screen

if TYPE_CHECKING:
    from dltrain.tasks import Picture

EVERY = 30.0  # seconds between two drawings while training, at least
LARGEST_SHARE = 0.02  # of a run's time that drawing while training may take: slow pictures are drawn less often


class Album:
    """Draws what it is given, keeps it as PNG files, and returns what it drew.

    A picture that cannot be drawn or written is one warning, and the run goes on.
    """

    def __init__(
        self, folder: Path, cfg: Config, spec: DataSpec, monitor: str, screen: Screen, step: int | None = None
    ) -> None:
        """`monitor` is the task's: its best epoch is marked. A run goes on from `step`: no frame is left beyond it."""
        self.folder = folder
        self.monitor = monitor
        self.screen = screen
        self._title = f"{cfg.model.title} on {spec.name}, seed {cfg.seed}"
        self._kept: Mapping[str, Picture] = {}  # of the best evaluation, or the last
        self._warned = False
        self._next = time.monotonic() + EVERY
        self._frames = Frames(folder)
        atomic.clear_temporaries(folder)
        if step is not None:
            try:
                self._frames.drop(step)
            except Exception as error:  # as in `draw`
                self._warn("frames", error)

    def batch(self, pictures: Mapping[str, "Picture"]) -> dict[str, Image]:
        """The first batch."""
        return self.draw(pictures)

    def epoch(self, rows: Rows, is_best: bool, pictures: Mapping[str, "Picture"]) -> dict[str, Image]:
        """After an epoch, with the pictures of its evaluation: now and then all of them, and the run so far."""
        if is_best or not self._kept:
            self._kept = pictures
        began = time.monotonic()
        if began < self._next:
            return {}
        self._run(rows, f"epoch {rows[-1]['epoch']:,}, goes on")
        drawn = self.draw(pictures)
        now = time.monotonic()
        self._next = now + max(EVERY, (now - began) / LARGEST_SHARE)
        return drawn

    def frames(self, rows: Rows, frames: Mapping[str, "Picture"]) -> dict[str, Image]:
        """After each evaluation, that of the last of `rows`: what it adds to the animated pictures."""
        drawn = {}
        for name, frame in frames.items():
            try:
                drawn[name] = frame()
                self._frames.add(name, drawn[name], rows)
            except Exception as error:  # as in `draw`
                self._warn(f"{name}.png", error)
        return drawn

    def end(self, rows: Rows, metrics: Mapping[str, float], pictures: Mapping[str, "Picture"]) -> dict[str, Image]:
        """After the run: of its test, or else of its best evaluation. `metrics` are those of `results.json`."""
        if rows:
            self._run(rows, _result(rows, metrics))
        for name in self._frames.names():
            try:
                self._frames.animate(name, rows, self.monitor)
            except Exception as error:
                self._warn(f"{name}.gif", error)
        return self.draw(pictures or self._kept)

    def names(self) -> list[str]:
        """The pictures that are there: `run.png` first."""
        with suppress(OSError):
            names = [path.name for kind in ("*.png", "*.gif") for path in self.folder.glob(kind)]
            return sorted(names, key=lambda name: (name != "run.png", name))
        return []

    def draw(self, pictures: Mapping[str, "Picture"]) -> dict[str, Image]:
        """Draw and write each; what could be drawn is returned, written or not."""
        drawn = {}
        for name, picture in pictures.items():
            try:
                drawn[name] = picture()
                self._write(name, drawn[name])
            except Exception as error:  # a drawing library's, the disk's, the memory's: none is worth a run
                self._warn(f"{name}.png", error)
        return drawn

    def _run(self, rows: Rows, subtitle: str) -> None:
        def picture() -> Image:
            from dltrain.report.curves import curves

            return curves(rows, self.monitor, self._title, subtitle)

        self.draw({"run": picture})

    def _write(self, name: str, image: Image) -> None:
        file = io.BytesIO()
        image.save(file, "PNG")
        self.folder.mkdir(exist_ok=True)
        atomic.write_bytes(self.folder / f"{name}.png", file.getvalue())

    def _warn(self, name: str, error: Exception) -> None:
        self.screen.log_only(f"{name}:\n{''.join(traceback.format_exception(error))}")
        if not self._warned:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reason = said.partition("\n")[0] or type(error).__name__
            self.screen.warn(f"{self.folder.name}/{name} could not be made: {reason}\n  the run goes on without it")
        self._warned = True


def _result(rows: Rows, metrics: Mapping[str, float]) -> str:
    """`test accuracy 97.8 %   20 epochs`: the first metric of the test, of the validation where there is none."""
    for split in ("test/", "val/"):
        names = [name for name in metrics if name.startswith(split) and name.count("/") == 1]
        if names:
            name = min(names, key=rank)
            value = f"{spoken(name)} {metric(name, metrics[name])}   "
            break
    else:
        value = ""
    epochs = int(rows[-1]["epoch"])
    return f"{value}{epochs:,} epoch{'s' if epochs != 1 else ''}"
