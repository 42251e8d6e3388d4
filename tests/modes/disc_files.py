"""Runs and files with discs in them, of sizes of all kinds, for the tests of what is made of segmentation runs."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.masks import discs, photo, save_pairs

NAMES = ["ground", "disc", "ring"]
SET = ["data=mask_folder", "data.root=set", f"data.class_names=[{','.join(NAMES)}]", "data.crop=32"]
NET = ["model=unet", "model.depth=2", "model.base_channels=4", "optim.lr=0.01", "trainer.batch_size=4"]
SHORT = ["trainer.epochs=4", "trainer.threads=1", "device=cpu", "log=quiet", "log.pictures=false"]
SIZES = {"a/plain.png": (32, 40), "a/odd.png": (37, 61), "a/b/large.jpg": (150, 90), "narrow.png": (5, 70)}


def write_set() -> None:
    """Images and masks in the folder `set`."""
    save_pairs(Path("set"), classes=len(NAMES))


def write_files(place: Path) -> None:
    """Images of the sizes above in a folder, and one that lies on its side."""
    for number, (name, size) in enumerate(SIZES.items()):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        large = max(32, size[0]), max(40, size[1])
        mask = discs(number, len(NAMES), *large)[: size[0], : size[1]]
        photo(mask, number).save(place / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(place / "a/odd.png").save(place / "turned.png", exif=exif)


def seen(path: Path) -> Image.Image:
    """A file as it is to be seen, by one more way."""
    image = Image.open(path).convert("RGB")
    return image.transpose(Image.Transpose.ROTATE_270) if path.name == "turned.png" else image


def indexes(path: Path) -> np.ndarray:
    """(H, W) class numbers in a mask that was written."""
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)
