"""What there is to know and to mend in a set of images with masks, before anything is trained on it. Needs no torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dltrain.config.messages import Mistake
from dltrain.config.spec import IGNORED
from dltrain.data.decode import UnreadableError
from dltrain.data.imageset import Images, ImageSet, Numbers, Say
from dltrain.data.mask_pairs import PairReader
from dltrain.data.problems import NEAR_EMPTY, Common, common_json, compare, digest_of, sizes_of
from dltrain.data.scan import Progress, by_threads
from dltrain.text import safe_text

RARE = 0.001  # share of the training pixels, below which a class is pointed out


@dataclass(frozen=True)
class MaskClass:
    """Pixels of one class in each split, and images that have any."""

    name: str
    pixels: dict[str, int]
    images: dict[str, int]


@dataclass
class MaskFacts(Common):
    """All that mode=data tells of a set with masks."""

    classes: list[MaskClass]
    ignored: MaskClass
    empty: list[str]  # images whose pixels are all ignored

    def share(self, one: MaskClass, split: str) -> float:
        """Of the pixels that count in a split; of all pixels, for those that are ignored."""
        total = sum(of.pixels[split] for of in self.classes)
        total += self.ignored.pixels[split] if one is self.ignored else 0
        return one.pixels[split] / max(1, total)

    @property
    def near_empty(self) -> list[MaskClass]:
        """Classes of few training pixels, or in few training images where these are not few themselves."""
        few = min(NEAR_EMPTY, (self.counts["train"] + 1) // 2)
        there = [one for one in self.classes if one.pixels["train"]]
        return [one for one in there if self.share(one, "train") < RARE or one.images["train"] < few]

    @property
    def absent(self) -> list[tuple[str, str]]:
        """(class, split) wherever no mask of a split has a pixel of a class."""
        return [(one.name, split) for one in self.classes for split, pixels in one.pixels.items() if not pixels]

    @property
    def imbalance(self) -> float:
        """Training pixels of the largest class to those of the smallest that has any."""
        pixels = [one.pixels["train"] for one in self.classes if one.pixels["train"]]
        return max(pixels) / min(pixels) if pixels else 1.0


def look(images: ImageSet, say: Say) -> MaskFacts:
    """Count the pixels of all masks of the splits, measure and compare the images. Raises Mistake."""
    spec, read = images.spec, images.read
    channels = spec.shape[0]

    def one(number: int) -> tuple[Numbers, bytes]:
        if isinstance(read, PairReader):  # equal images are found by their files: most need not be decoded
            return _counts(read.mask(number)), b""
        pixels = read(number)
        return _counts(pixels[channels]), digest_of(pixels[:channels])

    splits_of: dict[int, list[str]] = {}
    for split, numbers in images.splits.items():
        for number in numbers.tolist():
            splits_of.setdefault(number, []).append(split)
    pixels, having = ({split: np.zeros(256, np.int64) for split in images.splits} for _ in range(2))
    digests: dict[int, bytes] = {}
    empty = []
    found = by_threads(one, list(splits_of), Progress(say, "counting pixels", len(splits_of), "masks"))
    try:
        for (number, splits), (counts, digest) in zip(splits_of.items(), found, strict=True):
            for split in splits:
                pixels[split] += counts
                having[split] += counts > 0
            if counts[IGNORED] == counts.sum():
                empty.append(f"image {number}" if images.names is None else images.names[number])
            if digest:
                digests[number] = digest
    except UnreadableError as error:
        raise Mistake(
            safe_text(str(error), 1000), allowed="images and masks that stay as they are while they are looked at"
        ) from None

    def counted(name: str, label: int) -> MaskClass:
        of_pixels, of_images = ({split: int(of[label]) for split, of in table.items()} for table in (pixels, having))
        return MaskClass(name, of_pixels, of_images)

    classes = [counted(name, label) for label, name in enumerate(spec.class_names)]
    facts = MaskFacts(spec.counts, *sizes_of(images, spec.shape[1:]), classes, counted("ignored", IGNORED), empty)
    compare(facts, images, say, digests or None)
    return facts


def _counts(mask: Images) -> Numbers:
    counts: Numbers = np.bincount(mask.ravel(), minlength=256)
    return counts


def to_json(facts: MaskFacts, images: ImageSet) -> dict[str, Any]:
    """All counts and names, as `data.json` has them."""
    return common_json(facts, images) | {
        "window": list(images.spec.shape[1:]),
        "classes": [{"name": one.name, "pixels": one.pixels, "images": one.images} for one in facts.classes],
        "ignored": {"pixels": facts.ignored.pixels, "images": facts.ignored.images},
        "all_ignored": facts.empty,
        "imbalance": facts.imbalance,
        "near_empty": [one.name for one in facts.near_empty],
        "absent": [{"class": name, "split": split} for name, split in facts.absent],
    }
