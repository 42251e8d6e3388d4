"""What goes into an exported file and what comes out, as a reader of it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dltrain
from dltrain import checkpoint
from dltrain.config.mode import Export
from dltrain.config.sides import Sides
from dltrain.config.spec import DataSpec, Target
from dltrain.report.table import labelled, memory, near
from dltrain.report.terminal import Screen


@dataclass(frozen=True)
class Form:
    """Shapes of the input `images` and of the output. `sides` are those of a network with an output for each pixel."""

    spec: DataSpec
    sides: Sides | None
    is_open: bool  # the input's height and width may be any that the network takes

    @staticmethod
    def of(task: Any, spec: DataSpec) -> "Form":
        """As open as the network is."""
        sides = task.model.sides if spec.target is Target.mask else None
        return Form(spec, sides, sides is not None)

    @property
    def name(self) -> str:
        """The output's."""
        return "probabilities" if self.spec.class_names else "values"

    @property
    def taken(self) -> tuple[int | str, ...]:
        """The input's shape but for the batch."""
        return (self.spec.shape[0], "height", "width") if self.is_open else self.spec.shape

    @property
    def given(self) -> tuple[int | str, ...]:
        """The output's shape but for the batch."""
        if self.sides is None:
            return (self.spec.num_outputs,)
        rim = 2 * self.sides.lost
        if self.is_open:
            return (self.spec.num_outputs, *(f"{side} - {rim}" if rim else side for side in ("height", "width")))
        return (self.spec.num_outputs, *(side - rim for side in self.spec.shape[1:]))

    def about(self) -> dict[str, Any]:
        """For a program that reads the file: both shapes, and how an image comes to such sides."""
        return {
            "input": {"name": "images", "type": "uint8", "shape": ["batch", *self.taken]},
            "output": {"name": self.name, "shape": ["batch", *self.given]},
            **({} if self.sides is None else {"sides": self._of_sides(self.sides)}),
        }

    def _of_sides(self, sides: Sides) -> dict[str, Any]:
        far = (
            f"an output looks {sides.margin} pixels far: where a large image goes in parts, they begin at multiples of "
            f"{sides.stride} and overlap by twice that, and what is nearer to a part's inner rim is left out"
        )
        if not self.is_open:
            _, height, width = self.spec.shape
            words = f"windows of {height}x{width} (height x width) only; "
            words += f"outputs lack {sides.lost} pixels on each side" if sides.lost else far
            return {"height": height, "width": width, "margin": sides.margin, "lost": sides.lost, "words": words}
        if sides.lost:
            words = (
                f"mirror an image by {sides.lost} pixels on each side, without repeating its border (numpy.pad, mode "
                f"reflect), and further at its bottom and right up to sides of {self.words}; outputs lack these "
                f"{sides.lost} pixels, so the first is that of the image's first pixel: cut them to its size"
            )
        else:
            words = (
                "mirror an image at its bottom and right, without repeating its border (numpy.pad, mode reflect), up "
                f"to sides of {self.words}, and cut the outputs to its size; {far}"
            )
        return {
            "stride": sides.stride,
            "offset": sides.offset,
            "margin": sides.margin,
            "lost": sides.lost,
            "words": words,
        }

    @property
    def words(self) -> str:
        """Which sides the network takes."""
        assert self.sides is not None
        multiple = f"k * {self.sides.stride}"
        return f"{multiple} + {self.sides.offset}" if self.sides.offset else multiple


def origin(cfg: Export, folder: Path, task: Any, step: int) -> dict[str, Any]:
    """Which network it is."""
    return {
        "dltrain": dltrain.__version__,
        "run": "/".join(folder.resolve().parts[-2:]),
        "checkpoint": cfg.checkpoint.value,
        "step": step,
        "weights_sha256": checkpoint.weights_sha256(task.state_dict()),
        "model": cfg.model.title,
    }


def show_made(place: Path, rows: dict[str, str], use: Sequence[str], screen: Screen) -> None:
    """What is to be said of the file, the files in `place`, and lines of Python that use it."""
    sizes = [f"{file.name} {memory(file.stat().st_size)}" for file in sorted(place.iterdir())]
    for label, text in (rows | {"files": ", ".join(sizes)}).items():
        for line in labelled(label, text, screen.room):
            screen.line(line)
    session = f"session = onnxruntime.InferenceSession({str(Path(near(place)) / 'model.onnx')!r})"
    lines = ["import numpy, onnxruntime", session, *use]
    for line in ("", *(f"    {line}" for line in lines), "", f"written      {near(place)}"):
        screen.line(line)
