"""Which classes a network saw where in files: their areas as CSV, as JSON, and on the screen."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dltrain.data.imageset import Size
from dltrain.report.predictions import SHOWN, line_of, named, table, write_entries
from dltrain.report.table import columns, count, csv_text, percent
from dltrain.report.terminal import safe, width

MOST = 20  # classes of all files on the screen
FIRST = 3  # classes of a file on the screen at most
NAMES = 24  # columns for the files' names, which fewer classes make room for
HEAD = ("file", "class", "pixels", "share")


class MaskPredictions:
    """What came out of up to `most` files, of those that could be read: the pixels of each class in each."""

    def __init__(self, class_names: tuple[str, ...], most: int) -> None:
        self.class_names = class_names
        self.names: list[str] = []  # as they are on the disk
        self.made: list[str] = []  # path of each mask below masks/, and of each overlay below overlays/
        self.sizes: list[Size] = []
        self.unreadable: list[tuple[str, str]] = []  # a name, and the reason, safe to print
        self._pixels = np.empty((most, len(class_names)), np.int64)

    def add(self, name: str, made: str, mask: Image.Image) -> None:
        """Keep the areas of a mask with a palette."""
        self._pixels[len(self.names)] = mask.histogram()[: len(self.class_names)]
        self.names.append(name)
        self.made.append(made)
        self.sizes.append((mask.height, mask.width))

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(N, K) of each class in each file."""
        return self._pixels[: len(self.names)]

    def largest(self, number: int) -> list[tuple[str, int, float]]:
        """The classes in a file, their pixels and share, the largest first; of equal ones the lower first."""
        pixels = self._pixels[number]
        order = np.argsort(-pixels, kind="stable")
        total = int(pixels.sum())
        return [(self.class_names[k], int(pixels[k]), int(pixels[k]) / total) for k in order.tolist() if pixels[k]]


def write_csv(file: BinaryIO, found: MaskPredictions) -> None:
    """A row for each file and class, those that are not in it too; written as it goes."""
    labels = [line_of(label) for label in found.class_names]
    file.write(csv_text(HEAD, []).encode())
    for name, pixels in zip(found.names, found.pixels, strict=True):
        total = int(pixels.sum())
        rows = [(line_of(name), label, n, n / total) for label, n in zip(labels, pixels.tolist(), strict=True)]
        file.write(csv_text(HEAD, rows).partition("\n")[2].encode())


def write_json(file: BinaryIO, head: dict[str, Any], found: MaskPredictions) -> None:
    """`head`, then `predictions` and `unreadable`, one file a line, written as it goes."""
    write_entries(file, head, _entries(found), found.unreadable)


def _entries(found: MaskPredictions) -> Iterator[dict[str, Any]]:
    for i, (name, made, (height, wide)) in enumerate(zip(found.names, found.made, found.sizes, strict=True)):
        classes = [{"class": label, "pixels": pixels, "share": share} for label, pixels, share in found.largest(i)]
        paths = {**named(f"masks/{made}", "mask"), **named(f"overlays/{made}", "overlay")}
        yield {**named(name), "height": height, "width": wide, **paths, "classes": classes}


# ---- screen


def to_screen(found: MaskPredictions, room: int | None) -> list[str]:
    """The first files with their largest classes, and the classes of all. `room` is the width of the terminal."""
    rows = [found.largest(i) for i in range(min(SHOWN, len(found.names)))]
    shown = min(FIRST, max(map(len, rows)))
    while shown > 1 and room is not None and NAMES + sum(_widths(rows, shown)) > room:
        shown -= 1
    head = ["size", *["class", "share"] * shown]
    cells = [[f"{size[0]}x{size[1]}", *_cells(row, shown)] for row, size in zip(rows, found.sizes, strict=False)]
    lines = table(found.names, head, cells, range(3, len(head) + 1, 2), room, "areas.csv")
    return lines if len(found.names) == 1 and shown == len(rows[0]) else [*lines, "", *_of_all(found)]


def _cells(row: list[tuple[str, int, float]], shown: int) -> list[str]:
    cells = [cell for label, _, share in row[:shown] for cell in (label, percent(share))]
    return [*cells, *[""] * (2 * shown - len(cells))]


def _widths(rows: list[list[tuple[str, int, float]]], shown: int) -> list[int]:
    """Columns of the table's cells but for the file's name: size, and each class with its share."""
    cells = [_cells(row, shown) for row in rows]
    return [13, *(2 + max(5, *(width(safe(row[i])) for row in cells)) for i in range(2 * shown))]


def _of_all(found: MaskPredictions) -> list[str]:
    pixels = found.pixels.sum(0)
    total = max(1, int(pixels.sum()))
    order = [k for k in np.argsort(-pixels, kind="stable").tolist() if pixels[k]]
    files = (found.pixels > 0).sum(0).tolist()
    rows = [[found.class_names[k], percent(int(pixels[k]) / total), f"{files[k]:,}"] for k in order[:MOST]]
    lines = columns(["class", "share of all", "images"], rows, right=(1, 2))
    more = len(order) - MOST
    return [*lines, f"and {count(more, 'more class')} in areas.csv"] if more > 0 else lines
