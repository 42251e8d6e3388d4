"""Images and masks move together: proven on images whose pixels hold their own coordinates."""

import itertools
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as theirs

from dltrain.config.data import MaskAugment
from dltrain.config.spec import IGNORED
from dltrain.data import elastic
from dltrain.data.color import jitter
from dltrain.data.joint import DRAWS, ELASTIC, Windows, cell, copy, interpolate, line, places, turned, windows
from dltrain.data.ragged import Ragged
from dltrain.engine import random

BENT = MaskAugment(flip=0.5, vertical_flip=0.5, rotate=40, scale=0.3, elastic=4)
ALL = replace(BENT, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
SIZES = [(40, 60), (33, 33), (90, 24), (64, 64), (21, 47), (7, 5)]


def label(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Neighbours have different labels, whichever way."""
    return (rows * 16 + columns) % 251


def coordinates(height: int, width: int) -> NDArray[np.uint8]:
    """(5, H, W): row, column, something else, then the mask, and borders that are the mask again."""
    rows, columns = np.mgrid[0:height, 0:width]
    labels = label(rows, columns)
    return np.stack([rows, columns, (rows * columns) % 256, labels, labels]).astype(np.uint8)


RAGGED = Ragged.of([coordinates(*size) for size in SIZES])


def take(cfg: MaskAugment, size: tuple[int, int] = (24, 20), epoch: int = 0, seed: int = 0) -> Windows:
    return windows(RAGGED, torch.arange(len(SIZES)), epoch, seed, cfg, size, borders=True)


def noise(height: int, width: int, channels: int = 2, seed: int = 0) -> NDArray[np.uint8]:
    draw = np.random.Generator(np.random.Philox(key=seed))
    return draw.integers(0, 256, (channels, height, width), dtype=np.uint8)


def empty(ragged: Ragged, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = len(ragged.starts)
    return torch.zeros(batch, ragged.channels - 1, *size), torch.zeros(batch, 1, *size, dtype=torch.uint8)


def test_every_change_is_on_in_these_tests() -> None:
    """A new one is tested here from its first day."""
    assert {field.name for field in fields(MaskAugment) if getattr(ALL, field.name) != field.default} == {
        field.name for field in fields(MaskAugment)
    }


@pytest.mark.parametrize("size", [(24, 20), (5, 7), (40, 64), (50, 70)])
@pytest.mark.parametrize(("flip", "vertical_flip"), [(0, 0), (1, 0), (0, 1), (0.5, 0.5)])
def test_windows_and_mirror_images_copy_pixels_exactly(
    size: tuple[int, int], flip: float, vertical_flip: float
) -> None:
    """Each window is a piece of NumPy's mirrored image, at a place that its corner names."""
    for epoch in range(2):
        found = take(MaskAugment(flip=flip, vertical_flip=vertical_flip), size, epoch)
        for number, (height, width) in enumerate(SIZES):
            image = found.images[number].numpy()
            whole = coordinates(height, width)
            pad = [(0, 0), (size[0], size[0]), (size[1], size[1])]
            padded = np.pad(whole, pad, mode="reflect")
            low = min(0, height - size[0]), min(0, width - size[1])
            high = max(0, height - size[0]), max(0, width - size[1])
            pieces = [
                np.flip(padded[:, top + size[0] : top + 2 * size[0], left + size[1] : left + 2 * size[1]], axes)
                for top in range(low[0], high[0] + 1)
                for left in range(low[1], high[1] + 1)
                for axes in ((), (1,), (2,), (1, 2))
                if (flip == 0.5 or (2 in axes) == flip) and (vertical_flip == 0.5 or (1 in axes) == vertical_flip)
            ]
            held = np.concatenate([image, found.masks[number][None].numpy(), found.borders[number][None].numpy()])  # type: ignore[index]
            assert any(np.array_equal(held, piece) for piece in pieces)


BENDING = [
    dict(zip(("rotate", "scale", "elastic"), values, strict=True))
    for values in itertools.product((0.0, 40.0), (0.0, 0.3), (0.0, 4.0))
]


@pytest.mark.parametrize("flips", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("bending", BENDING, ids=str)
def test_after_any_changes_image_and_mask_still_agree(bending: dict[str, float], flips: float) -> None:
    """The image says from which place each pixel comes; the mask is the label of the pixel nearest to that place."""
    for epoch in range(2):
        found = take(MaskAugment(flip=flips, vertical_flip=flips, **bending), (28, 36), epoch)
        rows, columns = found.images[:, 0].numpy(), found.images[:, 1].numpy()
        clear = np.minimum(abs(rows % 1 - 0.5), abs(columns % 1 - 0.5)) > 1e-3  # not half-way between two pixels
        expected = label(np.rint(rows).astype(np.int64), np.rint(columns).astype(np.int64))
        assert clear.mean() > 0.95
        assert np.array_equal(found.masks.numpy()[clear], expected[clear])
        assert torch.equal(found.masks, found.borders)  # type: ignore[arg-type]
        for number, (height, width) in enumerate(SIZES):
            assert rows[number].min() >= 0
            assert rows[number].max() <= height - 1
            assert columns[number].min() >= 0
            assert columns[number].max() <= width - 1


def test_the_check_above_sees_a_mask_that_lags_by_a_pixel() -> None:
    """The negative control."""
    found = take(BENT, (28, 36))
    rows, columns = (np.rint(found.images[:, k].numpy()).astype(np.int64) for k in (0, 1))
    lagging = np.roll(found.masks.numpy(), 1, axis=2)
    assert (lagging == label(rows, columns)).mean() < 0.2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (2, 2), (3, 1), (5, 4), (8, 40)])
def test_outside_lies_the_mirror_image_as_numpy_has_it(height: int, width: int) -> None:
    """However far outside: copied, and by interpolation at whole numbers, the pixels are NumPy's, exactly."""
    whole = noise(height, width, 3)
    ragged, size, corner = Ragged.of([whole]), (23, 31), torch.tensor([[-11, -14]])
    expected = np.pad(whole, [(0, 0), (11, 12), (14, 17)], mode="reflect")[:, : size[0], : size[1]]
    zero = torch.zeros(1, dtype=torch.bool)
    rows, columns = line(size[0], zero), line(size[1], zero)
    still = rows[:, :, None].expand(1, *size).float(), columns[:, None, :].expand(1, *size).float()
    for fill, at in ((copy, (rows, columns)), (interpolate, still)):
        images, labels = empty(ragged, size)
        fill(ragged, corner, *at, images, labels)
        assert np.array_equal(images[0].numpy(), expected[:2])
        assert np.array_equal(labels[0].numpy(), expected[2:])


def test_interpolation_is_scipys() -> None:
    """At any places, also far outside: order 1 for images, the nearest pixel for masks (float64)."""
    sizes, size = [(30, 40), (9, 17), (64, 8)], (16, 24)
    images = [noise(*own, seed=number) for number, own in enumerate(sizes)]
    ragged = Ragged.of(images)
    draw = np.random.Generator(np.random.Philox(key=1))
    at = torch.from_numpy(draw.uniform(-60, 90, (2, len(sizes), *size))).float()
    corners = torch.tensor([[0, 0], [-3, 5], [20, -7]])
    found, labels = empty(ragged, size)
    interpolate(ragged, corners, at[0], at[1], found, labels)
    for number, image in enumerate(images):
        place = at[:, number].double().numpy() + corners[number].numpy()[:, None, None]
        smooth = ndimage.map_coordinates(image[0].astype(np.float64), place, order=1, mode="mirror")
        assert abs(found[number, 0].numpy() - smooth).max() < 2e-3  # places at 90 are known to 4e-6, of 255 levels
        nearest = ndimage.map_coordinates(image[1], place, order=0, mode="mirror")
        clear = (abs(place % 1 - 0.5) > 1e-4).all(axis=0)
        assert np.array_equal(labels[number, 0].numpy()[clear], nearest[clear])


@pytest.mark.parametrize(("angle", "factor"), [(0.0, 1.0), (30.0, 1.0), (-75.0, 1.2), (0.0, 0.8), (160.0, 0.9)])
def test_turning_and_scaling_are_torchvisions(angle: float, factor: float) -> None:
    """Clockwise, larger by the factor, about the centre; compared where nothing comes from outside."""
    image = noise(41, 41)
    zero = torch.zeros(1, dtype=torch.bool)
    lines = line(41, zero), line(41, zero)
    down, right = turned(*lines, torch.tensor([math.radians(angle)]), torch.tensor([factor]))
    ragged = Ragged.of([image])
    found, labels = empty(ragged, (41, 41))
    interpolate(ragged, torch.zeros(1, 2, dtype=torch.int64), down, right, found, labels)
    expected = theirs.affine(
        torch.from_numpy(image[:1]).double(), angle, [0, 0], factor, [0.0, 0.0], InterpolationMode.BILINEAR
    )
    inside = (down[0] >= 0) & (down[0] <= 40) & (right[0] >= 0) & (right[0] <= 40)
    assert inside.float().mean() > 0.5
    assert (found[0, 0] - expected[0])[inside].abs().max() < 5e-3


def test_a_turn_of_nothing_and_a_factor_of_one_copy_pixels_exactly() -> None:
    for length in (8, 9, 256):
        lines = line(length, torch.tensor([False, True])), line(length, torch.tensor([True, False]))
        down, right = turned(*lines, torch.zeros(2), torch.ones(2))
        assert torch.equal(down, lines[0][:, :, None].expand_as(down).float())
        assert torch.equal(right, lines[1][:, None, :].expand_as(right).float())


def in_float64(u: torch.Tensor) -> NDArray[np.float64]:
    """Box and Muller, with the angle from -pi."""
    pairs = u.double().numpy().reshape(len(u), -1, 2)
    radius, angle = np.sqrt(-2 * np.log1p(-pairs[..., 0])), 2 * np.pi * pairs[..., 1] - np.pi
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(u.shape)


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (5, 2), (1, 3), (256, 192)])
def test_elastic_displacements_are_scipys_bicubic_on_a_grid_of_three_by_three(size: tuple[int, int]) -> None:
    u = torch.rand(4, elastic.DRAWS, generator=torch.Generator().manual_seed(0))
    down, right = elastic.displacements(u, 10.0, size)
    grids = 10 * in_float64(u).reshape(-1, 2, 3, 3)
    lines = [np.linspace(0, 2, n) if n > 1 else np.zeros(1) for n in size]
    place = np.stack(np.meshgrid(*lines, indexing="ij"))
    for ours, axis in ((down, 0), (right, 1)):
        expected = [ndimage.map_coordinates(grid[axis], place, order=3, mode="mirror") for grid in grids]
        assert abs(ours.double().numpy() - np.stack(expected)).max() < 2e-5
        assert ours.shape == (4, *size)


def test_the_normal_numbers_of_the_grid_are_normal() -> None:
    u = torch.rand(4000, elastic.DRAWS, generator=torch.Generator().manual_seed(1))
    z = elastic.gaussian(u)
    assert abs(z.double().numpy() - in_float64(u)).max() < 3e-6
    assert stats.kstest(z.numpy().ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(z.numpy().T) - np.eye(elastic.DRAWS)).max() < 0.06


def test_the_ends_of_the_uniform_numbers_give_numbers() -> None:
    ends = torch.tensor([0.0, 2.0**-24, 0.5, 1 - 2.0**-24])
    u = torch.cartesian_prod(ends, ends).reshape(1, -1)
    assert abs(elastic.gaussian(u).double().numpy() - in_float64(u)).max() < 3e-6
    values = torch.tensor([2.0**-24, 1e-3, 0.5, 0.7071, 0.7072, 1 - 2.0**-24, 1.0, 3.0, 1e6], dtype=torch.float64)
    assert ((elastic.logarithm(values) - values.log()).abs() <= 1e-15 * values.log().abs().clamp_min(0.2)).all()


def test_a_window_is_deformed_by_the_displacements_of_its_sample() -> None:
    """The image's own coordinates, less those of the same window undeformed, are scipy's bicubic, in source pixels."""
    big, ids = Ragged.of([coordinates(200, 200)]), torch.tensor([5])
    still = windows(big, ids, 0, 0, MaskAugment(), (64, 48), borders=True)
    moved = windows(big, ids, 0, 0, MaskAugment(elastic=3.0), (64, 48), borders=True)
    assert moved.images[0, :2].min() > 0
    assert moved.images[0, :2].max() < 199  # nothing is mirrored
    u = random.uniform(random.key(0, "windows", 0), ids, DRAWS)[:, ELASTIC:]
    grids = 3 * in_float64(u).reshape(2, 3, 3)
    place = np.stack(np.meshgrid(np.linspace(0, 2, 64), np.linspace(0, 2, 48), indexing="ij"))
    for axis in (0, 1):
        expected = ndimage.map_coordinates(grids[axis], place, order=3, mode="mirror")
        assert abs((moved.images - still.images)[0, axis].numpy() - expected).max() < 1e-4


def test_a_place_is_even_over_all_places_where_the_window_fits() -> None:
    ids = torch.arange(20000)
    u = torch.rand(len(ids), 2, generator=torch.Generator().manual_seed(2))
    sizes = torch.tensor([[10, 4]]).expand(len(ids), 2)
    found = places(u, sizes, (7, 6))
    assert np.bincount(found[:, 0].numpy()).tolist() == pytest.approx([5000] * 4, rel=0.06)
    assert np.bincount(found[:, 1].numpy() + 2).tolist() == pytest.approx([20000 / 3] * 3, rel=0.06)
    last = places(torch.full((1, 2), 1 - 2.0**-24), torch.tensor([[8192, 8191]]), (4, 4))
    assert last.tolist() == [[8188, 8187]]


def test_windows_of_a_network_that_loses_a_rim_are_answered_up_to_the_images_corners() -> None:
    """What is answered of a 20x20 window that loses 6 on each side lies within the image; the context is mirrored."""
    image = coordinates(12, 10)
    ragged = Ragged.of([image]).select(torch.zeros(400, dtype=torch.int64))
    found = windows(ragged, torch.arange(400), 0, 0, MaskAugment(), (20, 20), borders=True, lost=6)
    corners = found.images[:, :2, 6, 6]  # row and column that the first answer is of
    assert {tuple(corner) for corner in corners.tolist()} == {(row, column) for row in range(5) for column in range(3)}
    row, column = (int(v) for v in corners[0])
    framed = np.pad(image, ((0, 0), (6, 6), (6, 6)), mode="reflect")[:, row : row + 20, column : column + 20]
    assert np.array_equal(found.images[0].numpy(), framed[:3].astype(np.float32))
    assert np.array_equal(found.masks[0].numpy(), framed[3])


@pytest.mark.parametrize("size", [(24, 20), (90, 100)])
def test_labels_are_those_of_the_image_and_no_others(size: tuple[int, int]) -> None:
    """Also the number of ignored pixels, next to which a mean would be another class."""
    image = noise(40, 40, 2)
    image[1] = np.where(image[1] < 100, 3, np.where(image[1] < 200, 7, IGNORED))
    ragged = Ragged.of([image] * 8)
    found = windows(ragged, torch.arange(8), 0, 0, ALL_GREY, size)
    assert set(found.masks.unique().tolist()) == {3, 7, IGNORED}
    assert found.borders is None


ALL_GREY = replace(ALL, saturation=0.0, hue=0.0)


@pytest.mark.parametrize("cfg", [ALL, BENT, MaskAugment(flip=0.5, brightness=0.5), MaskAugment(elastic=4)])
def test_a_sample_is_the_same_alone_in_any_batch_and_with_any_number_of_threads(cfg: MaskAugment) -> None:
    size, before = (65, 71), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = take(cfg, size, 3)
        torch.set_num_threads(2)
        again = take(cfg, size, 3)
        assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))  # type: ignore[arg-type]
        for ids in ([4], [2, 0], [5, 4, 3, 2, 1, 0]):
            rows = torch.tensor(ids)
            some = windows(RAGGED.select(rows), rows, 3, 0, cfg, size, borders=True)
            assert all(torch.equal(a, b[rows]) for a, b in zip(some, together, strict=True))  # type: ignore[index]
    finally:
        torch.set_num_threads(before)


def test_on_a_cpu_portions_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = take(ALL)
    monkeypatch.setattr("dltrain.data.joint.PORTION", 2 * 24 * 20)
    assert all(torch.equal(a, b) for a, b in zip(take(ALL), whole, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("cfg", [ALL, MaskAugment(flip=0.5)])
def test_positions_of_64_bits_lead_to_the_same_pixels(cfg: MaskAugment, monkeypatch: pytest.MonkeyPatch) -> None:
    short = take(cfg)
    monkeypatch.setattr("dltrain.data.joint.LONG", 0)
    assert all(torch.equal(a, b) for a, b in zip(take(cfg), short, strict=True))  # type: ignore[arg-type]


def test_seed_epoch_and_id_each_draw_anew() -> None:
    first = take(ALL)
    for other in (take(ALL, seed=1), take(ALL, epoch=1)):
        assert not any(torch.equal(a, b) for a, b in zip(first.images, other.images, strict=True))
    same = Ragged.of([coordinates(64, 64)] * 2)
    twice = windows(same, torch.tensor([0, 1]), 0, 0, ALL, (24, 20), borders=True)
    assert not torch.equal(twice.images[0], twice.images[1])


def test_one_change_does_not_move_another() -> None:
    """Windows lie where they lay, whatever is mirrored or coloured."""
    plain = take(MaskAugment())
    mirrored = take(MaskAugment(flip=1, vertical_flip=1))
    assert torch.equal(mirrored.images.flip(2, 3), plain.images)
    assert torch.equal(take(MaskAugment(brightness=0.5)).masks, plain.masks)


def test_colours_change_images_and_nothing_else() -> None:
    plain, coloured = take(BENT), take(ALL)
    assert torch.equal(plain.masks, coloured.masks)
    assert torch.equal(plain.borders, coloured.borders)  # type: ignore[arg-type]
    bright = take(replace(BENT, brightness=0.3)).images
    factors = (bright / plain.images.clamp_min(1)).flatten(1).median(dim=1).values
    assert len(set(factors.tolist())) == len(SIZES)
    assert (factors.min() >= 0.7) & (factors.max() <= 1.3)
    assert (jitter(plain.images, brightness=factors) - bright).abs().max() < 0.1


def test_cells_of_a_line_are_neighbours_or_the_end() -> None:
    """The pixel after a place, mirrored, is one away from the pixel before it."""
    places_ = torch.linspace(-40, 40, 801).reshape(1, 1, -1)
    for length in (1, 2, 3, 9):
        before, after, nearest, share = cell(places_, torch.tensor([3]), torch.tensor([length]))
        assert 0 <= before.min() <= before.max() < length
        assert 0 <= after.min() <= after.max() < length
        assert torch.equal((before - after).abs().unique(), torch.tensor([0.0 if length == 1 else 1.0]))
        assert torch.equal(nearest, torch.where(share < 0.5, before, after))
        assert 0 <= share.min() <= share.max() <= 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_bits_are_the_same_and_nothing_waits() -> None:
    device = torch.device("cuda")
    ragged, ids = RAGGED.to(device), torch.arange(len(SIZES), device=device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [windows(ragged, ids, 0, 0, cfg, (24, 20), borders=True) for cfg in (ALL, BENT, MaskAugment(flip=0.5))]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, cfg in zip(found, (ALL, BENT, MaskAugment(flip=0.5)), strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(ours, take(cfg), strict=True))  # type: ignore[union-attr]
