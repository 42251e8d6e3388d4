"""Reading .npz files that nobody vouches for: no pickles, and no array larger than it says or than memory.

Needs no torch. A .npz is a zip of .npy files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

import math
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dltrain.text import safe_text

LONGEST_HEADER = 10_000  # bytes, NumPy's own limit
KINDS = {"b", "u", "i", "f", "U", "S"}
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # what NumPy writes
Head = tuple[tuple[int, ...], bool, np.dtype[Any]]  # shape, whether Fortran's order, type
_HEADERS: dict[tuple[int, int], Callable[..., Head]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpzError(Exception):
    """A file or an array in it that cannot be used; the text says which and why, safe to print."""


class _Array(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int  # where its numbers begin


class Npz:
    """The arrays of a .npz file by name. Every method raises NpzError and OSError."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise NpzError(f"it is no .npz file or is damaged ({safe_text(str(error))})") from None
        entries = self._zip.infolist()
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in entries}
        if len(self._entries) < len(entries):
            raise NpzError("it holds two arrays of one name")
        self._free = memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        return list(self._entries)

    def read(self, name: str) -> NDArray[Any]:
        """An array of numbers or text, in C order."""
        shown = safe_text(name)
        entry = self._entries[name]
        if entry.compress_type not in METHODS or entry.flag_bits & 1:
            raise NpzError(f"{shown} is packed in a way that NumPy does not use")
        try:
            with self._zip.open(entry) as file:
                array = _head(file, shown)
                needed = math.prod(array.shape) * array.dtype.itemsize
                if needed != entry.file_size - array.start:
                    text = f"{shown} says it has {needed:,} bytes, and has {entry.file_size - array.start:,}"
                    raise NpzError(f"{text}: damaged")
                if needed > self._free:
                    raise NpzError(f"{shown} takes {needed:,} bytes, more than the memory that is left of {memory():,}")
                self._free -= needed
                content = _bytes(file, needed, shown)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise NpzError(f"{shown} is damaged ({safe_text(str(error))})") from None
        numbers = content.view(array.dtype).reshape(array.shape, order="F" if array.fortran else "C")
        return np.ascontiguousarray(numbers)


def _head(file: IO[bytes], shown: str) -> _Array:
    """What the array says of itself."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = _HEADERS[version](file, max_header_size=LONGEST_HEADER)
    except Exception as error:  # NumPy's reader raises nearly anything for a header that is none
        raise NpzError(f"{shown} is no array ({safe_text(str(error), 100)})") from None
    if dtype.hasobject:
        raise NpzError(f"{shown} holds Python objects, which are never read; make it an array of numbers or of text")
    if dtype.kind not in KINDS or not dtype.itemsize or any(length < 0 for length in shape):
        raise NpzError(f"{shown} holds {safe_text(str(dtype), 100)}, neither numbers nor text")
    return _Array(shape, fortran, dtype, file.tell())


def _bytes(file: IO[bytes], count: int, shown: str) -> NDArray[np.uint8]:
    """The array's bytes; at the end of the file the zip's checksum is compared."""
    content = np.empty(count, np.uint8)
    done = 0
    while part := file.read(1 << 24):
        content[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if done < count:
        raise NpzError(f"{shown} ends in the middle")
    return content


def memory() -> int:
    """Bytes of memory of this machine; 64 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 36
