"""What there is to know and to mend in a data set, before anything is trained on it. Needs no torch."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dltrain.config.spec import Target
from dltrain.data.files import FileReader
from dltrain.data.imageset import Images, ImageSet, Reader, Say
from dltrain.data.mask_pairs import PairReader
from dltrain.data.scan import Progress, by_threads
from dltrain.data.select import Subset
from dltrain.data.sizes import ArrayReader
from dltrain.text import safe_text

NEAR_EMPTY = 10  # training images of a class, below which it is pointed out
BINS = 20  # of a histogram
FREQUENT = 8  # most frequent sizes that are listed

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class ClassCount:
    """Images of one class in each split."""

    name: str
    counts: dict[str, int]

    @property
    def train(self) -> int:
        return self.counts["train"]


@dataclass(frozen=True)
class Output:
    """One real output over the training set: its range, and counts in equal steps of it."""

    name: str
    unit: str
    smallest: float
    largest: float
    mean: float
    std: float
    histogram: list[int]


@dataclass(frozen=True)
class Member:
    """One of several equal images."""

    name: str
    split: str
    target: str  # its class, or its values; a digest of its mask


@dataclass(frozen=True)
class Equal:
    """Images whose files, or pixels where there are no files, are the same in every byte."""

    members: list[Member]

    @property
    def across_splits(self) -> bool:
        return len({member.split for member in self.members}) > 1

    @property
    def differ_in_target(self) -> bool:
        return len({member.target for member in self.members}) > 1


@dataclass
class Common:
    """What mode=data tells of every set."""

    counts: dict[str, int]
    sizes: list[tuple[Size, int]]  # height and width, how many images; the most frequent first
    smallest: Size
    largest: Size
    equal: list[Equal] = field(default_factory=list, kw_only=True)
    changed: str = field(default="", kw_only=True)  # why equal images could not be looked for


@dataclass
class Facts(Common):
    """All that it tells of a set with a class or values for each image, or with neither."""

    classes: list[ClassCount] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    @property
    def near_empty(self) -> list[ClassCount]:
        return [one for one in self.classes if one.train < NEAR_EMPTY]

    @property
    def absent(self) -> list[tuple[str, str]]:
        """(class, split) wherever a split has no image of a class."""
        return [(one.name, split) for one in self.classes for split, count in one.counts.items() if not count]

    @property
    def imbalance(self) -> float:
        """Training images of the largest class to those of the smallest; 1 where there are no classes."""
        counts = [one.train for one in self.classes]
        return max(counts) / max(1, min(counts)) if counts else 1.0


def look(images: ImageSet, native: Size | None, say: Say) -> Facts:
    """Count, measure and compare all images of the splits. `native` is the size of the images of a known set."""
    spec = images.spec
    facts = Facts(spec.counts, *sizes_of(images, native or _of_array(images.read) or spec.shape[1:]))
    if images.targets.ndim == 1:
        labels = images.targets.astype(np.int64)
        tables = {
            split: np.bincount(labels[numbers], minlength=len(spec.class_names)).tolist()
            for split, numbers in images.splits.items()
        }
        facts.classes = [
            ClassCount(name, {split: table[label] for split, table in tables.items()})
            for label, name in enumerate(spec.class_names)
        ]
    else:
        values = images.targets[images.splits["train"]].astype(np.float64)
        units = spec.value_units or ("",) * len(spec.value_names)
        for name, unit, column in zip(spec.value_names, units, values.T, strict=True):
            counts, _ = np.histogram(column, BINS)
            smallest, largest, mean, std = (float(f(column)) for f in (np.min, np.max, np.mean, np.std))
            facts.outputs.append(Output(name, unit, smallest, largest, mean, std, counts.tolist()))
    compare(facts, images, say)
    return facts


def sizes_of(images: ImageSet, alike: Size) -> tuple[list[tuple[Size, int]], Size, Size]:
    """Sizes and how often each is there, the smallest and the largest; `alike` is that of sets which have but one."""
    used = np.unique(np.concatenate(list(images.splits.values())))
    if images.sizes is None:
        sizes = [(alike, len(used))]
    else:
        found = Counter((int(height), int(width)) for height, width in images.sizes[used])
        sizes = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    by_area = sorted((size for size, _ in sizes), key=lambda size: (size[0] * size[1], size))
    return sizes, by_area[0], by_area[-1]


def compare(facts: Common, images: ImageSet, say: Say, known: dict[int, bytes] | None = None) -> None:
    """Find equal images. `known` are digests of their pixels, where these have been read already."""
    try:
        facts.equal = equal_images(images, say, known)
    except OSError as error:
        facts.changed = f"an image cannot be read any more: {safe_text(str(error))}"


def _of_array(read: Reader) -> Size | None:
    """Height and width of images that lie in memory."""
    read = read.read if isinstance(read, Subset) else read
    return (read.images.shape[-2], read.images.shape[-1]) if isinstance(read, ArrayReader) else None


# ---- equal images


def equal_images(images: ImageSet, say: Say, known: dict[int, bytes] | None = None) -> list[Equal]:
    """Sets of images that are equal in every byte, worst first: in two splits with different targets, in two splits, …

    Raises OSError if a file cannot be read any more.
    """
    split_of = {number: split for split, numbers in images.splits.items() for number in numbers.tolist()}
    same: dict[bytes, list[int]] = {}
    for number, digest in _digests(images, sorted(split_of), say) if known is None else known.items():
        same.setdefault(digest, []).append(number)
    names = images.names
    found = [
        Equal([Member(f"image {n}" if names is None else names[n], split_of[n], _target(images, n)) for n in numbers])
        for numbers in same.values()
        if len(numbers) > 1
    ]
    return sorted(found, key=lambda one: (not one.differ_in_target, not one.across_splits))


def _digests(images: ImageSet, numbers: list[int], say: Say) -> Iterator[tuple[int, bytes]]:
    read = images.read
    if not isinstance(read, FileReader | PairReader):
        for number in numbers:
            yield number, digest_of(read(number))
        return
    paths = {number: f"{read.root}/{read.files[number]}" for number in numbers}
    bytes_of = {number: os.stat(path).st_size for number, path in paths.items()}  # noqa: PTH116 - a million of them
    often = Counter(bytes_of.values())
    maybe = [number for number in numbers if often[bytes_of[number]] > 1]
    digests = by_threads(lambda number: _digest(paths[number]), maybe, Progress(say, "comparing", len(maybe)))
    yield from zip(maybe, digests, strict=True)


def digest_of(pixels: Images) -> bytes:
    """Of all values of an array."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _target(images: ImageSet, number: int) -> str:
    if images.spec.target is Target.mask:
        return digest_of(images.read(number)[images.spec.shape[0]]).hex()
    target = images.targets[number]
    if images.targets.ndim == 1:
        return images.spec.class_names[int(target)]
    return " ".join(f"{value:.6g}" for value in target.tolist())


# ---- for machines


def to_json(facts: Facts, images: ImageSet) -> dict[str, Any]:
    """All counts and names, as `data.json` has them."""
    return common_json(facts, images) | {
        "classes": [{"name": one.name, **one.counts} for one in facts.classes],
        "imbalance": facts.imbalance,
        "near_empty": [one.name for one in facts.near_empty],
        "absent": [{"class": name, "split": split} for name, split in facts.absent],
        "values": [vars(one) for one in facts.outputs],
    }


def common_json(facts: Common, images: ImageSet) -> dict[str, Any]:
    """What every set has of it."""
    spec = images.spec
    left_out = {kind: [one for one in images.left_out if one.kind == kind] for kind in ("unreadable", "link", "other")}
    return {
        "data": spec.name,
        "where": spec.where,
        "target": str(spec.target),
        "shape": list(spec.shape),
        "counts": facts.counts,
        "sizes": {
            "smallest": list(facts.smallest),
            "largest": list(facts.largest),
            "counts": [[height, width, count] for (height, width), count in facts.sizes],
        },
        "equal": [
            {
                "images": [vars(member) for member in one.members],
                "across_splits": one.across_splits,
                "targets_differ": one.differ_in_target,
            }
            for one in facts.equal
        ],
        "unreadable": [{"file": one.file, "reason": one.reason} for one in left_out["unreadable"]],
        "links": [one.file for one in left_out["link"]],
        "others": [one.file for one in left_out["other"]],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "notes": list(spec.notes),
    }
