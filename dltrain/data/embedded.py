"""The digits that come with dltrain: a contact sheet of 5,000 MNIST digits. Needs no torch."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from dltrain.config.data import Digits
from dltrain.config.messages import Failure
from dltrain.config.spec import DataSpec, Target
from dltrain.data.imageset import Images, ImageSet, Numbers, Say, with_statistics
from dltrain.data.sizes import ArrayReader, SizeRule, describe_change, final_size

SHEET = Path(__file__).parent / "digits" / "digits.png"
SHA256 = "315cc6bced8d0cb80bc6376e145033531b8d0d27bf780f5144308d3ddf7060bd"
ROWS, COLUMNS, SIDE, CLASSES = 50, 100, 28, 10
PARTS = {"train": 350, "val": 50, "test": 100}  # of the 500 digits of each class, by position
MEAN, STD = 0.1312, 0.3085  # of the 3,500 training images


def read_sheet() -> Images:
    """(5000, 1, 28, 28), sorted by class. Raises Failure if the file is not the one that was shipped."""
    data = SHEET.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise Failure(
            f"{SHEET} is damaged (its SHA-256 is not the one in {Path(__file__).name}); install dltrain again"
        )
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        sheet = np.asarray(image)
    cells = sheet.reshape(ROWS, SIDE, COLUMNS, SIDE).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cells).reshape(ROWS * COLUMNS, 1, SIDE, SIDE)


def digits_splits() -> dict[str, Numbers]:
    """The sample numbers of each split: positions in the sheet, row by row."""
    by_class = np.arange(ROWS * COLUMNS).reshape(CLASSES, -1)
    ends = np.cumsum(list(PARTS.values()))
    return {
        name: by_class[:, end - count : end].reshape(-1) for (name, count), end in zip(PARTS.items(), ends, strict=True)
    }


def open_digits(settings: Digits, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """The embedded digits; sample numbers are positions in the sheet."""
    images = read_sheet()
    size = final_size(settings.size, suits, (SIDE, SIDE))
    splits = digits_splits()
    spec = DataSpec(
        name=settings.name,
        shape=(1, *size),
        target=Target.classes,
        class_names=tuple(str(digit) for digit in range(CLASSES)),
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=(MEAN,),
        std=(STD,),
        where="embedded",
        notes=("part of MNIST's training set", *describe_change((SIDE, SIDE), size)),
    )
    targets = np.repeat(np.arange(CLASSES), len(images) // CLASSES)
    return ImageSet(with_statistics(spec, settings), targets, splits, ArrayReader(images, size))
