"""Colours of classes that are told apart, and what is drawn with them: masks, over images too, and their legend."""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dltrain.config.spec import IGNORED
from dltrain.report.fonts import shown
from dltrain.report.sheet import EDGE, FAINT, GAP, LINE, SIZE, TEXT, WHITE, WRONG, cut, width, write

Pixels = NDArray[np.uint8]
Mask = NDArray[np.integer[Any]]

# Kelly 1965, "Twenty-two colors of maximum contrast": those of a dark ground, then his order, grey and white last
KELLY = (
    (34, 34, 34),
    (243, 195, 0),
    (135, 86, 146),
    (243, 132, 0),
    (161, 202, 241),
    (190, 0, 50),
    (194, 178, 128),
    (0, 136, 86),
    (230, 143, 172),
    (0, 103, 165),
    (249, 147, 121),
    (96, 78, 151),
    (246, 166, 0),
    (179, 68, 108),
    (220, 211, 0),
    (136, 45, 23),
    (141, 182, 0),
    (101, 69, 34),
    (226, 88, 34),
    (43, 61, 38),
    (132, 132, 130),
    (242, 243, 244),
)
GOLDEN = (5**0.5 - 1) / 2  # hues a golden section apart come near each other as late as can be
LIGHT, DARK = (236, 236, 236), (176, 176, 176)  # stripes of what is ignored
STRIPE = 4  # pixels
OVER = 0.55  # share of the class's colour in a pixel of an image with its mask
PALE = 0.4  # contrast of an image under its errors
LONGEST_NAME = 160  # pixels of a class in a legend


def palette(classes: int) -> Pixels:
    """(classes, 3) colours, the same for a class however many there are."""
    rows = list(KELLY[:classes])
    for number in range(len(KELLY), classes):
        hue, turn = number * GOLDEN % 1, number % 3
        share = colorsys.hls_to_rgb(hue, (0.35, 0.55, 0.75)[turn], (0.9, 0.6, 0.75)[turn])
        rows.append((round(share[0] * 255), round(share[1] * 255), round(share[2] * 255)))
    return np.array(rows, dtype=np.uint8).reshape(classes, 3)


def coloured(mask: Mask, classes: int) -> Pixels:
    """(H, W, 3) of an (H, W) mask: each class its colour, what is ignored in stripes."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[:classes] = palette(classes)
    return _striped(table[mask], mask)


def overlaid(image: Image.Image, mask: Mask, classes: int) -> Image.Image:
    """An image under the colours of its mask, of the same size."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    return Image.fromarray((OVER * coloured(mask, classes) + (1 - OVER) * pixels).round().astype(np.uint8))


def errors(image: Image.Image, truth: Mask, answer: Mask) -> Image.Image:
    """The image in pale grey, wrong pixels in red; what is ignored cannot be wrong, and is striped."""
    grey = PALE * np.asarray(image.convert("L"), dtype=np.float64) + (1 - PALE) * 255
    pixels = np.repeat(grey.round().astype(np.uint8)[:, :, None], 3, axis=2)
    pixels[truth != answer] = WRONG
    return Image.fromarray(_striped(pixels, truth))


def _striped(pixels: Pixels, mask: Mask) -> Pixels:
    rows, columns = (np.arange(side) for side in mask.shape)
    is_light = (rows[:, None] + columns) // STRIPE % 2 == 0
    stripes = np.where(is_light[:, :, None], LIGHT, DARK).astype(np.uint8)
    return np.where((mask == IGNORED)[:, :, None], stripes, pixels)


def with_legend(
    page: Image.Image, class_names: Sequence[str], seen: Sequence[int], *, is_ignored: bool, is_wrong: bool = False
) -> Image.Image:
    """A page with the names and colours of the classes in `seen` below it, as RGB."""
    colours = palette(len(class_names))
    entries = [(Image.new("RGB", (SIZE, SIZE), tuple(colours[k].tolist())), shown(class_names[k])) for k in seen]
    if is_ignored:
        entries.append((Image.fromarray(coloured(np.full((SIZE, SIZE), IGNORED), 0)), "ignored"))
    if is_wrong:
        entries.append((Image.new("RGB", (SIZE, SIZE), WRONG), "wrong"))
    room = page.width - 2 * EDGE
    lines: list[list[tuple[int, Image.Image, str]]] = [[]]
    x = 0
    for swatch, text in entries:
        name = cut(text, SIZE, min(LONGEST_NAME, room - SIZE - GAP))
        wide = SIZE + GAP // 2 + width(name, SIZE)
        if lines[-1] and x + wide > room:
            lines.append([])
            x = 0
        lines[-1].append((x, swatch, name))
        x += wide + 2 * GAP
    step = LINE + GAP // 2
    both = Image.new("RGB", (page.width, page.height + len(lines) * step + GAP), WHITE)
    both.paste(page, (0, 0))
    pen = ImageDraw.Draw(both)
    for row, line in enumerate(lines):
        y = page.height + row * step
        for left, swatch, name in line:
            at = EDGE + left, y + 1
            pen.rectangle((at[0] - 1, at[1] - 1, at[0] + SIZE, at[1] + SIZE), FAINT)
            both.paste(swatch, at)
            write(pen, (at[0] + SIZE + GAP // 2, y), name, SIZE, TEXT)
    return both


def seen_in(masks: Sequence[Mask], classes: int) -> tuple[list[int], bool]:
    """The classes that masks hold, in order; and whether something is ignored."""
    counts = np.zeros(256, dtype=np.int64)
    for mask in masks:
        counts += np.bincount(mask.ravel(), minlength=256)
    return np.flatnonzero(counts[:classes]).tolist(), bool(counts[IGNORED])
