"""What a regression's answers look like: against the true values, the largest errors, some images with their values."""

import math
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from dltrain.report.fonts import shown
from dltrain.report.sheet import sheet
from dltrain.report.table import count
from dltrain.tasks import Batch, Picture
from dltrain.tasks.kept import Kept, spread
from dltrain.tasks.pictures import to_images

SHOWN = 24  # images of a sheet
LINES = 6  # outputs below an image
PLOTS = 9  # outputs whose answers are drawn against their true values


class Fits:
    """Keeps, during an evaluation, what its pictures show; `add` never waits for the device.

    `names` are the outputs', `units` theirs or empty, `std` (K,) deviations, by which errors and digits are measured.
    """

    def __init__(self, names: Sequence[str], units: Sequence[str], std: Sequence[float]) -> None:
        self.names = [shown(name) for name in names]
        self.units = [shown(unit) for unit in units] or [""] * len(names)
        self.std = std
        self._worst = Kept(SHOWN)
        self._some = Kept(SHOWN)
        self._pairs: list[Tensor] = []  # (2, B, up to PLOTS): true values and answers

    def add(self, batch: Batch, answers: Tensor, errors: Tensor, to_pixels: Callable[[Tensor], Tensor]) -> None:
        """Look at a batch with its (B, K) answers in real units and its (B, K) errors in standard deviations."""
        assert batch.targets is not None
        targets = batch.targets.to(answers.dtype)

        def take(rows: Tensor) -> dict[str, Tensor]:
            pixels = to_pixels(batch.images.index_select(0, rows))
            return answered(batch, answers, rows) | {"ids": batch.ids.index_select(0, rows), "pixels": pixels}

        self._worst.add(errors.square().mean(1), take)
        self._some.add(spread(batch.ids), take)
        self._pairs.append(torch.stack([targets[:, :PLOTS], answers[:, :PLOTS]]))

    def pictures(self) -> dict[str, Picture]:
        """`scatter`, `worst` and `predictions`, drawn when they are called."""
        return {"scatter": self._scatter, "worst": self._largest, "predictions": self._predictions}

    def _scatter(self) -> Image.Image:
        from dltrain.report import plots

        targets, answers = torch.cat(self._pairs, dim=1).double().cpu().numpy()
        drawn = []
        for k, (name, unit) in enumerate(zip(self.names[:PLOTS], self.units[:PLOTS], strict=True)):
            drawn.append(plots.scatter(targets[:, k], answers[:, k], f"{name} [{unit}]" if unit else name, title=name))
        return side_by_side(drawn)

    def _largest(self) -> Image.Image:
        _, fields = self._worst.read()
        images = count(sum(pair.shape[1] for pair in self._pairs), "image")
        return self._sheet(fields, f"the largest errors of {images}: answer / true value")

    def _predictions(self) -> Image.Image:
        _, fields = self._some.read()
        order = fields["ids"].argsort()
        fields = {name: values[order] for name, values in fields.items()}
        images = count(sum(pair.shape[1] for pair in self._pairs), "image")
        return self._sheet(fields, f"answers to {len(order)} of {images}: answer / true value")

    def _sheet(self, fields: dict[str, Tensor], title: str) -> Image.Image:
        return sheet(to_images(fields["pixels"]), said(fields, self.names, self.std), title=title)


def answered(batch: Batch, answers: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """`targets` and `answers` of (R,) rows of a batch with its (B, K) answers, in real units."""
    assert batch.targets is not None
    return {"targets": batch.targets.to(answers.dtype).index_select(0, rows), "answers": answers.index_select(0, rows)}


def said(fields: dict[str, Tensor], names: Sequence[str], std: Sequence[float]) -> list[str]:
    """Captions of what `answered` gave: each output's answer / true value."""
    return in_words(fields["answers"], names, std, fields["targets"])


def in_words(values: Tensor, names: Sequence[str], std: Sequence[float], targets: Tensor | None = None) -> list[str]:
    """Of each row of (N, K) values a line an output: `rotation -12.3`, with targets `rotation -12.3 / -40.1`.

    Digits go to a hundredth of the output's standard deviation `std`.
    """
    columns = [values.tolist(), *([] if targets is None else [targets.tolist()])]
    rows = []
    for row in zip(*columns, strict=True):
        lines = [
            f"{shown(name)} {' / '.join(written(value, unit) for value in both)}"
            for name, unit, *both in zip(names[:LINES], std[:LINES], *(part[:LINES] for part in row), strict=True)
        ]
        rows.append("\n".join(lines if len(names) <= LINES else [*lines[:-1], f"and {len(names) - LINES + 1} more"]))
    return rows


def written(value: float, std: float) -> str:
    """A number to a hundredth of `std`, which is above 0."""
    decimals = 2 - math.floor(math.log10(std))
    text = f"{value:.{min(max(decimals, 0), 12)}f}"
    return text.lstrip("-") if not text.strip("-0.") else text  # not -0.0


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Images of one size in rows, as near to a square as they can be, on white."""
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    page = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), (255, 255, 255))
    for k, image in enumerate(images):
        page.paste(image, (k % columns * width, k // columns * height))
    return page
