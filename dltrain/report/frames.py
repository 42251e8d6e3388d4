"""Animated pictures: a frame at every evaluation, each a file of its own, and in the end one GIF of all of them.

Which frames a run keeps follows from its evaluations alone, so a run that was killed and goes on ends with the same.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageDraw

from dltrain import atomic
from dltrain.report.fonts import shown
from dltrain.report.rows import Rows, evaluated, kept
from dltrain.report.sheet import SIZE, cut, write
from dltrain.report.table import metric, spoken

WIDEST = 640  # pixels of the animated picture
SECONDS, SHORTEST, LONGEST, LAST = 10.0, 0.06, 0.5, 2.0  # of all frames, of one at least and at most, of the last
STRIP, MARGIN = 22, 6  # pixels of the caption, and before it
INK, GROUND = 33, 255
LARGEST = 1 << 26  # pixels of a frame that is read back: a run folder is not trusted


class Frames:
    """The frames below `folder`, each kind's in a folder of its own: `samples/1200.png` is of step 1,200."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def drop(self, step: int) -> None:
        """Take away what is beyond the step that a run goes on from; at step 0 all. Raises OSError, Failure."""
        for name in self.names():
            atomic.clear_temporaries(self.folder / name)
            self._keep(name, {at for at in self._there(name) if 0 < at <= step})
            left = self._there(name)
            if left:
                atomic.link(left[max(left)], self.folder / f"{name}.png")
                continue
            for ending in ("png", "gif"):
                (self.folder / f"{name}.{ending}").unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The kinds of frames that are there."""
        with suppress(OSError):
            found = [path.name for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink()]
            return sorted(name for name in found if self._there(name))
        return []

    def add(self, name: str, image: Image.Image, rows: Rows) -> None:
        """The frame of the last of `rows`, which is evaluated; it is also `<name>.png`. Raises OSError, Failure."""
        steps = evaluated(rows)
        path = self.folder / name / f"{steps[-1]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        image.save(file, "PNG")
        atomic.write_bytes(path, file.getvalue())
        atomic.link(path, self.folder / f"{name}.png")
        # with those that the evaluation before has kept: a run may yet go on from there
        self._keep(name, {*kept(steps), *kept(steps[:-1])})

    def animate(self, name: str, rows: Rows, monitor: str) -> None:
        """`<name>.gif` of the frames of `rows`, and the last one as `<name>.png`. Raises OSError, Failure.

        A frame that is not there, or no PNG file of the size of the last one, is left out; where less than two are
        left, there is no animated picture.
        """
        steps = kept(evaluated(rows))
        self._keep(name, set(steps))
        there = self._there(name)
        whole = [(step, image) for step in steps if step in there and (image := _read(there[step])) is not None]
        whole = [(step, image) for step, image in whole if image.size == whole[-1][1].size]
        gif = self.folder / f"{name}.gif"
        if whole:
            atomic.link(there[whole[-1][0]], self.folder / f"{name}.png")
        if len(whole) < 2:
            gif.unlink(missing_ok=True)
            return
        by_step = {int(row["step"]): row for row in rows}
        file = io.BytesIO()
        frames = (_captioned(image, caption(by_step[step], monitor)) for step, image in whole)
        _save(file, frames, len(whole))
        atomic.write_bytes(gif, file.getvalue())

    def _there(self, name: str) -> dict[int, Path]:
        """The files of frames, by their steps."""
        paths = (self.folder / name).glob("*.png")
        return {int(path.stem): path for path in paths if path.stem.isdecimal() and not path.is_symlink()}

    def _keep(self, name: str, steps: set[int]) -> None:
        for step, path in self._there(name).items():
            if step not in steps:
                path.unlink()


def caption(row: Mapping[str, float], monitor: str) -> str:
    """`epoch 12   step 1,200   FID 8.31`."""
    words = [f"epoch {int(row['epoch']):,}", f"step {int(row['step']):,}"]
    name = monitor.lstrip("-")
    if name.startswith("val/") and name in row:
        words.append(f"{spoken(name.removeprefix('val/'))} {metric(name, row[name])}")
    return "   ".join(words)


def _read(path: Path) -> Image.Image | None:
    """A frame as grey or RGB, and no larger than the animated picture is; None for what is no whole PNG file."""
    try:
        with Image.open(path, formats=["PNG"]) as file:
            if file.width * file.height > LARGEST:
                return None
            image = file.convert("L" if file.mode == "L" else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    factor = WIDEST / max(image.size)
    if factor < 1:
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return image


def _captioned(image: Image.Image, text: str) -> Image.Image:
    page = Image.new("RGB", (image.width, image.height + STRIP), (GROUND,) * 3)
    page.paste(image, (0, 0))
    line = cut(shown(text), SIZE, image.width - 2 * MARGIN)
    write(ImageDraw.Draw(page), (MARGIN, image.height + 2), line, SIZE, (INK,) * 3)
    return page.convert("L") if image.mode == "L" else page.quantize(256, dither=Image.Dither.NONE)


def _save(file: io.BytesIO, frames: Iterator[Image.Image], count: int) -> None:
    one = round(1000 * min(LONGEST, max(SHORTEST, SECONDS / count)), -1)
    durations = [int(one)] * (count - 1) + [int(1000 * LAST)]
    first = next(frames)
    first.save(file, "GIF", save_all=True, append_images=frames, duration=durations, loop=0, disposal=1)
