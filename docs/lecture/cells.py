"""Writes cells/{train,val,test}/{images,masks}: round cells that touch, with a faint line of ground where two meet.

python docs/lecture/cells.py [FOLDER]        (needs NumPy and Pillow; FOLDER is the working directory by default)
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COUNTS = {"train": 60, "val": 20, "test": 100}
SIDE, APART = 64, 19.0  # of an image, and from a cell's middle to the next one's, in pixels
GROUND, CELL, NOISE = 90.0, 140.0, 14.0  # grey levels
LINE = 1.0  # pixels from a cell's edge to the middle of the line between it and the next


def blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each pixel the mean of three by three, as through a lens."""
    wide = np.pad(image, 1, mode="edge")
    return sum(wide[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)) / 9


def cells(draw: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(H, W) an image, and its mask: 1 in a cell, 0 on the ground and on the lines between cells."""
    rows, columns = np.mgrid[-1:5, -1:5] * APART
    middles = np.stack([rows.ravel(), columns.ravel()], 1) + draw.uniform(-4, 4, (36, 2)) + draw.uniform(-9, 9, 2)
    middles = middles[draw.random(36) < 0.8]
    radii = draw.uniform(8.5, 13, len(middles))
    pixels = np.stack(np.mgrid[:SIDE, :SIDE], -1)[..., None, :]
    away = np.sqrt(((pixels - middles) ** 2).sum(-1))  # (H, W, cells)
    nearest = away.argmin(-1)
    first, second = np.moveaxis(np.sort(away, -1)[..., :2], -1, 0)
    mask = (first < radii[nearest]) & (second - first > 2 * LINE)
    shade = CELL + draw.uniform(-20, 20, len(middles))[nearest]
    image = blurred(blurred(np.where(mask, shade, GROUND))) + NOISE * draw.standard_normal((SIDE, SIDE))
    return np.clip(image, 0, 255).astype(np.uint8), mask.astype(np.uint8)


def main(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for split, count in COUNTS.items():
        places = [folder / "cells" / split / kind for kind in ("images", "masks")]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            for place, pixels in zip(places, cells(draw), strict=True):
                Image.fromarray(pixels).save(place / f"{number:03d}.png")
    print(folder / "cells")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
