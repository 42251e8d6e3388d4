"""Checkerboards: the pattern that an up-sampling network leaves in its images (Odena, Dumoulin and Olah 2016).

A layer that makes p x p pixels of each one can treat those p x p places differently. What differs between them is
repeated every p pixels, so its power lies at the multiples of 1/p cycles a pixel, where images of the world have no
more than at the frequencies around (spectra tell generated images: Zhang et al. 2019, Durall et al. 2020).
"""

import math

import torch
from torch import Tensor

NEAR, FAR = 2, 3  # bins from a frequency to its neighbours; the window spreads power by 1
ROUNDING = 1 / 12  # variance of what whole grey levels leave out, which is noise of the same power everywhere
AT_ONCE = 1 << 20  # pixels whose transform is held in memory


def checkerboard(images: Tensor, period: int = 2) -> float:
    """Power at the frequencies of a stride of `period` above that around them, in dB; see `excess`.

    (N, C, H, W) uint8, N at least 1. About 0 without a pattern, 10 where there is ten times the power. What to expect
    is said by real images: less than 0 where power falls towards the finest details.
    """
    return excess(spectrum(images), period)


def spectrum(images: Tensor) -> Tensor:
    """(H, W) float64: the mean of |F|^2 over images and channels at each pair of frequencies, in `torch.fft` order.

    Each image is taken from its mean and faded out towards its border (Hann): an image that does not end as it begins
    would otherwise have power along both axes up to the highest frequencies.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not images.numel():
        raise ValueError(f"a spectrum is of (N, C, H, W) uint8, not {tuple(images.shape)} {images.dtype}")
    n, channels, height, width = images.shape
    window = _hann(height)[:, None] * _hann(width)
    total = torch.zeros(height, width, dtype=torch.float64)
    planes = images.reshape(n * channels, height, width)
    for part in torch.split(planes, max(1, AT_ONCE // (height * width))):
        x = part.cpu().double()
        # the mean under the window, so that nothing is left at frequency 0, of which the window would spread a part
        x = (x - (x * window).sum((1, 2), keepdim=True) / window.sum()) * window
        total += torch.fft.fft2(x).abs().square().sum(0)
    return total / (n * channels)


def excess(power: Tensor, period: int = 2) -> float:
    """Decibels of a (H, W) spectrum's power at the stride's frequencies above that of their neighbourhood.

    The stride's frequencies are the multiples of 1/period in both directions, but (0, 0). Each one's power is taken
    against the mean of those 2 and 3 bins away in its row, or in its column where that is more: repeated pixels, too,
    have much power near the highest frequencies, but no line at them. The result is the mean of those ratios.
    Raises ValueError if the sides are no multiples of the period, or too short to tell it.
    """
    height, width = power.shape
    places = frequencies(height, width, period)
    floor = ROUNDING * float(_hann(height).square().sum() * _hann(width).square().sum())
    ratios = [(float(power[place]) + floor) / (_around(power, place, places) + floor) for place in places]
    return 10 * math.log10(sum(ratios) / len(ratios))


def frequencies(height: int, width: int, period: int) -> list[tuple[int, int]]:
    """Row and column of each of the stride's frequencies, in `torch.fft` order; raises ValueError as `excess` does."""
    if period < 2 or height % period or width % period or min(height, width) < 2 * NEAR * period:
        raise ValueError(f"{height}x{width} pixels tell no period of {period}: sides of {2 * NEAR} periods, or more")
    return [(i * height // period, j * width // period) for i in range(period) for j in range(period)][1:]


def _around(power: Tensor, place: tuple[int, int], places: list[tuple[int, int]]) -> float:
    """The power near a frequency, away from it and from the others."""
    height, width = power.shape
    steps = [step for far in range(NEAR, FAR + 1) for step in (-far, far)]
    lines = [[(place[0], place[1] + j) for j in steps], [(place[0] + i, place[1]) for i in steps]]
    others = [(0, 0), *places]
    levels = []
    for line in lines:
        free = [bin for bin in line if all(_apart(bin, other, power.shape) >= NEAR for other in others)]
        levels.append(float(torch.stack([power[i % height, j % width] for i, j in free]).mean()))
    return max(levels)


def _apart(a: tuple[int, int], b: tuple[int, int], sides: tuple[int, ...]) -> int:
    """Bins between two pairs of frequencies, the larger of both directions; the last is a neighbour of the first."""
    return max(min((p - q) % side, (q - p) % side) for p, q, side in zip(a, b, sides, strict=True))


def _hann(size: int) -> Tensor:
    """Periodic: a frequency of the grid reaches its own bin, the one on each side, and no others."""
    return torch.hann_window(size, periodic=True, dtype=torch.float64)
