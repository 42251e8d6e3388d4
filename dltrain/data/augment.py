"""Random changes to training images, batched on the device.

What is drawn for a sample is a function of (seed, epoch, sample number), by Philox, so it does not depend on the
batch, the loader or the device. Colours change first, on the image as it was read; whatever comes from outside an
image is 0, which is black, before normalization. Only additions, multiplications and gathers touch pixels, so a sample
has the same bits alone and in any batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.config.data import Augment
from dltrain.data.color import jitter
from dltrain.engine import random

# Columns of what is drawn: each change has its own, so switching one on does not move the others.
FLIP, CROP, ANGLE, SHIFT, SCALE, SHEAR, CUT = 0, 1, 3, 4, 6, 7, 8  # CROP, SHIFT and CUT have two
BRIGHTNESS, CONTRAST, SATURATION, HUE, ERASE = 10, 11, 12, 13, 14  # ERASE has five
DRAWS = 19
# Taylor's coefficients of sin(t)/t and cos(t) in t^2: enough for 1e-12 up to pi/4.
SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(7)]
COSINE = [(-1) ** k / math.factorial(2 * k) for k in range(7)]
EXPONENTIAL = [1 / math.factorial(k) for k in range(11)]
ERASED = (0.02, 0.33)  # least and largest share of the image's area (Zhong et al. 2020, with torchvision's largest)
LONGEST = math.log(1 / 0.3)  # logarithm of height / width, either way


def augment(images: Tensor, ids: Tensor, epoch: int, seed: int, cfg: Augment) -> Tensor:
    """(B, C, H, W) uint8, or float32 in 0 to 255, to such float32: colour, flip, crop, affine, cutout, erasing.

    In this order. The part that a random resized crop takes was cut out before, when the image was read.
    """
    color_on = max(cfg.brightness, cfg.contrast, cfg.saturation, cfg.hue) > 0
    affine_on = max(cfg.rotate, cfg.translate, cfg.scale, cfg.shear) > 0
    if not (color_on or affine_on or max(cfg.flip, cfg.crop, cfg.cutout, cfg.erase) > 0):
        return images.to(torch.float32)
    u = random.uniform(random.key(seed, "augment", epoch), ids, DRAWS)  # (B, DRAWS) in [0, 1)
    s = 2 * u - 1  # in [-1, 1)
    if color_on:
        images = jitter(
            images,
            brightness=1 + s[:, BRIGHTNESS] * cfg.brightness if cfg.brightness > 0 else None,
            contrast=1 + s[:, CONTRAST] * cfg.contrast if cfg.contrast > 0 else None,
            saturation=1 + s[:, SATURATION] * cfg.saturation if cfg.saturation > 0 else None,
            hue=s[:, HUE] * cfg.hue if cfg.hue > 0 else None,
        )
    if cfg.flip > 0 or cfg.crop > 0:
        moves = (u[:, CROP : CROP + 2] * (2 * cfg.crop + 1)).to(torch.int64) - cfg.crop
        images = flip_and_crop(images, u[:, FLIP] < cfg.flip, moves[:, 0], moves[:, 1], cfg.crop)
    images = images.to(torch.float32)
    if affine_on:
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
    if cfg.erase > 0:
        images = erase(images, u[:, ERASE : ERASE + 5], cfg.erase)
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
    return blacken(images, top, left, torch.full_like(top, side), torch.full_like(top, side))


def erase(images: Tensor, u: Tensor, probability: float) -> Tensor:
    """Set a rectangle to 0, with this probability (Zhong et al. 2020). `u`: (B, 5) in [0, 1).

    Its area is even in `ERASED`, its height / width even in the logarithm from 0.3 to 1/0.3, its place any within the
    image. The paper draws again until a rectangle fits; here a shape that does not fit becomes the nearest that does,
    so the area stays even.
    """
    height, width = images.shape[-2:]
    coin, u_area, u_shape, u_row, u_column = u.unbind(1)
    area = (u_area.to(torch.float64) * (ERASED[1] - ERASED[0]) + ERASED[0]) * (height * width)
    shape = exponential((2 * u_shape.to(torch.float64) - 1) * LONGEST)
    shape = torch.minimum(torch.maximum(shape, area / width**2), height**2 / area)
    down = (area * shape).sqrt().round().clamp(1, height)
    across = (area / shape).sqrt().round().clamp(1, width)
    top = (u_row * (height + 1 - down)).to(torch.int64)
    left = (u_column * (width + 1 - across)).to(torch.int64)
    return blacken(images, top, left, down * (coin < probability), across)


def blacken(images: Tensor, top: Tensor, left: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Set the part of a rectangle that lies within the image to 0. In pixels, (B,) each."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) - top[:, None]  # (B, H)
    columns = torch.arange(width, device=images.device) - left[:, None]  # (B, W)
    kept_rows = ((rows < 0) | (rows >= down[:, None])).to(images.dtype)
    kept_columns = ((columns < 0) | (columns >= across[:, None])).to(images.dtype)
    return images * torch.maximum(kept_rows[:, None, :, None], kept_columns[:, None, None, :])


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


def exponential(t: Tensor) -> Tensor:
    """e^t of float64 values from -2 to 2, the same bits on every device: Taylor's series of t/8, squared thrice."""
    t = t / 8
    out = torch.full_like(t, EXPONENTIAL[-1])
    for c in EXPONENTIAL[-2::-1]:
        out.mul_(t).add_(c)
    for _ in range(3):
        out = out * out
    return out
