"""Each digit is where its targets say: read from an image of coordinates, from the ink, and by putting it back."""

import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dltrain.config import data, model
from dltrain.config.check import check
from dltrain.config.messages import Mistake
from dltrain.data import digits_pose, embedded
from dltrain.data.digits_pose import CANVAS, RANGES, UNITS, draw_poses, pose, sin_cos
from dltrain.data.imageset import ImageSet, Statistics, open_set
from tests.data.conftest import config, quiet

SIDE = 28


@pytest.fixture(scope="module")
def opened() -> ImageSet:
    return open_set(config(data.DigitsPose()), quiet)


@pytest.fixture(scope="module")
def drawn(opened: ImageSet) -> np.ndarray:
    return opened.read.everything(quiet)


def one(rotation: float = 0.0, scale: float = 1.0, shift_x: float = 0.0, shift_y: float = 0.0) -> np.ndarray:
    return np.array([[rotation, scale, shift_x, shift_y]], np.float32)


# ---- what the targets mean


def test_nothing_changes_in_the_upright_pose() -> None:
    digits = embedded.read_sheet()[::500]
    still = pose(digits, np.repeat(one(), len(digits), 0))
    assert np.array_equal(still[:, :, 2:-2, 2:-2], digits)
    assert still.sum() == digits.sum()


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (one(shift_x=3), (3, 0)),  # to the right
        (one(shift_y=3), (0, 3)),  # down: rows grow downwards
        (one(rotation=45, shift_x=2), (2, 0)),  # the shift comes last and is not turned
        (one(scale=0.5, shift_x=2), (2, 0)),  # nor scaled
    ],
)
def test_the_centre_lies_where_the_shift_says(turn: np.ndarray, expected: tuple[int, int]) -> None:
    dot = np.zeros((1, 1, 29, 29), np.uint8)
    dot[0, 0, 14, 14] = 200
    found = pose(dot, turn, 33)[0, 0]
    assert tuple(np.unravel_index(found.argmax(), found.shape)[::-1]) == (16 + expected[0], 16 + expected[1])


@pytest.mark.parametrize("rotation", [-45.0, -20.0, 10.0, 45.0])
@pytest.mark.parametrize("scale", [0.5, 0.7, 0.9])
def test_a_dot_moves_as_rotation_counter_clockwise_and_scale_say(rotation: float, scale: float) -> None:
    """A blob to the right of the centre: the mathematician's angle, seen on the screen."""
    y, x = np.mgrid[:41, :41] - 20.0
    blob = np.rint(250 * np.exp(-((x - 12) ** 2 + y**2) / 8)).astype(np.uint8)[None, None]
    found = pose(blob, one(rotation, scale, 1.5, -2.25), 41)[0, 0].astype(float)
    centre_x, centre_y = (found * x).sum() / found.sum(), (found * y).sum() / found.sum()
    angle = np.deg2rad(rotation)
    assert centre_x == pytest.approx(12 * scale * np.cos(angle) + 1.5, abs=0.05)
    assert centre_y == pytest.approx(-12 * scale * np.sin(angle) - 2.25, abs=0.05)  # up is where rows are small
    assert found.sum() == pytest.approx(scale**2 * blob.astype(float).sum(), rel=0.02)


def test_an_image_of_its_own_coordinates_moves_as_the_targets_say() -> None:
    """Every pixel says where it came from; forward by the definition, it must land where it was found."""
    y, x = np.mgrid[:61, :61]
    planes = np.stack([x, y]).astype(np.uint8)[:, None] * 4
    for row in draw_poses(50):
        moved = pose(planes, np.stack([row, row]), 31).astype(float)[:, 0] / 4 - 30
        rotation, scale, shift_x, shift_y = row.astype(float)
        sin, cos = np.sin(np.deg2rad(rotation)), np.cos(np.deg2rad(rotation))
        down, across = np.mgrid[:31, :31] - 15.0
        inside = np.hypot(across, down) < 10
        to_x = scale * (cos * moved[0] + sin * moved[1]) + shift_x
        to_y = scale * (-sin * moved[0] + cos * moved[1]) + shift_y
        assert np.abs(to_x - across)[inside].max() < 0.15  # a quarter of a pixel is the step of the grey levels
        assert np.abs(to_y - down)[inside].max() < 0.15


def test_it_is_what_pillow_draws(opened: ImageSet, drawn: np.ndarray) -> None:
    """The same inverse transform through Pillow's own bilinear sampling, within its rounding."""
    digits = embedded.read_sheet()
    for number in range(0, 5000, 250):
        rotation, scale, shift_x, shift_y = opened.targets[number].astype(float)
        sin, cos = np.sin(np.deg2rad(rotation)), np.cos(np.deg2rad(rotation))
        a, b, d, e = cos / scale, -sin / scale, sin / scale, cos / scale
        middle = CANVAS / 2
        c = SIDE / 2 - a * (middle + shift_x) - b * (middle + shift_y)
        f = SIDE / 2 - d * (middle + shift_x) - e * (middle + shift_y)
        framed = Image.fromarray(np.pad(digits[number, 0], 10))  # Pillow has no zeros half a pixel outside
        theirs = framed.transform(
            (CANVAS, CANVAS), Image.Transform.AFFINE, (a, b, c + 10, d, e, f + 10), Image.Resampling.BILINEAR
        )
        assert np.abs(np.asarray(theirs).astype(int) - drawn[number, 0]).max() <= 1


def test_the_inverse_pose_gives_the_upright_digit_back(opened: ImageSet, drawn: np.ndarray) -> None:
    digits = embedded.read_sheet()

    def likeness(turned_back: float) -> float:
        found = []
        for number in range(0, 5000, 50):
            rotation, scale, shift_x, shift_y = opened.targets[number].astype(float)
            step = pose(drawn[number : number + 1], one(shift_x=-shift_x, shift_y=-shift_y))
            upright = pose(step, one(turned_back * rotation, 1 / scale), SIDE)
            found.append(np.corrcoef(upright.ravel(), digits[number].ravel())[0, 1])
        return float(np.mean(found))

    assert likeness(-1) > 0.92
    assert likeness(+1) < 0.5  # the control: turned the wrong way


def test_no_ink_is_cut_off_but_a_trace_of_one_digit(drawn: np.ndarray) -> None:
    digits, cut = embedded.read_sheet(), []
    for start in range(0, 5000, 500):
        wide = pose(digits[start : start + 500], draw_poses(5000)[start : start + 500], CANVAS + 16)
        inner = wide[:, :, 8:-8, 8:-8]
        assert np.array_equal(inner, drawn[start : start + 500])
        cut += [1 - a / b for a, b in zip(inner.sum((1, 2, 3)), wide.sum((1, 2, 3)), strict=True) if a < b]
    assert len(cut) == 1
    assert cut[0] < 0.003


# ---- the set


def test_the_poses_are_even_over_their_ranges_and_independent() -> None:
    poses = draw_poses(5000).astype(float)
    low, high = np.array(list(RANGES.values())).T
    assert (poses >= low).all()
    assert (poses <= high).all()
    share = np.sort((poses - low) / (high - low), axis=0)
    assert np.abs(share - (np.arange(5000)[:, None] + 0.5) / 5000).max() < 0.03  # Kolmogorov: 0.023 in one of 100
    assert np.abs(np.corrcoef(poses.T) - np.eye(4)).max() < 0.05
    assert len(np.unique(poses, axis=0)) == 5000


def test_the_set_is_the_same_whatever_the_seed_and_on_every_machine(opened: ImageSet, drawn: np.ndarray) -> None:
    """The recorded digests hold wherever additions, multiplications and divisions are IEEE's."""
    other = open_set(config(data.DigitsPose(), seed=7), quiet)
    assert np.array_equal(other.targets, opened.targets)
    assert hashlib.sha256(opened.targets.tobytes()).hexdigest()[:16] == "fc764197f2b8b2e4"
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == "88c73113a2c5fd4c"


def test_sine_and_cosine_are_right_to_the_last_digits() -> None:
    angle = np.linspace(-np.pi / 4, np.pi / 4, 1001)
    sin, cos = sin_cos(angle)
    assert np.abs(sin - np.sin(angle)).max() < 3e-16
    assert np.abs(cos - np.cos(angle)).max() < 3e-16


def test_a_digit_has_the_same_bits_alone_and_among_others(opened: ImageSet, drawn: np.ndarray) -> None:
    for number in (0, 49, 50, 4999):
        assert np.array_equal(opened.read(number), drawn[number])


def test_splits_are_those_of_the_digits_and_the_spec_says_what_is_learned(opened: ImageSet, drawn: np.ndarray) -> None:
    plain = open_set(config(data.Digits()), quiet)
    assert {name: list(n) for name, n in opened.splits.items()} == {n: list(v) for n, v in plain.splits.items()}
    spec = opened.spec
    assert (spec.shape, spec.target, spec.num_outputs, spec.class_names) == ((1, 32, 32), "value", 4, ())
    assert spec.value_names == tuple(RANGES) == data.DigitsPose.all_values
    assert spec.value_units == tuple(UNITS.values()) == ("degrees", "", "pixels", "pixels")
    learned = opened.targets[opened.splits["train"]].astype(float)
    assert spec.value_mean == pytest.approx(learned.mean(0), rel=1e-12)
    assert spec.value_std == pytest.approx(learned.std(0), rel=1e-12)
    assert (spec.mean, spec.std) == Statistics.of(drawn[opened.splits["train"]])
    assert data.DigitsPose.native == (1, CANVAS, CANVAS)


def test_some_values_can_be_chosen_in_any_order(opened: ImageSet) -> None:
    some = open_set(config(data.DigitsPose(values=["shift_x", "rotation"])), quiet)
    assert (some.spec.value_names, some.spec.num_outputs) == (("shift_x", "rotation"), 2)
    assert some.spec.value_units == ("pixels", "degrees")
    assert np.array_equal(some.targets, opened.targets[:, [2, 0]])
    assert some.spec.value_std == (opened.spec.value_std[2], opened.spec.value_std[0])
    alone = open_set(config(data.DigitsPose(values=["scale"])), quiet)
    assert alone.targets.shape == (5000, 1)


@pytest.mark.parametrize(
    ("values", "type_this"),
    [(["rotaton"], "[rotation]"), ([], "[rotation]"), (["scale", "scale"], "[scale]"), (["x"], "[")],
)
def test_values_that_are_none_are_answered(values: list[str], type_this: str) -> None:
    cfg = config(data.DigitsPose(values=values))
    with pytest.raises(Mistake, match="rotation, scale, shift_x, shift_y") as told:
        check(with_groups(cfg))
    assert type_this in told.value.type_this


@pytest.mark.parametrize("change", ["flip", "crop", "rotate", "translate", "scale", "shear", "resized_crop"])
def test_what_moves_a_digit_would_make_its_targets_wrong(change: str) -> None:
    with pytest.raises(Mistake, match="moves the digits"):
        check(with_groups(config(data.DigitsPose(augment=data.Augment(**{change: 1 if change == "crop" else 0.5})))))
    check(with_groups(config(data.DigitsPose(augment=data.Augment(cutout=4, contrast=0.5)))))


def with_groups(cfg: object) -> object:
    from dltrain.config import groups

    chosen = {"task": "Regression", "reg": "Reg", "clip": "NoClip", "optim": "AdamW", "schedule": "Constant"}
    chosen |= {"precision": "Precision", "log": "Log", "init": "Scratch"}
    for group, name in chosen.items():
        setattr(cfg, group, getattr(groups, name)())
    return cfg


def test_other_sizes_are_padded_or_resized_and_the_screen_says_so(drawn: np.ndarray) -> None:
    larger = open_set(config(data.DigitsPose(size="40")), quiet)
    assert larger.spec.notes[-1] == "images zero-padded from 32x32 to 40x40"
    assert np.array_equal(larger.read(3)[:, 4:-4, 4:-4], drawn[3])
    assert open_set(config(data.DigitsPose(), model.LeNet5()), quiet).spec.shape == (1, 32, 32)
    smaller = open_set(config(data.DigitsPose(size="16")), quiet)
    assert smaller.read(3).shape == (1, 16, 16)


def test_opening_is_quick_and_needs_no_torch() -> None:
    began = time.process_time()
    found = digits_pose.open_digits_pose(data.DigitsPose(), None, 0, quiet)
    assert time.process_time() - began < 0.5
    began = time.process_time()
    found.read.everything(quiet)
    assert time.process_time() - began < 1
    code = (
        "import sys; from dltrain.config import data, groups, mode; from dltrain.data import describe;"
        "cfg = mode.Train(data=data.DigitsPose(), trainer=groups.Trainer());"
        "print(describe(cfg, print).num_outputs, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4 False"
