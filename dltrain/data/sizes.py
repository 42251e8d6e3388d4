"""`data.size`, and how an image gets there. Needs no torch."""

import re

import numpy as np
from PIL import Image

from dltrain.config.messages import Mistake
from dltrain.data.imageset import Box, Images, Part, Say
from dltrain.data.imageset import Size as Size
from dltrain.data.imageset import SizeRule as SizeRule

LARGEST = 8192


def parse_size(text: str, key: str = "data.size") -> Size | None:
    """`96` or `180x240` (height x width) as two numbers, `auto` as None. Raises Mistake."""
    if text == "auto":
        return None
    found = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= min(size) <= max(size) <= LARGEST:
        raise Mistake(
            f"{key}={text} is no image size",
            allowed=f"auto, 96 or 180x240 (height x width), 1 to {LARGEST} pixels",
            type_this=f"{key}=auto",
        )
    return size


def final_size(text: str, suits: SizeRule, own: Size) -> Size:
    """What `data.size` comes to: given, else the size nearest to the set's own that suits the model."""
    return parse_size(text) or (own if suits is None else suits(own))


def pads(native: Size, size: Size) -> bool:
    """Whether an image of a known set is padded to the size; otherwise it is resized."""
    return size[0] >= native[0] and size[1] >= native[1]


def describe_change(native: Size, size: Size) -> tuple[str, ...]:
    """What is done to a known set's images, as a note for the screen."""
    if native == size:
        return ()
    how = "zero-padded" if pads(native, size) else "resized (largest centred part, antialias)"
    return (f"images {how} from {native[0]}x{native[1]} to {size[0]}x{size[1]}",)


def pad(images: Images, size: Size) -> Images:
    """(..., H, W) in the middle of zeros, one pixel nearer to the top left where it does not come out even."""
    height, width = images.shape[-2:]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    out = np.zeros((*images.shape[:-2], *size), dtype=np.uint8)
    out[..., top : top + height, left : left + width] = images
    return out


def fit(image: Image.Image, size: Size) -> Images:
    """(C, H, W): the largest centred part of the shape wanted, resized with antialias (short side, centre crop)."""
    if (image.height, image.width) == size:
        return to_array(image)
    return take(image, centred((image.height, image.width), size), size)


def centred(own: Size, size: Size) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest centred part of the shape of `size` in an image of its own size."""
    height, width = own
    factor = min(width / size[1], height / size[0])
    across, down = size[1] * factor, size[0] * factor
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, min(left + across, width), min(top + down, height)


def take(image: Image.Image, box: Box | tuple[float, float, float, float], size: Size) -> Images:
    """(C, H, W): the part of an image within a box (left, top, right, bottom), resized with antialias."""
    height, width = size
    return to_array(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def to_array(image: Image.Image) -> Images:
    """(C, H, W) of a Pillow image of mode L or RGB."""
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def to_image(pixels: Images) -> Image.Image:
    """(C, H, W) with one or three channels as a Pillow image."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def reach(pixels: Images, size: Size) -> Images:
    """An image of a known set, (C, H, W), padded or resized to the size."""
    if pixels.shape[-2:] == size:
        return pixels
    return pad(pixels, size) if pads((pixels.shape[-2], pixels.shape[-1]), size) else fit(to_image(pixels), size)


class ArrayReader:
    """Images of one size that lie in memory, (N, C, H, W)."""

    def __init__(self, images: Images, size: Size) -> None:
        self.images = images
        self.size = size

    def __call__(self, number: int, part: Part | None = None) -> Images:
        pixels = self.images[number]
        if part is None:
            return reach(pixels, self.size)
        return take(to_image(pixels), part((pixels.shape[-2], pixels.shape[-1])), self.size)

    def everything(self, say: Say) -> Images:
        """All images at once, (N, C, H, W)."""
        native = (self.images.shape[-2], self.images.shape[-1])
        if native == self.size:
            return self.images
        if pads(native, self.size):
            return pad(self.images, self.size)
        return np.stack([self(number) for number in range(len(self.images))])
