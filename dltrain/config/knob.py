"""One settings field: its default, its meaning, its unit, its range and where its value comes from."""

from collections.abc import Callable
from dataclasses import field
from typing import Any


def knob(
    default: Any,
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    fewest: int = 0,
    most: int | None = None,
    unit: str = "",
    source: str = "",
    free_text: bool = False,
) -> Any:
    """A dataclass field whose metadata the range checker and `--help GROUP` read.

    `ge`, `gt`, `le`, `lt` bound the value, or each element of a list, which has `fewest` to `most` of them.
    `free_text` marks values that people type without quotes (paths, prompts). A callable default makes a new default
    for each instance.
    """
    metadata = {
        "help": help,
        "ge": ge,
        "gt": gt,
        "le": le,
        "lt": lt,
        "fewest": fewest,
        "most": most,
        "unit": unit,
        "source": source,
        "free_text": free_text,
    }
    if isinstance(default, Callable):  # type: ignore[arg-type]
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
