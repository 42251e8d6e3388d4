"""Grids of images that a generator has made. Needs NumPy and Pillow alone."""

import math
from typing import Any

import numpy as np
from PIL import Image

ENLARGED = 64  # side that small images are enlarged to by whole factors, at most
GAP = 2  # pixels between two images, and around all
GROUND = 255


def grid(pixels: Any, columns: int | None = None) -> Image.Image:
    """(N, C, H, W) uint8, NumPy's or a tensor on the CPU, row by row on white, as grey or RGB; N at least 1.

    Small images are enlarged by a whole factor, so that each pixel stays a square. `columns`: as many as rows. Of
    another number of channels than 1 or 3 it shows their mean.
    """
    images = np.asarray(pixels)
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"a grid is of (N, C, H, W) uint8, not {images.shape} {images.dtype}")
    if images.shape[1] not in (1, 3):
        images = images.mean(1, keepdims=True).round().astype(np.uint8)
    n, channels, height, width = images.shape
    across = min(n, columns or math.ceil(math.sqrt(n)))
    down = math.ceil(n / across)
    factor = max(1, ENLARGED // max(height, width))
    high, wide = height * factor + GAP, width * factor + GAP
    page = np.full((down * high + GAP, across * wide + GAP, channels), GROUND, np.uint8)
    large = images.repeat(factor, axis=2).repeat(factor, axis=3).transpose(0, 2, 3, 1)
    for i, image in enumerate(large):
        row, column = divmod(i, across)
        top, left = GAP + row * high, GAP + column * wide
        page[top : top + high - GAP, left : left + wide - GAP] = image
    return Image.fromarray(page[:, :, 0] if channels == 1 else page)
