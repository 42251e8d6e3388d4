"""One way from an image file to pixels, for every reader. Needs no torch.

- EXIF orientation is applied; colour profiles are ignored; of several frames the first is taken.
- Palettes are looked up. Transparency is laid over white.
- 16 bit grey is scaled to 8 bit (65535 becomes 255, rounded); 16 bit colour keeps its high byte, as Pillow reads it.
- CMYK, YCbCr, LAB and HSV become RGB by Pillow's formulas; colour becomes grey by ITU-R 601-2 luma, grey becomes
  colour by repetition.
- The size in the header is checked against `data.max_pixels` before anything is decoded.
"""

import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from dltrain.text import safe_text

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"]
SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
MAX_PIXELS = 89_478_485  # Pillow's own limit
LARGE = 1 << 24  # pixels
GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}
WHITE = (255, 255, 255, 255)

Channels = Literal[1, 3]
Source = str | Path | BinaryIO | Image.Image


T = TypeVar("T")
_limit_lock = threading.Lock()
_large_lock = threading.Lock()  # several threads look at images; of large ones, memory may hold one
# Damaged EXIF, odd palettes: nothing that changes pixels, and nobody can act on a line without a file name.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before it is decoded; height and width are those of the upright image."""

    height: int
    width: int
    grey: bool
    orientation: int = 1  # by EXIF: 1 upright, 5 to 8 with height and width exchanged
    transparent: bool = False  # it may be, in parts: it is seen over white

    def record(self) -> list[Any]:
        """As JSON values, from which `of` makes it again."""
        return [self.height, self.width, self.grey, self.orientation, self.transparent]

    @staticmethod
    def of(record: list[Any]) -> "Header | None":
        """The header in a record that is not trusted; None if it can be none."""
        if len(record) != 5:
            return None
        height, width, grey, turned, transparent = record
        whole = all(type(number) is int for number in (height, width, turned))
        whole = whole and type(grey) is type(transparent) is bool
        return Header(*record) if whole and height > 0 and width > 0 and 1 <= turned <= 8 else None


class UnreadableError(Exception):
    """An image that cannot be used, with its name and the reason, safe to print.

    `lasting`: whether the same file will always be refused for the same reason.
    """

    def __init__(self, name: str, reason: str, *, lasting: bool = True) -> None:
        super().__init__(f"{name} {reason}")
        self.reason = reason
        self.lasting = lasting


def name_of(source: Source) -> str:
    """What to call an image in a message."""
    if isinstance(source, str | Path):
        return safe_text(str(source))
    return safe_text(str(getattr(source, "name", "") or getattr(source, "filename", "") or "the image"))


def use(source: Source, max_pixels: int, function: Callable[[Image.Image], T]) -> T:
    """`function` of an image whose header is read and whose size is checked. Raises UnreadableError, only."""
    try:
        if isinstance(source, Image.Image):
            check_pixels(source, source.size, max_pixels)
            return function(source)
        with _open(source) as image:
            check_pixels(source, image.size, max_pixels)
            return function(image)
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError(name_of(source), f"is not an image ({', '.join(FORMATS)})") from None
    except MemoryError:
        text = "does not fit into memory; lower data.max_pixels to refuse such images"
        raise UnreadableError(name_of(source), text, lasting=False) from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        of_system = error.strerror if isinstance(error, OSError) else None  # Pillow's own errors have none
        reason = safe_text(of_system or str(error) or type(error).__name__)
        raise UnreadableError(name_of(source), f"cannot be read: {reason}", lasting=not of_system) from error


def _open(source: str | Path | BinaryIO) -> Image.Image:
    """The header only. Pillow's limit is global and would also hold below ours, so it is lifted for the moment."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def check_pixels(source: Source, size: tuple[int, int], max_pixels: int) -> None:
    """Raises UnreadableError if an image, by its header, has more than `max_pixels`."""
    width, height = size
    if width * height > max_pixels:
        number = f"{width} x {height} = {width * height:,}"
        reason = f"has {number} pixels; data.max_pixels is {max_pixels:,}"
        raise UnreadableError(name_of(source), reason, lasting=False)


def decode(source: Source, channels: Channels, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An upright image of 8 bit, mode L (1 channel) or RGB (3). Raises UnreadableError."""
    return use(source, max_pixels, lambda image: to_channels(upright(image), channels))


def examine(source: Source, max_pixels: int = MAX_PIXELS) -> Header:
    """Size and colour of an image that `decode` can read: it is decoded, a JPEG at an eighth of its size.

    Raises UnreadableError.
    """

    def look(image: Image.Image) -> Header:
        header = Header(*upright_size(image), is_grey(image), orientation(image), image.has_transparency_data)
        if image.format == "JPEG":
            image.draft(None, (1, 1))  # all of its data is read, and a half to two thirds of the time saved
        with one_if_large(image):
            to_channels(upright(image), 3)
        return header

    return use(source, max_pixels, look)


def one_if_large(image: Image.Image) -> AbstractContextManager[object]:
    """To be held while an image is decoded: of large ones, memory holds one at a time."""
    return _large_lock if image.width * image.height > LARGE else nullcontext()


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says it is to be seen."""
    image.load()  # may turn the image itself, and then takes the orientation away
    return image if image.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(image)


def orientation(image: Image.Image) -> int:
    """How EXIF says that the image is to be turned, from the header: 1 to 8, 1 where it says nothing."""
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return int(found) if found in range(2, 9) else 1


def to_channels(image: Image.Image, channels: Channels) -> Image.Image:
    """Any mode to L or RGB, as the head of this file says."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bit")
    if image.mode.startswith("I"):
        image = sixteen_bit(image)
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, WHITE), over)
    if channels == 1:
        # By way of RGB, because Pillow takes the first channel of some modes for grey.
        return image if image.mode == "L" else (image if image.mode == "1" else image.convert("RGB")).convert("L")
    return image if image.mode == "RGB" else image.convert("RGB")


def sixteen_bit(image: Image.Image) -> Image.Image:
    """Integer pixels of 0 to 65535 as mode L."""
    values = np.asarray(image).astype(np.int64)
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise ValueError(f"pixels from {values.min()} to {values.max()} are more than 16 bit; save it with 8 or 16 bit")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def is_grey(image: Image.Image) -> bool:
    """Whether the header says that an image has no colour: a grey mode, or a palette of greys."""
    if image.mode in ("P", "PA"):
        palette = image.getpalette() or []
        return all(palette[i] == palette[i + 1] == palette[i + 2] for i in range(0, len(palette) - 2, 3))
    return image.mode in GREY_MODES


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) after EXIF orientation, from the header."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # Pillow turns its size by itself, but not in every version
        width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return (width, height) if orientation(image) >= 5 else (height, width)
