"""From the numbers in a mask to the classes of its pixels. Needs no torch."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dltrain.config.spec import IGNORED
from dltrain.data.mask_decode import GREY, Kind, MaskHeader, Raw, Values

WHITE, UNKNOWN = 0xFFFFFF, IGNORED + 1
FREE = IGNORED - 1  # a class number that no class has where there are at most so many
Classes = NDArray[np.uint8]


@dataclass(frozen=True)
class Coding:
    """What the numbers in masks mean: `values[k]` is the value, or the colour, of class k."""

    values: tuple[int, ...]
    ignored: int | None = None  # a value that counts for nothing
    colors: bool = False  # palettes and greys are taken for colours too
    white_bits: bool = False  # in masks of one bit a pixel, 1 stands for 255
    ignore_others: bool = False  # values that are none of these count for nothing

    def numbers(self, raw: Raw) -> Values:
        """A mask's values, or its colours. Raises ValueError where it has none."""
        if self.colors:
            if raw.kind == Kind.deep:
                raise ValueError("has values above 255, which are no colours")
            if raw.kind == Kind.palette:
                return raw.palette[raw.values]
            if raw.kind == Kind.color:
                return raw.values
            return raw.values.astype(np.int32) * (WHITE if raw.kind == Kind.bits else GREY)
        if raw.kind == Kind.color:
            raise ValueError("has colours, and no data.mask_colors are given")
        return raw.values * np.uint8(255) if raw.kind == Kind.bits and self.white_bits else raw.values

    def classes(self, raw: Raw) -> Classes:
        """(H, W) class numbers, IGNORED where a pixel counts for nothing.

        Raises ValueError for a value that stands for nothing.
        """
        numbers = self.numbers(raw)
        if numbers.dtype == np.uint8 and len(self.values) <= FREE:  # ten times as fast
            translated = numbers.tobytes().translate(_bytes(self))
            unknown, found = bytes([FREE]) in translated, np.frombuffer(translated, np.uint8).reshape(numbers.shape)
        else:
            looked_up = _table(self)[numbers]
            unknown, found = looked_up.max(initial=0) == UNKNOWN, looked_up.astype(np.uint8)
        if unknown:
            raise ValueError("holds a value that it did not hold when it was looked through")
        return found

    def numbers_in(self, mask: MaskHeader) -> list[int]:
        """As `numbers`, of each of the mask's counts."""
        palette = np.zeros(256 if mask.kind == Kind.palette else 0, np.int64)
        values = np.array([count.value for count in mask.counts], np.int64)
        if mask.kind == Kind.palette:
            palette[values] = [count.color for count in mask.counts]
        if mask.kind == Kind.bits:
            values = values.astype(np.uint8)
        found: list[int] = self.numbers(Raw(mask.kind, values, palette)).tolist()
        return found


@lru_cache(maxsize=2)
def _table(coding: Coding) -> NDArray[np.uint16]:
    """The class of every number; of colours 32 MiB, made where masks are read and never sent to another process."""
    others = IGNORED if coding.ignore_others else UNKNOWN
    table = np.full(1 << (24 if coding.colors else 16), others, np.uint16)
    table[list(coding.values)] = np.arange(len(coding.values))
    if coding.ignored is not None:
        table[coding.ignored] = IGNORED
    return table


@lru_cache(maxsize=2)
def _bytes(coding: Coding) -> bytes:
    """The class of each value of 8 bit, FREE where it stands for nothing."""
    return bytes(FREE if label == UNKNOWN else label for label in _table(coding)[:256].tolist())


def nearest(classes: Classes, box: tuple[float, float, float, float], size: tuple[int, int]) -> Classes:
    """(h, w): within a box (left, top, right, bottom), the pixel in which the centre of each new one lies."""
    left, top, right, bottom = box
    height, width = size
    rows = top + (np.arange(height) + 0.5) * ((bottom - top) / height)
    columns = left + (np.arange(width) + 0.5) * ((right - left) / width)
    rows = np.minimum(rows.astype(np.int64), classes.shape[0] - 1)
    columns = np.minimum(columns.astype(np.int64), classes.shape[1] - 1)
    taken: Classes = classes[rows[:, None], columns]
    return taken


def turned(values: Values, orientation: int) -> Values:
    """(H, W) as an image with this EXIF orientation is turned, by which height and width change places: 5 to 8."""
    return {5: values.T, 6: np.rot90(values, -1), 7: values[::-1, ::-1].T, 8: np.rot90(values)}[orientation]
