"""The embedded digits in another pose each: turned, scaled and shifted, which is what is to be learned. No torch."""

import math

import numpy as np
from numpy.typing import NDArray

from dltrain.config.data import DigitsPose
from dltrain.config.spec import DataSpec, Target
from dltrain.data.embedded import digits_splits, read_sheet
from dltrain.data.imageset import Images, ImageSet, Part, Say, value_statistics, with_statistics
from dltrain.data.sizes import ArrayReader, Size, SizeRule, describe_change, final_size
from dltrain.keys import key

UNITS = {"rotation": "degrees", "scale": "", "shift_x": "pixels", "shift_y": "pixels"}
CANVAS = 32  # wide enough for each of these digits in its pose: no ink is cut off, but for a trace of one
RANGES = {  # of each value, drawn evenly
    "rotation": (-45.0, 45.0),  # degrees, counter-clockwise
    "scale": (0.5, 0.9),  # factor
    "shift_x": (-3.0, 3.0),  # pixels of the canvas, to the right
    "shift_y": (-3.0, 3.0),  # pixels of the canvas, down
}
MEAN, STD = 0.0501, 0.19  # of the 3,500 training images
CHUNK = 50  # digits drawn at a time, so that what is computed stays in a processor's cache

Floats = NDArray[np.float64]


def draw_poses(numbers: int) -> NDArray[np.float32]:
    """(N, 4) the pose of each digit, in the order of RANGES: always the same for a digit, whatever a run's seed.

    Four times 16 bits of the key of its number.
    """
    bits = np.array([key(0, "digits_pose", number) for number in range(numbers)], np.uint64)
    parts = (bits[:, None] >> np.array([0, 16, 32, 48], np.uint64)) & np.uint64(0xFFFF)
    share = (parts.astype(np.float64) + 0.5) / 65536
    low, high = np.array(list(RANGES.values())).T
    poses: NDArray[np.float32] = (low + (high - low) * share).astype(np.float32)
    return poses


def pose(images: Images, poses: NDArray[np.float32], side: int = CANVAS) -> Images:
    """(N, 1, side, side) of (N, 1, H, W): each image turned and scaled about its centre, which is then shifted.

    `poses` (N, 4) is (rotation, scale, shift_x, shift_y). Bilinear, zeros outside. Only IEEE additions,
    multiplications and divisions touch a pixel, so the bits are the same on every machine, alone and among others.
    """
    count, _, height, width = images.shape
    rotation, scale, shift_x, shift_y = poses.astype(np.float64).T[:, :, None, None]
    sin, cos = sin_cos(rotation * (math.pi / 180))
    across = np.arange(side) - (side - 1) / 2
    x, y = across - shift_x, across[:, None] - shift_y  # (N, 1, side), (N, side, 1), about the digit's centre
    # Where a pixel of the canvas comes from: the inverse of scale, then rotation. Rows grow downwards.
    from_x = (cos * x - sin * y) / scale + (width - 1) / 2
    from_y = (sin * x + cos * y) / scale + (height - 1) / 2
    left, right_share = _cell(from_x, width)
    top, lower_share = _cell(from_y, height)
    framed = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))  # whatever lies outside meets the frame of zeros
    flat = framed.reshape(-1)
    at = (np.arange(count)[:, None, None] * (height + 2) + top) * (width + 2) + left
    upper = _between(flat[at], flat[at + 1], right_share)
    lower = _between(flat[at + width + 2], flat[at + width + 3], right_share)
    return np.floor(upper + lower_share * (lower - upper) + 0.5).astype(np.uint8)[:, None]


def sin_cos(angle: Floats) -> tuple[Floats, Floats]:
    """Sine and cosine of angles from -pi/4 to pi/4 by Taylor's series: a library's last bit differs by machine."""
    square = angle * angle
    sin, cos = np.zeros_like(angle), np.zeros_like(angle)
    for k in range(9, -1, -1):
        sin = sin * square + (-1) ** k / math.factorial(2 * k + 1)
        cos = cos * square + (-1) ** k / math.factorial(2 * k)
    return sin * angle, cos


class PoseReader:
    """Digits in their poses, drawn when they are read."""

    def __init__(self, digits: Images, poses: NDArray[np.float32], size: Size) -> None:
        self.digits = digits
        self.poses = poses
        self.size = size

    def __call__(self, number: int, part: Part | None = None) -> Images:
        return ArrayReader(self._draw(number, number + 1), self.size)(0, part)

    def everything(self, say: Say) -> Images:
        """All of them, (N, 1, H, W)."""
        drawn = [self._draw(at, at + CHUNK) for at in range(0, len(self.digits), CHUNK)]
        return ArrayReader(np.concatenate(drawn), self.size).everything(say)

    def _draw(self, start: int, end: int) -> Images:
        return pose(self.digits[start:end], self.poses[start:end])


def open_digits_pose(settings: DigitsPose, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """The embedded digits in their poses; sample numbers and splits are those of data=digits."""
    digits = read_sheet()
    size = final_size(settings.size, suits, (CANVAS, CANVAS))
    splits = digits_splits()
    poses = draw_poses(len(digits))
    names = tuple(RANGES) if settings.values is None else tuple(settings.values)
    targets = np.ascontiguousarray(poses[:, [list(RANGES).index(name) for name in names]])
    learned = value_statistics(targets[splits["train"]])
    spec = DataSpec(
        name=settings.name,
        shape=(1, *size),
        target=Target.values,
        class_names=(),
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=(MEAN,),
        std=(STD,),
        where="embedded",
        notes=("data=digits in poses of their own", *describe_change((CANVAS, CANVAS), size)),
        value_names=names,
        value_units=tuple(UNITS[name] for name in names),
        value_mean=learned.mean,
        value_std=learned.std,
    )
    return ImageSet(with_statistics(spec, settings), targets, splits, PoseReader(digits, poses, size))


def _cell(place: Floats, length: int) -> tuple[NDArray[np.int64], Floats]:
    """The pixel before each place, counted in an image with a frame of one pixel, and the share of the next one."""
    place = np.clip(place + 1, 0, length + 1)
    before = np.minimum(place.astype(np.int64), length)
    return before, place - before


def _between(first: Images, second: Images, share: Floats) -> Floats:
    a = first.astype(np.float64)
    return a + share * (second.astype(np.float64) - a)
