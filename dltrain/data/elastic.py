"""The U-Net paper's elastic deformation (Ronneberger et al. 2015, section 3.1): smooth random displacements.

Vectors on a coarse 3x3 grid over the window, each coordinate normal, in between bicubic. Of the ways to lay a cubic
through three points this is the smoothest: the cubic spline, level at both ends, as scipy.ndimage has it with
`order=3, mode="mirror"`. All by additions, multiplications, divisions and roots, which round alike everywhere, so that
the bits are the same on every device, alone and in any batch.
"""

import math

import torch
from torch import Tensor

from dltrain.data.augment import sin_cos
from dltrain.data.imageset import Size

POINTS = 3  # of the grid, each way
DRAWS = 2 * POINTS * POINTS  # uniform numbers that a sample's displacements are made of
ATANH = [1 / (2 * k + 1) for k in range(12)]  # Taylor's coefficients of atanh(z)/z in z^2


def displacements(u: Tensor, deviation: float, size: Size) -> tuple[Tensor, Tensor]:
    """(B, h, w) float32 each: by how many pixels each pixel of a window moves down, and to the right.

    Args:
        u: (B, DRAWS) in [0, 1), from random.uniform.
        deviation: of the vectors' coordinates, in pixels.
    """
    grid = (gaussian(u) * deviation).reshape(-1, 2, POINTS, POINTS)
    down, right = spline(size[0], u.device), spline(size[1], u.device)
    wide = sum_of([grid[..., k, None] * right[:, k] for k in range(POINTS)])  # (B, 2, 3, w)
    found = sum_of([wide[:, :, k, None] * down[:, k, None] for k in range(POINTS)])  # (B, 2, h, w)
    return found[:, 0], found[:, 1]


def spline(length: int, device: torch.device) -> Tensor:
    """(length, 3) float32: the share of each of three points, at the ends and in the middle, in each pixel of a line.

    Between the first two, at t from 0 to 1, Hermite's cubic with the slopes 0 and 3/4 (third - first), with which the
    curvature does not jump at the middle; the other half is its mirror image.
    """
    t = torch.arange(length, dtype=torch.float64, device=device) * (2 / max(1, length - 1))
    beyond = t > 1
    t = torch.where(beyond, 2 - t, t)
    square = t * t
    middle = square * (3 - 2 * t)
    bulge = square * (1 - t) * 0.75
    near, far = 1 - middle + bulge, -bulge
    shares = torch.where(beyond, far, near), middle, torch.where(beyond, near, far)
    return torch.stack(shares, dim=1).to(torch.float32)


def gaussian(u: Tensor) -> Tensor:
    """(B, n) standard normal float32 of as many uniform numbers in [0, 1), n even, by Box and Muller."""
    pairs = u.to(torch.float64).reshape(len(u), -1, 2)
    radius = (-2 * logarithm(1 - pairs[..., 0])).clamp_min(0).sqrt()  # rounding could leave -1e-17 of log(1)
    sin, cos = sin_cos(pairs[..., 1] * (2 * math.pi) - math.pi)
    return torch.stack([radius * cos, radius * sin], dim=-1).reshape(u.shape).to(torch.float32)


def logarithm(values: Tensor) -> Tensor:
    """Natural logarithm of float64 values above 0, the same bits on every device.

    Of the exponent and, by log(m) = 2 atanh((m - 1) / (m + 1)), of the mantissa between the roots of 1/2 and 2.
    """
    mantissa, exponent = torch.frexp(values)  # 1/2 to 1
    root = math.sqrt(0.5)
    z = (mantissa - root) / (mantissa + root)
    square = z * z
    out = torch.full_like(z, ATANH[-1])
    for c in ATANH[-2::-1]:
        out.mul_(square).add_(c)
    return (exponent.to(torch.float64) - 0.5) * math.log(2) + 2 * z * out


def sum_of(terms: list[Tensor]) -> Tensor:
    """One after another: a fused product and sum would round otherwise in the last elements of a vector."""
    total = terms[0]
    for term in terms[1:]:
        total = total.add_(term)
    return total
