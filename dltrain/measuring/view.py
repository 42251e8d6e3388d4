"""From images as a generator makes them to images as another network takes them: channels and size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec
from dltrain.data.sizes import pads

RED, GREEN, BLUE, HALF = 19595, 38470, 7471, 32768  # of 65536: Pillow's grey, ITU-R 601-2


class View:
    """From images as a generator makes them to images as a judge's network takes them.

    The border of zeros that a known set's images were given is taken off first; then channels, then the size that the
    judge's own set would have given them.
    """

    def __init__(self, native: tuple[int, int, int] | None, size: tuple[int, int], cfg: Config, spec: DataSpec) -> None:
        """`native` and `size` are the generator's data set's; `cfg` and `spec` the judge's."""
        padded = native is not None and pads(native[1:], size)
        self._inner = native[1:] if native is not None and padded else size
        own = type(cfg.data).native
        self._native = None if own is None else own[1:]
        self._shape = spec.shape

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to float32 in 0 to 255, whole numbers, of the judge's shape."""
        x = channels(centre(images, self._inner), self._shape[0]).float()
        size = self._shape[1:]
        if self._native is None:
            return resize(x, size)
        x = resize(x, self._native)
        return zeros_around(x, size) if pads(self._native, size) else resize(x, size)


def centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of (B, C, H, W), one pixel nearer to the top left where it does not come out even: undoes padding."""
    top, left = (images.shape[2] - size[0]) // 2, (images.shape[3] - size[1]) // 2
    return images[:, :, top : top + size[0], left : left + size[1]]


def zeros_around(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) in the middle of zeros, as `data.sizes.pad` does it."""
    top, left = (size[0] - images.shape[2]) // 2, (size[1] - images.shape[3]) // 2
    right, bottom = size[1] - images.shape[3] - left, size[0] - images.shape[2] - top
    return F.pad(images, (left, right, top, bottom))


def channels(images: Tensor, wanted: int) -> Tensor:
    """(B, C, H, W) uint8 with `wanted` channels: colours to grey as Pillow does it, grey to colours by repeating."""
    own = images.shape[1]
    if own == wanted:
        return images
    if own == 3:
        wide = images.to(torch.int32)
        grey = (wide[:, 0] * RED + wide[:, 1] * GREEN + wide[:, 2] * BLUE + HALF) >> 16
        images = grey[:, None].to(torch.uint8)
    return images[:, :1].expand(-1, wanted, -1, -1)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest centred part of (B, C, H, W) of the shape of `size`, resized with antialias, in whole numbers."""
    height, width = images.shape[2:]
    if (height, width) == size:
        return images
    factor = min(width / size[1], height / size[0])
    part = centre(images, (max(1, round(size[0] * factor)), max(1, round(size[1] * factor))))
    return F.interpolate(part, size, mode="bilinear", antialias=True).round_().clamp_(0, 255)
