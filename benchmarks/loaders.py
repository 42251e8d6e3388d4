"""Images a second from files to normalized, augmented batches: dltrain's loaders beside the usual per-sample one.

The peer is torch's DataLoader over torchvision's ImageFolder with v2 transforms, one sample at a time. All read the
same JPEG files, made here, and are timed in turns; the table shows medians and the ratio to the peer.

    python benchmarks/loaders.py [--images 2000] [--size 32] [--workers 0 1]
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
from torchvision import datasets
from torchvision.transforms import v2

from dltrain.config import data, groups, model
from dltrain.config.mode import Train
from dltrain.data import describe, open_data

BATCH, TURNS = 128, 5
DEGREES, SHIFT, SCALE = 10, 0.1, 0.1


def make_images(root: Path, count: int, size: int) -> None:
    """Smooth random JPEGs in ten classes."""
    draw = np.random.Generator(np.random.Philox(key=0))
    for number in range(count):
        coarse = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        folder = root / f"class{number % 10}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg")


def ours(root: Path, size: int, loader: Any, workers: int) -> Iterator[Any]:
    """dltrain's batches."""
    augment = data.Augment(flip=0.5, rotate=DEGREES, translate=SHIFT, scale=SCALE)
    settings = data.Folder(root=str(root), size=str(size), augment=augment)
    cfg = Train(data=settings, model=model.MLP(), trainer=groups.Trainer(batch_size=BATCH))
    spec = describe(cfg, lambda _: None)
    return open_data(cfg, spec, torch.device("cpu"), loader, workers, lambda _: None).batches(0)


def theirs(root: Path, size: int, workers: int) -> Iterator[Any]:
    """The usual loader's batches, epoch after epoch."""
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                DEGREES, (SHIFT, SHIFT), (1 - SCALE, 1 + SCALE), interpolation=v2.InterpolationMode.BILINEAR
            ),
            v2.Resize((size, size), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(root), transform),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--batches", type=int, default=20, help="a turn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder + "/cache"
        root = Path(folder) / "images"
        root.mkdir()
        make_images(root, options.images, options.size)
        rows: dict[str, Callable[[], Iterator[Any]]] = {}
        for workers in options.workers:
            rows[f"torchvision v2, per sample, {workers} workers"] = lambda w=workers: theirs(root, options.size, w)  # type: ignore[misc]
            rows[f"dltrain streaming, {workers} workers"] = lambda w=workers: ours(root, options.size, "streaming", w)  # type: ignore[misc]
        rows["dltrain resident"] = lambda: ours(root, options.size, "resident", 0)
        speeds: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(TURNS):
            for name, make in rows.items():
                batches = make()
                for _ in range(3):
                    next(batches)
                start = time.perf_counter()
                for _ in range(options.batches):
                    next(batches)
                speeds[name].append(options.batches * BATCH / (time.perf_counter() - start))
                del batches
    peer = statistics.median(next(iter(speeds.values())))
    print(f"{'loader':<44}{'images/s':>10}{'ratio':>8}")
    for name, values in speeds.items():
        print(f"{name:<44}{statistics.median(values):>10,.0f}{statistics.median(values) / peer:>8.2f}")


if __name__ == "__main__":
    main()
