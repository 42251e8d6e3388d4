"""What a .npz file of images must hold, and what it comes to. Needs no torch.

Unsplit: `images` with `labels` or `values`, and if need be `split` and `groups`. Split: `train_images`, `train_labels`,
`val_images`, … (as MedMNIST has them). In either case, if need be, `class_names` or `value_names`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.config.messages import Mistake
from dltrain.data.columns import by_split, numbered, refuse_parted
from dltrain.data.cut import Targets
from dltrain.data.imageset import Images, Numbers
from dltrain.data.layout import SPLITS
from dltrain.data.npz import Npz
from dltrain.data.sizes import LARGEST
from dltrain.text import safe_text, some

HOW = "as np.savez('set.npz', images=images, labels=labels) writes it"
FROM_ZERO = "the numbers of the classes from 0 on"


@dataclass
class Held:
    """Images (N, C, H, W), targets (N,) or (N, K), and positions of the splits that the user has made."""

    images: Images
    targets: Targets
    splits: dict[str, Numbers]
    class_names: Sequence[str] = ()
    value_names: Sequence[str] = ()
    groups: Numbers | None = None
    notes: tuple[str, ...] = ()


def held_in(file: Npz, of_classes: bool) -> Held:
    """What the file holds, with class numbers or values. Raises Mistake, NpzError, OSError."""
    kind, names = ("labels", "class_names") if of_classes else ("values", "value_names")
    if "train_images" in file.names:
        held, used = _in_parts(file, kind)
    elif "images" in file.names:
        held, used = _in_one(file, kind)
    else:
        raise Mistake(
            f"it holds {some(file.names) or 'nothing'}, and neither images nor train_images",
            allowed=f"images and {kind}, {HOW}; or train_images and train_{kind}, and so for val and test",
        )
    given = _names(file, names) if names in file.names else None
    if of_classes:
        held.class_names = _classes(held.targets, given)
    else:
        held.value_names = _value_names(held.targets.shape[1], given)
    unused = [name for name in file.names if name not in {*used, names}]
    if unused:
        held.notes += (f"arrays that are not used: {some(unused)}",)
    return held


def _in_parts(file: Npz, kind: str) -> tuple[Held, set[str]]:
    """A split's own arrays, train's first; and the names of those that were used."""
    splits = [split for split in SPLITS if f"{split}_images" in file.names]
    parts = {split: _pair(file, f"{split}_images", f"{split}_{kind}") for split in splits}
    shapes = {split: images.shape[1:] for split, (images, _, _) in parts.items()}
    if len(set(shapes.values())) > 1:
        texts = [f"{split}_images {' x '.join(map(str, shape))}" for split, shape in shapes.items()]
        raise Mistake(f"images differ in shape: {some(texts)}", allowed="the same channels and size in each split")
    if len({targets.shape[1:] for _, targets, _ in parts.values()}) > 1:
        raise Mistake(f"{kind} differ in shape", allowed="as many values an image in each split")
    images = np.concatenate([images for images, _, _ in parts.values()])
    targets = np.concatenate([targets for _, targets, _ in parts.values()])
    of = np.repeat(splits, [len(images) for images, _, _ in parts.values()]).tolist()
    notes = tuple(note for *_, notes in parts.values() for note in notes)
    return Held(images, targets, by_split(of), notes=notes), {
        f"{s}_{name}" for s in splits for name in ("images", kind)
    }


def _in_one(file: Npz, kind: str) -> tuple[Held, set[str]]:
    """One array for all, with words for the split and groups if there are any; and the names of those used."""
    images, targets, notes = _pair(file, "images", kind)
    held = Held(images, targets, {"train": np.arange(len(images))}, notes=notes)
    if "split" in file.names:
        words = [word.strip().casefold() for word in _texts(file, "split", len(images))]
        odd = next((number for number, word in enumerate(words) if word not in SPLITS), None)
        if odd is not None:
            raise Mistake(f"split[{odd}] is {safe_text(words[odd]) or 'empty'}", allowed=", ".join(SPLITS))
        held.splits = by_split(words)
    if "groups" in file.names:
        groups = _texts(file, "groups", len(images))
        refuse_parted(held.splits, groups)
        held.groups = numbered(groups)
    return held, {"images", kind, "split", "groups"}


def _pair(file: Npz, of_images: str, of_targets: str) -> tuple[Images, Targets, tuple[str, ...]]:
    """Images, their labels or values, and notes."""
    kind = of_targets.rpartition("_")[2]
    if of_targets not in file.names:
        other = "values" if kind == "labels" else "labels"
        has_other = of_targets.replace(kind, other) in file.names
        raise Mistake(
            f"{of_images} is there, and {of_targets} is not; it holds {some(file.names)}",
            allowed=f"{of_targets}, one for each of {of_images}",
            type_this=f"data.targets={other}" if has_other else "",
        )
    images, notes = _images(of_images, file.read(of_images))
    array = file.read(of_targets)
    targets = _labels(of_targets, array) if kind == "labels" else _values(of_targets, array)
    if len(targets) != len(images):
        raise Mistake(
            f"{of_images} holds {len(images):,} images, {of_targets} {len(targets):,}", allowed="one for each image"
        )
    return images, targets, notes


def _shape(array: NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape))


def _images(name: str, array: NDArray[Any]) -> tuple[Images, tuple[str, ...]]:
    """(N, C, H, W), and notes. Channels stand last, as in files; first only where what stands last can be none."""
    if array.dtype != np.uint8:
        how = f"{name}.astype(np.uint8)"
        if array.dtype.kind == "b":
            how = f"255 * {how}"
        elif array.dtype.kind == "f":
            how = f"np.round(255 * {name}).astype(np.uint8) if they are from 0 to 1, {how} if from 0 to 255"
        raise Mistake(f"{name} is of type {array.dtype}", allowed=f"uint8, from 0 to 255: {how}")
    shape = _shape(array)
    notes: tuple[str, ...] = ()
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        if array.shape[1] in (1, 3) and array.shape[1:3] != (1, 1):
            notes = (f"{name}, {shape}, is taken for images x height x width x channels",)
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise Mistake(f"{name} is {shape}", allowed="(N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W)")
    if not array.size or max(array.shape[2:]) > LARGEST:
        raise Mistake(f"{name} is {shape}", allowed=f"one image or more, each of 1 to {LARGEST} pixels a side")
    return array, notes


def _labels(name: str, array: NDArray[Any]) -> Numbers:
    """(N,)."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise Mistake(f"{name} is {_shape(array)}", allowed="(N,) or (N, 1): one class an image")
    if array.dtype.kind not in "iub":
        how = f"class_names, {name} = np.unique({name}, return_inverse=True)"
        raise Mistake(f"{name} is of type {array.dtype}", allowed=f"integers, {FROM_ZERO}: {how}")
    array = array.view(np.uint8) if array.dtype.kind == "b" else array
    for at in (int(array.argmin()), int(array.argmax())) if array.size else ():
        if not 0 <= array[at] <= np.iinfo(np.int32).max:
            raise Mistake(f"{name}[{at}] is {array[at]}", allowed=FROM_ZERO)
    return array.astype(np.int64)


def _values(name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    """(N, K)."""
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or not array.size:
        raise Mistake(f"{name} is {_shape(array)} of type {array.dtype}", allowed="(N,) or (N, K) real numbers")
    array = array.reshape(len(array), -1)
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0].tolist()
        raise Mistake(
            f"{len(bad):,} of {values.size:,} {name} are not finite, first {name}[{row}], {array[row, column]}",
            allowed="finite numbers within the range of 32-bit floats",
        )
    return values


def _texts(file: Npz, name: str, count: int | None = None) -> list[str]:
    """An array of text, or of integers as text."""
    array = file.read(name)
    if array.dtype.kind not in "USiu" or array.ndim != 1:
        raise Mistake(f"{name} is {_shape(array)} of type {array.dtype}", allowed="(N,) texts")
    if count is not None and len(array) != count:
        raise Mistake(f"{name} holds {len(array):,} texts for {count:,} images", allowed="one for each image")
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.tolist()]


def _names(file: Npz, name: str) -> list[str]:
    names = _texts(file, name)
    if "" in names or len(set(names)) < len(names):
        raise Mistake(f"{name} holds {'an empty name' if '' in names else 'a name twice'}", allowed="different names")
    return names


def _classes(targets: Targets, given: list[str] | None) -> list[str]:
    """The names of the classes; without any, their numbers, each of which must occur."""
    lowest, highest, different = int(targets.min()), int(targets.max()), len(np.unique(targets))
    if given is not None and highest >= len(given):
        raise Mistake(
            f"there is a label {highest}, and class_names holds {len(given)} names",
            allowed=f"labels from 0 to {len(given) - 1}, or more names",
        )
    if given is None and highest + 1 != different:
        raise Mistake(
            f"labels are from {lowest} to {highest}, and {different:,} of these occur",
            allowed=f"0 to {different - 1} (np.unique(labels, return_inverse=True)[1]), or class_names",
        )
    names = given or [str(number) for number in range(highest + 1)]
    if len(names) < 2:
        raise Mistake(f"there is one class only, {some(names)}", allowed="two classes or more")
    return names


def _value_names(width: int, given: list[str] | None) -> list[str]:
    if given is not None and len(given) != width:
        raise Mistake(f"value_names holds {len(given)} names for {width} values an image", allowed="one for each value")
    return given or (["value"] if width == 1 else [f"value_{number}" for number in range(width)])
