"""The Python version of CIFAR without Python's unpickler. Needs no torch.

A pickle is a program. Here it is only read, by `pickletools.genops`, which takes a program apart into operations and
their written arguments and carries out none: no name in it is looked up, nothing it says is called. What is needed
stands in it as it is: a string of all pixels, and lists of small integers after the names of the labels. Whether it was
understood, the checksum of the records tells.
"""

import pickletools
from pathlib import Path

import numpy as np

from dltrain.data.imageset import Images

PIXELS = 3 * 32 * 32
MOST_BYTES = 3500  # of a record: its pixels, labels, file name, and what a pickle writes around them


def records_in(path: Path, count: int, labels: tuple[str, ...]) -> Images:
    """(count, labels + 3072): the records of the binary version. Raises ValueError, OSError.

    `labels` are the names of the lists, in the order of the label bytes.
    """
    if path.stat().st_size > count * MOST_BYTES + 4096:
        raise ValueError(f"too large for {count:,} images")
    found: dict[str, list[int]] = {name: [] for name in labels}
    pixels, name = b"", ""
    with path.open("rb") as file:
        for operation, argument, _ in pickletools.genops(file):
            if isinstance(argument, str) and operation.name in ("SHORT_BINSTRING", "BINSTRING"):
                if name == "data" and len(argument) == count * PIXELS:
                    pixels = argument.encode("latin-1")
                elif argument == "data" or argument in found or name != "data":
                    name = argument
            elif isinstance(argument, int) and operation.name == "BININT1" and name in found:
                found[name].append(argument)
    if len(pixels) != count * PIXELS or any(len(numbers) != count for numbers in found.values()):
        raise ValueError(f"it does not hold {count:,} images and as many of {' and '.join(labels)}")
    records = np.empty((count, len(labels) + PIXELS), dtype=np.uint8)
    for column, name in enumerate(labels):
        records[:, column] = found[name]
    records[:, len(labels) :] = np.frombuffer(pixels, np.uint8).reshape(count, PIXELS)
    return records
