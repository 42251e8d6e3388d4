"""What a network said of files: as CSV, as JSON, and on the screen."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO
from urllib.parse import quote_from_bytes

import numpy as np
from numpy.typing import NDArray

from dltrain.report.table import columns, count, csv_text, percent
from dltrain.report.terminal import cut, safe, width
from dltrain.text import json_bytes, safe_text

TOP = 5  # classes that the JSON file has of each image
SHOWN = 10  # files, or classes, on the screen
MOST_VALUES = 5  # columns of real values on the screen


class Predictions:
    """What came out of up to `most` files, one row a file that could be read.

    `labels` are the names of classes, or of real values. Of a classifier `order` (N, k) holds classes by falling
    probability and `values` (N, k) their probabilities; of a regression `order` is None and `values` (N, K) are real.
    """

    def __init__(self, labels: tuple[str, ...], most: int, *, classes: bool) -> None:
        self.labels = labels
        self.names: list[str] = []  # as they are on the disk
        self.unreadable: list[tuple[str, str]] = []  # a name, and the reason, safe to print
        kept = min(TOP, len(labels)) if classes else len(labels)
        # Whole from the start: small arrays kept between the network's large ones would cut memory into pieces.
        self._values = np.empty((most, kept), np.float64)
        self._order = np.empty((most, kept), np.int64) if classes else None

    def add(self, names: list[str], answers: NDArray[Any]) -> None:
        """Keep a task's answers (B, K) of files: of classes the five best, of equal ones the lower first."""
        rows = slice(len(self.names), len(self.names) + len(names))
        if self._order is not None:
            order = np.argsort(-answers, axis=1, kind="stable")[:, :TOP]
            answers = np.take_along_axis(answers, order, axis=1)
            self._order[rows] = order
        self._values[rows] = answers
        self.names += names

    @property
    def values(self) -> NDArray[np.float64]:
        return self._values[: len(self.names)]

    @property
    def order(self) -> NDArray[np.int64] | None:
        return None if self._order is None else self._order[: len(self.names)]


# ---- files


def to_csv(found: Predictions) -> str:
    """`file`, then `class` and `probability`, or one column a value; numbers by repr, so that every bit survives."""
    if found.order is None:
        head = ["file", *map(line_of, found.labels)]
        rows = [[line_of(n), *v] for n, v in zip(found.names, found.values.tolist(), strict=True)]
    else:
        head = ["file", "class", "probability"]
        best = zip(found.names, found.order[:, 0].tolist(), found.values[:, 0].tolist(), strict=True)
        labels = [line_of(label) for label in found.labels]
        rows = [[line_of(name), labels[label], value] for name, label, value in best]
    return csv_text(head, rows)


def write_json(file: BinaryIO, head: dict[str, Any], found: Predictions) -> None:
    """`head`, then `predictions` and `unreadable`, one file a line, written as it goes."""
    write_entries(file, head, _entries(found), found.unreadable)


def write_entries(
    file: BinaryIO, head: dict[str, Any], entries: Iterator[dict[str, Any]], unreadable: list[tuple[str, str]]
) -> None:
    """The same of any entries."""
    file.write(json_bytes(json.dumps(head, indent=2, ensure_ascii=False)).removesuffix(b"\n}"))
    _write_list(file, "predictions", entries)
    _write_list(file, "unreadable", ({**named(name), "reason": reason} for name, reason in unreadable))
    file.write(b"\n}\n")


def _entries(found: Predictions) -> Iterator[dict[str, Any]]:
    for i, name in enumerate(found.names):
        values = [value if math.isfinite(value) else None for value in found.values[i].tolist()]
        if found.order is None:
            yield {**named(name), "values": dict(zip(found.labels, values, strict=True))}
            continue
        labels = [found.labels[label] for label in found.order[i].tolist()]
        top = [{"class": label, "probability": value} for label, value in zip(labels, values, strict=True)]
        yield {**named(name), **top[0], "top": top}


def _write_list(file: BinaryIO, name: str, entries: Iterator[dict[str, Any]]) -> None:
    file.write(f',\n  "{name}": ['.encode())
    comma = "\n    "
    for entry in entries:
        file.write(json_bytes(comma + json.dumps(entry, ensure_ascii=False, allow_nan=False)))
        comma = ",\n    "
    file.write(b"]" if comma == "\n    " else b"\n  ]")


def named(name: str, key: str = "file") -> dict[str, str]:
    """A name as it is; one that is no Unicode as it is shown, with its bytes beside."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return {key: safe(name), f"{key}_percent_encoded": quote_from_bytes(os.fsencode(name))}
    return {key: name}


def line_of(name: str) -> str:
    """A name for one line of a table; spaces of all kinds stay, since many file names have them."""
    return "".join(c if c.isprintable() or (c.isspace() and ord(c) >= 0xA0) else safe(c) for c in name)


# ---- screen


def to_screen(found: Predictions, room: int | None) -> list[str]:
    """The first files, and what came out in all. `room` is the width of the terminal; None: as wide as it is."""
    if found.order is None:
        return [*_values_table(found, room), *(["", *_ranges(found)] if len(found.names) > 1 else [])]
    if len(found.names) == 1:
        rows = [[found.labels[i], percent(p)] for i, p in zip(found.order[0], found.values[0].tolist(), strict=True)]
        return columns(["class", "probability"], rows, right=(1,))
    return [*_class_table(found, found.order, room), "", *_counts(found, found.order)]


def _class_table(found: Predictions, order: NDArray[np.int64], room: int | None) -> list[str]:
    cells = [
        [found.labels[label], percent(value)]
        for label, value in zip(order[:SHOWN, 0].tolist(), found.values[:SHOWN, 0].tolist(), strict=True)
    ]
    return table(found.names, ["class", "probability"], cells, (2,), room)


def _values_table(found: Predictions, room: int | None) -> list[str]:
    cells = [[f"{value:.4g}" for value in row[:MOST_VALUES]] for row in found.values[:SHOWN].tolist()]
    more = len(found.labels) - MOST_VALUES
    lines = table(found.names, list(found.labels[:MOST_VALUES]), cells, range(1, MOST_VALUES + 1), room)
    return [*lines, f"and {count(more, 'more value')} of each in predictions.csv"] if more > 0 else lines


def table(
    files: list[str],
    head: list[str],
    cells: list[list[str]],
    right: Sequence[int],
    room: int | None,
    where: str = "predictions.csv",
) -> list[str]:
    """A row each of the first files, with the cells of those; and how many more there are, in the file `where`."""
    widths = [max(width(safe(row[i])) for row in [head, *cells]) + 2 for i in range(len(head))]
    names = [safe_text(name) for name in files[:SHOWN]]
    if room is not None:
        names = [_end_of(name, max(12, room - sum(widths))) for name in names]
    rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
    lines = columns(["file", *head], rows, right=right)
    more = len(files) - SHOWN
    return [*lines, f"and {count(more, 'more file')} in {where}"] if more > 0 else lines


def _end_of(name: str, room: int) -> str:
    """The end of a name that is too long, which tells it from its neighbours."""
    if width(name) <= room:
        return name
    return "…" + cut(name[::-1], room - 1)[::-1]


def _counts(found: Predictions, order: NDArray[np.int64]) -> list[str]:
    counts = np.bincount(order[:, 0], minlength=len(found.labels))
    by_number = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]]
    rows = [[found.labels[label], f"{counts[label]:,}"] for label in by_number[:SHOWN]]
    lines = columns(["class", "images"], rows, right=(1,))
    more = len(by_number) - SHOWN
    return [*lines, f"and {count(more, 'more class')}"] if more > 0 else lines


def _ranges(found: Predictions) -> list[str]:
    summed = zip(found.labels, found.values.min(0), found.values.mean(0), found.values.max(0), strict=True)
    rows = [[name, *(f"{value:.4g}" for value in values)] for name, *values in summed]
    more = len(rows) - SHOWN
    lines = columns(["value", "smallest", "mean", "largest"], rows[:SHOWN], right=(1, 2, 3))
    return [*lines, f"and {count(more, 'more value')}"] if more > 0 else lines
