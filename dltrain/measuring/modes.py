"""Which classes a generator makes, as the judge sees them, and which it has lost."""

import math
from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from dltrain.report.drawing import BLUE, FAINT, draw, in_percent
from dltrain.report.fonts import shown
from dltrain.text import some

LOST = 0.2  # of what the real images have of a class: below, it counts as lost
ENOUGH = 10  # images of a class that there would be: with fewer expected, that there are few says nothing
WITH_NAMES = 60  # classes up to which the bars have names


def shares(classes: Tensor, number: int) -> list[float]:
    """The share of each of `number` classes among (N,) answers."""
    counts = torch.bincount(classes.cpu(), minlength=number)
    return [count / max(1, len(classes)) for count in counts.tolist()]


def entropy(found: Sequence[float]) -> float:
    """-sum p log p as a share of its largest, log K: 1 if all classes are equally frequent, 0 if there is but one."""
    if len(found) < 2:
        return 0.0
    return -sum(p * math.log(p) for p in found if p > 0) / math.log(len(found)) + 0.0


def lost(found: Sequence[float], real: Sequence[float], samples: int) -> list[int]:
    """Classes of which generated images hold less than a fifth of what real ones do."""
    pairs = enumerate(zip(found, real, strict=True))
    return [k for k, (p, q) in pairs if samples * q >= ENOUGH and p < LOST * q]


def lost_note(
    found: Sequence[float], real: Sequence[float], samples: int, names: Sequence[str], cures: Sequence[str]
) -> str:
    """What to say of lost classes, and what to try; empty where there are none."""
    missing = lost(found, real, samples)
    if not missing:
        return ""
    what = "a class is" if len(missing) == 1 else f"{len(missing)} of {len(names)} classes are"
    return (
        f"{what} as good as lost among the samples: {some([names[k] for k in missing])}. If that stays so, try "
        f"{' or '.join(cures)}"
    )


def bars(found: Sequence[float], real: Sequence[float], names: Sequence[str], judge: str) -> Image:
    """The share of each class among the generated images, beside that among the real ones."""
    k = len(names)
    together = range(k)

    def fill(figure: "object") -> None:
        axes = figure.subplots()  # type: ignore[attr-defined]
        axes.bar([i - 0.2 for i in together], found, 0.4, color=BLUE, label="generated")
        axes.bar([i + 0.2 for i in together], real, 0.4, color=FAINT, label="real training images")
        axes.set_title(shown(f"classes of the images, as {judge} sees them"))
        axes.set_ylabel("share")
        in_percent(axes.yaxis)
        axes.grid(axis="x", visible=False)
        if k <= WITH_NAMES:
            long = max(len(name) for name in names) > 6 or k > 20
            axes.set_xticks(list(together), [shown(name)[:24] for name in names], rotation=90 if long else 0)
        else:
            axes.set_xlabel("class (number)")
        axes.legend()

    return draw(min(14.0, max(5.0, 0.45 * k + 1.5)), 3.8, fill)
