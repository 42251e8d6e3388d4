"""Pictures of what a task sees."""

import math

import torch
from torch import Tensor


def to_pixels(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) uint8 of images normalized as (x/255 - mean) / std; mean and std are (C,)."""
    shares = images.float() * std[:, None, None] + mean[:, None, None]
    return (shares * 255).round().clamp(0, 255).to(torch.uint8)


def grid(pixels: Tensor, columns: int = 8, gap: int = 2) -> Tensor:
    """(C, H', W') sheet of (B, C, H, W) uint8 images, row by row, on white."""
    b, c, h, w = pixels.shape
    columns = min(columns, b)
    rows = math.ceil(b / columns)
    cells = pixels.new_full((rows * columns, c, h + gap, w + gap), 255)
    cells[:b, :, :h, :w] = pixels
    sheet = cells.view(rows, columns, c, h + gap, w + gap).permute(2, 0, 3, 1, 4)
    return sheet.reshape(c, rows * (h + gap), columns * (w + gap))[:, : -gap or None, : -gap or None]
