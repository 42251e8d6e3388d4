"""Numbers as people read them, plain tables, and CSV that a spreadsheet does not run."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from dltrain.report.terminal import safe, width

SHARES = {"accuracy", "class_accuracy", "top5", "macro_f1", "f1", "precision", "recall", "mean_iou", "dice", "clipped"}
_SPOKEN = {"macro_f1": "macro F1", "top5": "top-5"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def is_share(name: str) -> bool:
    """True for metrics between 0 and 1 that people read in percent: `val/accuracy`, `test/accuracy/cat`."""
    return not SHARES.isdisjoint(name.split("/"))


def percent(value: float) -> str:
    """0.981 as `98.1 %`; never `100.0 %` for less than all."""
    shown = f"{value * 100:.1f}"
    if shown == "100.0" and value < 1:
        shown = f"{math.floor(value * 10_000) / 100:.2f}"
    return f"{shown} %"


def metric(name: str, value: float) -> str:
    """A metric's value: `98.1 %` for shares, four digits for the rest."""
    if not math.isfinite(value):
        return str(value)
    return percent(value) if is_share(name) else f"{value:.4g}"


def spoken(name: str) -> str:
    """`val macro F1` for `val/macro_f1`."""
    return " ".join(_SPOKEN.get(part, part) for part in name.split("/"))


def seconds(value: float) -> str:
    """`9 s`, from 100 on `1:40`."""
    return f"{value:.0f} s" if value < 100 else duration(value)


def count(number: int, thing: str = "") -> str:
    """`61,706`, or `1 image`, `5,000 images`, `10 classes` with a thing."""
    if not thing:
        return f"{number:,}"
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else plural}"


def duration(seconds: float) -> str:
    """`0:04`, `12:30`, `1:02:03`."""
    whole = round(max(0.0, seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def near(path: Path) -> str:
    """A path as people would type it: relative where it lies below the working directory."""
    absolute = path.absolute()
    here = Path.cwd()
    return safe(str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute))


def standard_error(correct: int, total: int) -> float:
    """One standard error of a share of `total` independent images: half of Wilson's interval (1927) at z = 1.

    Close to sqrt(p (1 - p) / n), and above 0 where all or none are right.
    """
    p = correct / total
    return math.sqrt(p * (1 - p) / total + 1 / (4 * total**2)) / (1 + 1 / total)


def mean_and_spread(name: str, values: Sequence[float]) -> str:
    """`98.1 % ± 0.2`: mean and sample standard deviation; the mean alone for one value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return metric(name, mean)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    if is_share(name):
        return f"{percent(mean)} ± {spread * 100:.1f}"
    return f"{metric(name, mean)} ± {spread:.2g}"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of a table with aligned columns; those in `right` flush right. Cells hold no line ends."""
    cells = [[safe(cell) for cell in row] for row in [head, *rows]]
    widths = [max(width(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        padded = [
            " " * (widths[i] - width(cell)) + cell if i in right else cell + " " * (widths[i] - width(cell))
            for i, cell in enumerate(row)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def csv_cell(value: str) -> str:
    """A text cell with an apostrophe before what a spreadsheet would take for a formula; numbers stay."""
    if value.startswith(_FORMULA):
        try:
            float(value)
        except ValueError:
            return "'" + value
    return value


def csv_text(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """CSV (RFC 4180, line ends `\\n`) of text cells, each made safe by `csv_cell`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [head, *rows]:
        writer.writerow([csv_cell(cell) for cell in row])
    return text.getvalue()
