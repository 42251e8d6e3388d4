"""What the rows of `metrics.csv` alone say of the pictures that a run keeps. Needs no library.

So a run that was killed and goes on keeps the same ones as a run that never stopped.
"""

from collections.abc import Mapping, Sequence

MOST = 100  # frames of an animated picture
SPACING = 1.25  # factor on the step from one picture in TensorBoard to the next, which all stay in the event file
Rows = Sequence[Mapping[str, float]]


def evaluated(rows: Rows) -> list[int]:
    """The steps of the rows that have an evaluation."""
    return [int(row["step"]) for row in rows if any(name.startswith("val/") for name in row)]


def kept(steps: Sequence[int]) -> list[int]:
    """At most 100 of them, evenly: the first, every 2^k-th after it, and the last.

    What is kept of some steps is the last one, or was kept of fewer: no frame has to come back.
    """
    every = 1
    while len(range(0, len(steps), every)) > MOST - 1:
        every *= 2
    chosen = list(steps[::every])
    return chosen if not steps or chosen[-1] == steps[-1] else [*chosen, steps[-1]]


def is_spaced(steps: Sequence[int]) -> bool:
    """Whether the last step is one that TensorBoard gets a picture of."""
    shown = is_due = 0.0
    for step in steps:
        is_due = step >= SPACING * shown
        shown = step if is_due else shown
    return bool(is_due)
