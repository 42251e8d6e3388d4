"""matplotlib for every figure: imported when the first one is drawn, without a screen, in settings of our own."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from dltrain.data.fetch import cache_folder
from dltrain.report import fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
BLUE, ORANGE, GREEN, PURPLE, YELLOW = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, "#56b4e9", "#666666")  # told apart with every kind of colour vision
TEXT, FAINT = "#212121", "#9e9e9e"
SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": TEXT,
    "axes.titlecolor": TEXT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "text.parse_math": False,  # a class may be called `$x^$`
}


def draw(width: float, height: float, fill: Callable[["Figure"], None], *, layout: bool = True) -> Image.Image:
    """An RGB picture of `width` x `height` inches at 110 dots an inch, of what `fill` puts on the figure.

    Texts from outside go through `fonts.shown`. With `layout` the axes are placed so that labels fit; `fill` does it
    itself otherwise, which is quicker. Whatever matplotlib would say on the screen is not said.
    """
    with _quiet():
        matplotlib = _imported()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with matplotlib.rc_context(_defaults() | SETTINGS | {"font.family": _families()}):
            figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if layout else None)
            canvas: Any = FigureCanvasAgg(figure)
            fill(figure)
            canvas.draw()
            pixels = canvas.buffer_rgba()
            return Image.frombuffer("RGBA", canvas.get_width_height(), pixels, "raw", "RGBA", 0, 1).convert("RGB")


def whole_numbers(axis: Any) -> None:
    """Ticks of an axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def in_plain_numbers(axes: "Axes", *, logarithmic: bool = False) -> None:
    """The y axis with `0.001` and `5e-05` at its ticks; nothing is taken out of them as a common factor."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log" if logarithmic else "linear")
    if logarithmic:
        bottom, top = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < 1000 * bottom else (1,), numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def in_percent(axis: Any) -> None:
    """Shares on an axis as people read them."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.4g} %"))


def say(axes: "Axes", text: str) -> None:
    """A text in the middle of axes that have nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT)
    axes.set(xticks=[], yticks=[])


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning and no log line of matplotlib's: what it says of fonts and folders helps nobody here."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


@lru_cache(maxsize=1)
def _imported() -> Any:
    """matplotlib with its own fonts alone, kept in a cache of our own: looking at those of the system takes seconds.

    What the user has set for programs of his own (a backend, a folder) is theirs.
    """
    ours = {
        "MPL_IGNORE_SYSTEM_FONTS": "1",
        "MPLCONFIGDIR": str(cache_folder() / "matplotlib"),
        "MPLBACKEND": "agg",
    }
    before = {name: os.environ.get(name) for name in ours}
    if "matplotlib" not in sys.modules:
        os.environ.update(ours)
    try:
        import matplotlib
        import matplotlib.figure
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return matplotlib


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    """matplotlib's own settings, whatever a `matplotlibrc` says."""
    return {name: value for name, value in _imported().rcParamsDefault.items() if not name.startswith("backend")}


def _families() -> list[str]:
    """The fonts to look for a letter in, in this order."""
    from matplotlib import font_manager

    families = ["DejaVu Sans"]
    if file := fonts.system_font():
        font_manager.fontManager.addfont(file)
        families.append(font_manager.FontProperties(fname=file).get_name())
    return families
