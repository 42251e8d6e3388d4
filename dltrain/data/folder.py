"""The user's own images: class folders, or train, val and test of class folders. Needs no torch."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.config.data import Folder
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target
from dltrain.data.cut import cut, ranks, share_of
from dltrain.data.decode import Channels, Header, UnreadableError, decode
from dltrain.data.imageset import Images, ImageSet, Numbers, Say, Statistics, with_statistics
from dltrain.data.layout import SHOWN, find_layout, some
from dltrain.data.scan import Progress, Scan
from dltrain.data.sizes import Size, final_size, fit
from dltrain.keys import hash_text
from dltrain.text import safe_text

OWN_SIZE = (64, 64)
MEASURED = 256  # training images that mean and standard deviation are computed from, at most
THREADS, PORTION = 8, 32  # that decode, and images that one takes at a time


class FileReader:
    """Images in files, decoded when they are asked for."""

    def __init__(self, root: Path, files: list[str], channels: Channels, size: Size, max_pixels: int) -> None:
        self.root = str(root)
        self.files = files
        self.channels: Channels = channels
        self.size = size
        self.max_pixels = max_pixels

    def __call__(self, number: int) -> Images:
        """(C, H, W). Raises UnreadableError."""
        return fit(decode(f"{self.root}/{self.files[number]}", self.channels, self.max_pixels), self.size)

    def everything(self, say: Say) -> Images:
        """(N, C, H, W), decoded by a few threads. Raises UnreadableError."""
        progress = Progress(say, "decoding", len(self.files))
        pixels = np.empty((len(self.files), self.channels, *self.size), dtype=np.uint8)

        def read(start: int) -> int:
            numbers = range(start, min(start + PORTION, len(pixels)))
            for number in numbers:
                pixels[number] = self(number)
            return len(numbers)

        with ThreadPoolExecutor(THREADS) as pool:
            done = 0
            try:
                for count in pool.map(read, range(0, len(pixels), PORTION)):
                    progress(done := done + count)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return pixels


def open_folder(settings: Folder, fixed: Size | None, seed: int, say: Say) -> ImageSet:
    """Sample numbers are positions among all the paths, sorted. Raises Mistake, naming files."""
    root = _root(settings)
    layout = find_layout(root)
    rows = sorted(
        (file.split("/"), split, name, stat)
        for split, classes in layout.files.items()
        for name, found in classes.items()
        for file, stat in found.items()
    )
    files = ["/".join(parts) for parts, *_ in rows]
    scan = Scan(root)
    headers, wrong = scan.headers(dict(zip(files, (row[3] for row in rows), strict=True)), settings.max_pixels, say)
    if wrong:
        scan.save()
        raise Mistake(
            f"{len(wrong):,} of {len(files):,} files in {safe_text(str(root))} cannot be used: "
            + "; ".join(wrong[:SHOWN])
            + (f"; and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""),
            allowed="images that can be read whole, within data.max_pixels; replace or remove these files",
        )
    names = sorted(layout.files["train"])
    label_of = {name: label for label, name in enumerate(names)}
    targets = np.array([label_of[name] for _, _, name, _ in rows], dtype=np.int64)
    of_split = np.array([split for _, split, _, _ in rows])
    on_disk = {split: np.flatnonzero(of_split == split) for split in layout.files}
    splits, how = _split(settings, on_disk, targets, names, files, seed)
    channels: Channels = 1 if all(header.grey for header in headers) else 3
    size = final_size(settings.size, fixed, OWN_SIZE)
    read = FileReader(root, files, channels, size, settings.max_pixels)
    statistics, measured = _statistics(settings, scan, read, splits["train"])
    scan.save()
    spec = DataSpec(
        name=settings.name,
        shape=(channels, *size),
        target=Target.classes,
        class_names=tuple(safe_text(name, 1000) for name in names),
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=statistics.mean,
        std=statistics.std,
        where=safe_text(str(root)),
        notes=(*how, *layout.notes, *_sizes(headers, size, channels), *measured),
    )
    return ImageSet(with_statistics(spec, settings), targets, splits, read)


def _root(settings: Folder) -> Path:
    if not settings.root:
        raise Mistake(
            "data=folder needs the folder of your images",
            allowed="a folder with one folder a class, or with train, val, test of them",
            type_this="dltrain data=folder data.root=photos",
        )
    root = Path(settings.root).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        near = next((safe_text(str(p)) for p in root.parents if p.is_dir() and str(p) != "."), "")
        raise Mistake(f"data.root={safe_text(str(root))} {what}", allowed="a folder of images", nearest=near)
    return root


def _split(
    settings: Folder,
    found: dict[str, Numbers],
    targets: Numbers,
    names: list[str],
    files: list[str],
    seed: int,
) -> tuple[dict[str, Numbers], tuple[str, ...]]:
    """What is not split on disk is cut from train by seed and class; an image stays where it is when others come."""
    shares: dict[str, float] = {}
    if "val" not in found:
        shares["val"] = settings.val_share
        if "test" not in found and settings.test_share > 0:
            shares["test"] = settings.test_share
    notes = []
    if "val" in found and "test" not in found:
        notes.append("no test folder, so there is no test at the end")
    elif shares:
        notes.append(f"{' and '.join(shares)} cut from {'train' if len(found) > 1 else 'the images'} by seed and class")
    train = found["train"]
    counts = np.bincount(targets[train], minlength=len(names))
    few = [
        f"{name} ({count})"
        for name, count in zip(names, counts.tolist(), strict=True)
        if count - sum(share_of(share, count) for share in shares.values()) < 1
    ]
    if few:
        raise Mistake(
            f"data.root={safe_text(str(settings.root))}: too few images to split in {some(few)}",
            allowed=f"at least {len(shares) + 1} images a class, and something left for train after "
            + " and ".join(f"data.{name}_share={share:g}" for name, share in shares.items()),
        )
    order = ranks(seed, [hash_text(files[number]) for number in train])
    parts = {**found, **cut(train, targets[train], order, shares)}
    return {name: parts[name] for name in ("train", "val", "test") if name in parts}, tuple(notes)


def _sizes(headers: list[Header], size: Size, channels: int) -> tuple[str, ...]:
    notes = []
    if any((header.height, header.width) != size for header in headers):
        smallest = min((h.height * h.width, h.height, h.width) for h in headers)
        largest = max((h.height * h.width, h.height, h.width) for h in headers)
        span = f"{smallest[1]}x{smallest[2]}" + (f" to {largest[1]}x{largest[2]}" if largest != smallest else "")
        notes.append(f"images resized from {span} to {size[0]}x{size[1]} (largest centred part, antialias)")
    grey = sum(header.grey for header in headers)
    if channels == 3 and grey:
        notes.append(f"{grey:,} of {len(headers):,} images are grey and repeated to RGB")
    return tuple(notes)


def _statistics(settings: Folder, scan: Scan, read: FileReader, train: Numbers) -> tuple[Statistics, tuple[str, ...]]:
    """Mean and standard deviation of training images spread evenly over the split, kept with the scan."""
    if settings.mean is not None and settings.std is not None:
        return Statistics((0.0,) * read.channels, (1.0,) * read.channels), ()
    chosen = train[np.unique(np.linspace(0, len(train) - 1, min(MEASURED, len(train))).astype(np.int64))]
    what = [scan.identity([read.files[number] for number in chosen]).hex(), read.channels, *read.size]
    kept = scan.notes.get("statistics")
    if not (isinstance(kept, dict) and kept.get("of") == what and _numbers(kept, read.channels)):
        try:
            measured = Statistics.of(read(int(number)) for number in chosen)
        except UnreadableError as error:
            raise Mistake(str(error), allowed="images that can be read whole; replace or remove this file") from None
        kept = {"of": what, "mean": list(measured.mean), "std": list(measured.std)}
        scan.keep("statistics", kept)
    statistics = Statistics(tuple(kept["mean"]), tuple(kept["std"]))
    return statistics, (f"mean and std measured on {len(chosen):,} training images",)


def _numbers(kept: dict[str, Any], channels: int) -> bool:
    """Whether what the cache holds can be statistics."""
    return all(
        isinstance(kept.get(name), list)
        and len(kept[name]) == channels
        and all(type(value) is float and 0 <= value <= 1 for value in kept[name])
        for name in ("mean", "std")
    )
