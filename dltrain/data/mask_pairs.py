"""Images and their masks in files: looked through, matched, split, read. Needs no torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from dltrain.config.data import MaskFolder
from dltrain.config.messages import Mistake
from dltrain.config.spec import IGNORED, DataSpec, Target
from dltrain.data.cut import complete, refuse_empty
from dltrain.data.decode import Channels, Header, UnreadableError, decode, name_of, use
from dltrain.data.files import brought_to_colours, measure
from dltrain.data.imageset import Images, ImageSet, LeftOut, Numbers, Part, Say, with_statistics
from dltrain.data.mask_coding import Classes, Coding, nearest, turned
from dltrain.data.mask_decode import MaskHeader, examine_mask, raw_of
from dltrain.data.mask_values import absent, classes_of, refuse_void
from dltrain.data.scan import Looked, Progress, Scan, Stat, by_threads
from dltrain.data.sizes import Size, SizeRule, centred, fit, parse_size, to_array
from dltrain.data.windows import window
from dltrain.keys import hash_text
from dltrain.text import SHOWN, safe_text, some


class MaskScan(Scan):
    """What is known of images and masks below a root, in pairs; of a mask also which values it holds."""

    def __init__(self, root: Path, kind: str, files: Sequence[str], masks: Sequence[str]) -> None:
        super().__init__(root, kind)
        self.pairs = list(zip(files, masks, strict=True))
        self.masks = frozenset(masks)

    def examine(self, file: str, max_pixels: int) -> Header:
        """What there is to know of a file. Raises UnreadableError."""
        return examine_mask(self.root / file, max_pixels) if file in self.masks else super().examine(file, max_pixels)

    def header(self, file: str, record: list[object]) -> Header | None:
        """What the cache holds of a file, if it can be that."""
        return MaskHeader.of(record) if file in self.masks else super().header(file, record)

    def leaves_some(self, looked: Looked) -> bool:
        """Whether there is a pair both files of which can be read."""
        return any(file in looked.headers and mask in looked.headers for file, mask in self.pairs)


class PairReader:
    """Images with their masks, decoded when they are asked for."""

    def __init__(
        self,
        root: Path | str,
        files: Sequence[str],
        masks: Sequence[str],
        turns: Sequence[int],
        coding: Coding,
        channels: Channels,
        size: Size | None,
        max_pixels: int,
    ) -> None:
        self.root = str(root)
        self.files = list(files)
        self.masks = list(masks)
        self.turns = list(turns)  # the EXIF orientation that a mask is turned by, 1 for none
        self.coding = coding
        self.channels: Channels = channels
        self.size = size
        self.max_pixels = max_pixels

    def image(self, number: int) -> Images:
        """(C, H, W). Raises UnreadableError."""
        image = decode(f"{self.root}/{self.files[number]}", self.channels, self.max_pixels)
        return to_array(image) if self.size is None else fit(image, self.size)

    def mask(self, number: int) -> Classes:
        """(H, W) class numbers. Raises UnreadableError."""
        path = f"{self.root}/{self.masks[number]}"
        classes = use(path, self.max_pixels, lambda image: self.coding.classes(raw_of(image)))
        if self.turns[number] != 1:
            classes = cast(Classes, turned(classes, self.turns[number]))
        own = (classes.shape[0], classes.shape[1])
        return classes if self.size in (None, own) else nearest(classes, centred(own, self.size), self.size)

    def __call__(self, number: int, part: Part | None = None) -> Images:
        """(C + 1, H, W): the image, and its mask as the last channel. Raises UnreadableError."""
        if part is not None:
            raise ValueError("parts of images with masks are taken when both have been read")
        image, mask = self.image(number), self.mask(number)
        if image.shape[1:] != mask.shape:
            name = name_of(f"{self.root}/{self.masks[number]}")
            raise UnreadableError(name, "has another size than its image, which it did not have")
        return np.concatenate([image, mask[None]])

    def everything(self, say: Say) -> list[Images]:
        """All of them in the order of their numbers, read by a few threads. Raises UnreadableError."""
        return list(by_threads(self, range(len(self.files)), Progress(say, "decoding", len(self.files))))

    def only(self, numbers: Numbers) -> "PairReader":
        """A reader of these samples, numbered anew in this order."""
        files, masks, turns = ([of[n] for n in numbers.tolist()] for of in (self.files, self.masks, self.turns))
        return PairReader(self.root, files, masks, turns, self.coding, self.channels, self.size, self.max_pixels)


@dataclass
class Pairs:
    """The files of a set with masks before any is looked at: `masks[n]` is that of `files[n]`."""

    root: Path
    files: list[str]  # relative to the root, as the masks are
    masks: list[str]
    stats: dict[str, Stat]  # of all of them
    found: dict[str, Numbers]  # positions of `train`, and of `val` and `test` where the user has split the set
    left_out: Sequence[LeftOut] = ()
    notes: tuple[str, ...] = ()


@contextmanager
def advised(advice: str) -> Iterator[None]:
    """What is allowed, in a Mistake about the files of a set that nobody but its authors has made."""
    try:
        yield
    except Mistake as mistake:
        if advice:
            mistake.allowed, mistake.type_this = advice, ""
        raise


def open_pairs(settings: MaskFolder, pairs: Pairs, suits: SizeRule, seed: int, say: Say, advice: str = "") -> ImageSet:
    """Look at every file, split, find the classes, and leave out pairs that cannot be read.

    Sample numbers are positions among the pairs that can be read. Raises Mistake; `advice` is for `advised`.
    """
    root, where = pairs.root, f"data.root={safe_text(str(pairs.root))}"
    scan = MaskScan(root, settings.name, pairs.files, pairs.masks)
    order = [file for pair in scan.pairs for file in pair]
    with advised(advice):
        looked = scan.look({file: pairs.stats[file] for file in order}, settings, say)
    scan.save()  # what follows may refuse the set, and the files need not be read again then
    readable = [file in looked.headers and mask in looked.headers for file, mask in scan.pairs]
    kept = np.flatnonzero(readable)
    files = [pairs.files[number] for number in kept.tolist()]
    masks = [pairs.masks[number] for number in kept.tolist()]
    images = [looked.headers[file] for file in files]
    headers = {mask: cast(MaskHeader, looked.headers[mask]) for mask in masks}
    with advised(advice):
        turns, turn_notes = _turns(where, files, images, headers)
        coding, names, notes = classes_of(settings, headers, where)

    targets = np.empty((len(pairs.files), 0), np.int64)
    identities = [hash_text(file) for file in pairs.files]
    splits, how = complete(settings, pairs.found, targets, (), identities, seed, None, where)
    new = np.cumsum(readable) - 1
    splits = {name: new[numbers[np.array(readable)[numbers]]] for name, numbers in splits.items()}
    because = some([f"{safe_text(file)} {reason}" for file, reason in looked.unreadable.items()])
    refuse_empty(where, splits, targets, (), because)

    of_splits = {split: {masks[n]: headers[masks[n]] for n in numbers.tolist()} for split, numbers in splits.items()}
    with advised(advice):
        void = refuse_void(settings, coding, of_splits, where, by_seed=pairs.found.keys() == {"train"})
    lacking = absent(coding, names, of_splits["train"])
    channels: Channels = 1 if all(image.grey for image in images) else 3
    size = parse_size(settings.size)
    read = PairReader(root, files, masks, turns, coding, channels, size, settings.max_pixels)
    measured, measure_notes = measure(settings, scan, files, (channels, *(size or ())), read.image, splits["train"])
    scan.save()
    sizes = np.array([size or (image.height, image.width) for image in images])
    smallest = sizes[splits["train"]].min(0).tolist()
    spec = DataSpec(
        name=settings.name,
        shape=(channels, *window(settings.crop, suits, (smallest[0], smallest[1]))),
        target=Target.mask,
        class_names=tuple(safe_text(name, 1000) for name in names),
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=measured.mean,
        std=measured.std,
        ignore_index=IGNORED,
        where=safe_text(str(root)),
        notes=(
            *(*how, *pairs.notes, *_not_read(pairs, readable, looked)),
            *(*_sizes(images, size, channels), *turn_notes, *notes, *lacking, *void, *measure_notes),
        ),
    )
    unreadable = [LeftOut(file, "unreadable", reason) for file, reason in looked.unreadable.items()]
    return ImageSet(
        with_statistics(spec, settings),
        targets[kept],
        splits,
        read,
        names=files,
        sizes=sizes,
        left_out=(*pairs.left_out, *unreadable),
    )


def _not_read(pairs: Pairs, readable: Sequence[bool], looked: Looked) -> tuple[str, ...]:
    """Pairs that are left out, as a line for the screen."""
    count = len(readable) - sum(readable)
    if not count:
        return ()
    what = "1 pair is" if count == 1 else f"{count:,} pairs are"
    return (f"{what} left out, of which a file cannot be read: {some(list(looked.unreadable))}",)


def _turns(
    where: str, files: Sequence[str], images: Sequence[Header], masks: dict[str, MaskHeader]
) -> tuple[list[int], tuple[str, ...]]:
    """The EXIF orientation that each mask is turned by, as its image is; and notes. Raises Mistake for other sizes.

    A mask that was drawn on the pixels as they are stored has their size, one that was drawn on what a viewer shows
    has that of the image turned.
    """
    turns, wrong, unclear = [], [], []
    for file, image, (name, mask) in zip(files, images, masks.items(), strict=True):
        sideways = image.orientation >= 5 and mask.orientation == 1
        same = (mask.height, mask.width) == (image.height, image.width)
        stored = (mask.width, mask.height) == (image.height, image.width)
        turns.append(image.orientation if sideways and stored and not same else 1)
        if not same and turns[-1] == 1:
            wrong.append(
                f"{safe_text(file)} is {image.height}x{image.width}, {safe_text(name)} is {mask.height}x{mask.width}"
            )
        if image.orientation != 1 and mask.orientation == 1 and same and (stored or not sideways):
            unclear.append(file)
    if wrong:
        what = "image and its mask differ" if len(wrong) == 1 else "images and their masks differ"
        raise Mistake(
            f"{where}: {len(wrong):,} {what} in size (height x width):"
            + "".join(f"\n  {text}" for text in wrong[:SHOWN])
            + (f"\n  and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""),
            allowed="a mask as large as its image; data.size resizes both, once they fit",
        )
    notes = []
    if turned_ones := [file for file, turn in zip(files, turns, strict=True) if turn != 1]:
        what = "mask is" if len(turned_ones) == 1 else "masks are"
        notes.append(
            f"{len(turned_ones):,} {what} turned as EXIF turns the image, as its size says: {some(turned_ones)}"
        )
    if unclear:
        what = "image is" if len(unclear) == 1 else "images are"
        notes.append(
            f"{len(unclear):,} {what} turned by EXIF, and the size does not tell whether the mask is: it is taken for "
            f"one of the turned image: {some(unclear)}"
        )
    return turns, tuple(notes)


def _sizes(images: Sequence[Header], size: Size | None, channels: int) -> tuple[str, ...]:
    notes = []
    smallest = min((image.height * image.width, image.height, image.width) for image in images)
    largest = max((image.height * image.width, image.height, image.width) for image in images)
    span = f"{smallest[1]}x{smallest[2]}" + (f" to {largest[1]}x{largest[2]}" if largest != smallest else "")
    if size is None:
        notes.append(f"images of {span}, as they are")
    elif any((image.height, image.width) != size for image in images):
        notes.append(
            f"images resized from {span} to {size[0]}x{size[1]} (largest centred part, antialias; masks: nearest)"
        )
    return (*notes, *brought_to_colours(images, channels))
