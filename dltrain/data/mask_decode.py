"""One way from a mask file to numbers, which are not those of an image of it. Needs no torch.

- A palette: the indexes, not the colours. Grey: the values, of 16 bit as they are. One bit a pixel: 0 and 1.
- Colours: red + 256 green + 65536 blue; where they are grey in every pixel, that grey.
- EXIF orientation is applied as to images, and the size in the header is checked before anything is decoded.
- A transparent colour of a palette says nothing; an alpha channel must hide nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dltrain.data.decode import Header, Source, one_if_large, orientation, upright, upright_size, use

Values = NDArray[np.integer[Any]]
MOST = 256  # values of a mask that are told apart when it is looked through
GREY = 0x010101  # times a value: that grey as a colour


class Kind(StrEnum):
    bits = "bits"
    grey = "grey"
    deep = "deep"  # grey with values above 255
    palette = "palette"
    color = "color"


class Raw(NamedTuple):
    """The numbers in a mask, (H, W), upright; of a palette also the colour of each index."""

    kind: Kind
    values: Values
    palette: NDArray[np.int64]


class Count(NamedTuple):
    """How often a value is in a mask, and in how many of these pixels all four neighbours have it too."""

    value: int
    pixels: int
    flat: int
    color: int = -1  # of an index of a palette


@dataclass(frozen=True, slots=True)
class MaskHeader(Header):
    """What is known of a mask that has been looked through: also its values, the most frequent first."""

    kind: Kind = Kind.grey
    counts: tuple[Count, ...] = ()
    more: int = 0  # further values
    more_pixels: int = 0  # and their pixels

    def record(self) -> list[Any]:
        """As JSON values, from which `of` makes it again."""
        counts = [list(count) for count in self.counts]
        return [
            self.height,
            self.width,
            self.grey,
            self.orientation,
            str(self.kind),
            counts,
            self.more,
            self.more_pixels,
        ]

    @staticmethod
    def of(record: list[Any]) -> "MaskHeader | None":
        """The header in a record that is not trusted; None if it can be none."""
        header = Header.of([*record[:4], False])
        if header is None or len(record) != 8 or record[4] not in list(Kind) or not isinstance(record[5], list):
            return None
        counts = [Count(*one) for one in record[5] if _is_count(one)]
        rest = record[6:]
        if len(counts) != len(record[5]) or not all(type(number) is int and number >= 0 for number in rest):
            return None
        if sum(one.pixels for one in counts) + rest[1] != header.height * header.width:
            return None
        size = header.height, header.width
        return MaskHeader(
            *size,
            header.grey,
            header.orientation,
            kind=Kind(record[4]),
            counts=tuple(counts),
            more=rest[0],
            more_pixels=rest[1],
        )


def _is_count(one: Any) -> bool:
    if not isinstance(one, list) or len(one) != 4 or not all(type(number) is int for number in one):
        return False
    value, pixels, flat, color = one
    return bool(0 <= value < 1 << 24 and 0 <= flat <= pixels and pixels > 0 and -1 <= color < 1 << 24)


def examine_mask(path: Path, max_pixels: int) -> MaskHeader:
    """Size and values of a mask. Raises UnreadableError."""

    def look(image: Image.Image) -> MaskHeader:
        size, turned = upright_size(image), orientation(image)
        with one_if_large(image):
            raw = raw_of(image)
            counts = count(raw)
        rest = counts[MOST:]
        return MaskHeader(
            *size,
            raw.kind != Kind.color,
            turned,
            kind=raw.kind,
            counts=tuple(counts[:MOST]),
            more=len(rest),
            more_pixels=sum(c.pixels for c in rest),
        )

    return use(path, max_pixels, look)


def read_mask(source: Source, max_pixels: int) -> Raw:
    """The numbers in a mask file. Raises UnreadableError."""
    return use(source, max_pixels, raw_of)


def raw_of(image: Image.Image) -> Raw:
    """The numbers in a mask, as the head of this file says. Raises ValueError for those that can be no classes."""
    image = upright(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels can be no classes; save it with 8 or 16 bit")
    none = np.empty(0, np.int64)
    if image.mode == "1":
        return Raw(Kind.bits, np.asarray(image).astype(np.uint8), none)
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.size and not 0 <= deep.min() <= deep.max() <= 65535:
            raise ValueError(f"values from {deep.min()} to {deep.max()} are more than 16 bit; save it with 8 or 16 bit")
        return Raw(Kind.deep if deep.max(initial=0) > 255 else Kind.grey, deep.astype(np.int32), none)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        if image.getchannel(len(image.getbands()) - 1).getextrema() != (255, 255):
            raise ValueError("is transparent in places, which says no class; save it without an alpha channel")
        image = image if image.mode == "RGBA" else _without_alpha(image)
    if image.mode == "L":
        return Raw(Kind.grey, np.asarray(image), none)
    if image.mode == "P":
        return Raw(Kind.palette, np.asarray(image), _palette(image))
    colors = pack(image)
    greys = colors & 255
    return (
        Raw(Kind.grey, greys.astype(np.uint8), none)
        if (colors == greys * GREY).all()
        else Raw(Kind.color, colors, none)
    )


def _without_alpha(image: Image.Image) -> Image.Image:
    if image.mode != "PA":
        return image.getchannel(0) if image.mode in ("LA", "La") else image.convert("RGB")
    indexes = Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., 0]))
    indexes.putpalette(image.getpalette() or [])
    return indexes


def _palette(image: Image.Image) -> NDArray[np.int64]:
    """(256,) colour of each index; black where the palette ends before."""
    flat = (image.getpalette("RGB") or [])[:768]
    table = np.zeros((256, 3), np.int64)
    table.reshape(-1)[: len(flat)] = flat
    colors: NDArray[np.int64] = table @ np.array([1, 1 << 8, 1 << 16])
    return colors


def pack(image: Image.Image) -> NDArray[np.int32]:
    """(H, W) red + 256 green + 65536 blue of an image of any mode with colours."""
    four = np.ascontiguousarray(np.asarray(image.convert("RGBA")))
    packed: NDArray[np.int32] = four.view("<u4")[..., 0].astype(np.int32) & 0xFFFFFF
    return packed


def unpack(color: int) -> tuple[int, int, int]:
    """Red, green and blue."""
    return color & 255, color >> 8 & 255, color >> 16 & 255


def count(raw: Raw) -> list[Count]:
    """The values of a mask, the most frequent first."""
    values = raw.values
    inner = values[1:-1, 1:-1]
    same = (inner == values[:-2, 1:-1]) & (inner == values[2:, 1:-1])
    same &= (inner == values[1:-1, :-2]) & (inner == values[1:-1, 2:])
    there, pixels = _counted(values)
    flat = dict(zip(*(numbers.tolist() for numbers in _counted(inner[same])), strict=True))
    colors = raw.palette[there].tolist() if raw.kind == Kind.palette else [-1] * len(there)
    found = zip(there.tolist(), pixels.tolist(), colors, strict=True)
    counts = [Count(value, number, flat.get(value, 0), color) for value, number, color in found]
    return sorted(counts, key=lambda one: (-one.pixels, one.value))


def _counted(values: Values) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values that occur, and how often."""
    if values.size and values.max() > 65535:
        there, pixels = np.unique(values, return_counts=True)
        return there.astype(np.int64), pixels.astype(np.int64)
    pixels = np.bincount(values.reshape(-1))
    there = np.flatnonzero(pixels)
    return there, pixels[there]
