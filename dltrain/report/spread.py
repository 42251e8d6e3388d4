"""The figure of settings side by side: every run's result as a point, mean and interval, and the curves there."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from dltrain.report.drawing import CYCLE, FAINT, draw, in_percent, say, whole_numbers
from dltrain.report.fonts import shown
from dltrain.report.student import Mean
from dltrain.report.table import is_share, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 40  # letters in each of the two lines of a setting's name
MOST = 40  # settings that are drawn


@dataclass(frozen=True)
class Drawn:
    """One setting: `values` of its runs, and `curves` (epochs, values), one a run."""

    name: str
    values: Sequence[float]
    curves: Sequence[tuple[Sequence[float], Sequence[float]]]


def spread(settings: Sequence[Drawn], metric: str, curve: str, title: str) -> Image.Image:
    """`metric` by setting, and `curve` over the epochs in the same colours; the first 40 settings."""
    kept = settings[:MOST]
    title += f" (the first {MOST} of {len(settings)})" if len(kept) < len(settings) else ""

    def fill(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        figure.suptitle(shown(title), x=0.01, ha="left", size=11, weight="bold")
        colours = _colours(len(kept))
        _points(left, kept, metric, colours)
        _curves(right, kept, curve, colours)

    return draw(11.5, max(4.2, 1.5 + 0.34 * len(kept)), fill)


def _colours(number: int) -> list[Any]:
    from matplotlib import colormaps

    if number <= len(CYCLE):
        return list(CYCLE[:number])
    bright = [colormaps["turbo"](0.05 + 0.9 * index / (number - 1)) for index in range(number)]
    return [tuple(0.85 * part for part in colour[:3]) for colour in bright]  # yellow is hard to see on white


def _points(axes: "Axes", settings: Sequence[Drawn], metric: str, colours: Sequence[Any]) -> None:
    axes.set_title(spoken(metric))
    names = [textwrap.wrap(shown(one.name), LONGEST, max_lines=2, placeholder=" …") for one in settings]
    axes.set_yticks(range(len(settings)), ["\n".join(lines) for lines in names])
    axes.set_ylim(len(settings) - 0.4, -0.6)
    axes.grid(False, axis="y")
    everything = [value for one in settings for value in one.values]
    if not everything:
        axes.text(0.5, 0.5, "no result yet", transform=axes.transAxes, ha="center", color=FAINT)
        return
    ends = [min(everything), max(everything)]
    room = ends[1] - ends[0] or abs(ends[0]) * 0.01 or 0.01
    spans = list(ends)
    for y, (one, colour) in enumerate(zip(settings, colours, strict=True)):
        if not one.values:
            axes.text(ends[0], y, "no run has completed", va="center", color=FAINT, size=8)
            continue
        mean = Mean.of(one.values)
        if between := mean.interval():
            axes.plot(between, [y, y], color=colour, linewidth=5, alpha=0.28, solid_capstyle="butt")
            spans += between
        axes.plot([mean.value], [y], marker="|", markersize=16, markeredgewidth=2, color=colour)
        axes.plot(one.values, [y] * mean.n, "o", color=colour, markersize=4.5, markeredgecolor="white")
    # A few seeds far apart give an interval that would press all points together: its ends may lie outside.
    axes.set_xlim(max(min(spans), ends[0] - room) - 0.06 * room, min(max(spans), ends[1] + room) + 0.06 * room)
    axes.set_xlabel("a point a run, a stroke at the mean, its 95 % interval (Student's t) shaded", color=FAINT, size=8)
    if is_share(metric):
        in_percent(axes.xaxis)


def _curves(axes: "Axes", settings: Sequence[Drawn], curve: str, colours: Sequence[Any]) -> None:
    axes.set_title(spoken(curve))
    lines = [(x, y, colour) for one, colour in zip(settings, colours, strict=True) for x, y in one.curves if len(x)]
    if not lines:
        say(axes, "no evaluation")
        return
    for x, y, colour in lines:
        axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.8, marker="o" if len(x) == 1 else "", markersize=3)
    axes.set_xlabel("epoch")
    whole_numbers(axes.xaxis)
    if is_share(curve):
        in_percent(axes.yaxis)
