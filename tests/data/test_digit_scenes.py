"""Scenes of digits: drawn again pixel by pixel, the same everywhere, from the digits of their own split, and no toy."""

import hashlib
import math
import pickle
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from dltrain.config import data
from dltrain.config.messages import Mistake
from dltrain.config.spec import IGNORED
from dltrain.data import digit_scenes
from dltrain.data.digit_scenes import CLASS_NAMES, COUNTS, open_digit_scenes
from dltrain.data.embedded import digits_splits, read_sheet
from dltrain.data.imageset import ImageSet, Statistics, open_set
from dltrain.keys import key
from tests.data.conftest import config, quiet

TRAIN = 300


def opened(**settings: object) -> ImageSet:
    return open_digit_scenes(data.DigitScenes(**{"train_scenes": TRAIN, **settings}), None, 0, quiet)


@pytest.fixture(scope="module")
def plain() -> ImageSet:
    return opened()


@pytest.fixture(scope="module")
def scenes(plain: ImageSet) -> np.ndarray:
    """(1700, 2, 64, 64): 300 to train, then 400 and 1,000."""
    return np.stack(plain.read.everything(quiet))


@pytest.fixture(scope="module")
def overlapping() -> np.ndarray:
    return np.stack(opened(overlap=True).read.everything(quiet))


# ---- what is drawn


def draw_by_hand(index: int, split: int, side: tuple[int, int], overlap: bool) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of a scene in float64, one pixel after another, by the description alone: (H, W) each.

    The mask is `inf` where the ink is so near to its threshold that rounding decides.
    """
    height, width = side
    bits = hashlib.shake_256(struct.pack("<Q", key(0, "digit_scenes", split, index))).digest(172 + 25 + 100 + 625)
    share = [(number + 0.5) / 2**32 for number in struct.unpack("<43I", bits[:172])]
    noises, at = [], 172
    for points in (5, 10, 25):
        rows = [bits[at + row * points : at + (row + 1) * points] for row in range(points)]
        noises.append([[value / 127.5 - 1 for value in row] for row in rows])
        at += points * points

    def noise(grid: list[list[float]], y: int, x: int) -> float:
        cells = len(grid) - 1
        down, across = (y + 0.5) * cells / height, (x + 0.5) * cells / width
        i, j = int(down), int(across)
        v, u = (3 * t**2 - 2 * t**3 for t in (down - i, across - j))
        upper, lower = (grid[row][j] * (1 - u) + grid[row][j + 1] * u for row in (i, i + 1))
        return upper * (1 - v) + lower * v

    image, mask = np.zeros(side), np.zeros(side)
    depths = [15 + 35 * share[4], 10 + 25 * share[5], 5 + 25 * share[6]]
    for y in range(height):
        for x in range(width):
            slope = (160 * share[2] - 80) * ((x + 0.5) / width - 0.5)
            slope += (160 * share[3] - 80) * ((y + 0.5) / height - 0.5)
            first, second, third = (noise(grid, y, x) for grid in noises)
            image[y, x] = 60 + 60 * share[1] + slope + depths[0] * first + depths[1] * second
            image[y, x] += depths[2] * (1 + first) * third

    names = digits_splits()[["train", "val", "test"][split]]
    sheet = np.pad(read_sheet()[:, 0].astype(float), ((0, 0), (20, 20), (20, 20)))
    digits = [share[7 + 9 * k : 16 + 9 * k] for k in range(4)]
    quadrants = sorted(range(4), key=lambda k: digits[k][0])
    square = min(side) // 2
    ink = np.zeros(side)
    for k in range(1 + int(4 * share[0])):
        _, which, turn, scale, shift_x, shift_y, left, top, contrast = digits[k]
        number = int(names[int(which * len(names))])
        scale = (0.75 + 0.375 * scale) * square / 32
        room = square / 2 - 14 * scale
        angle = math.radians(60 * turn - 30)
        rows, columns = (height, width) if overlap else (height // 2, width // 2)
        first_row = 0 if overlap else quadrants[k] // 2 * (height - rows)
        first_column = 0 if overlap else quadrants[k] % 2 * (width - columns)
        first_row += int(top * (rows - square + 1))
        first_column += int(left * (columns - square + 1))
        for y in range(square):
            for x in range(square):
                dy = y - (square - 1) / 2 - room * (2 * shift_y - 1)
                dx = x - (square - 1) / 2 - room * (2 * shift_x - 1)
                from_x = (math.cos(angle) * dx - math.sin(angle) * dy) / scale + 13.5 + 20
                from_y = (math.sin(angle) * dx + math.cos(angle) * dy) / scale + 13.5 + 20
                i, j = math.floor(from_y), math.floor(from_x)
                if not (0 <= i < 67 and 0 <= j < 67):
                    continue
                v, u = from_y - i, from_x - j
                four = sheet[number, i : i + 2, j : j + 2]
                level = float(np.array([1 - v, v]) @ four @ np.array([1 - u, u]))
                place = first_row + y, first_column + x
                ink[place] += level / 255 * (50 + 70 * contrast - ink[place])
                if abs(level - 95.5) < 0.01:
                    mask[place] = np.inf
                elif level >= 95.5:
                    mask[place] = 1 + number // 500
    return image + ink, mask


@pytest.mark.parametrize(
    ("split", "size", "overlap"),
    [("train", (64, 64), False), ("val", (64, 64), True), ("test", (65, 96), False), ("train", (40, 33), True)],
)
def test_scenes_are_what_a_loop_over_pixels_draws(split: str, size: tuple[int, int], overlap: bool) -> None:
    found = opened(size=f"{size[0]}x{size[1]}", overlap=overlap)
    numbers = found.splits[split].tolist()
    index = next(i for i, number in enumerate(numbers) if len(np.unique(found.read(number)[1])) > 3)
    image, mask = found.read(numbers[index]).astype(float)
    expected, classes = draw_by_hand(index, list(found.splits).index(split), size, overlap)
    assert np.abs(image - np.clip(expected, 0, 255)).max() < 1.1  # a digit's ink is rounded to 255ths, then the whole
    sure = np.isfinite(classes)
    assert sure.mean() > 0.99
    assert np.array_equal(mask[sure], classes[sure])


def test_each_quadrant_holds_one_digit_at_most_and_all_of_it(scenes: np.ndarray) -> None:
    masks = scenes[:, 1].reshape(-1, 2, 32, 2, 32).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 32, 32)
    present = masks.max((2, 3))
    assert ((masks == 0) | (masks == present[:, :, None, None])).all()
    counts = np.bincount((present > 0).sum(1), minlength=5)
    assert counts[0] == 0
    assert (np.abs(counts[1:] / len(masks) - 0.25) < 0.04).all()
    assert (np.abs((present > 0).mean(0) - 0.625) < 0.05).all()  # no quadrant is preferred
    classes = np.bincount(present.ravel(), minlength=11)[1:] / (present > 0).sum()
    assert (np.abs(classes - 0.1) < 0.02).all()
    edge = np.ones((32, 32), bool)
    edge[1:-1, 1:-1] = False
    assert (masks > 0)[:, :, edge].mean() < 0.002  # what touches the edge could have been cut off


def test_with_overlap_digits_lie_over_each_other(scenes: np.ndarray, overlapping: np.ndarray) -> None:
    several = [len(np.unique(mask)) > 2 for mask in overlapping[:, 1]]
    assert np.mean(several) > 0.6
    for masks, least, most in ((scenes[:, 1], 0, 0.02), (overlapping[:, 1], 0.4, 1)):
        above, below = masks[:, 31], masks[:, 32]
        crossing = ((above > 0) & (above == below)).any(1).mean()
        assert least <= crossing <= most  # the middle is a border of quadrants alone
    assert (overlapping[:, 1] > 0).mean() < 0.95 * (scenes[:, 1] > 0).mean()  # some ink is hidden


def test_ink_is_where_the_mask_says(scenes: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without digits the same ground appears; what is gone is ink, and lighter than the ground by what is said."""
    sheet = read_sheet()
    monkeypatch.setattr(digit_scenes, "read_sheet", lambda: np.zeros_like(sheet))
    bare = np.stack(opened().read.everything(quiet))
    assert not bare[:, 1].any()
    lighter = scenes[:, 0].astype(int) - bare[:, 0]
    inked, whole = scenes[:, 1] > 0, (scenes[:, 0] < 255) & (bare[:, 0] > 0)
    assert lighter[inked & whole].min() >= 50 * 96 / 255 - 1
    assert lighter[~inked].max() <= 120 * 95 / 255 + 1
    assert lighter.min() >= 0
    assert whole.mean() > 0.98  # little is lost in white and black


# ---- the set


def test_splits_have_digits_of_their_own(scenes: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the digits of one split wiped out its scenes are empty, and those of the others are as before."""
    starts = np.cumsum([0, TRAIN, *COUNTS.values()])
    for split, (name, own) in enumerate(digits_splits().items()):
        sheet = read_sheet().copy()
        sheet[own] = 0
        monkeypatch.setattr(digit_scenes, "read_sheet", lambda sheet=sheet: sheet)
        reader, its_own = opened().read, range(starts[split], starts[split] + 40)
        assert not any(reader(number)[1].any() for number in its_own), name
        others = [number for at in starts[:-1] for number in range(at, at + 40) if number not in its_own]
        assert all(np.array_equal(reader(number), scenes[number]) for number in others), name


def test_the_set_is_the_same_whatever_the_seed_and_on_every_machine(
    scenes: np.ndarray, overlapping: np.ndarray
) -> None:
    """The recorded digests hold wherever additions, multiplications and divisions are IEEE's."""
    some = np.concatenate([scenes[::50], overlapping[::50]])
    assert hashlib.sha256(some.tobytes()).hexdigest()[:16] == "f8d95bb01f282124"
    other = open_set(config(data.DigitScenes(train_scenes=TRAIN), seed=7), quiet)
    assert all(np.array_equal(other.read(number), scenes[number]) for number in range(0, 1700, 100))


def test_another_scene_seed_makes_other_scenes(scenes: np.ndarray) -> None:
    other = opened(scene_seed=1)
    for number in (0, TRAIN, TRAIN + 400):
        again = other.read(number)
        assert (np.abs(again[0].astype(int) - scenes[number, 0]) > 8).mean() > 0.5
        assert not np.array_equal(again[1], scenes[number, 1])


def test_no_two_scenes_are_alike(scenes: np.ndarray) -> None:
    assert len({scene.tobytes() for scene in scenes[:, 0]}) == len(scenes)


def test_more_scenes_change_none(plain: ImageSet, scenes: np.ndarray) -> None:
    more = opened(train_scenes=TRAIN + 5)
    for name in plain.splits:
        for index in (0, 1, 299):
            assert np.array_equal(more.read(int(more.splits[name][index])), scenes[plain.splits[name][index]])


def test_a_scene_has_the_same_bits_alone_among_others_and_pickled(plain: ImageSet, scenes: np.ndarray) -> None:
    reader = pickle.loads(pickle.dumps(plain.read))
    for number in (0, 31, 32, TRAIN - 1, TRAIN, TRAIN + 399, TRAIN + 400, 1699):
        assert np.array_equal(reader(number), scenes[number])


def test_the_spec_says_what_the_set_is(plain: ImageSet, scenes: np.ndarray) -> None:
    spec = open_set(config(data.DigitScenes()), quiet).spec
    assert spec.counts == {"train": 4000, "val": 400, "test": 1000}
    assert (spec.target, spec.ignore_index, spec.num_outputs) == ("mask", IGNORED, 11)
    assert spec.class_names == CLASS_NAMES == ("ground", *"0123456789")
    assert spec.shape == (1, 64, 64)
    measured = Statistics.of(scenes[:, :1])
    assert spec.mean == pytest.approx(measured.mean, abs=0.005)
    assert spec.std == pytest.approx(measured.std, abs=0.005)
    assert plain.targets.shape == (1700, 0)
    assert np.array_equal(plain.sizes, np.full((1700, 2), 64))
    assert sorted(np.concatenate(list(plain.splits.values())).tolist()) == list(range(1700))
    assert 0.05 < (scenes[:, 1] > 0).mean() < 0.15


def test_other_sizes_are_drawn_as_such_and_too_small_ones_refused() -> None:
    wide = opened(size="96x128")
    assert wide.spec.shape == (1, 96, 128)
    assert wide.read(0).shape == (2, 96, 128)
    assert wide.sizes.tolist()[-1] == [96, 128]
    inked = [(wide.read(number)[1] > 0).mean() for number in range(60)]
    assert 0.03 < np.mean(inked) < 0.12  # digits grow with the scene
    assert opened(size="auto").spec.shape == (1, 64, 64)
    with pytest.raises(Mistake, match="too small") as told:
        opened(size="31")
    assert told.value.type_this == "data.size=64"


def test_no_threshold_finds_the_digits(scenes: np.ndarray) -> None:
    """Not the best one over all scenes, nor the best of each scene, though all that is asked is digit or ground."""

    def best(images: np.ndarray, masks: np.ndarray) -> float:
        ink, ground = (np.bincount(images[masks == m], minlength=256)[::-1].cumsum() for m in (True, False))
        return float((ink / (masks.sum() + ground)).max())  # intersection over union, for each threshold

    images, inked = scenes[700:, 0], scenes[700:, 1] > 0
    assert best(images, inked) < 0.5
    assert np.mean([best(image, mask) for image, mask in zip(images, inked, strict=True)]) < 0.6


def test_drawing_is_quick_and_needs_no_torch() -> None:
    began = time.process_time()
    found = opened(train_scenes=4000)
    assert time.process_time() - began < 0.5
    began = time.process_time()
    assert len(found.read.everything(quiet)) == 5400
    assert time.process_time() - began < 6
    code = (
        "import sys; from dltrain.config import data, groups, mode; from dltrain.data import describe;"
        "cfg = mode.Train(data=data.DigitScenes(), trainer=groups.Trainer());"
        "print(describe(cfg, print).num_outputs, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "11 False"
