"""Oxford-IIIT Pet and PASCAL VOC 2012, as torchvision keeps them; by it they are fetched. Reading needs no torch."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from dltrain.config.data import MaskFolder, Pets, Unreadable, Voc2012
from dltrain.config.messages import Mistake
from dltrain.data.columns import by_split
from dltrain.data.fetch import data_root
from dltrain.data.imageset import ImageSet, Say
from dltrain.data.mask_pairs import Pairs, advised, open_pairs
from dltrain.data.scan import Stat
from dltrain.data.sizes import SizeRule
from dltrain.text import safe_text, some

LONGEST = 1_000_000  # bytes of a list of images
STEM = re.compile(r"\w[\w.-]*\Z", re.ASCII)  # the name of an image in a list


@dataclass(frozen=True)
class Collection:
    """Where the files of a set lie below its folder, and what the values of its masks mean."""

    title: str
    size: str  # of what is fetched
    folder: str  # below the root, as torchvision names it
    archives: tuple[str, ...]  # that torchvision fetches, below the root
    lists: dict[str, str]  # of the names of each split's images
    images: str
    masks: str
    values: tuple[int, ...]
    class_names: tuple[str, ...]
    ignored: int | None
    fetch: Callable[[Path], object]


def _fetch_pets(root: Path) -> object:
    from torchvision.datasets import OxfordIIITPet

    return OxfordIIITPet(root, target_types="segmentation", download=True)


def _fetch_voc2012(root: Path) -> object:
    from torchvision.datasets import VOCSegmentation

    return VOCSegmentation(root, year="2012", download=True)


PETS = Collection(  # https://www.robots.ox.ac.uk/~vgg/data/pets: trimaps, 1 foreground, 2 background, 3 not classified
    title="Oxford-IIIT Pet",
    size="810 MB",
    folder="oxford-iiit-pet",
    archives=("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz"),
    lists={"train": "annotations/trainval.txt", "test": "annotations/test.txt"},
    images="images/{}.jpg",
    masks="annotations/trimaps/{}.png",
    values=(1, 2, 3),
    class_names=("pet", "background", "border"),
    ignored=None,
    fetch=_fetch_pets,
)

VOC2012 = Collection(  # the development kit's documentation, section 3.4 and the order of its classes; 255 is void
    title="PASCAL VOC 2012",
    size="2.0 GB",
    folder="VOCdevkit/VOC2012",
    archives=("VOCtrainval_11-May-2012.tar",),
    lists={"train": "ImageSets/Segmentation/train.txt", "val": "ImageSets/Segmentation/val.txt"},
    images="JPEGImages/{}.jpg",
    masks="SegmentationClass/{}.png",
    values=tuple(range(21)),
    class_names=(
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    ignored=255,
    fetch=_fetch_voc2012,
)


def open_pets(settings: Pets, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Oxford-IIIT Pet; see `open_collection`."""
    return open_collection(PETS, settings, suits, seed, say)


def open_voc2012(settings: Voc2012, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """PASCAL VOC 2012, its val for validation; see `open_collection`."""
    return open_collection(VOC2012, settings, suits, seed, say)


def open_collection(collection: Collection, settings: Pets | Voc2012, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers: images in the order of their lists. Fetches what is not there. Raises Mistake."""
    folder = provide(collection, data_root(settings.root), settings.name, say)
    advice = f"the original files: move {safe_text(str(folder))} away and they are fetched"
    with advised(advice):
        pairs = _pairs(collection, folder)
    return open_pairs(_as_masks(collection, settings), pairs, suits, seed, say, advice)


def _as_masks(collection: Collection, settings: Pets | Voc2012) -> MaskFolder:
    """The settings as those of a folder with masks, whose values are known."""
    known = {f.name for f in fields(MaskFolder)}
    given = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name in known}
    return MaskFolder(
        **given,
        unreadable=Unreadable.stop,
        mask_values=list(collection.values),
        class_names=list(collection.class_names),
        ignore_index=collection.ignored,
    )


def _pairs(collection: Collection, folder: Path) -> Pairs:
    """The images that the lists name, with their masks. Raises Mistake for files that are not there."""
    files, masks, splits = [], [], []
    for split, place in collection.lists.items():
        for stem in _stems(folder / place):
            files.append(collection.images.format(stem))
            masks.append(collection.masks.format(stem))
            splits.append(split)
    stats: dict[str, Stat] = {}
    lacking = []
    for file in (*files, *masks):
        try:
            stat = os.stat(folder / file)  # noqa: PTH116 - thousands of them
            stats[file] = (stat.st_size, stat.st_mtime_ns)
        except OSError:
            lacking.append(file)
    if lacking:
        raise Mistake(f"{safe_text(str(folder))} lacks {some(lacking)}")
    return Pairs(folder, files, masks, stats, by_split(splits))


def _stems(path: Path) -> list[str]:
    """The first word of each line. Raises Mistake for a list that is none of the set's."""
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise Mistake(f"{safe_text(str(path))} cannot be read: {reason}") from None
    stems = [line.split()[0] for line in text.splitlines() if line.strip()]
    if not stems or len(text) > LONGEST or not all(map(STEM.match, stems)) or len(set(stems)) < len(stems):
        raise Mistake(f"{safe_text(str(path))} is no list of names of images")
    return stems


def provide(collection: Collection, root: Path, option: str, say: Say) -> Path:
    """The folder of the set, fetched into the root if it is not there. Raises Mistake, which says where it belongs."""
    folder = root / collection.folder
    for place in (folder, root):
        if any((place / name).is_file() for name in collection.lists.values()):
            return place
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _scratch(root, collection) as scratch:
            say(f"fetching {collection.title} ({collection.size}) by torchvision into {safe_text(str(root))}")
            collection.fetch(scratch)
            folder.parent.mkdir(parents=True, exist_ok=True)
            (scratch / collection.folder).rename(folder)
    except Exception as error:  # no network, a full disk, another checksum: torchvision raises nearly anything
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise Mistake(
            f"data={option} is not in {safe_text(str(root))} and cannot be fetched ({safe_text(reason, 400)})",
            allowed=f"{collection.folder} in {safe_text(str(root))}, as torchvision keeps it, or another data.root",
            type_this="dltrain model=unet data=digit_scenes",
        ) from None
    return folder


@contextmanager
def _scratch(root: Path, collection: Collection) -> Iterator[Path]:
    """A folder in the root, gone whatever happens, so that what is fetched and unpacked by half is never found.

    Archives that lie in the root already need not be fetched again.
    """
    scratch = Path(tempfile.mkdtemp(prefix=".fetching.", suffix=".tmp", dir=root))
    try:
        for name in collection.archives:
            if (root / name).is_file():
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).symlink_to((root / name).absolute())
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
