"""Writes wave.npz and tents.npz: two functions of two variables, as pictures of two pixels and their values.

python docs/lecture/functions.py [FOLDER]        (needs NumPy; FOLDER is the working directory by default)
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COUNTS = {"train": 4096, "val": 1024, "test": 4096}
Floats = NDArray[np.float64]


def wave(x: Floats, y: Floats) -> Floats:
    """Smooth, and no sum of finitely many units."""
    return np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y)


def tents(x: Floats, y: Floats) -> Floats:
    """|2x - 1| + |2y - 1|: four rectified linear units, and nothing else."""
    return np.abs(2 * x - 1) + np.abs(2 * y - 1)


FUNCTIONS = {"wave": wave, "tents": tents}


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    for name, function in FUNCTIONS.items():
        arrays = {}
        for split, count in COUNTS.items():
            pixels = draw.integers(0, 256, (count, 1, 2), dtype=np.uint8)  # height 1, width 2: x and y in 255ths
            arrays[f"{split}_images"] = pixels
            arrays[f"{split}_values"] = function(*(pixels[:, 0] / 255).T).astype(np.float32)
        np.savez(folder / f"{name}.npz", **arrays)
        print(f"{folder / name}.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
