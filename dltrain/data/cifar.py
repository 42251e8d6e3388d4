"""CIFAR-10 and CIFAR-100: found, unpacked or fetched, each file checked by SHA-256. Needs no torch.

The binary version is read (https://www.cs.toronto.edu/~kriz/cifar.html): records of label bytes and 3,072 pixels, red,
green and blue plane by plane, row by row. The Python version, which torchvision keeps, is turned into these records.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from dltrain.config.data import Cifar10, Cifar100, Fetched
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target
from dltrain.data.cifar_names import FINE_NAMES
from dltrain.data.cifar_python import records_in
from dltrain.data.cut import cut, ranks
from dltrain.data.extract import ArchiveError, extract
from dltrain.data.fetch import FetchError, data_root, fetch_file
from dltrain.data.imageset import Images, ImageSet, Numbers, Say, with_statistics
from dltrain.data.scan import Progress
from dltrain.data.sizes import ArrayReader, SizeRule, describe_change, final_size
from dltrain.text import safe_text

SIDE, PIXELS = 32, 3 * 32 * 32
MEGABYTE = 1_000_000
MOST_ENTRIES, OTHER_BYTES = 100, 1_000_000  # of an archive: files and folders; bytes of names and read-mes


class File(NamedTuple):
    """One of a set's files: its name in the binary and in the Python version, its records, its checksum."""

    name: str
    python: str
    records: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """Where a set is served, its checksums, and mean and deviation of the 50,000 training images.

    MD5 is the one that the authors publish; SHA-256 are those in other projects' tables (MLDatasets.jl and GoMLX for
    the archives, TorchVision for Ruby for these and for the files). Mean and deviation are of all training pixels,
    as others have measured them, rounded: CIFAR-10 0.49139968, 0.48215841, 0.44653091 and 0.24703223, 0.24348513,
    0.26158784; CIFAR-100 0.50707516, 0.48654887, 0.44091784 and 0.26733429, 0.25643846, 0.27615047.
    """

    title: str
    url: str
    size: int
    md5: str
    sha256: str
    folder: str
    python_folder: str
    files: tuple[File, ...]  # the test file last
    labels: tuple[str, ...]  # what the label bytes are called in the Python version; the last is learned
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def archive(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def record(self) -> int:
        """Bytes of a record."""
        return len(self.labels) + PIXELS


CIFAR10 = Collection(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    size=170_052_171,
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    folder="cifar-10-batches-bin",
    python_folder="cifar-10-batches-py",
    files=tuple(
        File(f"{name}.bin", name, 10_000, sha256)
        for name, sha256 in (
            ("data_batch_1", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            ("data_batch_2", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            ("data_batch_3", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            ("data_batch_4", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            ("data_batch_5", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
            ("test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
        )
    ),
    labels=("labels",),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)

CIFAR100 = Collection(
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    size=168_513_733,
    md5="03b5dce01913d631647c71ecec9e9cb8",
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    folder="cifar-100-binary",
    python_folder="cifar-100-python",
    files=(
        File("train.bin", "train", 50_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),
        File("test.bin", "test", 10_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),
    ),
    labels=("coarse_labels", "fine_labels"),
    class_names=FINE_NAMES,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)


class WrongFileError(Exception):
    """A file that is not what it should be; the text says which and why, safe to print."""


def open_cifar10(settings: Cifar10, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """CIFAR-10; see `open_collection`."""
    return open_collection(CIFAR10, settings, suits, seed, say)


def open_cifar100(settings: Cifar100, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """CIFAR-100 with its 100 fine classes; see `open_collection`."""
    return open_collection(CIFAR100, settings, suits, seed, say)


def open_collection(collection: Collection, settings: Fetched, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers: training images in the order of their files, then test images. Raises Mistake."""
    where, images, targets = load(collection, data_root(settings.root), settings.name, say)
    train = np.arange(len(images) - collection.files[-1].records)
    test = np.arange(len(train), len(images))
    splits = cut(train, targets[train], ranks(seed, train.tolist()), {"val": settings.val_share})
    splits = {"train": splits["train"], "val": splits["val"], "test": test}
    size = final_size(settings.size, suits, (SIDE, SIDE))
    spec = DataSpec(
        name=settings.name,
        shape=(3, *size),
        target=Target.classes,
        class_names=collection.class_names,
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=collection.mean,
        std=collection.std,
        where=safe_text(str(where)),
        notes=("val cut from train by seed and class", *describe_change((SIDE, SIDE), size)),
    )
    return ImageSet(with_statistics(spec, settings), targets, splits, ArrayReader(images, size))


def load(collection: Collection, root: Path, option: str, say: Say) -> tuple[Path, Images, Numbers]:
    """The folder, (N, 3, 32, 32) and (N,): unpacked files, else torchvision's, else the archive's. Raises Mistake."""
    for folder in (root / collection.folder, root):
        if any((folder / file.name).is_file() for file in collection.files):
            try:
                return folder, *_together(collection, _binary(collection, folder))
            except (WrongFileError, OSError) as error:
                raise Mistake(
                    _told(error),
                    allowed="the original files: move this folder away and they are fetched, or name another data.root",
                    type_this="dltrain data=digits",
                ) from None
    for folder in (root / collection.python_folder, root):
        if all((folder / file.python).is_file() for file in collection.files):
            say(f"reading {collection.title}'s Python version in {safe_text(str(folder))}")
            try:
                return folder, *_together(collection, _python(collection, folder))
            except (WrongFileError, OSError) as error:
                say(f"{_told(error)}: not used")
    folder = provide(collection, root, option, say)
    return folder, *_together(collection, _binary(collection, folder))


def provide(collection: Collection, root: Path, option: str, say: Say) -> Path:
    """Unpack the archive, fetched if it is not there; returns the folder. Raises Mistake, which says where it belongs.

    An archive that was fetched is taken away again, one that was there stays.
    """
    archive, folder = root / collection.archive, root / collection.folder
    was_there = archive.is_file()
    try:
        if was_there:
            _check_archive(collection, archive)
        else:
            root.mkdir(parents=True, exist_ok=True)
            host, megabytes = urlsplit(collection.url).netloc, collection.size // MEGABYTE
            say(f"fetching {collection.title} ({megabytes:,} MB) from {host} into {safe_text(str(root))}")
            progress = Progress(say, f"fetching {collection.title}", megabytes, "MB")
            digests = {"md5": collection.md5, "sha256": collection.sha256}
            fetch_file(collection.url, archive, collection.size, digests, lambda got: progress(got // MEGABYTE))
        say(f"unpacking {safe_text(str(archive))}")
        content = sum(file.records for file in collection.files) * collection.record
        try:
            extract(archive, folder, content + OTHER_BYTES, MOST_ENTRIES)
        except OSError:
            if not folder.is_dir():  # else another process was faster; its files are checked as any are
                raise
        if not was_there:
            archive.unlink(missing_ok=True)
        return folder
    except FetchError as error:
        raise Mistake(
            f"data={option} is not in {safe_text(str(root))} and cannot be fetched ({safe_text(str(error), 400)})",
            allowed=f"{collection.archive} (the binary version), {collection.folder} or torchvision's "
            f"{collection.python_folder} in {safe_text(str(root))}, or another data.root",
            type_this="dltrain data=digits",
        ) from None
    except (ArchiveError, WrongFileError) as error:
        raise Mistake(
            f"{safe_text(str(archive))} {error}",
            allowed="the original archive: move this one away and it is fetched, or name another data.root",
            type_this="dltrain data=digits",
        ) from None
    except OSError as error:
        raise Mistake(
            f"data={option}: {safe_text(str(root))} cannot be written to: {error.strerror or error}",
            allowed="a folder that can be written to, with room for 400 MB, by data.root or DLTRAIN_DATA",
            type_this="dltrain data=digits",
        ) from None


def _check_archive(collection: Collection, archive: Path) -> None:
    if archive.stat().st_size != collection.size:
        raise WrongFileError(f"has {archive.stat().st_size:,} bytes, {collection.title}'s has {collection.size:,}")
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != collection.sha256:
            raise WrongFileError(f"is not {collection.title}'s: it has another SHA-256")


def _binary(collection: Collection, folder: Path) -> Iterator[Images]:
    """The records of each file of the binary version, (records, bytes). Raises WrongFileError, OSError."""
    for file in collection.files:
        path = folder / file.name
        if not path.is_file():
            raise WrongFileError(f"{safe_text(str(folder))} lacks {file.name}")
        records = np.empty((file.records, collection.record), dtype=np.uint8)
        if path.stat().st_size != records.size:
            text = f"has {path.stat().st_size:,} bytes, {file.records:,} records take {records.size:,}"
            raise WrongFileError(f"{safe_text(str(path))} {text}")
        with path.open("rb") as content:
            content.readinto(records.data.cast("B"))
        yield _checked(collection, file, path, records)


def _python(collection: Collection, folder: Path) -> Iterator[Images]:
    """The same records, made from each file of the Python version. Raises WrongFileError, OSError."""
    for file in collection.files:
        path = folder / file.python
        try:
            records = records_in(path, file.records, collection.labels)
        except ValueError as error:
            raise WrongFileError(f"{safe_text(str(path))} is not {collection.title}'s ({error})") from None
        yield _checked(collection, file, path, records)


def _checked(collection: Collection, file: File, path: Path, records: Images) -> Images:
    if hashlib.sha256(records.data.cast("B")).hexdigest() != file.sha256:
        raise WrongFileError(f"{safe_text(str(path))} is not {collection.title}'s: its records have another SHA-256")
    return records


def _together(collection: Collection, files: Iterator[Images]) -> tuple[Images, Numbers]:
    count = sum(file.records for file in collection.files)
    images, targets = np.empty((count, 3, SIDE, SIDE), dtype=np.uint8), np.empty(count, dtype=np.int64)
    start = 0
    for records in files:
        part = slice(start, start := start + len(records))
        images[part] = records[:, -PIXELS:].reshape(-1, 3, SIDE, SIDE)
        targets[part] = records[:, len(collection.labels) - 1]
    return images, targets


def _told(error: Exception) -> str:
    return safe_text(str(error), 1000)
