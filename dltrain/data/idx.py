"""The idx format of MNIST, plain or gzipped, checked and bounded. Needs no torch.

http://yann.lecun.com/exdb/mnist: two zero bytes, a type (8: unsigned byte), the number of dimensions, each dimension
as a big-endian 32-bit number, then the values, last dimension fastest.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

from dltrain.data.imageset import Images

UNSIGNED_BYTE = 8


class IdxError(Exception):
    """A file that is not what it should be; the text says why, without its name."""


def read_bytes(path: Path, most: int) -> bytes:
    """A file's content, unpacked if its name ends in .gz. Raises IdxError if it is damaged or has over `most` bytes."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if path.suffix == ".gz":
        data = unpack(data, most)
    if len(data) > most:
        raise IdxError(f"holds more than {most:,} bytes")
    return data


def unpack(packed: bytes, most: int) -> bytes:
    """What is gzipped, at most `most` + 1 bytes of it. Raises IdxError."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(packed, most + 1)
    except zlib.error as error:
        raise IdxError(f"is no gzip file or is damaged ({error})") from None
    if not unpacker.eof and len(data) <= most:
        raise IdxError("ends in the middle")
    return data


def parse(data: bytes, dimensions: int) -> Images:
    """An idx array of unsigned bytes. Raises IdxError."""
    head = 4 + 4 * dimensions
    if len(data) < head:
        raise IdxError(f"has {len(data)} bytes, fewer than an idx header")
    if data[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]):
        raise IdxError(f"begins with {data[:4].hex()}, an idx file of {dimensions}-d bytes with 000008{dimensions:02d}")
    shape = struct.unpack(f">{dimensions}I", data[4:head])
    expected = 1
    for length in shape:
        expected *= length
    if len(data) - head != expected:
        raise IdxError(f"has {len(data) - head:,} values, its header says {' x '.join(map(str, shape))} = {expected:,}")
    return np.frombuffer(data, dtype=np.uint8, offset=head).reshape(shape)
