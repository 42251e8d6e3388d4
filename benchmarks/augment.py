"""What each random change costs for a batch of 128, beside torchvision's transforms v2.

torchvision changes one sample at a time, which is how it is used in a data set, then stacks; or the whole batch at
once, all of it by the same draw, which is no augmentation of samples but shows what its kernels take. Both sides go
from uint8 images to a float32 batch, and draw. They are timed in turns; the table has the least of some turns, since
whatever else runs only adds, and the ratios to ours.

    python benchmarks/augment.py [--threads 2] [--sizes 32 224] [--turns 7]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from dltrain.config.data import Augment
from dltrain.config.spec import DataSpec, Target
from dltrain.data.augment import augment
from dltrain.data.crop import random_box
from dltrain.data.mix import Mix
from dltrain.data.sizes import take
from dltrain.tasks import Batch

BATCH, CLASSES = 128, 10
Work = Callable[[], object]


def by_torchvision(images: Tensor, transform: v2.Transform) -> tuple[Work, Work]:
    """One sample at a time, and the batch at once."""
    whole = v2.Compose([v2.ToDtype(torch.float32, scale=True), transform])
    return lambda: torch.stack([whole(image) for image in images]), lambda: whole(images)


def of_pixels(images: Tensor, size: int) -> dict[str, tuple[Work, Work | None, Work | None]]:
    """Ours, theirs by sample, theirs at once, for each change of single images."""
    ids = torch.arange(BATCH)
    affine = v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), interpolation=InterpolationMode.BILINEAR)
    pairs: dict[str, tuple[Augment, v2.Transform]] = {
        "brightness": (Augment(brightness=0.4), v2.ColorJitter(brightness=0.4)),
        "contrast": (Augment(contrast=0.4), v2.ColorJitter(contrast=0.4)),
        "saturation": (Augment(saturation=0.4), v2.ColorJitter(saturation=0.4)),
        "hue": (Augment(hue=0.1), v2.ColorJitter(hue=0.1)),
        "all four": (
            Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ),
        "erase": (Augment(erase=0.5), v2.RandomErasing(0.5)),
        "flip, crop": (
            Augment(flip=0.5, crop=4),
            v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=4)]),
        ),
        "affine": (Augment(rotate=15, translate=0.1, scale=0.2), affine),
    }
    return {
        name: (lambda changes=changes: augment(images, ids, 0, 0, changes), *by_torchvision(images, theirs))  # type: ignore[misc]
        for name, (changes, theirs) in pairs.items()
    }


def of_batches(images: Tensor, size: int) -> dict[str, tuple[Work, Work | None, Work | None]]:
    """The same for mixing, which torchvision does with batches only."""
    names = tuple(map(str, range(CLASSES)))
    spec = DataSpec("made", (3, size, size), Target.classes, names, {}, (0.5,) * 3, (0.5,) * 3)
    targets = torch.arange(BATCH) % CLASSES
    batch = Batch(images.float(), targets, torch.arange(BATCH))
    mixup, cutmix = Mix(spec, 0, Augment(mixup=0.2)), Mix(spec, 0, Augment(cutmix=1.0))
    return {
        "mixup": (
            lambda: mixup(batch, 0),
            None,
            lambda: v2.MixUp(alpha=0.2, num_classes=CLASSES)(batch.images, targets),
        ),
        "cutmix": (lambda: cutmix(batch, 0), None, lambda: v2.CutMix(num_classes=CLASSES)(batch.images, targets)),
    }


def of_files(images: Tensor, size: int) -> dict[str, tuple[Work, Work | None, Work | None]]:
    """The same for random resized crop, of decoded images of 8/7 of the size, which is read sample by sample."""
    large = torch.nn.functional.interpolate(images.float(), scale_factor=8 / 7).byte()
    pictures = [Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0))) for image in large]
    transform = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.PILToTensor()])

    def ours() -> Tensor:
        cut = []
        for number, picture in enumerate(pictures):
            own = (picture.height, picture.width)
            box = random_box(own, size=(size, size), smallest=0.08, seed=0, epoch=0, number=number)
            cut.append(take(picture, box, (size, size)))
        return torch.from_numpy(np.stack(cut))

    return {"resized_crop": (ours, lambda: torch.stack([transform(picture) for picture in pictures]), None)}


def least(works: list[Work | None], turns: int) -> list[float | None]:
    """Milliseconds of each."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(turns + 1):  # the first to warm up
        for work, found in zip(works, times, strict=True):
            if work is not None:
                began = time.perf_counter()
                work()
                found.append((time.perf_counter() - began) * 1e3)
    return [min(found[1:]) if found else None for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 224])
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"ms a batch of {BATCH}, {options.threads} threads; in brackets how many times ours")
    print(f"{'images':<12}{'change':<14}{'dltrain':>9}{'torchvision, each':>22}{'at once':>18}")
    for size in options.sizes:
        images = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
        rows = of_pixels(images, size) | of_batches(images, size) | of_files(images, size)
        for name, works in rows.items():
            ours, *theirs = least(list(works), options.turns)
            assert ours is not None
            cells = ["" if value is None else f"{value:.2f} ({value / ours:.1f})" for value in theirs]
            print(f"{f'3x{size}x{size}':<12}{name:<14}{ours:>9.2f}{cells[0]:>22}{cells[1]:>18}", flush=True)


if __name__ == "__main__":
    main()
