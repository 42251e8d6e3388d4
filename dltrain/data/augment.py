"""Random changes to training images, batched on the device.

What is drawn for a sample is a function of (seed, epoch, sample number), by Philox, so it does not depend on the
batch, the loader or the device. Whatever comes from outside an image is 0, which is black, before normalization.
Only additions, multiplications and gathers touch pixels, so a sample has the same bits alone and in any batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.config.data import Augment
from dltrain.engine import random

# Columns of what is drawn: each change has its own, so switching one on does not move the others.
FLIP, CROP, ANGLE, SHIFT, SCALE, SHEAR, CUT = 0, 1, 3, 4, 6, 7, 8  # CROP, SHIFT and CUT have two
DRAWS = 10
# Taylor's coefficients of sin(t)/t and cos(t) in t^2: enough for 1e-12 up to pi/4.
SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(7)]
COSINE = [(-1) ** k / math.factorial(2 * k) for k in range(7)]


def augment(images: Tensor, ids: Tensor, epoch: int, seed: int, cfg: Augment) -> Tensor:
    """(B, C, H, W) float32 in 0 to 255: flip, crop, affine, cutout, in this order. Returns `images` if all are off."""
    affine_on = max(cfg.rotate, cfg.translate, cfg.scale, cfg.shear) > 0
    if not (affine_on or cfg.flip > 0 or cfg.crop > 0 or cfg.cutout > 0):
        return images
    u = random.uniform(random.key(seed, "augment", epoch), ids, DRAWS)  # (B, DRAWS) in [0, 1)
    if cfg.flip > 0 or cfg.crop > 0:
        moves = (u[:, CROP : CROP + 2] * (2 * cfg.crop + 1)).to(torch.int64) - cfg.crop
        images = flip_and_crop(images, u[:, FLIP] < cfg.flip, moves[:, 0], moves[:, 1], cfg.crop)
    if affine_on:
        s = 2 * u - 1  # in [-1, 1)
        height, width = images.shape[-2:]
        images = affine(
            images,
            angle=s[:, ANGLE] * math.radians(cfg.rotate),
            shift_x=s[:, SHIFT] * (cfg.translate * width),
            shift_y=s[:, SHIFT + 1] * (cfg.translate * height),
            scale=1 + s[:, SCALE] * cfg.scale,
            shear=s[:, SHEAR] * math.radians(cfg.shear),
        )
    if cfg.cutout > 0:
        images = cutout(images, u[:, CUT], u[:, CUT + 1], cfg.cutout)
    return images


def flip_and_crop(images: Tensor, flipped: Tensor, down: Tensor, right: Tensor, pad: int) -> Tensor:
    """Mirror the images with `flipped`, then look at them through a window moved by (down, right), at most `pad`.

    Each row of the result lies in one piece in the padded image or in its mirror image, so rows are what is copied:
    a third of the time of a gather of pixels. `flipped`, `down`, `right`: (B,).
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, [pad] * 4) if pad else images
    both = torch.stack([padded, padded.flip(3)])  # (2, B, C, H + 2 pad, W + 2 pad)
    tall, wide = padded.shape[-2:]
    plane = torch.arange(batch, device=images.device) + flipped * batch
    plane = (plane * channels)[:, None, None] + torch.arange(channels, device=images.device)[:, None]  # (B, C, 1)
    row = torch.arange(pad, pad + height, device=images.device) + down[:, None, None]  # (B, 1, H)
    start = (plane * tall + row) * wide + (right[:, None, None] + pad)
    return both.reshape(-1).unfold(0, width, 1).index_select(0, start.reshape(-1)).reshape(images.shape)


def affine(images: Tensor, angle: Tensor, shift_x: Tensor, shift_y: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Scale, shear (x), rotate (clockwise), then shift (pixels) about the centre; bilinear, zeros outside; (B,) each.

    What `torchvision.transforms.v2.functional.affine` computes with `fill=None`.
    """
    batch, _, height, width = images.shape
    sines, cosines = sin_cos(torch.stack([angle, shear]))
    (sin, sin_shear), (cos, cos_shear) = sines.unbind(), cosines.unbind()
    tan = sin_shear / cos_shear
    # Where an output pixel comes from: the inverse of shift * rotation * shear * scale.
    a, b = (cos - sin * tan) / scale, (sin + cos * tan) / scale
    c, d = -sin / scale, cos / scale
    x = torch.arange(width, device=images.device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=images.device, dtype=torch.float32) - (height - 1) / 2
    # In grid_sample's units, -1 to 1 over the whole width and height.
    to_x, to_y = 2 / width, 2 / height
    grid = images.new_empty(batch, height, width, 2)
    for out, from_x, from_y, unit in ((grid[..., 0], a, b, to_x), (grid[..., 1], c, d, to_y)):
        start = -(from_x * shift_x) - from_y * shift_y
        along_y = (from_y[:, None] * y + start[:, None]) * unit  # (B, H)
        along_x = (from_x[:, None] * x) * unit  # (B, W)
        torch.add(along_y[:, :, None], along_x[:, None, :], out=out)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def cutout(images: Tensor, u_row: Tensor, u_column: Tensor, side: int) -> Tensor:
    """Set a square to 0; its centre is any pixel, what lies outside the image is lost. `u_…`: (B,) in [0, 1)."""
    height, width = images.shape[-2:]
    top = (u_row * height).to(torch.int64) - side // 2
    left = (u_column * width).to(torch.int64) - side // 2
    rows = torch.arange(height, device=images.device) - top[:, None]  # (B, H)
    columns = torch.arange(width, device=images.device) - left[:, None]  # (B, W)
    tall = ((rows >= 0) & (rows < side)).to(images.dtype)
    wide = ((columns >= 0) & (columns < side)).to(images.dtype)
    return images * (1 - tall[:, None, :, None] * wide[:, None, None, :])


def sin_cos(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine of angles from -pi to pi, to float32's accuracy.

    Taylor's series of a quarter of the angle in float64, doubled twice: torch.sin takes another path for the last
    elements of a vector and another on a GPU, so its last bit would follow the batch.
    """
    t = angle.to(torch.float64) / 4
    square = t * t
    sin, cos = torch.full_like(t, SINE[-1]), torch.full_like(t, COSINE[-1])
    for s, c in zip(SINE[-2::-1], COSINE[-2::-1], strict=True):
        sin.mul_(square).add_(s)
        cos.mul_(square).add_(c)
    sin.mul_(t)
    for _ in range(2):
        sin, cos = 2 * sin * cos, 1 - 2 * sin * sin
    return sin.to(torch.float32), cos.to(torch.float32)
