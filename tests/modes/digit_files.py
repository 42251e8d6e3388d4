"""The embedded digits' test split as files, a folder a class."""

from pathlib import Path

import numpy as np
from PIL import Image

from dltrain.data.embedded import digits_splits, read_sheet


def write_digits(place: Path, every: int = 1) -> None:
    """PNG files `place/<class>/<sample number>.png`, of each or of every so-manieth digit."""
    digits, classes = read_sheet(), np.repeat(np.arange(10), 500)
    for number in digits_splits()["test"][::every]:
        file = place / str(classes[number]) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[number, 0]).save(file)


def share_right(said: dict[str, str]) -> float:
    """The share of files whose folder is the class that was said of them."""
    return sum(file.split("/")[0] == name for file, name in said.items()) / len(said)
