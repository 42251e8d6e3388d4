"""What is known of a data set before torch is imported."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class Target(StrEnum):
    classes = "class"  # one class a image
    values = "value"  # K real numbers an image
    mask = "mask"  # one class a pixel
    nothing = "none"


IGNORED = 255  # in uint8 masks, the class number of a pixel that counts for nothing


@dataclass(frozen=True)
class DataSpec:
    """A data set as the model will see it.

    `shape` is (C, H, W) after `data.size` is applied; `counts` holds images per split; `mean` and `std` are per
    channel, for images in 0 to 1; `notes` are lines that the screen shows (padding, splits, conversions).
    `class_names` belong to classes, `value_names` to real outputs; `value_mean` and `value_std` are over the training
    set, in their units; `value_units` are the units' names, "" for a number without one, and empty where none is known.
    Of a set with masks `class_names` are those of pixels, `shape` is that of a training window, and `ignore_index` is
    IGNORED; images of other sizes are answered whole.
    `listing` is a SHA-256 a split of what tells its samples from others and of their targets, not of the pixels.
    `pixels` are those of all images together, of a set with masks, whose images have sizes of their own.
    """

    name: str
    shape: tuple[int, int, int]
    target: Target
    class_names: tuple[str, ...]
    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    ignore_index: int | None = None
    where: str = ""  # "embedded", or the folder
    notes: tuple[str, ...] = field(default=())
    value_names: tuple[str, ...] = ()
    value_mean: tuple[float, ...] = ()
    value_std: tuple[float, ...] = ()
    value_units: tuple[str, ...] = ()
    listing: dict[str, str] = field(default_factory=dict)
    pixels: int = 0

    @property
    def num_outputs(self) -> int:
        return len(self.class_names) + len(self.value_names)


SPLITS = {"train", "val", "test"}
_NEWER = ("value_names", "value_mean", "value_std", "value_units")  # which runs of earlier versions do not have


def spec_to_json(spec: DataSpec) -> dict[str, Any]:
    """The data spec as plain JSON values, for `environment.json`."""
    return {entry.name: getattr(spec, entry.name) for entry in fields(spec)}


def spec_from_json(tree: Any) -> DataSpec:
    """The data spec in a file that is not trusted. Raises ValueError if `spec_to_json` never wrote it."""
    names = {entry.name for entry in fields(DataSpec)}
    tree = {name: [] for name in _NEWER} | {"listing": {}, "pixels": 0} | tree if isinstance(tree, dict) else tree
    if not isinstance(tree, dict) or tree.keys() != names:
        raise ValueError("data_spec has other keys than a data spec")
    channels, height, width = _items(tree["shape"], "shape", 3, lambda v: type(v) is int and 1 <= v <= 65536)
    return DataSpec(
        name=_text(tree["name"], "name"),
        shape=(channels, height, width),
        target=Target(tree["target"]),
        class_names=_items(tree["class_names"], "class_names", None, _is_text),
        counts=_counts(tree["counts"]),
        mean=_items(tree["mean"], "mean", channels, _is_number),
        std=_items(tree["std"], "std", channels, lambda v: _is_number(v) and v > 0),
        ignore_index=_items([tree["ignore_index"]], "ignore_index", 1, lambda v: v is None or type(v) is int)[0],
        where=_text(tree["where"], "where"),
        notes=_items(tree["notes"], "notes", None, _is_text),
        value_names=_items(tree["value_names"], "value_names", None, _is_text),
        value_mean=_items(tree["value_mean"], "value_mean", len(tree["value_names"]), _is_number),
        value_std=_items(tree["value_std"], "value_std", len(tree["value_names"]), lambda v: _is_number(v) and v > 0),
        value_units=_units(tree["value_units"], len(tree["value_names"])),
        listing=_listing(tree["listing"]),
        pixels=_items([tree["pixels"]], "pixels", 1, lambda v: type(v) is int and v >= 0)[0],
    )


def _units(value: Any, outputs: int) -> tuple[str, ...]:
    units = _items(value, "value_units", None, _is_text)
    if units and len(units) != outputs:
        raise ValueError("value_units of the data spec are not one an output")
    return units


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 4096


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _text(value: Any, name: str) -> str:
    return str(_items([value], name, 1, _is_text)[0])


def _items(value: Any, name: str, length: int | None, fits: Callable[[Any], bool]) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > 100_000 or (length is not None and len(value) != length):
        raise ValueError(f"{name} of the data spec is not a list of the right length")
    if not all(fits(item) for item in value):
        raise ValueError(f"{name} of the data spec holds a value that does not belong there")
    return tuple(value)


def _listing(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value.keys() <= SPLITS or not all(map(_is_text, value.values())):
        raise ValueError("listing of the data spec is not one text a split")
    return dict(value)


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not value.keys() <= SPLITS:
        raise ValueError("counts of the data spec are not those of splits")
    _items(list(value.values()), "counts", None, lambda v: type(v) is int and v >= 0)
    return dict(value)
