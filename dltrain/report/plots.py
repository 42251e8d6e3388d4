"""Figures of what was right and wrong, from plain numbers: the confusion matrix, and values against their targets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dltrain.report.drawing import BLUE, DPI, FAINT, TEXT, draw
from dltrain.report.fonts import shown
from dltrain.report.sheet import cut, width
from dltrain.report.table import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WITH_NUMBERS, WITH_NAMES = 25, 100  # classes up to which cells hold numbers, and sides hold names
CELLS = 250  # a side at most that are drawn; with more classes a cell stands for several
NAME = 160  # pixels of a class name at most
PAIRS = 24  # most frequent mistakes that are told in words where cells hold no numbers
MOST_POINTS = 5000  # of a scatter plot; more are drawn as a density


def confusion(
    counts: NDArray[np.integer[Any]], class_names: Sequence[str], title: str = "", of: str = "images"
) -> Image.Image:
    """The confusion matrix of (K, K) counts, true classes in rows, coloured by share of the row.

    Up to 25 classes have numbers in their cells, counts of images or, `of` pixels, shares of the row in percent; more
    have the most frequent mistakes in words beside them; up to 100 have their names at the sides. Colours follow the
    square root, so that rare mistakes are seen. A class without images has an empty row.
    """
    names = [cut(shown(name), _pixels(8), NAME) for name in class_names]
    k = len(names)
    if counts.shape != (k, k):
        raise ValueError(f"counts of shape {counts.shape} and {k} class names")
    cell = min(1.1, max(0.46, 2.8 / k)) if k <= WITH_NUMBERS else max(0.105, 7.5 / k) if k <= WITH_NAMES else 8.0 / k
    size = min(8.0, cell * 72 * 0.8) if k <= WITH_NAMES else 8.0  # of names, in points
    longest = max(width(name, _pixels(size)) for name in names) / DPI
    flat = k <= WITH_NUMBERS and longest < cell - 0.06
    side = k * cell
    left = (longest if k <= WITH_NAMES else 0.35) + 0.45
    below = (longest if k <= WITH_NAMES and not flat else 0.1) + 0.45
    above = 0.62 if title else 0.4
    beside = 0.62 if k <= WITH_NAMES else 0.1  # shares of right answers
    words = 0.0 if k <= WITH_NUMBERS else 3.9
    whole = max(left + side + beside + 0.75 + words, 4.2), side + above + below

    def place(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
        return x / whole[0], y / whole[1], wide / whole[0], high / whole[1]

    def fill(figure: "Figure") -> None:
        axes = figure.add_axes(place(left, below, side, side))
        image = _matrix(axes, counts, names, cell, size, flat, of)
        bar = figure.colorbar(image, cax=figure.add_axes(place(left + side + beside + 0.1, below, 0.11, side)))
        bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1], labels=["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
        bar.ax.set_title("of the row", fontsize=8, fontweight="normal", loc="center")
        bar.outline.set_visible(False)
        if title:
            figure.text(0.12 / whole[0], 1 - 0.14 / whole[1], shown(title), size=10, weight="bold", va="top")
        if words:
            _pairs(figure.add_axes(place(whole[0] - words, below, words - 0.1, side)), counts, class_names, side)

    return draw(*whole, fill, layout=False)


def scatter(
    targets: NDArray[np.floating[Any]], predictions: NDArray[np.floating[Any]], name: str, title: str = ""
) -> Image.Image:
    """(N,) predictions over (N,) targets, in the units of the value `name`, with the line where both are equal.

    More than 5,000 points are drawn as a density. Pairs that are not finite are left out, and counted below.
    """
    finite = np.isfinite(targets) & np.isfinite(predictions)
    x, y = targets[finite], predictions[finite]

    def fill(figure: "Figure") -> None:
        axes = figure.subplots()
        if len(x) > MOST_POINTS:
            axes.hexbin(x, y, gridsize=60, mincnt=1, bins="log", cmap="Blues", linewidths=0)
        else:
            axes.scatter(x, y, s=max(4, min(24, 12_000 / max(1, len(x)))), color=BLUE, alpha=0.4, linewidths=0)
        if len(x):
            ends = [min(x.min(), y.min()), max(x.max(), y.max())]
            axes.plot(ends, ends, color=FAINT, linewidth=1, zorder=0.5)
        axes.set_title(shown(title or name))
        axes.set_xlabel(f"true {shown(name)}")
        axes.set_ylabel(f"predicted {shown(name)}")
        axes.set_aspect("equal", adjustable="datalim")
        if missing := int((~finite).sum()):
            axes.text(0.02, 0.98, f"{missing:,} not finite", transform=axes.transAxes, va="top", color=FAINT)

    return draw(5, 5, fill)


def _pixels(points: float) -> int:
    return max(1, round(points / 72 * DPI))


def _matrix(
    axes: "Axes", counts: NDArray[np.integer[Any]], names: Sequence[str], cell: float, size: float, flat: bool, of: str
) -> Any:
    from matplotlib.colors import PowerNorm

    k, images = len(names), counts.sum(1)
    with np.errstate(invalid="ignore"):
        shares = counts / images[:, None]
    axes.grid(False)
    axes.set_facecolor("#f3f3f3")
    together = -(-k // CELLS)
    look: dict[str, Any] = {"cmap": "Blues", "norm": PowerNorm(0.5, 0, 1), "interpolation": "nearest"}
    ends = -0.5, len(pooled := _largest(shares, together)) * together - 0.5
    drawn = axes.imshow(pooled, aspect="auto", extent=(*ends, *ends[::-1]), **look)
    axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5))
    pooling = f"; a cell is the largest of {together} x {together} classes" if together > 1 else ""
    in_cells = " (in cells: % of the row)" if of == "pixels" and k <= WITH_NUMBERS else ""
    axes.set_xlabel(f"answered{in_cells}" if k <= WITH_NAMES else f"answered (class by its number{pooling})")
    axes.set_ylabel("true class" if k <= WITH_NAMES else "true class (number)")
    axes.tick_params(length=0, labelsize=size, pad=2)
    if k <= WITH_NAMES:
        axes.set_xticks(range(k), names, rotation=0 if flat else 90)
        axes.set_yticks(range(k), names)
        for row, n in enumerate(images):
            share = percent(counts[row, row] / n) if n else f"no {of}"
            axes.text(k - 0.5 + 0.06 / cell, row, share, va="center", size=min(size, 8), color=TEXT if n else FAINT)
    if k <= WITH_NUMBERS:
        longest = 4 if of == "pixels" else max(2, len(f"{counts.max():,}"))
        numbers = min(9.0, cell * 72 / (0.66 * longest))
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.35 else TEXT
            text = _in_percent(shares[row, column]) if of == "pixels" else f"{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", size=numbers, color=colour)
        axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    return drawn


def _in_percent(share: float) -> str:
    """`12.3`, `<0.1`, `100`, without its sign."""
    return "<0.1" if share < 0.0005 else "100" if share == 1 else f"{min(share * 100, 99.9):.1f}"


def _largest(shares: NDArray[np.floating[Any]], together: int) -> NDArray[np.floating[Any]]:
    """The largest share of each block of so many classes a side: a mistake narrower than a pixel would not be seen."""
    if together == 1:
        return shares
    missing = -len(shares) % together
    padded = np.pad(np.nan_to_num(shares), (0, missing))
    blocks = len(padded) // together
    return np.asarray(padded.reshape(blocks, together, blocks, together).max(axis=(1, 3)))


def _pairs(axes: "Axes", counts: NDArray[np.integer[Any]], class_names: Sequence[str], high: float) -> None:
    """The most frequent mistakes, in words; of equally frequent ones the first."""
    axes.set_axis_off()
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    axes.set(xlim=(0, 1), ylim=(high, 0))
    axes.text(0.06, 0, "most frequent mistakes", weight="bold", va="top")
    for line, flat in enumerate(order, start=1):
        row, column = divmod(int(flat), len(class_names))
        if not wrong[row, column]:
            if line == 1:
                axes.text(0.06, 0.28, "none", va="top", color=FAINT)
            return
        true, answered = (cut(shown(class_names[i]), _pixels(8), NAME - 20) for i in (row, column))
        text = f"{true} → {answered}   {wrong[row, column]:,} of {counts[row].sum():,}"
        axes.text(0.06, 0.08 + 0.22 * line, text, size=8, va="top")
