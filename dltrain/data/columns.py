"""What a table and arrays have in common: words that say the split, groups, messages. Needs no torch."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dltrain.config.messages import Mistake
from dltrain.data.imageset import Numbers
from dltrain.data.layout import SPLITS
from dltrain.text import some


@contextmanager
def told_of(where: str) -> Iterator[None]:
    """What a Mistake says begins with `where`."""
    try:
        yield
    except Mistake as mistake:
        mistake.what = f"{where}: {mistake.what}"
        raise


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """To sort names as people do: `img2` before `img10`, and `2` before `10`."""
    parts: list[tuple[int, int, str]] = []
    for place, part in enumerate(re.split(r"([0-9]+)", name)):
        digits = part.lstrip("0")
        if place % 2:
            parts.append((0, len(digits), digits))
        elif part:
            parts.append((1, 0, part.casefold()))
    return parts, name


def is_file(folder: Path, name: str) -> bool:
    """Whether there is a file of this name; a name can be anything."""
    try:
        return bool(name) and (folder / name).is_file()
    except (OSError, ValueError):  # too long; a null byte
        return False


def numbered(names: Sequence[str]) -> Numbers:
    """(N,) a number for each name: the same for the same name."""
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.fromiter((number_of[name] for name in names), np.int64, len(names))


def by_split(words: Sequence[str]) -> dict[str, Numbers]:
    """Positions of each split that occurs, in the order of SPLITS, each word being one of them. Raises Mistake."""
    of = np.array(words)
    found = {name: np.flatnonzero(of == name) for name in SPLITS if (of == name).any()}
    if "train" not in found:
        raise Mistake(f"there is {' and '.join(found)}, but no train", allowed="train, with val, test or both")
    return found


def refuse_parted(found: dict[str, Numbers], names: Sequence[str]) -> None:
    """Raise Mistake if the splits that the user has made part a group; `names` (N,) says each sample's."""
    of: dict[str, set[str]] = {}
    for split, positions in found.items():
        for position in positions.tolist():
            of.setdefault(names[position], set()).add(split)
    parted = [
        f"{name} ({', '.join(sorted(splits, key=SPLITS.index))})" for name, splits in of.items() if len(splits) > 1
    ]
    if parted:
        raise Mistake(
            f"{len(parted):,} of {len(of):,} groups stand in more than one split: {some(parted)}",
            allowed="each group in one split, or no split of your own: then groups are kept together",
        )
