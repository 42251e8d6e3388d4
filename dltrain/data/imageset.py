"""A data set that has been found, split and given a size, but not yet read. Needs no torch."""

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec, Target

Say = Callable[[str], None]
Images = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Size = tuple[int, int]  # height, width
SizeRule = Callable[[Size], Size] | None  # from the set's own size to the one that suits the model; None: its own
Box = tuple[int, int, int, int]  # left, top, right, bottom, as Pillow has it
Part = Callable[[Size], Box]  # which part of an image of this size is taken


class Reader(Protocol):
    """Reads one image by its sample number. Can be pickled, so that worker processes can have it."""

    def __call__(self, number: int, part: Part | None = None) -> Images:
        """(C, H, W) at the size of the spec: the image as evaluation sees it, or a part of the original, resized.

        Of a set with masks (C + 1, H, W), in a size of its own: the mask is the last channel, class numbers and
        IGNORED. Raises UnreadableError, naming the file.
        """
        ...

    def everything(self, say: Say) -> Images | list[Images]:
        """(N, C, H, W), all images in the order of their numbers; of masks a list. Raises UnreadableError."""
        ...


@runtime_checkable
class Selective(Reader, Protocol):
    """A reader that can leave out images without looking at them."""

    def only(self, numbers: Numbers) -> Reader:
        """A reader of these images, numbered anew in this order."""
        ...


class LeftOut(NamedTuple):
    """Something beside the images that are used."""

    file: str  # relative to the root, as it is on disk
    kind: Literal["unreadable", "link", "other"]
    reason: str  # safe to print; "" where the kind says it all


@dataclass(frozen=True)
class ImageSet:
    """`targets[number]` and `read(number)` belong together; `splits` holds the sample numbers of each split.

    `targets` are (N,) class numbers, or (N, K) float32 values, or (N, 0) where there are none. Samples of one number
    in `groups` are never parted by a split. `names` tell a sample from all others, whichever they are: its file,
    relative to the root; None where that is its number. `sizes` (N, 2) are height and width before `data.size`; None
    where all are alike. Of a set with masks `targets` are (N, 0), and `sizes` are those that images are read in.
    """

    spec: DataSpec
    targets: Numbers | NDArray[np.float32]
    splits: dict[str, Numbers]
    read: Reader
    groups: Numbers | None = None
    names: Sequence[str] | None = None
    sizes: Numbers | None = None
    left_out: tuple[LeftOut, ...] = ()


class Statistics(NamedTuple):
    """Mean and standard deviation: of each channel, of images in 0 to 1; or of each real output."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(images: Iterable[Images]) -> "Statistics":
        """Of (C, H, W) images, by exact integer sums, so that their order plays no part; four decimals."""
        count, total, squares = 0, np.zeros(1, np.int64), np.zeros(1, np.int64)
        for image in images:
            values = image.reshape(len(image), -1).astype(np.int64)
            count += values.shape[1]
            total = total + values.sum(axis=1)
            squares = squares + (values * values).sum(axis=1)
        mean = total / (255 * count)
        std = np.sqrt(np.maximum(squares / (255 * 255 * count) - mean * mean, 0))
        # An even image has no deviation; one grey level stands in for it.
        return Statistics(tuple(round(float(m), 4) for m in mean), tuple(round(max(float(s), 1 / 255), 4) for s in std))


MEASURED = "mean and std measured on"


def measured(count: int) -> str:
    """The note that mean and standard deviation are those of so many training images."""
    return f"{MEASURED} {count:,} training image{'' if count == 1 else 's'}"


def spread(numbers: Numbers, most: int) -> Numbers:
    """At most so many of the numbers, spread evenly over them."""
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, min(most, len(numbers))).astype(np.int64))]


def value_statistics(values: NDArray[np.int64] | NDArray[np.float32]) -> Statistics:
    """Of each of the K outputs over (N, K) training values, by exact sums; one that never varies has a deviation of 1.

    Rounded sums would follow the machine, and give a constant a deviation of 1e-17, by which it would be divided.
    """
    mean, std = [], []
    for column in values.astype(np.float64).T.tolist():
        centre = math.fsum(column) / len(column)
        variance = math.fsum((value - centre) ** 2 for value in column) / len(column)
        mean.append(centre)
        std.append(math.sqrt(variance) if min(column) < max(column) else 1.0)
    return Statistics(tuple(mean), tuple(std))


def open_set(cfg: Config, say: Say) -> ImageSet:
    """Find, check and split the config's data set, then choose from it: fetches, scans, reads headers.

    Raises Mistake.
    """
    from dltrain.data.select import select  # it builds on this file

    fits = cfg.model is not None and (cfg.data.target_kind == Target.mask) == (cfg.model.task == "segmentation")
    suits = cfg.model.size_for if fits else None  # mode=data shows a set beside whatever model
    images = select(_opener(cfg.data)(cfg.data, suits, cfg.seed, say), cfg)
    spec = replace(images.spec, listing=listing(images))
    if spec.target is Target.mask and images.sizes is not None:
        spec = replace(spec, pixels=int(images.sizes.prod(axis=1).sum()))
    return replace(images, spec=spec)


def listing(images: ImageSet) -> dict[str, str]:
    """SHA-256 of the names and targets of each split, in order: the same wherever the root lies."""
    found = {}
    for split, numbers in images.splits.items():
        names = numbers.tolist() if images.names is None else [images.names[number] for number in numbers.tolist()]
        digest = hashlib.sha256(json.dumps(names).encode())
        digest.update(np.ascontiguousarray(images.targets[numbers]).tobytes())
        found[split] = digest.hexdigest()
    return found


def _opener(settings: Any) -> Callable[[Any, SizeRule, int, Say], ImageSet]:
    """The function that `opens` names, in the package that declares the settings."""
    package = type(settings).__module__.partition(".")[0]
    file, _, function = type(settings).opens.partition(":")
    found: Callable[[Any, SizeRule, int, Say], ImageSet]
    found = getattr(importlib.import_module(f"{package}.data.{file}"), function)
    return found


def with_statistics(spec: DataSpec, settings: Any) -> DataSpec:
    """The spec with `data.mean` and `data.std` in place of the set's own, where they are given."""
    mean = spec.mean if settings.mean is None else _each_channel("mean", settings.mean, spec.shape[0])
    std = spec.std if settings.std is None else _each_channel("std", settings.std, spec.shape[0])
    return replace(spec, mean=mean, std=std)


def _each_channel(key: str, given: list[float], channels: int) -> tuple[float, ...]:
    if len(given) not in (1, channels):
        raise Mistake(
            f"data.{key}={given} has {len(given)} values",
            allowed=f"one value, or {channels} (one a channel)",
            type_this=f"data.{key}=[{','.join(['0.5'] * channels)}]",
        )
    return tuple(float(value) for value in given) * (channels if len(given) == 1 else 1)
