"""Scenes of embedded digits on textured ground, and the class of each pixel. No torch.

A scene is a function of (data.scene_seed, split, index, data.size, data.overlap). Only IEEE additions, multiplications
and divisions touch a pixel, so the bits are the same on every machine, alone and among others.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dltrain.config.data import DigitScenes
from dltrain.config.messages import Mistake
from dltrain.config.spec import IGNORED, DataSpec, Target
from dltrain.data.digits_pose import Floats, pose
from dltrain.data.embedded import CLASSES, digits_splits, read_sheet
from dltrain.data.imageset import Images, ImageSet, Numbers, Part, Say, with_statistics
from dltrain.data.sizes import Size, SizeRule, final_size
from dltrain.data.windows import window
from dltrain.keys import stream

SIDE, SMALLEST = 64, 32
COUNTS = {"val": 400, "test": 1000}
CLASS_NAMES = ("ground", *map(str, range(CLASSES)))
MEAN, STD = 0.3723, 0.1438  # of the 4,000 training scenes

MOST = 4  # digits in a scene
REACH = 14.0  # from a digit's centre to its outermost ink, in pixels of the sheet
INK = 96  # share of ink, in 255ths, from which a pixel is the digit's; more of it parts thin strokes
TURN = 30.0  # degrees, either way
SCALE = (0.75, 1.125)  # of the sheet's pixels, in quadrants of 32x32
CONTRAST = (50.0, 120.0)  # grey levels by which ink is lighter than the ground under it
BASE = (60.0, 120.0)  # grey level of the ground
SLOPE = 80.0  # grey levels by which the ground can rise or fall from side to side and from top to bottom
CELLS = (4, 9, 24)  # of the ground's three noises, from side to side
DEPTHS = ((15.0, 50.0), (10.0, 35.0), (5.0, 30.0))  # grey levels of each

OF_A_SCENE = ("count", "base", "across", "down", "coarse", "medium", "fine")
OF_A_DIGIT = ("place", "which", "turn", "scale", "shift_x", "shift_y", "left", "top", "contrast")
CHUNK = 32 * SIDE * SIDE  # pixels drawn at a time, so that what is computed stays in a processor's cache


class Draws(NamedTuple):
    """What is drawn for N scenes: shares from 0 to 1 by name, (N,) or (N, MOST), and noise from -1 to 1."""

    scene: dict[str, Floats]
    digit: dict[str, Floats]
    grids: list[Floats]  # (N, cells + 1, cells + 1) of each noise


def draw(seed: int, split: int, indexes: Numbers) -> Draws:
    """The draws of these scenes of a split: 32 bits a share, 8 bits a point of noise."""
    shares = len(OF_A_SCENE) + MOST * len(OF_A_DIGIT)
    points = [(cells + 1) ** 2 for cells in CELLS]
    length = 4 * shares + sum(points)
    drawn = b"".join(stream(length, seed, "digit_scenes", split, index) for index in indexes.tolist())
    bits = np.frombuffer(drawn, np.uint8).reshape(len(indexes), length)
    parts = np.split(bits, np.cumsum([4 * shares, *points])[:-1], axis=1)
    values = (np.ascontiguousarray(parts[0]).view("<u4").astype(np.float64) + 0.5) / 2**32
    noises = [(part.astype(np.float64) - 127.5) / 127.5 for part in parts[1:]]
    scene, digit = values[:, : len(OF_A_SCENE)], values[:, len(OF_A_SCENE) :].reshape(-1, MOST, len(OF_A_DIGIT))
    return Draws(
        dict(zip(OF_A_SCENE, scene.T, strict=True)),
        dict(zip(OF_A_DIGIT, digit.transpose(2, 0, 1), strict=True)),
        [noise.reshape(-1, cells + 1, cells + 1) for noise, cells in zip(noises, CELLS, strict=True)],
    )


def ground(draws: Draws, size: Size) -> Floats:
    """(N, H, W) grey levels: a slope, two smooth noises, and a finer one whose depth follows the coarsest."""
    height, width = size
    down = ((np.arange(height) + 0.5) / height - 0.5)[:, None]
    across = (np.arange(width) + 0.5) / width - 0.5
    level = {name: _between(*limits, draws.scene[name]) for name, limits in _LEVELS.items()}
    level = {name: values[:, None, None] for name, values in level.items()}
    coarse, medium, fine = (smooth(grid, size) for grid in draws.grids)
    found: Floats = level["base"] + level["across"] * across + level["down"] * down
    return found + level["coarse"] * coarse + level["medium"] * medium + level["fine"] * (1 + coarse) * fine


def smooth(grid: Floats, size: Size) -> Floats:
    """(N, H, W) through the points of (N, P, Q): a smooth step, 3t^2 - 2t^3, from each to the next."""
    top, down = _steps(grid.shape[1] - 1, size[0])
    left, across = _steps(grid.shape[2] - 1, size[1])
    wide = grid[:, :, left] + across * (grid[:, :, left + 1] - grid[:, :, left])
    upper = wide[:, top]
    found: Floats = upper + down[:, None] * (wide[:, top + 1] - upper)
    return found


class Scenes:
    """The scenes of one split: which digits it has, (K, 1, 28, 28), and of which class each is."""

    def __init__(self, settings: DigitScenes, size: Size, split: int, digits: Images, classes: Numbers) -> None:
        self.seed, self.overlap = settings.scene_seed, settings.overlap
        self.size, self.split = size, split
        self.digits, self.classes = digits, classes

    def draw(self, indexes: Numbers) -> Images:
        """(N, 2, H, W): image and mask of each."""
        draws = draw(self.seed, self.split, indexes)
        ink, mask = self.ink(draws)
        pixels = np.clip(ground(draws, self.size) + ink, 0, 255)
        return np.stack([np.floor(pixels + 0.5).astype(np.uint8), mask], axis=1)

    def ink(self, draws: Draws) -> tuple[Floats, Images]:
        """(N, H, W) grey levels that the digits add, and (N, H, W) the class of each pixel; later ones lie on top."""
        height, width = self.size
        side = min(self.size) // 2
        count = 1 + (MOST * draws.scene["count"]).astype(np.int64)
        quadrants = np.argsort(draws.digit["place"], axis=1, kind="stable")
        ink = np.zeros((len(count), height, width))
        mask = np.zeros(ink.shape, np.uint8)
        for k in range(MOST):
            scenes = np.flatnonzero(count > k)
            if not len(scenes):
                break
            share = {name: values[scenes, k] for name, values in draws.digit.items()}
            which = (share["which"] * len(self.digits)).astype(np.int64)
            drawn = pose(self.digits[which], _poses(share, side), side)[:, 0]
            top, left = self._corners(quadrants[scenes, k], share, side)
            steps = np.arange(side)
            at = scenes[:, None, None], (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None, :]
            cover = drawn / 255
            contrast = _between(*CONTRAST, share["contrast"])[:, None, None]
            under = ink[at]
            ink[at] = under + cover * (contrast - under)
            mask[at] = np.where(drawn >= INK, (self.classes[which] + 1).astype(np.uint8)[:, None, None], mask[at])
        return ink, mask

    def _corners(self, quadrant: Numbers, share: dict[str, Floats], side: int) -> tuple[Numbers, Numbers]:
        """Top and left of each digit's square: anywhere within its quadrant, or within the scene."""
        height, width = self.size
        if self.overlap:
            first_row, first_column = np.zeros_like(quadrant), np.zeros_like(quadrant)
            rows, columns = height, width
        else:
            rows, columns = height // 2, width // 2
            first_row, first_column = quadrant // 2 * (height - rows), quadrant % 2 * (width - columns)
        top = first_row + (share["top"] * (rows - side + 1)).astype(np.int64)
        return top, first_column + (share["left"] * (columns - side + 1)).astype(np.int64)


class SceneReader:
    """Scenes, drawn when they are read; they are numbered through the splits."""

    def __init__(self, parts: list[Scenes], counts: list[int]) -> None:
        self.parts = parts
        self.ends = np.cumsum(counts)

    def __call__(self, number: int, part: Part | None = None) -> Images:
        """(2, H, W): the scene, and its mask as the last channel."""
        if part is not None:
            raise ValueError("parts of scenes are taken together with their masks, when both have been drawn")
        split = int(np.searchsorted(self.ends, number, side="right"))
        start = int(self.ends[split - 1]) if split else 0
        scene: Images = self.parts[split].draw(np.array([number - start]))[0]
        return scene

    def everything(self, say: Say) -> list[Images]:
        """All of them, (2, H, W) each."""
        found: list[Images] = []
        for scenes, count in zip(self.parts, np.diff(self.ends, prepend=0).tolist(), strict=True):
            step = max(1, CHUNK // (scenes.size[0] * scenes.size[1]))
            for start in range(0, count, step):
                found += list(scenes.draw(np.arange(start, min(start + step, count))))
        return found


def open_digit_scenes(settings: DigitScenes, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Scenes of the embedded digits; those of a split have digits of that split alone."""
    size = final_size(settings.size, None, (SIDE, SIDE))
    if min(size) < SMALLEST:
        raise Mistake(
            f"data.size={settings.size} is too small for scenes of four digits",
            allowed=f"auto, 64 or 96x128 (height x width), from {SMALLEST} pixels on",
            type_this=f"data.size={SIDE}",
        )
    sheet, own = read_sheet(), digits_splits()
    counts = {"train": settings.train_scenes, **COUNTS}
    parts = [
        Scenes(settings, size, split, sheet[own[name]], own[name] * CLASSES // len(sheet))
        for split, name in enumerate(counts)
    ]
    numbers = np.split(np.arange(sum(counts.values())), np.cumsum(list(counts.values()))[:-1])
    where = "anywhere, over each other" if settings.overlap else "one to a quadrant"
    spec = DataSpec(
        name=settings.name,
        shape=(1, *window(settings.crop, suits, size)),
        target=Target.mask,
        class_names=CLASS_NAMES,
        counts=counts,
        mean=(MEAN,),
        std=(STD,),
        ignore_index=IGNORED,
        where="embedded",
        notes=(f"scenes of {size[0]}x{size[1]}: one to four digits of data=digits, {where}",),
    )
    targets = np.zeros((sum(counts.values()), 0), np.int64)
    return ImageSet(
        with_statistics(spec, settings),
        targets,
        dict(zip(counts, numbers, strict=True)),
        SceneReader(parts, list(counts.values())),
        sizes=np.tile(np.array(size), (len(targets), 1)),
    )


_LEVELS = {
    "base": BASE,
    "across": (-SLOPE, SLOPE),
    "down": (-SLOPE, SLOPE),
    **dict(zip(("coarse", "medium", "fine"), DEPTHS, strict=True)),
}


def _between(low: float, high: float, share: Floats) -> Floats:
    found: Floats = low + (high - low) * share
    return found


def _steps(cells: int, length: int) -> tuple[NDArray[np.int64], Floats]:
    """Of each of so many pixels: the point before it, and how far it is to the next one, as a smooth step."""
    place = (np.arange(length) + 0.5) * cells / length
    before = place.astype(np.int64)
    share = place - before
    return before, share * share * (3 - 2 * share)


def _poses(share: dict[str, Floats], side: int) -> NDArray[np.float32]:
    """(N, 4) the pose of each digit in a square of this side: as far from its middle as its ink lets it be."""
    scale = _between(*SCALE, share["scale"]) * (side / 32)
    room = side / 2 - REACH * scale
    shift_x, shift_y = (_between(-1, 1, share[name]) * room for name in ("shift_x", "shift_y"))
    turn = _between(-TURN, TURN, share["turn"])
    return np.stack([turn, scale, shift_x, shift_y], axis=1).astype(np.float32)
