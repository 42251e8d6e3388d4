"""Augmentation against torchvision sample by sample, against coordinates, and bit for bit in any batch."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V

from dltrain.config.data import Augment
from dltrain.data.augment import (
    ANGLE,
    CROP,
    CUT,
    DRAWS,
    ERASE,
    FLIP,
    SCALE,
    SHEAR,
    SHIFT,
    affine,
    augment,
    cutout,
    erase,
    exponential,
    flip_and_crop,
    sin_cos,
)
from dltrain.engine import random

IDS = torch.tensor([7, 3, 123_456_789_012, 0, 41])
COLOR = Augment(brightness=0.3, contrast=0.4, saturation=0.5, hue=0.2)
ALL = replace(COLOR, flip=0.5, crop=3, rotate=25, translate=0.15, scale=0.2, shear=12, cutout=7, erase=0.5)
EACH = [
    Augment(flip=0.5),
    Augment(crop=3),
    Augment(rotate=180),
    Augment(translate=0.5),
    Augment(scale=0.5),
    Augment(shear=30),
    Augment(cutout=6),
    Augment(erase=0.8),
    Augment(contrast=0.5),
    COLOR,
    ALL,
]


def some_images(count: int = 5, channels: int = 3, height: int = 24, width: int = 17) -> Tensor:
    values = random.uniform(random.key(1, "test"), torch.arange(count), channels * height * width)
    return (values * 256).floor().reshape(count, channels, height, width)


def drawn(ids: Tensor, epoch: int = 2, seed: int = 5) -> Tensor:
    return random.uniform(random.key(seed, "augment", epoch), ids, DRAWS)


def test_affine_is_torchvisions_sample_by_sample() -> None:
    images, cfg = some_images(), Augment(rotate=40, translate=0.3, scale=0.4, shear=25)
    ours = augment(images, IDS, 2, 5, cfg)
    s = (2 * drawn(IDS) - 1).double()
    for i in range(len(IDS)):
        theirs = V.affine_image(
            images[i].double(),
            angle=float(s[i, ANGLE]) * 40,
            translate=[float(s[i, SHIFT]) * 0.3 * 17, float(s[i, SHIFT + 1]) * 0.3 * 24],
            scale=1 + float(s[i, SCALE]) * 0.4,
            shear=[float(s[i, SHEAR]) * 25, 0.0],
            interpolation=InterpolationMode.BILINEAR,
            fill=None,
        )
        assert (ours[i] - theirs).abs().max() < 0.01  # of 255


def test_flip_and_crop_are_torchvisions_sample_by_sample() -> None:
    images, cfg = some_images(), Augment(flip=0.5, crop=4)
    ours = augment(images, IDS, 2, 5, cfg)
    u = drawn(IDS)
    assert 0 < int((u[:, FLIP] < 0.5).sum()) < len(IDS)
    for i in range(len(IDS)):
        flipped = V.horizontal_flip(images[i]) if u[i, FLIP] < 0.5 else images[i]
        top, left = int(u[i, CROP] * 9), int(u[i, CROP + 1] * 9)
        assert torch.equal(ours[i], V.crop(V.pad(flipped, [4]), top, left, 24, 17))


def test_cutout_is_torchvisions_erase_sample_by_sample() -> None:
    images = some_images()
    ours = augment(images, IDS, 2, 5, Augment(cutout=7))
    u = drawn(IDS)
    for i in range(len(IDS)):
        top, left = int(u[i, CUT] * 24) - 3, int(u[i, CUT + 1] * 17) - 3
        y, x = max(top, 0), max(left, 0)
        assert torch.equal(
            ours[i], V.erase(images[i], y, x, min(top + 7, 24) - y, min(left + 7, 17) - x, torch.zeros(1))
        )


def rectangle(u: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of what is erased, as the paper has it, for one sample's five numbers in float64."""
    area = (0.02 + 0.31 * float(u[1])) * height * width
    shape = 0.3 ** (1 - 2 * float(u[2]))
    shape = min(max(shape, area / width**2), height**2 / area)
    tall, wide = max(1, round(math.sqrt(area * shape))), max(1, round(math.sqrt(area / shape)))
    return int(float(u[3]) * (height - tall + 1)), int(float(u[4]) * (width - wide + 1)), tall, wide


@pytest.mark.parametrize("size", [(24, 17), (16, 16), (6, 60), (1, 1)])
def test_erasing_is_torchvisions_erase_of_the_papers_rectangle(size: tuple[int, int]) -> None:
    images, ids = some_images(200, height=size[0], width=size[1]) + 1, torch.arange(200)
    ours = augment(images, ids, 2, 5, Augment(erase=0.6))
    u = drawn(ids)[:, ERASE : ERASE + 5]
    for i in range(200):
        expected = V.erase(images[i], *rectangle(u[i], *size), torch.zeros(1)) if u[i, 0] < 0.6 else images[i]
        assert torch.equal(ours[i], expected), i


def test_erased_areas_are_even_within_their_limits_and_lie_anywhere() -> None:
    count, side = 2000, 64
    ids = torch.arange(count)
    erased = augment(torch.ones(1, 1, side, side).expand(count, -1, -1, -1), ids, 0, 0, Augment(erase=1.0)) == 0
    area = erased.flatten(1).double().mean(1).sort().values
    assert 0.018 < area[0] < 0.022
    assert 0.32 < area[-1] < 0.34
    assert (area - torch.linspace(0.02, 0.33, count).double()).abs().max() < 0.31 * 2 / math.sqrt(count)
    tall, wide = (erased[:, 0].any(dim).sum(1).double() for dim in (2, 1))
    assert 0.27 < (tall / wide).min() < 0.33  # whole pixels
    assert 1 / 0.33 < (tall / wide).max() < 1 / 0.27
    assert abs((tall / wide).log().mean()) < 0.06  # neither tall nor wide is favoured
    where = erased.float().mean(0)[0]
    assert where.min() > 0
    assert (where - where.flip(0)).abs().max() < 0.06
    assert (where - where.flip(1)).abs().max() < 0.06
    share = augment(torch.ones(count, 1, 8, 8), ids, 0, 0, Augment(erase=0.25)).flatten(1).min(1).values == 0
    assert abs(share.double().mean() - 0.25) < 0.03


def test_an_image_of_its_own_coordinates_shows_where_each_pixel_came_from() -> None:
    """Inside, a bilinear reading of a linear function is exact: the output is the inverse map itself."""
    height, width = 20, 30
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    image = torch.stack([y, x])[None]
    angle, down, right, scale = math.radians(17), -2.5, 3.25, 1.25
    one = torch.ones(1)
    out = affine(image, one * angle, one * right, one * down, one * scale, one * 0)[0]
    cy, cx = (height - 1) / 2, (width - 1) / 2
    dy, dx = y - cy - down, x - cx - right
    from_x = (math.cos(angle) * dx + math.sin(angle) * dy) / scale + cx
    from_y = (-math.sin(angle) * dx + math.cos(angle) * dy) / scale + cy
    inside = (from_x >= 0) & (from_x <= width - 1) & (from_y >= 0) & (from_y <= height - 1)
    assert inside.sum() > 300
    assert (out[0] - from_y)[inside].abs().max() < 1e-4
    assert (out[1] - from_x)[inside].abs().max() < 1e-4
    outside = (from_x < -1) | (from_x > width) | (from_y < -1) | (from_y > height)
    assert not out[:, outside].any()

    moved = flip_and_crop(image, torch.tensor([True]), torch.tensor([2]), torch.tensor([-3]), 3)[0]
    assert torch.equal(moved[0, :18, 3:], y[2:, 3:])
    assert torch.equal(moved[1, :18, 3:], x.flip(1)[2:, :27])
    assert not moved[:, 18:].any()
    assert not moved[:, :, :3].any()


@pytest.mark.parametrize("cfg", EACH)
def test_a_sample_has_the_same_bits_alone_and_in_any_batch(cfg: Augment) -> None:
    images = some_images(67, height=16, width=13)
    ids = torch.arange(67) * 1_000_003
    together = augment(images, ids, 3, 9, cfg)
    assert not torch.equal(together, images)
    for i in (0, 1, 31, 66):
        assert torch.equal(augment(images[i : i + 1], ids[i : i + 1], 3, 9, cfg)[0], together[i])
    backwards = augment(images.flip(0), ids.flip(0), 3, 9, cfg).flip(0)
    assert torch.equal(backwards, together)
    torch.set_num_threads(3)
    assert torch.equal(augment(images, ids, 3, 9, cfg), together)


@pytest.mark.parametrize("cfg", EACH)
def test_seed_epoch_and_sample_each_change_what_is_drawn(cfg: Augment) -> None:
    images, ids = some_images(20, height=16, width=13), torch.arange(20)
    first = augment(images, ids, 0, 0, cfg)
    assert torch.equal(first, augment(images, ids, 0, 0, cfg))
    for other in (
        augment(images, ids, 1, 0, cfg),
        augment(images, ids, 0, 1, cfg),
        augment(images, ids + 20, 0, 0, cfg),
    ):
        assert not torch.equal(first, other)


def test_no_strength_is_no_change() -> None:
    images = some_images()
    assert augment(images, IDS, 0, 0, Augment()) is images
    still = torch.zeros(5)
    assert torch.equal(flip_and_crop(images, torch.zeros(5, dtype=torch.bool), still.long(), still.long(), 0), images)
    assert (affine(images, still, still, still, still + 1, still) - images).abs().max() < 1e-3
    assert torch.equal(cutout(images, still, still, 0), images)
    assert torch.equal(erase(images, torch.zeros(5, 5), 0.0), images)
    assert augment(images.to(torch.uint8), IDS, 0, 0, Augment()).dtype == torch.float32


@pytest.mark.parametrize("cfg", EACH)
def test_whole_numbers_become_what_their_float32_becomes(cfg: Augment) -> None:
    images = some_images()
    assert torch.equal(augment(images.to(torch.uint8), IDS, 0, 0, cfg), augment(images, IDS, 0, 0, cfg))


def test_inputs_are_left_alone() -> None:
    images = some_images()
    kept = images.clone()
    augment(images, IDS, 0, 0, ALL)
    assert torch.equal(images, kept)


def test_switching_one_change_on_does_not_move_another() -> None:
    """Each change draws from columns of its own."""
    images = some_images()
    flips_only = augment(images, IDS, 0, 0, Augment(flip=0.5))
    with_cut = augment(images, IDS, 0, 0, Augment(flip=0.5, cutout=3))
    assert torch.equal(torch.where(with_cut == 0, flips_only, with_cut), flips_only)
    with_all = augment(images, IDS, 0, 0, Augment(flip=0.5, cutout=3, erase=0.9, brightness=1e-6, hue=1e-6))
    assert not torch.equal(with_all, with_cut)
    seen = with_all != 0
    assert (with_all - with_cut)[seen].abs().max() < 0.01


def test_what_is_drawn_for_a_change_never_moves() -> None:
    """A run's record holds: the columns of what was there first are those of fewer draws."""
    assert torch.equal(drawn(IDS)[:, :10], random.uniform(random.key(5, "augment", 2), IDS, 10))


def test_strengths_are_reached_and_not_passed() -> None:
    """Over many samples the shifts cover what is allowed: a single bright pixel in the middle."""
    images = torch.zeros(2000, 1, 21, 21)
    images[:, :, 10, 10] = 255
    ids = torch.arange(2000)
    places = augment(images, ids, 0, 0, Augment(crop=4)).flatten(1).argmax(1)
    rows, columns = places // 21, places % 21
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 14, 6, 14)
    assert torch.bincount(rows - 6).min() > 2000 / 9 * 0.75
    flips = augment(some_images(1).expand(2000, -1, -1, -1), ids, 0, 0, Augment(flip=0.25))
    share = (flips != some_images(1)).flatten(1).any(1).float().mean()
    assert abs(share - 0.25) < 0.04
    assert torch.equal(augment(images, ids, 0, 0, Augment(flip=1.0)), images.flip(3))
    cut = augment(torch.ones(2000, 1, 21, 21), ids, 0, 0, Augment(cutout=5))
    assert cut.flatten(1).sum(1).min() == 21 * 21 - 25
    assert cut[:, 0, 0, 0].mean() < 1  # its centre reaches the corner


def test_sin_cos_is_exact_enough_and_the_same_at_every_place_of_a_vector() -> None:
    angles = torch.linspace(-math.pi, math.pi, 1003)
    sin, cos = sin_cos(angles)
    assert (sin.double() - angles.double().sin()).abs().max() < 1e-7
    assert (cos.double() - angles.double().cos()).abs().max() < 1e-7
    alone = torch.stack([torch.stack(sin_cos(angle[None])) for angle in angles[::50]], 1)[..., 0]
    assert torch.equal(alone, torch.stack([sin[::50], cos[::50]]))


def test_exponential_is_exact_enough() -> None:
    values = torch.linspace(-2, 2, 1003, dtype=torch.float64)
    assert (exponential(values) / values.exp() - 1).abs().max() < 1e-13


def test_no_change_in_strength_is_ignored() -> None:
    """Every field of the settings changes pixels, but for those that are not made here."""
    images = some_images()
    strengths = {
        "flip": 1.0,
        "crop": 3,
        "rotate": 30,
        "translate": 0.3,
        "scale": 0.3,
        "shear": 30,
        "cutout": 9,
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "hue": 0.1,
        "erase": 1.0,
    }
    elsewhere = {"resized_crop", "mixup", "cutmix"}  # test_resized_crop.py, test_mix.py
    assert strengths.keys() | elsewhere == {field.name for field in fields(Augment)}
    for field, value in strengths.items():
        assert not torch.equal(augment(images, IDS, 0, 0, replace(Augment(), **{field: value})), images), field


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cfg", EACH)
def test_a_gpu_draws_the_same_and_differs_in_rounding_only(cfg: Augment) -> None:
    images = some_images(64, height=32, width=32)
    ids = torch.arange(64)
    theirs = augment(images.cuda(), ids.cuda(), 1, 2, cfg).cpu()
    assert (theirs - augment(images, ids, 1, 2, cfg)).abs().max() < 0.05
