"""Tiny sets of images with masks, for the tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dltrain.config import data
from dltrain.data.imageset import ImageSet, open_set
from tests.data.conftest import config, quiet

Classes = NDArray[np.uint8]
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def discs(number: int, classes: int = 2, height: int = 32, width: int = 40) -> Classes:
    """(H, W): a disc of each class but the first, elsewhere in each mask."""
    rows, columns = np.mgrid[0:height, 0:width]
    mask = np.zeros((height, width), np.uint8)
    for label in range(1, classes):
        top, left = 8 + (5 * number + 11 * label) % (height - 16), 8 + (7 * number + 13 * label) % (width - 16)
        mask[(rows - top) ** 2 + (columns - left) ** 2 < 30] = label
    return mask


def photo(mask: Classes, number: int) -> Image.Image:
    """An image in colour that goes with a mask."""
    grain = np.random.RandomState(number).randint(0, 60, (*mask.shape, 3))
    return Image.fromarray((grain + 60 * mask[..., None].astype(int)).astype(np.uint8))


def save_pairs(
    root: Path,
    draw: Callable[[Classes, int], Image.Image] = lambda mask, _: Image.fromarray(mask),
    count: int = 10,
    classes: int = 2,
    below: str = "",
    suffix: str = ".png",
) -> Path:
    """`count` images and masks in root/below; `draw` makes the file of a mask from its class numbers."""
    for place in ("images", "masks"):
        (root / below / place).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        mask = discs(number, classes)
        photo(mask, number).save(root / below / "images" / f"{number:02d}.png")
        draw(mask, number).save(root / below / "masks" / f"{number:02d}{suffix}")
    return root


def opened(root: Path, **keys: object) -> ImageSet:
    """The set without a model: windows are as large as the smallest training image."""
    cfg = config(data.MaskFolder(**{"root": str(root), **keys}))  # type: ignore[arg-type]
    cfg.model = None
    return open_set(cfg, quiet)
