"""Mean spectra of real and of generated images side by side, the frequencies of a stride marked."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dltrain.report.drawing import BLUE, ORANGE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

Power = NDArray[np.floating[Any]]
DEPTH = 60.0  # dB that the colours span, at most
TICKS, TICK_LABELS = [0, 0.25, 0.5], ["0", "1/4", "1/2"]


def spectra(real: Power, generated: Power, scores: tuple[float, float], period: int = 2) -> "Image":
    """Of (H, W) mean power in `fft` order, and both sides' `checkerboard` in dB, the real one first.

    Frequencies go from -1/4 to 3/4 cycles a pixel, so that those of the stride, in circles, do not lie on the border.
    """
    levels = [_decibels(power) for power in (real, generated)]
    top = max(float(level.max()) for level in levels)
    bottom = max(top - DEPTH, min(float(np.percentile(level, 1)) for level in levels))

    def fill(figure: "Figure") -> None:
        axes: list[Axes] = list(figure.subplots(1, 3, width_ratios=[1, 1, 1.25]))
        for place, name, level, score in zip(axes, ("real images", "generated"), levels, scores, strict=False):
            _map(place, level, period, (bottom, top))
            place.set_title(f"{name}: {score:.1f} dB")
        axes[0].set_ylabel("vertical frequency (cycles a pixel)")
        _profiles(axes[2], levels, period)

    return draw(11.5, 4.2, fill)


def _decibels(power: Power) -> Power:
    """From -1/4 on, so that the second quarter's last row and column come first."""
    height, width = power.shape
    rolled = np.roll(power, (height // 4, width // 4), (0, 1))
    return np.asarray(10 * np.log10(np.maximum(rolled, 1e-3)))


def _map(axes: "Axes", level: Power, period: int, ends: tuple[float, float]) -> None:
    height, width = level.shape
    across, down = 0.5 / width, 0.5 / height  # half a bin
    box = (-0.25 - across, 0.75 - across, 0.75 - down, -0.25 - down)
    axes.imshow(level, extent=box, vmin=ends[0], vmax=ends[1], cmap="magma", interpolation="nearest")
    shares = [i / period for i in range(-period, period + 1) if -0.25 <= i / period < 0.75]
    for y in shares:
        for x in shares:
            if (x % 1, y % 1) != (0, 0):
                axes.plot(
                    x, y, "o", markersize=17, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.2
                )
    axes.grid(False)
    axes.set_xticks(TICKS, TICK_LABELS)
    axes.set_yticks(TICKS, TICK_LABELS)
    axes.set_xlabel("horizontal frequency (cycles a pixel)")


def _profiles(axes: "Axes", levels: list[Power], period: int) -> None:
    """The mean of both axes, and dashed the diagonal of square images."""
    for level, colour, name in zip(levels, (BLUE, ORANGE), ("real", "generated"), strict=True):
        height, width = level.shape
        if height != width:
            raise ValueError(f"profiles are of square images, not {height}x{width}")
        x = np.arange(height) / height - (height // 4) / height
        zero = height // 4
        along = 10 * np.log10((10 ** (level[zero] / 10) + 10 ** (level[:, zero] / 10)) / 2)
        shown = x >= 0.5 / height
        axes.plot(x[shown], along[shown], color=colour, label=f"{name}, along rows and columns")
        axes.plot(x[shown], level.diagonal()[shown], color=colour, linestyle="--", label=f"{name}, along the diagonal")
    for i in range(1, period):
        if i / period < 0.75:
            axes.axvline(i / period, color="#bdbdbd", linewidth=1, linestyle=":")
    axes.set_xticks(TICKS, TICK_LABELS)
    axes.set_xlabel("frequency (cycles a pixel)")
    axes.set_title(f"power in dB: a checkerboard peaks at 1/{period}")
    axes.legend(loc="upper right")
