"""The one figure that tells a whole run: loss, metric, learning rate and gradient norm over its epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from dltrain.report.drawing import CYCLE, FAINT, ORANGE, draw, in_percent, in_plain_numbers, say, whole_numbers
from dltrain.report.fonts import shown
from dltrain.report.table import is_share, metric, spoken
from dltrain.report.values import of_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, float]]
WITH_MARKS = 40  # values up to which each one is marked on its line
LOGARITHMIC = 50  # largest over smallest value from which an axis is logarithmic
MANY_SMALL = 0.2  # share of epochs with a learning rate so small from which its axis is
MOST_LINES = 6  # in one panel
COLOURS = [colour for colour in CYCLE if colour != ORANGE]  # of training; orange is the validation's
EVALUATED = ("val", "generated")  # what is orange


def curves(rows: Rows, monitor: str, title: str = "", subtitle: str = "") -> Image.Image:
    """The run whose `metrics.csv` has these rows, as far as it has come.

    `monitor` is the task's ("val/accuracy", "-val/loss"): its best epoch is marked. A number that is not finite is a
    gap in its line; over an epoch without evaluation the line goes on.
    """

    best = _best(rows, monitor)

    def fill(figure: "Figure") -> None:
        panels = figure.subplots(2, 2, sharex=True)
        figure.subplots_adjust(left=0.06, right=0.94, bottom=0.075, top=0.85, hspace=0.2, wspace=0.18)
        figure.text(0.014, 0.975, shown(title), size=12, weight="bold", va="top")
        figure.text(0.014, 0.928, shown(subtitle), size=9.5, va="top")
        (loss, measure), (rate, gradient) = panels
        _loss(loss, rows, monitor, best)
        _measure(measure, rows, monitor, best)
        if scores := _scores(rows):
            _score(rate, rows, scores)
        else:
            _rate(rate, rows)
        _gradient(gradient, rows)
        rate.set_xlabel("epoch")
        gradient.set_xlabel("epoch")
        epochs = [row["epoch"] for row in rows] or [1]
        beside = max(0.5, 0.02 * (epochs[-1] - epochs[0])) if len(epochs) < WITH_MARKS else 0
        loss.set_xlim(epochs[0] - beside, epochs[-1] + beside)
        whole_numbers(loss.xaxis)

    return draw(11.5, 6.6, fill, layout=False)


def _loss(axes: "Axes", rows: Rows, monitor: str, best: Mapping[str, float] | None) -> None:
    of_training = _of_training(rows, "loss")
    axes.set_title("loss")
    # a penalty beside the losses of several networks may be small without end
    _lines(axes, rows, of_training | {"val": "val/loss"}, plain=len(of_training) > 1)
    _mark(axes, rows, "val/loss", monitor, best)


def _measure(axes: "Axes", rows: Rows, monitor: str, best: Mapping[str, float] | None) -> None:
    """The monitored metric, of training too where it is known; where the loss is monitored, another one that is."""
    names = [name for name in _names(rows) if name.startswith("val/") and name.count("/") == 1]
    chosen = monitor.lstrip("-")
    if chosen not in names or chosen == "val/loss":
        chosen = next((name for name in names if name != "val/loss"), "")
    axes.set_title(spoken(chosen[4:]) if chosen else "metric")
    if not chosen:
        say(axes, "no metric but the loss" if "val/loss" in names else "not evaluated")
        return
    if (real := of_real(chosen)) in names:
        axes.set_title(f"{spoken(chosen[4:])}, validation")
        _lines(axes, rows, {"real images": real, "generated": chosen})
    else:
        _lines(axes, rows, _of_training(rows, chosen[4:]) | {"val": chosen})
    if is_share(chosen):
        in_percent(axes.yaxis)
    _mark(axes, rows, chosen, monitor, best)


def _rate(axes: "Axes", rows: Rows) -> None:
    axes.set_title("learning rate")
    _lines(axes, rows, {"": "train/lr"})
    rates = _points(rows, "train/lr")[1]
    small = [rate for rate in rates if rate * LOGARITHMIC <= max(rates)]
    # many schedules end close to 0, which would be all that such an axis shows
    in_plain_numbers(axes, logarithmic=len(small) > max(1, MANY_SMALL * len(rates)))


def _scores(rows: Rows) -> dict[str, str]:
    """What a discriminator says in training of real and of generated images, where there is one."""
    real = next(iter(_of_training(rows, "real_score").values()), "")
    fake = f"{real.rpartition('/')[0]}/fake_score"
    return {"real images": real, "generated": fake} if real and fake in _names(rows) else {}


def _score(axes: "Axes", rows: Rows, scores: Mapping[str, str]) -> None:
    """Scores in the place of the learning rate, which is told in words."""
    axes.set_title("discriminator's scores")
    _lines(axes, rows, scores)
    rates = _points(rows, "train/lr")[1]
    if rates:
        ends = list(dict.fromkeys([rates[0], rates[-1]]))
        said = f"learning rate {' to '.join(f'{rate:.3g}' for rate in ends)}"
        axes.set_title(said, loc="right", fontweight="normal", fontsize=9)


def _gradient(axes: "Axes", rows: Rows) -> None:
    """The norm before clipping, and the share of steps that were clipped on an axis of its own."""
    axes.set_title("gradient norm")
    _lines(axes, rows, _of_training(rows, "grad_norm", single=""))
    clipped = _of_training(rows, "clipped")
    if not any(y > 0 for name in clipped.values() for y in _points(rows, name)[1]):
        return
    other = axes.twinx()
    for i, name in enumerate(list(clipped.values())[-MOST_LINES:]):  # in the colours of their norms
        x, y = _points(rows, name)
        colour = ORANGE if len(clipped) == 1 else COLOURS[i % len(COLOURS)]
        other.plot(x, y, color=colour, linestyle="--", **_pen(x))
    other.set_ylim(0, 1.02)
    other.grid(False)
    other.spines["right"].set_visible(True)
    in_percent(other.yaxis)
    other.set_title("share of steps clipped (dashed)", loc="right", fontweight="normal", fontsize=9)


def _lines(axes: "Axes", rows: Rows, lines: Mapping[str, str], *, plain: bool = False) -> None:
    """One line a label, of the column that it names; `plain`: on a linear axis whatever they are."""
    values: list[float] = []
    for i, (label, name) in enumerate(list(lines.items())[-MOST_LINES:]):
        x, y = _points(rows, name)
        colour = ORANGE if label in EVALUATED else COLOURS[i % len(COLOURS)]
        if any(math.isfinite(value) for value in y):
            axes.plot(x, y, color=colour, label=label, **_pen(x))
            values += [value for value in y if math.isfinite(value)]
    if not values:
        say(axes, "no finite number")
        return
    is_wide = min(values) > 0 and max(values) >= LOGARITHMIC * min(values)
    in_plain_numbers(axes, logarithmic=is_wide and not plain and not is_share(next(iter(lines.values()))))
    if len(axes.lines) > 1:
        axes.legend(loc="best")


def _mark(axes: "Axes", rows: Rows, name: str, monitor: str, best: Mapping[str, float] | None) -> None:
    """The best epoch: a dotted line, and a star with its value in words where `name` is what was monitored."""
    if best is None:
        return
    axes.axvline(best["epoch"], color=FAINT, linewidth=1, linestyle=":", zorder=1)
    if monitor.lstrip("-") == name:
        axes.plot([best["epoch"]], [best[name]], marker="*", markersize=12, color=ORANGE, markeredgecolor="white")
        said = f"best {metric(name, best[name])} at epoch {best['epoch']:,}"
        axes.set_title(said, loc="right", fontweight="normal", fontsize=9)


def _best(rows: Rows, monitor: str) -> Mapping[str, float] | None:
    """The row that the run keeps: a tie keeps the earlier one, and what is not a number is never better."""
    name = monitor.lstrip("-")
    found = [row for row in rows if row.get(name) is not None and not math.isnan(row[name])]
    if not found or monitor == "step":
        return None
    return min(found, key=lambda row: row[name]) if monitor.startswith("-") else max(found, key=lambda row: row[name])


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _of_training(rows: Rows, what: str, single: str = "train") -> dict[str, str]:
    """Label and column of each update's `what`: one is called `single`, several by the names of their updates."""
    names = [name for name in _names(rows) if name.startswith("train/") and name.count("/") <= 2]
    names = [name for name in names if name.rpartition("/")[2] == what]
    if len(names) == 1:
        return {single: names[0]}
    return {name.split("/")[1] if name.count("/") == 2 else single or what: name for name in names}


def _points(rows: Rows, name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a column, without the epochs that have none."""
    pairs = [(row["epoch"], float(row[name])) for row in rows if row.get(name) is not None]
    return [x for x, _ in pairs], [y if math.isfinite(y) else math.nan for _, y in pairs]


def _pen(x: Sequence[float]) -> dict[str, Any]:
    """The more values, the finer their line."""
    return {"linewidth": 1.6 if len(x) <= 5 * WITH_MARKS else 0.8, "marker": "o" if len(x) <= WITH_MARKS else ""}
