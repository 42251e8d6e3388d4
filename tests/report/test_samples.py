"""Grids of generated images, and their spectra."""

import numpy as np
import pytest
import torch

from dltrain.measuring.checkerboard import spectrum
from dltrain.report.samples import GAP, grid
from dltrain.report.spectra import spectra


@pytest.mark.parametrize(("side", "factor"), [(8, 8), (28, 2), (32, 2), (33, 1), (64, 1), (128, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_pixel_of_a_grid_is_a_square_of_its_own(side: int, factor: int, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, channels, side, side), dtype=np.uint8)
    image = grid(torch.from_numpy(pixels), 4)
    assert image.mode == ("L" if channels == 1 else "RGB")
    step = side * factor + GAP
    assert image.size == (4 * step + GAP, 2 * step + GAP)
    drawn = np.asarray(image).reshape(image.height, image.width, channels)
    for i, one in enumerate(pixels):
        top, left = GAP + i // 4 * step, GAP + i % 4 * step
        for y, x in ((0, 0), (side - 1, 2), (3, side - 1)):
            square = drawn[top + y * factor : top + (y + 1) * factor, left + x * factor : left + (x + 1) * factor]
            assert (square == one[:, y, x]).all()
    assert (drawn[step + GAP :, 3 * step :] == 255).all(), "no eighth image"


def test_a_grid_has_as_many_columns_as_rows_where_it_is_not_said() -> None:
    assert grid(np.zeros((64, 1, 64, 64), np.uint8)).size == (8 * 66 + 2, 8 * 66 + 2)
    assert grid(np.zeros((3, 1, 64, 64), np.uint8)).size == (2 * 66 + 2, 2 * 66 + 2)
    assert grid(np.zeros((3, 1, 64, 64), np.uint8), 8).size == (3 * 66 + 2, 66 + 2)


def test_two_channels_are_shown_as_their_mean() -> None:
    pixels = np.stack([np.full((64, 64), 10, np.uint8), np.full((64, 64), 30, np.uint8)])[None]
    assert np.asarray(grid(pixels))[GAP, GAP] == 20


@pytest.mark.parametrize("pixels", [np.zeros((0, 1, 8, 8), np.uint8), np.zeros((2, 1, 8, 8)), np.zeros((8, 8))])
def test_what_is_no_image_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        grid(pixels)


@pytest.mark.parametrize("side", [28, 64])
@pytest.mark.parametrize("period", [2, 4])
def test_spectra_of_real_and_generated_images_are_drawn_side_by_side(side: int, period: int) -> None:
    rng = np.random.default_rng(0)
    powers = [spectrum(torch.from_numpy(rng.integers(0, 256, (9, 1, side, side), dtype=np.uint8))).numpy()] * 2
    plain = np.asarray(spectra(powers[0], powers[1], (0.0, 0.1), period)).astype(int)
    assert plain.shape == (462, 1265, 3)
    powers[1] = powers[1].copy()
    powers[1][side // 2, side // 2] *= 1e6
    changed = np.abs(np.asarray(spectra(powers[0], powers[1], (0.0, 0.1), period)).astype(int) - plain).max(2) > 60
    assert changed[:, 400:800].any(), "the peak is seen in the generated images' spectrum"
    blank = np.zeros((side, side))
    assert spectra(blank, blank, (0.0, 0.0)).size == (1265, 462), "images without any detail"
