"""MNIST and Fashion-MNIST: four idx files, found or fetched, checked by SHA-256. Needs no torch."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from dltrain.atomic import write_bytes
from dltrain.config.data import FashionMnist, Fetched, Mnist
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target
from dltrain.data.cut import cut, ranks
from dltrain.data.fetch import FetchError, data_root, fetch
from dltrain.data.idx import IdxError, parse, read_bytes, unpack
from dltrain.data.imageset import Images, ImageSet, Say, with_statistics
from dltrain.data.sizes import ArrayReader, SizeRule, describe_change, final_size
from dltrain.text import safe_text

LARGEST = 64_000_000  # bytes of the largest of the files, unpacked, and some more
SIDE = 28


@dataclass(frozen=True)
class Collection:
    """Where a set is served, its files' checksums, and the mean and deviation of its 60,000 training images."""

    title: str
    folder: str
    mirrors: tuple[str, ...]
    md5: tuple[str, ...]  # of the gzipped files as they are served, the ones that torchvision has
    sha256: tuple[str, ...]  # of the files unpacked
    class_names: tuple[str, ...]
    mean: float
    std: float


FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DIMENSIONS = (3, 1, 3, 1)

MNIST = Collection(
    title="MNIST",
    folder="MNIST",
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    md5=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    sha256=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    class_names=tuple("0123456789"),
    mean=0.1307,
    std=0.3081,
)

FASHION_MNIST = Collection(
    title="Fashion-MNIST",
    folder="FashionMNIST",
    mirrors=("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",),
    md5=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    sha256=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    mean=0.2860,
    std=0.3530,
)


def open_mnist(settings: Mnist, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """MNIST; see `open_collection`."""
    return open_collection(MNIST, settings, suits, seed, say)


def open_fashion_mnist(settings: FashionMnist, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Fashion-MNIST; see `open_collection`."""
    return open_collection(FASHION_MNIST, settings, suits, seed, say)


def open_collection(collection: Collection, settings: Fetched, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers: training images in the order of their file, then test images. Raises Mistake."""
    root = data_root(settings.root)
    arrays = [load(collection, index, root, settings.name, say) for index in range(len(FILES))]
    images = np.concatenate([arrays[0], arrays[2]])[:, None]
    targets = np.concatenate([arrays[1], arrays[3]]).astype(np.int64)
    train, test = np.arange(len(arrays[0])), np.arange(len(arrays[0]), len(images))
    order = ranks(seed, train.tolist())
    splits = {**cut(train, targets[train], order, {"val": settings.val_share}), "test": test}
    splits = {name: splits[name] for name in ("train", "val", "test")}
    size = final_size(settings.size, suits, (SIDE, SIDE))
    spec = DataSpec(
        name=settings.name,
        shape=(1, *size),
        target=Target.classes,
        class_names=collection.class_names,
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=(collection.mean,),
        std=(collection.std,),
        where=str(root),
        notes=("val cut from train by seed and class", *describe_change((SIDE, SIDE), size)),
    )
    return ImageSet(with_statistics(spec, settings), targets, splits, ArrayReader(images, size))


def load(collection: Collection, index: int, root: Path, option: str, say: Say) -> Images:
    """One of FILES, the first that is found with the right checksum; fetched if there is none. Raises Mistake."""
    wrong: list[str] = []
    for folder in (root / collection.folder / "raw", root / "raw", root):
        for path in (folder / FILES[index], folder / f"{FILES[index]}.gz"):
            if not path.is_file():
                continue
            try:
                return check(collection, index, read_bytes(path, LARGEST))
            except (IdxError, OSError) as error:
                wrong.append(f"{safe_text(str(path))} {error}")
    if wrong:
        raise Mistake(
            "; ".join(wrong),
            allowed="the original file: move this one away and it is fetched, or name another folder by data.root",
            type_this="dltrain data=digits",
        )
    return fetch_file(collection, index, root, option, say)


def check(collection: Collection, index: int, data: bytes) -> Images:
    """The array in one of FILES, unpacked. Raises IdxError."""
    if hashlib.sha256(data).hexdigest() != collection.sha256[index]:
        raise IdxError(f"is not {collection.title}'s {FILES[index]}: it has another SHA-256")
    return parse(data, DIMENSIONS[index])


def fetch_file(collection: Collection, index: int, root: Path, option: str, say: Say) -> Images:
    """Fetch, check, unpack and store one of FILES. Raises Mistake, which says where it belongs."""
    name = FILES[index]
    place = root / collection.folder / "raw" / name
    failed = []
    for mirror in collection.mirrors:
        say(
            f"fetching {collection.title}: {name}.gz from {urlsplit(mirror).netloc} into {safe_text(str(place.parent))}"
        )
        try:
            data = unpack(fetch(f"{mirror}{name}.gz", LARGEST, collection.md5[index]), LARGEST)
            array = check(collection, index, data)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(place, data)
            return array
        except (FetchError, IdxError) as error:
            failed.append(str(error))
        except OSError as error:
            raise Mistake(
                f"data={option}: {safe_text(str(place))} cannot be written: {error.strerror or error}",
                allowed="a folder that can be written to, by data.root or DLTRAIN_DATA",
                type_this="dltrain data=digits",
            ) from None
    raise Mistake(
        f"data={option} is not in {safe_text(str(root))} and cannot be fetched ({safe_text('; '.join(failed), 400)})",
        allowed=f"{', '.join(FILES)} (as they are or with .gz) in {safe_text(str(place.parent))}, or another data.root",
        type_this="dltrain data=digits",
    )
