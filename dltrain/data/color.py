"""Random changes of colour: brightness, contrast, saturation, hue, in this order, batched.

The order is fixed; torchvision's ColorJitter draws it anew for each image. Each function computes what
`torchvision.transforms.v2.functional.adjust_…` computes for a float image, in 0 to 255, with one factor a sample.

Pixels meet only additions, multiplications, divisions, minima and maxima, one a kernel and each rounded once, so a
sample has the same bits alone, in any batch, with any number of threads, and on a GPU. Comparisons and selections
would do as well, but take five times as long on a CPU.
"""

from collections.abc import Callable

import torch
from torch import Tensor

GREY = (0.2989, 0.587, 0.114)  # ITU-R 601-2 luma, with torchvision's digits
SMALLEST = 2.0**-20  # difference of channels that has a hue
PORTION = 2**17  # values that are changed at a time on a CPU, so that they stay in its cache


def jitter(
    images: Tensor,
    *,
    brightness: Tensor | None = None,
    contrast: Tensor | None = None,
    saturation: Tensor | None = None,
    hue: Tensor | None = None,
) -> Tensor:
    """(B, C, H, W) uint8, or float32 in 0 to 255, to such float32.

    The changes are factors, and a shift in turns for hue: (B,) each, None: off.
    """
    steps: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor | None]]
    steps = [(adjust_brightness, brightness), (adjust_contrast, contrast)]
    steps += [(adjust_saturation, saturation), (adjust_hue, hue)]
    due = [(step, values) for step, values in steps if values is not None]
    count = len(images) if images.device.type != "cpu" else max(1, PORTION // max(1, images[0].numel()))
    out = torch.empty_like(images, dtype=torch.float32)
    for start in range(0, len(images), count):
        rows = slice(start, start + count)
        part = images[rows].to(torch.float32)
        for step, values in due:
            part = step(part, values[rows])
        out[rows] = part
    return out


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """x f, kept within 0 to 255. `factor`: (B,), at least 0."""
    return images.mul(each(factor)).clamp_(0, 255)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """x f + m (1 - f), kept within 0 to 255, m the mean of the image as grey. `factor`: (B,), at least 0."""
    mean = means(images)
    if images.shape[1] == 3:
        red, green, blue = mean.unbind(1)
        grey = red * GREY[0] + green * GREY[1] + blue * GREY[2]
    else:
        grey = mean.squeeze(1)
    return images.mul(each(factor)).add_(each((grey * (1 - factor.double())).float())).clamp_(0, 255)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """x f + y (1 - f), kept within 0 to 255, y the image as grey. (B, 3, H, W); `factor`: (B,), at least 0."""
    red, green, blue = images.unbind(1)
    grey = red.mul(GREY[0]).add_(green.mul(GREY[1])).add_(blue.mul(GREY[2])).mul_((1 - factor)[:, None, None])
    return images.mul(each(factor)).add_(grey[:, None]).clamp_(0, 255)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Move every colour around the circle of hues at the same value. (B, 3, H, W); `turns`: (B,), -0.5 to 0.5.

    On the hexagon of hues, in sixths of a turn, red lies at 0, green at 2 and blue at -2. With R, G, B scaled to 0 at
    the pixel's least value and 1 at its largest, the hue is 1 + G + B - R, with the sign of G - B; a channel is at the
    largest value within 1 of its own place and falls to the least at 2. So no pixel is looked up or compared.
    """
    red, green, blue = images.unbind(1)
    least = torch.minimum(torch.minimum(red, green), blue)
    spread = torch.maximum(torch.maximum(red, green), blue).sub_(least)
    hue = (green - red).add_(blue - least).div_(spread.clamp_min(SMALLEST)).add_(1).copysign_(green - blue)  # -3 to 3
    hue.add_((turns * 6)[:, None, None])
    turned_back = (turns < 0).to(hue.dtype) * 6
    out = torch.empty_like(images)
    for channel, place in enumerate((0.0, 2.0, 4.0)):
        # The distance from a place is at most 7, which is 1 once more around: | |d| - 3 | - 1 is right as far as there.
        away = hue if channel == 0 else hue - (place - turned_back)[:, None, None]
        share = away.abs().sub_(3).abs_().sub_(1).clamp_(0, 1)
        torch.add(share.mul_(spread), least, out=out[:, channel])
    return out


def means(images: Tensor) -> Tensor:
    """(B, C) float64 means over height and width of values in 0 to 255.

    Plus 256 each is a multiple of 2^-15 below 512, so that every partial sum is exact, in whatever order it is made.
    """
    return (images + 256).sum(dim=(2, 3), dtype=torch.float64) / (images.shape[2] * images.shape[3]) - 256


def each(values: Tensor) -> Tensor:
    """(B,) to stand beside (B, C, H, W)."""
    return values[:, None, None, None]
