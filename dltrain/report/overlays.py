"""Images under the colours of their masks: large ones scaled down, and several on a page."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dltrain.data.imageset import Images
from dltrain.data.sizes import to_image
from dltrain.report.palette import palette, with_legend
from dltrain.report.sheet import GAP, SMALL, WHITE, sheet

LONGEST = 1600  # pixels of an overlay's longer side
THUMB = 200  # and of an image on a page
PAGE = 24  # images on it at most


def indexed(mask: NDArray[np.uint8], classes: int) -> Image.Image:
    """An (H, W) mask as an image with a palette: its numbers are the classes, its colours those of all pictures."""
    image = Image.fromarray(mask)
    image.putpalette(palette(classes).tobytes())
    return image


def reduced(pixels: Images, mask: NDArray[np.uint8], longest: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """(C, H, W) and its mask at a whole part of their size: the mean of k x k pixels, and the class in their middle.

    Row by row, so that no second copy of a large image is made.
    """
    channels, height, width = pixels.shape
    k = math.ceil(max(height, width) / longest)
    if k == 1:
        return to_image(pixels), mask
    rows, columns = max(1, height // k), max(1, width // k)
    down, across = min(k, height), min(k, width)  # of an image that is narrower than k
    small = np.empty((channels, rows, columns), np.uint8)
    for row in range(rows):
        strip = pixels[:, row * down : (row + 1) * down, : columns * across]
        small[:, row] = strip.reshape(channels, down, columns, across).mean((1, 3)).round()
    return to_image(small), mask[down // 2 :: down, across // 2 :: across][:rows, :columns]


def beside(image: Image.Image, over: Image.Image) -> Image.Image:
    """An image and its overlay, of equal size, next to each other: small ones enlarged by whole factors."""
    longest = max(image.size)
    if longest > THUMB:
        size = max(1, image.width * THUMB // longest), max(1, image.height * THUMB // longest)
        both = [one.convert("RGB").resize(size, Image.Resampling.LANCZOS) for one in (image, over)]
    else:
        factor = max(1, math.ceil(SMALL / longest))
        size = image.width * factor, image.height * factor
        both = [one.convert("RGB").resize(size, Image.Resampling.NEAREST) for one in (image, over)]
    page = Image.new("RGB", (2 * size[0] + GAP, size[1]), WHITE)
    page.paste(both[0], (0, 0))
    page.paste(both[1], (size[0] + GAP, 0))
    return page


def overlay_sheet(
    pairs: Sequence[Image.Image], captions: Sequence[str], title: str, class_names: Sequence[str], seen: Sequence[int]
) -> Image.Image:
    """A page of what `beside` gives, with the colours of the classes in `seen`."""
    page = sheet(pairs, captions, title=title, largest=2 * THUMB + GAP)
    return with_legend(page, class_names, seen, is_ignored=False)
