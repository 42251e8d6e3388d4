"""The checkerboard score: high for images made to have the pattern, about 0 for images made not to."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from dltrain.measuring import checkerboard as module
from dltrain.measuring.checkerboard import checkerboard, excess, frequencies, spectrum


def images(n: int = 200, side: int = 32, smooth: float = 1.0, channels: int = 1, seed: int = 0) -> Tensor:
    """Noise of deviation 30 around 128 (smoothed before: like photographs, with less and less power in details)."""
    noise = np.random.default_rng(seed).normal(size=(n, channels, side, side))
    if smooth:
        noise = ndimage.gaussian_filter(noise, (0, 0, smooth, smooth), mode="wrap")
    return as_bytes(torch.from_numpy(128 + 30 * noise / noise.std()))


def as_bytes(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def alternating(side: int, rows: bool, columns: bool, period: int = 2) -> Tensor:
    """A wave of one period in the directions asked for."""
    wave = torch.cos(2 * math.pi * torch.arange(side, dtype=torch.float64) / period)
    one = torch.ones(side, dtype=torch.float64)
    return (wave if rows else one)[:, None] * (wave if columns else one)


@pytest.mark.parametrize(("rows", "columns"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("side", [28, 32, 64])
def test_a_pattern_in_noise_has_the_power_of_the_closed_form(rows: bool, columns: bool, side: int) -> None:
    """A wave of amplitude a has (a sum w)^2 at its frequency, white noise s^2 sum w^2 everywhere; w is the window."""
    amplitude, plain = 8.0, images(300, side, smooth=0)
    window = np.hanning(side + 1)[:-1]
    window = window[:, None] * window
    ratio = 1 + amplitude**2 * window.sum() ** 2 / (float(plain.double().var()) * (window**2).sum())
    found = checkerboard(as_bytes(plain.double() + amplitude * alternating(side, rows, columns)))
    assert found == pytest.approx(10 * math.log10((ratio + 2) / 3), abs=0.4)
    assert abs(checkerboard(plain)) < 0.4


def test_it_grows_with_the_pattern_and_smooth_images_without_have_none() -> None:
    plain = images(smooth=0.8)
    pattern = alternating(32, True, True)
    scores = [checkerboard(as_bytes(plain.double() + a * pattern)) for a in (0, 1, 2, 4, 8)]
    assert scores == sorted(scores)
    assert scores[0] < 0.5
    assert scores[-1] > 10


def test_a_pattern_of_another_width_is_none_of_the_stride() -> None:
    """Waves of 8/3 pixels, and of 4: those of 4 are found where they are asked for."""
    plain = images(smooth=0).double()
    other = as_bytes(plain + 20 * alternating(32, True, True, 8 / 3))  # type: ignore[arg-type]
    four = as_bytes(plain + 20 * alternating(32, True, False, 4))
    assert abs(checkerboard(other)) < 1
    assert abs(checkerboard(four)) < 1
    assert checkerboard(four, period=4) > 8  # two of fifteen frequencies have it
    assert abs(checkerboard(other, period=4)) < 1


def test_one_image_s_pattern_at_another_place_does_not_cancel_it() -> None:
    """Half of the images have it one pixel further: their mean has none, their spectra do."""
    plain, pattern = images(smooth=0).double(), 15 * alternating(32, True, True)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(100)[:, None, None, None]
    assert checkerboard(as_bytes(plain + sign * pattern)) > 10


@torch.no_grad()
def test_transposed_convolution_leaves_it_and_resized_convolution_does_not() -> None:
    """Odena et al. 2016: kernels that overlap unevenly, against a repetition followed by the same kernels."""
    torch.manual_seed(0)
    x = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(100, 8, 16, 16)), (0, 0, 2, 2)))
    x = x / x.std() + 2
    transposed = nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1).double()
    resized = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 1, 3, padding=1)).double()
    scores = []
    for layer in (transposed, resized):
        for parameter in layer.parameters():
            parameter.uniform_(0, 1)
        y = layer(x)
        scores.append(checkerboard(as_bytes(128 + 40 * (y - y.mean()) / y.std())))
    assert scores[0] > 15
    assert scores[1] < 3


def test_the_border_of_an_image_is_no_pattern() -> None:
    """Ramps begin and end at other values: without a window all of both axes would have power."""
    ramp = torch.arange(32, dtype=torch.float64) * 8
    ramps = torch.stack([ramp.expand(32, 32), ramp.flip(0).expand(32, 32).T])[:, None]
    assert abs(checkerboard(as_bytes(ramps))) < 3
    assert checkerboard(as_bytes(ramps * 0.9 + 10 * alternating(32, True, True) + 10)) > 20


def test_images_without_detail_have_none() -> None:
    assert checkerboard(torch.full((3, 3, 32, 32), 200, dtype=torch.uint8)) == pytest.approx(0, abs=1e-9)
    assert checkerboard(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)) == 0


def test_the_spectrum_is_the_mean_over_images_and_channels_whatever_is_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = images(5, 28, channels=3)
    window = np.hanning(29)[:-1]
    window = window[:, None] * window
    total = np.zeros((28, 28))
    for plane in x.double().numpy().reshape(15, 28, 28):
        total += np.abs(np.fft.fft2((plane - (plane * window).sum() / window.sum()) * window)) ** 2
    found = spectrum(x)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), total / 15, rtol=1e-9, atol=1e-6)
    monkeypatch.setattr(module, "AT_ONCE", 2 * 28 * 28)
    torch.testing.assert_close(spectrum(x), found, rtol=1e-12, atol=1e-9)


def test_the_frequencies_are_all_multiples_but_the_mean() -> None:
    assert frequencies(32, 64, 2) == [(0, 32), (16, 0), (16, 32)]
    assert len(frequencies(32, 32, 4)) == 15


@pytest.mark.parametrize(("side", "period"), [(27, 2), (32, 3), (32, 1), (6, 2), (28, 8), (32, 16)])
def test_sides_that_cannot_tell_are_refused(side: int, period: int) -> None:
    with pytest.raises(ValueError, match="pixels tell no period"):
        excess(torch.ones(side, side, dtype=torch.float64), period)


@pytest.mark.parametrize("x", [torch.zeros(1, 1, 32, 32), torch.zeros(0, 1, 32, 32, dtype=torch.uint8)])
def test_other_tensors_are_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        spectrum(x)
