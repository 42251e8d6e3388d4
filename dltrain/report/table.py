"""Numbers as people read them, plain tables, and CSV that a spreadsheet does not run."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from dltrain.report.student import Mean
from dltrain.report.terminal import safe, width

SHARES = {"accuracy", "class_accuracy", "top5", "macro_f1", "f1", "precision", "recall", "clipped"}
SHARES |= {"mean_iou", "iou", "mean_dice", "dice", "pixel_accuracy"}
SHARES |= {"recall", "rarest_class", "class_share", "class_entropy", "copies", "discriminator_accuracy"}
_SPOKEN = {"macro_f1": "macro F1", "top5": "top-5", "r2": "R²", "mae": "MAE"}
_SPOKEN |= {"mean_iou": "mean IoU", "iou": "IoU", "mean_dice": "mean Dice", "dice": "Dice"}
_SPOKEN |= {"pixel_accuracy": "pixel accuracy"}
_SPOKEN |= {"fid": "FID", "real_fid": "real FID", "rarest_class": "rarest class", "class_entropy": "class entropy"}
_SPOKEN |= {"nearest_distance": "nearest distance", "real_nearest_distance": "real nearest distance"}
_SPOKEN |= {"discriminator_accuracy": "discriminator accuracy", "class_share": "share of"}
_SPOKEN |= {"real_checkerboard": "real checkerboard", "real_score": "real score", "fake_score": "fake score"}
BESIDE = ("copies", "discriminator_accuracy")  # shares that say nothing of how good a result is
_OF_ONE = ("iou", "dice", "class_accuracy", "class_share", "mae", "rmse", "r2")  # one for each class, or value
Cell = str | float | None  # of a CSV file
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def is_share(name: str) -> bool:
    """True for metrics between 0 and 1 that people read in percent: `val/accuracy`, `test/accuracy/cat`."""
    return not SHARES.isdisjoint(name.split("/"))


def rank(name: str) -> tuple[bool, bool, bool, bool, bool, str]:
    """A sorting key: FID first, then shares, mean IoU before the others, then R², losses last."""
    is_first, is_scored = name.endswith("/fid"), is_share(name) and not name.endswith(BESIDE)
    return not is_first, not is_scored, not name.endswith("mean_iou"), not _is_r2(name), name.endswith("loss"), name


def percent(value: float) -> str:
    """0.981 as `98.1 %`; never `100.0 %` for less than all."""
    shown = f"{value * 100:.1f}"
    if shown == "100.0" and value < 1:
        shown = f"{math.floor(value * 10_000) / 100:.2f}"
    return f"{shown} %"


def metric(name: str, value: float) -> str:
    """A metric's value: `98.1 %` for shares, `0.934` for R² (`1.000` for 1 alone), four digits for most of the rest."""
    if not math.isfinite(value):
        return str(value)
    if name.endswith("checkerboard"):
        return f"{value:.1f} dB"
    if _is_r2(name) and abs(value) < 10:
        return f"{value:.3f}" if value == 1 or value < 0.9995 else f"{math.floor(value * 10_000) / 10_000:.4f}"
    return percent(value) if is_share(name) else f"{value:.4g}"


def _is_r2(name: str) -> bool:
    return "r2" in name.split("/")[:2]


def spoken(name: str) -> str:
    """`val macro F1` for `val/macro_f1`; the name of a class or of a value stays as it is: `iou a/b` for `iou/a/b`."""
    parts = name.split("/")
    for at, part in enumerate(parts[:2], 1):
        if part in _OF_ONE and len(parts) > at:
            return " ".join([*(_SPOKEN.get(part, part) for part in parts[:at]), "/".join(parts[at:])])
    return " ".join(_SPOKEN.get(part, part) for part in parts)


def seconds(value: float) -> str:
    """`9 s`, from 100 on `1:40`."""
    return f"{value:.0f} s" if value < 100 else duration(value)


def count(number: int, thing: str = "") -> str:
    """`61,706`, or `1 image`, `5,000 images`, `10 classes` with a thing."""
    if not thing:
        return f"{number:,}"
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else plural}"


def short(number: int) -> str:
    """`842`, `61.7 k`, `1.81 G`: three digits."""
    value = float(number)
    for unit in ("", " k", " M", " G", " T"):
        if value < 999.5 or unit == " T":
            break
        value /= 1000
    return f"{number}" if not unit else f"{value:.3g}{unit}" if value < 999.5 else f"{value:,.0f}{unit}"


def memory(number: int) -> str:
    """`842 bytes`, `4.0 KiB`, `128 MiB`."""
    if number < 1024:
        return count(number, "byte")
    value = number / 1024
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1023.5 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:,.0f} {unit}"


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
    mean = Mean.of(values)
    if mean.n < 2:
        return metric(name, mean.value)
    if is_share(name):
        return f"{percent(mean.value)} ± {mean.deviation * 100:.1f}"
    digits = f"{mean.deviation:.3f}" if _is_r2(name) else f"{mean.deviation:.2g}"
    return f"{metric(name, mean.value)} ± {digits}"


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


def folded(text: str, room: int | None) -> list[str]:
    """The text in lines of at most `room` columns, each indented as the first is; one line without `room`.

    A word that is longer stays whole: a path that the terminal folds can still be copied.
    """
    if room is None or width(text) <= room:
        return [text]
    indent = text[: len(text) - len(text.lstrip())]
    return [indent + line for line in _lines(text.strip(), room - len(indent))]


def labelled(label: str, text: str, room: int | None, indent: int = 13) -> list[str]:
    """`label  text`, folded below itself; one line without `room`."""
    lines = [text] if room is None else _lines(text, max(20, room - indent))
    return [f"{'' if i else label:<{indent}}{line}" for i, line in enumerate(lines)]


def _lines(text: str, room: int) -> list[str]:
    """Broken between words by columns, of which some letters take two and `textwrap` counts one."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and width(longer) > room:
            lines.append(line.rstrip())
            line = word
        else:
            line = longer
    return [*lines, line.rstrip()]


def csv_cell(value: str) -> str:
    """A text cell with an apostrophe before what a spreadsheet would take for a formula; numbers stay."""
    if value.startswith(_FORMULA):
        try:
            float(value)
        except ValueError:
            return "'" + value
    return value


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """CSV (RFC 4180, line ends `\\n`): text made safe by `csv_cell`, numbers with every bit of theirs, None empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(cell) for cell in head])
    for row in rows:
        writer.writerow(
            ["" if cell is None else csv_cell(cell) if isinstance(cell, str) else repr(cell) for cell in row]
        )
    return text.getvalue()
