"""Images a second from files to augmented training windows with their masks: dltrain beside torchvision v2.

The peer is torch's DataLoader over a data set that opens image and mask and changes them by v2 transforms, one sample
at a time, as tv_tensors. Both read the same JPEG images and PNG masks and end in normalized float32 windows and masks
in batches; nothing is trained. They are timed in turns. The ratio is to the better of the peer's workers in the same
turn: its median and its range. The peer also crops first here, which is less work for it, and fills what turns in from
outside with black; dltrain mirrors, and takes what lies there.

The images are CamVid's below DLTRAIN_TEST_DATA (default ../shared/data), else made here.

    python benchmarks/segmentation.py [--turns 5] [--batches 30] [--window 256] [--threads 2]
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from dltrain.config import data, groups, model
from dltrain.config.mode import Train
from dltrain.data import describe, open_data

SHARED = Path(os.environ.get("DLTRAIN_TEST_DATA") or Path(__file__).parents[1] / "../shared/data").absolute()
BATCH, VOID, DEGREES, SCALE = 4, 11, 15, 0.2
NAMES = [f"class {number}" for number in range(VOID)]


def recipes(window: int) -> dict[str, tuple[data.MaskAugment, list[v2.Transform]]]:
    """Ours and theirs. ElasticTransform smooths noise pixel by pixel; its defaults are its cheapest here."""
    smooth = {"interpolation": InterpolationMode.BILINEAR, "fill": {tv_tensors.Image: 0, tv_tensors.Mask: VOID}}
    flip, crop = v2.RandomHorizontalFlip(), v2.RandomCrop(window)
    affine = v2.RandomAffine(DEGREES, scale=(1 - SCALE, 1 + SCALE), **smooth)
    elastic = v2.ElasticTransform(**smooth)
    turned = {"rotate": DEGREES, "scale": SCALE}
    return {
        "flip, crop": (data.MaskAugment(flip=0.5), [flip, crop]),
        "flip, affine, crop": (data.MaskAugment(flip=0.5, **turned), [flip, affine, crop]),
        "the same, cropped first": (data.MaskAugment(flip=0.5, **turned), [crop, flip, affine]),
        "flip, elastic, crop": (data.MaskAugment(flip=0.5, elastic=10), [flip, elastic, crop]),
        "elastic, cropped first": (data.MaskAugment(flip=0.5, elastic=10), [crop, flip, elastic]),
    }


def make_images(root: Path, count: int = 60) -> None:
    """Smooth random JPEGs of CamVid's size, and masks of areas."""
    draw = np.random.Generator(np.random.Philox(key=0))
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        coarse = draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((480, 360), Image.Resampling.BICUBIC).save(root / f"images/{number:03d}.jpg")
        areas = draw.integers(0, VOID + 1, (12, 16), dtype=np.uint8)
        Image.fromarray(areas).resize((480, 360), Image.Resampling.NEAREST).save(root / f"masks/{number:03d}.png")


def ours(root: Path, changes: data.MaskAugment, window: int, loader: Any, workers: int) -> Iterator[Any]:
    """dltrain's batches."""
    settings = data.MaskFolder(
        root=str(root), class_names=NAMES, ignore_index=VOID, crop=str(window), augment=changes, mean=[0.5], std=[0.25]
    )
    cfg = Train(data=settings, model=model.UNet(), trainer=groups.Trainer(batch_size=BATCH))
    spec = describe(cfg, lambda _: None)
    return open_data(cfg, spec, torch.device("cpu"), loader, workers, lambda _: None).batches(0)


class Pairs(torch.utils.data.Dataset[Any]):
    """Image and mask, opened and changed one sample at a time."""

    def __init__(self, root: Path, transforms: list[v2.Transform]) -> None:
        train = root / "train" if (root / "train").is_dir() else root
        self.images = sorted((train / "images").iterdir())
        self.masks = sorted((train / "masks").iterdir())
        kinds = {tv_tensors.Image: torch.float32, "others": None}
        self.change = v2.Compose([*transforms, v2.ToDtype(kinds, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = tv_tensors.Image(v2.functional.pil_to_tensor(Image.open(self.images[number]).convert("RGB")))
        mask = tv_tensors.Mask(torch.from_numpy(np.array(Image.open(self.masks[number]))))
        image, mask = self.change(image, mask)
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)


def theirs(root: Path, transforms: list[v2.Transform], workers: int) -> Iterator[Any]:
    """The peer's batches, epoch after epoch."""
    loader = torch.utils.data.DataLoader(
        Pairs(root, transforms),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def speed(batches: Iterator[Any], count: int) -> float:
    """Images a second, once it runs: what workers have read ahead is taken first."""
    for _ in range(6):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * BATCH / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batches", type=int, default=30, help="a turn")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.ones(2**23)  # freed at once: from then on malloc keeps memory of this size, as in any training
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder + "/cache"
        root = SHARED / "camvid"
        if not root.is_dir():
            root = Path(folder) / "made"
            make_images(root)
        print(f"{root}, windows of {options.window}, batches of {BATCH}, {options.threads} threads")
        for name, (changes, transforms) in recipes(options.window).items():
            rows: dict[str, Callable[[], Iterator[Any]]] = {
                f"torchvision v2, {workers} workers": lambda w=workers: theirs(root, transforms, w)  # type: ignore[misc]  # noqa: B023
                for workers in (0, 2)
            }
            peers = list(rows)
            for loader, workers in (("resident", 0), ("streaming", 0), ("streaming", 2)):
                label = f"dltrain {loader}" + (f", {workers} workers" if loader == "streaming" else "")
                rows[label] = lambda k=loader, w=workers: ours(root, changes, options.window, k, w)  # type: ignore[misc]  # noqa: B023
            speeds: dict[str, list[float]] = {label: [] for label in rows}
            for _ in range(options.turns):
                for label, make in rows.items():
                    batches = make()
                    speeds[label].append(speed(batches, options.batches))
                    del batches
            better = [max(pair) for pair in zip(*(speeds[label] for label in peers), strict=True)]
            print(f"\n{name:<34}{'images/s':>10}{'ratio to the better peer':>28}")
            for label, values in speeds.items():
                ratios = [value / peer for value, peer in zip(values, better, strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"  {label:<32}{statistics.median(values):>10,.0f}{spread:>28}", flush=True)


if __name__ == "__main__":
    main()
