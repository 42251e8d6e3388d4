"""Attention maps over their images: a row an image, a column a layer. Needs NumPy and Pillow alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dltrain.report.fonts import shown
from dltrain.report.sheet import (
    COLOURS,
    EDGE,
    FAINT,
    GAP,
    LINE,
    SIGNS,
    SIZE,
    TEXT,
    TITLE,
    WHITE,
    WIDEST_CAPTION,
    cut,
    width,
    write,
)

Floats = NDArray[np.floating[Any]]
PLASMA = (  # nine colours of matplotlib's plasma (Smith and van der Walt 2015): brighter from each to the next
    (13, 8, 135),
    (76, 2, 161),
    (126, 3, 168),
    (170, 35, 149),
    (204, 71, 120),
    (230, 108, 92),
    (248, 149, 64),
    (253, 197, 39),
    (240, 249, 33),
)
OVER = 0.65  # share of the colour in a pixel; the rest is the image, in grey
CONTRAST = 0.6  # of that grey, about its middle, so that dark and bright parts of an image do not change a colour much
ENLARGED, REDUCED = 128, 160  # longer sides: small images are enlarged by whole factors at most to the first
NARROW = 76  # pixels that the words above and below a map may take, however narrow it is
WIDE = 1400  # pixels of a page that has images beside each other
MIDDLE = 127.5
BAR = 120  # length of the scale of colours
BETWEEN = 28  # pixels between two images beside each other, with their maps
SMALL = 11  # letters of the numbers below a map
FADED = (97, 97, 97)
SAID = "0", "largest weight of a map; below it, its smallest and largest as multiples of its mean"


@dataclass(frozen=True)
class Layer:
    """What one layer gave: (N, h, w) weights, at least 0, of the positions of N images."""

    name: str
    weights: Floats

    @property
    def size(self) -> str:
        return f"{self.weights.shape[1]}x{self.weights.shape[2]}"


def heatmaps(
    images: Sequence[Image.Image],
    layers: Sequence[Layer],
    captions: Sequence[str],
    marks: Sequence[bool | None] | None = None,
    title: str = "",
) -> Image.Image:
    """Each image with its caption at the left, then each layer's map over it.

    Colours are the weights from 0 to the largest of the map, so that equal weights have one colour; below each map
    stand its smallest and its largest weight as multiples of its mean. `marks` as in `sheet`.
    """
    if not images or len(captions) != len(images) or any(len(layer.weights) != len(images) for layer in layers):
        raise ValueError(f"{len(images)} images, {len(captions)} captions, {[len(one.weights) for one in layers]} maps")
    marks = [None] * len(images) if marks is None else marks
    cells = [_fitted(image) for image in images]
    texts = [_lines(caption, mark) for caption, mark in zip(captions, marks, strict=True)]
    beside = min(WIDEST_CAPTION, max(width(line, SIZE) for lines in texts for line in lines)) + GAP
    step = max(NARROW, *(cell.width for cell in cells)) + GAP
    rise = max([cell.height for cell in cells] + [(len(lines) - 1) * LINE for lines in texts]) + LINE + GAP
    heads = [("input", f"{images[0].height}x{images[0].width}"), *((shown(one.name), one.size) for one in layers)]
    block = beside + step * len(heads) - GAP  # a row of one image; as many beside each other as fill a page
    blocks = min(len(images), max(1, (WIDE - 2 * EDGE + BETWEEN) // (block + BETWEEN)))
    rows = math.ceil(len(images) / blocks)
    room = max(blocks * (block + BETWEEN) - BETWEEN, width(title, TITLE), BAR + sum(width(w, SIZE) + GAP for w in SAID))
    head = EDGE + (TITLE + GAP if title else 0)
    top = head + 3 * LINE + 2 * GAP
    page = Image.new("RGB", (room + 2 * EDGE, top + rise * rows + EDGE - GAP), WHITE)
    pen = ImageDraw.Draw(page)
    write(pen, (EDGE, EDGE), shown(title), TITLE, TEXT)
    _scale(page, pen, head)
    for number, (cell, lines, mark) in enumerate(zip(cells, texts, marks, strict=True)):
        left, y = EDGE + number // rows * (block + BETWEEN), top + number % rows * rise
        for j, line in enumerate(lines):
            write(pen, (left, y + j * LINE), cut(line, SIZE, beside - GAP), SIZE, COLOURS[mark])
        weights = [layer.weights[number] for layer in layers]
        drawn = [cell.convert("RGB"), *(overlay(cell, one) for one in weights)]
        below = ["", *(span(one) for one in weights)]
        for column, (image, text) in enumerate(zip(drawn, below, strict=True)):
            x = left + beside + column * step
            pen.rectangle((x - 1, y - 1, x + cell.width, y + cell.height), FAINT)
            page.paste(image, (x, y))
            write(pen, (x, y + cell.height + 2), text, SMALL, FADED)
            if number % rows == 0:
                write(pen, (x, top - GAP - 2 * LINE), cut(heads[column][0], SIZE, step - GAP), SIZE, TEXT)
                write(pen, (x, top - GAP - LINE), heads[column][1], SIZE, FADED)
    return page


def overlay(image: Image.Image, weights: Floats) -> Image.Image:
    """The image in pale grey under the colours of (h, w) weights, each position a rectangle of its own."""
    grey = CONTRAST * np.asarray(image.convert("L"), dtype=np.float64)[:, :, None] + (1 - CONTRAST) * MIDDLE
    height, wide = grey.shape[:2]
    rows, columns = (np.arange(n) * parts // n for n, parts in zip((height, wide), weights.shape, strict=True))
    heat = colours(relative(weights))[rows[:, None], columns[None, :]]
    return Image.fromarray((OVER * heat + (1 - OVER) * grey).round().astype(np.uint8))


def relative(weights: Floats) -> Floats:
    """Weights from 0 to 1, the largest; what is not a number, or below 0, is 0."""
    known = np.clip(np.nan_to_num(weights.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0), 0, None)
    largest = known.max()
    return known / largest if largest > 0 else known


def colours(shares: Floats) -> Floats:
    """(…, 3) colours, 0 to 255, of shares from 0 to 1."""
    at = np.linspace(0, 1, len(PLASMA))
    return np.stack([np.interp(shares, at, channel) for channel in np.array(PLASMA, dtype=np.float64).T], axis=-1)


def span(weights: Floats) -> str:
    """`0.2 to 5.1`: the smallest and the largest weight as multiples of the mean."""
    if not np.isfinite(weights).all():
        return "not finite"
    mean = float(weights.mean(dtype=np.float64))
    return f"{_number(float(weights.min()) / mean)} to {_number(float(weights.max()) / mean)}" if mean > 0 else "all 0"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _scale(page: Image.Image, pen: ImageDraw.ImageDraw, y: int) -> None:
    """The colours, and what they and the numbers mean."""
    write(pen, (EDGE, y), SAID[0], SIZE, FADED)
    x = EDGE + width(SAID[0], SIZE) + GAP
    bar = colours(np.tile(np.linspace(0, 1, BAR), (SIZE, 1)))
    page.paste(Image.fromarray((OVER * bar + (1 - OVER) * MIDDLE).round().astype(np.uint8)), (x, y + 2))
    write(pen, (x + BAR + GAP, y), SAID[1], SIZE, FADED)


def _lines(caption: str, mark: bool | None) -> list[str]:
    lines = ["\t".join(shown(part) for part in line.split("\t", 1)) for line in caption.split("\n")]
    return [SIGNS[mark] + lines[0], *lines[1:]] if mark is not None else lines


def _fitted(image: Image.Image) -> Image.Image:
    """Small images by whole factors, so that their pixels stay squares; large ones reduced."""
    longest = max(image.size)
    if longest > REDUCED:
        size = (max(1, round(image.width * REDUCED / longest)), max(1, round(image.height * REDUCED / longest)))
        return image.resize(size, Image.Resampling.LANCZOS)
    factor = max(1, ENLARGED // longest)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
