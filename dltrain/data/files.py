"""Images in files, for every set of the user's own: looked through, split, read. Needs no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.config.data import Files
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target
from dltrain.data.cut import Targets, complete, refuse_empty
from dltrain.data.decode import Channels, Header, UnreadableError, decode
from dltrain.data.imageset import (
    Images,
    ImageSet,
    LeftOut,
    Numbers,
    Part,
    Say,
    Statistics,
    measured,
    spread,
    value_statistics,
    with_statistics,
)
from dltrain.data.scan import Looked, Progress, Scan, Stat, by_threads
from dltrain.data.sizes import Size, SizeRule, final_size, fit, take
from dltrain.keys import hash_text
from dltrain.text import safe_text, some

OWN_SIZE = (64, 64)
MOST_MEASURED = 256  # training images that mean and standard deviation are computed from, at most


class FileReader:
    """Images in files, decoded when they are asked for."""

    def __init__(self, root: Path, files: Sequence[str], channels: Channels, size: Size, max_pixels: int) -> None:
        self.root = str(root)
        self.files = list(files)
        self.channels: Channels = channels
        self.size = size
        self.max_pixels = max_pixels

    def __call__(self, number: int, part: Part | None = None) -> Images:
        """(C, H, W). Raises UnreadableError."""
        image = decode(f"{self.root}/{self.files[number]}", self.channels, self.max_pixels)
        return fit(image, self.size) if part is None else take(image, part((image.height, image.width)), self.size)

    def everything(self, say: Say) -> Images:
        """(N, C, H, W), decoded by a few threads. Raises UnreadableError."""
        progress = Progress(say, "decoding", len(self.files))
        pixels = np.empty((len(self.files), self.channels, *self.size), dtype=np.uint8)

        def read(number: int) -> None:
            pixels[number] = self(number)

        for _ in by_threads(read, range(len(pixels)), progress):
            pass
        return pixels

    def only(self, numbers: Numbers) -> "FileReader":
        """A reader of these images, numbered anew in this order."""
        files = [self.files[number] for number in numbers.tolist()]
        return FileReader(Path(self.root), files, self.channels, self.size, self.max_pixels)


@dataclass
class Listed:
    """The image files of a set, and what is known of each, before any is looked at. Positions count in `files`."""

    root: Path
    files: list[str]  # relative to the root
    stats: dict[str, Stat]  # of each file
    found: dict[str, Numbers]  # positions of `train`, and of `val` and `test` where the user has split the set
    targets: Targets  # (N,) classes, (N, K) values, or (N, 0)
    class_names: Sequence[str] = ()  # as they are on disk
    value_names: Sequence[str] = ()
    groups: Numbers | None = None
    left_out: Sequence[LeftOut] = ()
    notes: tuple[str, ...] = ()
    where: str = ""  # for the screen; by default the root


def open_files(settings: Files, listed: Listed, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Look at every file, split, and leave out what cannot be read, which moves no other image to another split.

    Sample numbers are positions among the files that can be read. Raises Mistake.
    """
    root = listed.root
    scan = Scan(root, settings.name)
    looked = scan.look({file: listed.stats[file] for file in listed.files}, settings, say)
    identities = [hash_text(file) for file in listed.files]
    where = f"data.root={listed.where or safe_text(str(root))}"
    splits, how = complete(
        settings, listed.found, listed.targets, listed.class_names, identities, seed, listed.groups, where
    )
    readable = np.array([file in looked.headers for file in listed.files], dtype=bool)
    kept = np.flatnonzero(readable)
    new = np.cumsum(readable) - 1
    splits = {name: new[numbers[readable[numbers]]] for name, numbers in splits.items()}
    files = [listed.files[number] for number in kept.tolist()]
    targets = listed.targets[kept]
    refuse_empty(where, splits, targets, listed.class_names, _because(looked))
    if targets.ndim == 1:
        _refuse_unreadable_class(where, listed, readable, _because(looked))
    headers = [looked.headers[file] for file in files]
    channels: Channels = 1 if all(header.grey for header in headers) else 3
    size = final_size(settings.size, suits, OWN_SIZE)
    read = FileReader(root, files, channels, size, settings.max_pixels)
    statistics, note = measure(settings, scan, files, (channels, *size), read, splits["train"])
    scan.save()
    unreadable = [LeftOut(file, "unreadable", reason) for file, reason in looked.unreadable.items()]
    of_classes = targets.ndim == 1
    learned = Statistics((), ()) if of_classes else value_statistics(targets[splits["train"]])
    spec = DataSpec(
        name=settings.name,
        shape=(channels, *size),
        target=Target.classes if of_classes else Target.values if targets.shape[1] else Target.nothing,
        class_names=tuple(safe_text(name, 1000) for name in listed.class_names),
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=statistics.mean,
        std=statistics.std,
        where=listed.where or safe_text(str(root)),
        notes=(*how, *listed.notes, *not_read(list(looked.unreadable)), *_sizes(headers, size, channels), *note),
        value_names=tuple(safe_text(name, 1000) for name in listed.value_names),
        value_mean=learned.mean,
        value_std=learned.std,
    )
    return ImageSet(
        with_statistics(spec, settings),
        targets,
        splits,
        read,
        groups=None if listed.groups is None else listed.groups[kept],
        names=files,
        sizes=np.array([(header.height, header.width) for header in headers]),
        left_out=(*listed.left_out, *unreadable),
    )


def _because(looked: Looked) -> str:
    return some([f"{safe_text(file)} {reason}" for file, reason in looked.unreadable.items()])


def _refuse_unreadable_class(where: str, listed: Listed, readable: NDArray[np.bool_], because: str) -> None:
    """A class that the user has put into a split keeps an image there."""
    for split, numbers in listed.found.items():
        before, after = np.unique(listed.targets[numbers]), np.unique(listed.targets[numbers[readable[numbers]]])
        gone = [str(listed.class_names[label]) for label in np.setdiff1d(before, after).tolist()]
        if gone:
            of = f" of {split}" if len(listed.found) > 1 else ""
            raise Mistake(
                f"{where}: no image{of} can be read in {some(gone)}: {because}",
                allowed="images that can be read whole, within data.max_pixels; replace these files",
            )


def not_read(files: Sequence[str]) -> tuple[str, ...]:
    """Files that cannot be read, as a line for the screen."""
    if not files:
        return ()
    what = "1 image that cannot be read is" if len(files) == 1 else f"{len(files):,} images that cannot be read are"
    return (f"{what} left out: {some(files)}",)


def _sizes(headers: list[Header], size: Size, channels: int) -> tuple[str, ...]:
    notes = []
    if any((header.height, header.width) != size for header in headers):
        smallest = min((h.height * h.width, h.height, h.width) for h in headers)
        largest = max((h.height * h.width, h.height, h.width) for h in headers)
        span = f"{smallest[1]}x{smallest[2]}" + (f" to {largest[1]}x{largest[2]}" if largest != smallest else "")
        notes.append(f"images resized from {span} to {size[0]}x{size[1]} (largest centred part, antialias)")
    return (*notes, *brought_to_colours(headers, channels))


def brought_to_colours(headers: Sequence[Header], channels: int) -> list[str]:
    """What is said of images that are not seen with the colours that they have."""
    of = f"of {len(headers):,} images"
    grey, transparent = sum(header.grey for header in headers), sum(header.transparent for header in headers)
    notes = [f"{grey:,} {of} are grey and repeated to RGB"] if channels == 3 and grey else []
    return notes + ([f"{transparent:,} {of} may be transparent in parts: seen over white"] if transparent else [])


def measure(
    settings: Files,
    scan: Scan,
    files: Sequence[str],
    shape: Sequence[int],
    read: Callable[[int], Images],
    train: Numbers,
) -> tuple[Statistics, tuple[str, ...]]:
    """Mean and standard deviation of training images spread evenly over the split, kept with the scan; and a note.

    `files` are those of the samples, `shape` begins with the channels and goes on with the size, if there is one.
    """
    channels = shape[0]
    if settings.mean is not None and settings.std is not None:
        return Statistics((0.0,) * channels, (1.0,) * channels), ()
    chosen = spread(train, MOST_MEASURED)
    what = [scan.identity([files[number] for number in chosen]).hex(), *shape]
    kept = scan.notes.get("statistics")
    if not (isinstance(kept, dict) and kept.get("of") == what and _numbers(kept, channels)):
        try:
            found = Statistics.of(read(int(number)) for number in chosen)
        except UnreadableError as error:  # it could be read a moment ago
            raise Mistake(str(error), allowed="images that stay as they are while a run begins") from None
        kept = {"of": what, "mean": list(found.mean), "std": list(found.std)}
        scan.keep("statistics", kept)
    statistics = Statistics(tuple(kept["mean"]), tuple(kept["std"]))
    return statistics, (measured(len(chosen)),)


def _numbers(kept: dict[str, Any], channels: int) -> bool:
    """Whether what the cache holds can be statistics."""
    return all(
        isinstance(kept.get(name), list)
        and len(kept[name]) == channels
        and all(type(value) is float and 0 <= value <= 1 for value in kept[name])
        for name in ("mean", "std")
    )


def root_of(settings: Any) -> Path:
    """`data.root` as the folder, or the file, that it must be. Raises Mistake."""
    ending = settings.ending
    if not settings.root:
        example = f"table{ending}" if ending else "photos"
        raise Mistake(f"data={settings.name} needs data.root", type_this=f"data.root={example}")
    root = Path(settings.root).expanduser()
    if not (root.is_file() if ending else root.is_dir()):
        what = "is a folder" if root.is_dir() else "is a file" if root.exists() else "does not exist"
        near = next((safe_text(str(p)) for p in root.parents if p.is_dir() and str(p) != "."), "")
        if ending and root.is_dir():
            near = next((safe_text(str(p)) for p in sorted(root.glob(f"*{ending}"))), "")
        allowed = f"a {ending} file" if ending else "a folder of images"
        raise Mistake(f"data.root={safe_text(str(root))} {what}", allowed=allowed, nearest=near)
    return root
