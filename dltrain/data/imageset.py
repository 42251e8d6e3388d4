"""A data set that has been found, split and given a size, but not yet read. Needs no torch."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec

Say = Callable[[str], None]
Images = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class Reader(Protocol):
    """Reads one image by its sample number. Can be pickled, so that worker processes can have it."""

    def __call__(self, number: int) -> Images:
        """(C, H, W) at the size of the spec. Raises UnreadableError, naming the file."""
        ...

    def everything(self, say: Say) -> Images:
        """(N, C, H, W), all images in the order of their numbers. Raises UnreadableError."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """`targets[number]` and `read(number)` belong together; `splits` holds the sample numbers of each split."""

    spec: DataSpec
    targets: Numbers
    splits: dict[str, Numbers]
    read: Reader


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, of images in 0 to 1."""

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


def open_set(cfg: Config, say: Say) -> ImageSet:
    """Find, check and split the config's data set: fetches, scans, reads headers. Raises Mistake."""
    return _opener(cfg.data)(cfg.data, cfg.model.fixed_size if cfg.model is not None else None, cfg.seed, say)


def _opener(settings: Any) -> Callable[[Any, tuple[int, int] | None, int, Say], ImageSet]:
    """The function that `opens` names, in the package that declares the settings."""
    package = type(settings).__module__.partition(".")[0]
    file, _, function = type(settings).opens.partition(":")
    found: Callable[[Any, tuple[int, int] | None, int, Say], ImageSet]
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
