"""What must hold between the settings that say what the values of masks mean. Needs no data."""

from collections.abc import Sequence
from typing import Any

from dltrain.config.data import Data, MaskFolder
from dltrain.config.messages import Mistake
from dltrain.config.ranges import shown
from dltrain.config.spec import IGNORED


def check_masks(data: Data) -> None:
    """Raise Mistake for the first thing that cannot be."""
    if not isinstance(data, MaskFolder):
        return
    values, colors, names = data.mask_values, data.mask_colors, data.class_names
    if values is not None and colors is not None:
        raise Mistake(
            f"data.mask_values={shown(values)} and data.mask_colors={shown(colors)} both say what the classes are",
            allowed="data.mask_values for grey masks and palettes, data.mask_colors for masks in colour",
            type_this="data.mask_colors=null",
        )
    for color in colors or []:
        if len(color) != 3:
            raise Mistake(
                f"data.mask_colors={shown(colors)}: {shown(color)} is no colour",
                allowed="red, green and blue for each class, 0 to 255: [[0,0,0],[255,0,0]]",
                type_this="data.mask_colors=[[0,0,0],[255,0,0]]",
            )
    for key, entries in (("mask_values", values), ("mask_colors", colors), ("class_names", names)):
        if entries is not None:
            _check_entries(data, key, entries)
    _check_lengths(data)
    _check_ignored(data)


def _check_entries(data: MaskFolder, key: str, entries: Sequence[Any]) -> None:
    """Two classes or more, each entry once."""
    if not 2 <= len(entries) <= IGNORED:
        what = "no class" if not entries else "1 class" if len(entries) == 1 else f"{len(entries):,} classes"
        raise Mistake(
            f"data.{key}={shown(list(entries))} makes {what}",
            allowed=f"2 to {IGNORED} classes, or null: {_NULL[key]}",
            type_this=f"data.{key}=null",
        )
    twice = next((entry for n, entry in enumerate(entries) if entry in entries[:n]), None)
    if twice is not None:
        once = [entry for n, entry in enumerate(entries) if entry not in entries[:n]]
        fits = len(once) > 1 and not _others(data, key, len(once))
        raise Mistake(
            f"data.{key}={shown(list(entries))} holds {shown(twice)} twice",
            allowed="an entry of its own for each class",
            type_this=f"data.{key}={shown(once) if fits else 'null'}",
        )


_NULL = {
    "mask_values": "values are the classes' numbers",
    "mask_colors": "masks have no colours",
    "class_names": "classes are called by their values",
}


def _others(data: MaskFolder, key: str, count: int) -> list[str]:
    """Other keys that have an entry for each class, and not so many."""
    lists = {name: getattr(data, name) for name in _NULL if name != key}
    return [name for name, entries in lists.items() if entries is not None and len(entries) != count]


def _check_lengths(data: MaskFolder) -> None:
    names = data.class_names
    key, entries = ("mask_values", data.mask_values) if data.mask_colors is None else ("mask_colors", data.mask_colors)
    if names is None or entries is None or len(entries) == len(names):
        return
    better = [*names[: len(entries)], *(f"class_{k}" for k in range(len(names), len(entries)))]
    raise Mistake(
        f"data.{key}={shown(entries)} makes {len(entries)} classes, and data.class_names={shown(names)} names "
        f"{len(names)}",
        allowed="a name for each class, in the same order",
        type_this=f"data.class_names={shown(better)}",
    )


def _check_ignored(data: MaskFolder) -> None:
    ignored, names = data.ignore_index, data.class_names
    if ignored is None:
        return
    if data.mask_colors is not None:
        raise Mistake(
            f"data.ignore_index={ignored} is a value of grey masks and palettes, and data.mask_colors is given",
            allowed="data.unknown_mask_values=ignore: pixels of all other colours count for nothing",
            type_this="data.ignore_index=null data.unknown_mask_values=ignore",
        )
    numbers = list(range(len(names))) if data.mask_values is None and names is not None else data.mask_values or []
    if ignored in numbers:
        whose = (
            f"data.mask_values={shown(numbers)}" if data.mask_values is not None else f"data.class_names={shown(names)}"
        )
        raise Mistake(
            f"data.ignore_index={ignored} is a class by {whose}",
            allowed="a value that is no class, or null",
            type_this="data.ignore_index=null",
        )
