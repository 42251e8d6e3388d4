"""Sheets of masks: image, truth, answer and errors of each, beside each other. Needs NumPy and Pillow alone."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dltrain.report.fonts import shown
from dltrain.report.palette import coloured, errors, seen_in, with_legend
from dltrain.report.sheet import EDGE, FAINT, GAP, LINE, SIZE, TEXT, TITLE, WHITE, cut, width, write

HEADS = ("image", "truth", "answer", "errors")
ENLARGED = 128  # longer side that small images are enlarged to by whole factors at most
NARROW = 64  # pixels of a column at least, for the words above it
WIDE = 1400  # pixels of a page that has blocks beside each other
BETWEEN = 28  # pixels between two blocks


class Looked(NamedTuple):
    """An image with its mask, and what was answered, all (H, W)."""

    image: Image.Image
    truth: NDArray[np.uint8]
    answer: NDArray[np.uint8]
    caption: str


def mask_sheet(looks: Sequence[Looked], class_names: Sequence[str], title: str = "") -> Image.Image:
    """A row of four pictures for each, its caption below them, and a legend of the classes that are seen.

    Small images are enlarged by whole factors, so that their pixels stay squares.
    """
    if not looks:
        raise ValueError("a sheet needs at least one image")
    rows = [_pictures(look, len(class_names)) for look in looks]
    column = max(NARROW, *(row[0].width for row in rows)) + GAP
    high = max(row[0].height for row in rows)
    block = len(HEADS) * column - GAP
    beside = min(len(rows), max(1, (WIDE - 2 * EDGE + BETWEEN) // (block + BETWEEN)))
    down = math.ceil(len(rows) / beside)
    room = max(beside * (block + BETWEEN) - BETWEEN, width(shown(title), TITLE))
    top = EDGE + (TITLE + GAP if title else 0) + LINE + GAP // 2
    rise = high + LINE + 2 * GAP
    page = Image.new("RGB", (room + 2 * EDGE, top + down * rise), WHITE)
    pen = ImageDraw.Draw(page)
    write(pen, (EDGE, EDGE), shown(title), TITLE, TEXT)
    for number, (row, look) in enumerate(zip(rows, looks, strict=True)):
        left, y = EDGE + number // down * (block + BETWEEN), top + number % down * rise
        for at, (head, picture) in enumerate(zip(HEADS, row, strict=True)):
            x = left + at * column
            if number % down == 0:
                write(pen, (x, top - GAP // 2 - LINE), head, SIZE, TEXT)
            pen.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), FAINT)
            page.paste(picture, (x, y))
        write(pen, (left, y + row[0].height + 3), cut(shown(look.caption), SIZE, block), SIZE, TEXT)
    masks = [mask for look in looks for mask in (look.truth, look.answer)]
    seen, is_ignored = seen_in(masks, len(class_names))
    return with_legend(page, class_names, seen, is_ignored=is_ignored, is_wrong=True)


def _pictures(look: Looked, classes: int) -> list[Image.Image]:
    factor = max(1, ENLARGED // max(look.truth.shape))
    height, wide = (side * factor for side in look.truth.shape)
    image = look.image.resize((wide, height), Image.Resampling.NEAREST)
    truth, answer = (_enlarged(mask, factor) for mask in (look.truth, look.answer))
    drawn = [Image.fromarray(coloured(mask, classes)) for mask in (truth, answer)]
    return [image.convert("RGB"), *drawn, errors(image, truth, answer)]


def _enlarged(mask: NDArray[Any], factor: int) -> NDArray[Any]:
    return mask.repeat(factor, 0).repeat(factor, 1)
