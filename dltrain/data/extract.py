"""Unpacking a .tar or .tar.gz that nobody vouches for: files and folders only, bounded. Needs no torch.

The headers are read here and not by `tarfile`, whose filters have been got around more than once (CVE-2025-4517,
CVE-2025-8194). Read are ustar, GNU and pax archives (POSIX.1-2001, pax interchange format); of a header's fields only
name, size and kind count, so that owners, modes and times of the files are those of any file the user makes.
"""

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dltrain.text import safe_text

BLOCK = 512
PORTION = 1 << 20  # bytes read at a time
LONGEST_PATH, LONGEST_NAME, DEEPEST = 1024, 255, 16
LARGEST_RECORD = 1 << 16  # bytes of a pax or GNU record that says a long name
FILE, FOLDER, PAX, PAX_OF_ALL, LONG_NAME = b"0", b"5", b"x", b"g", b"L"
REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}


class ArchiveError(Exception):
    """An archive that is damaged, or that holds what is not unpacked; the text is safe to print."""


class _Entry(NamedTuple):
    path: str  # relative, `/` between parts; may still be anything
    size: int
    is_folder: bool


def extract(archive: Path, target: Path, most_bytes: int, most_entries: int) -> None:
    """Unpack the archive, all of which lies below one folder named like `target`, and put that folder there.

    Nothing is at `target` before all is unpacked; it must not be there already.

    Raises:
        ArchiveError: a link, a device, a name outside of that folder, a name twice, more than `most_bytes` in all or
            more than `most_entries`, a damaged archive. Nothing is left of what was unpacked.
        OSError: the archive cannot be read, or the files cannot be written.
    """
    with archive.open("rb") as raw, _scratch(target) as scratch:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Stream(gzip.GzipFile(fileobj=raw) if packed else raw, most_bytes + 4 * BLOCK * (most_entries + 8))
        left = most_bytes
        for number, entry in enumerate(_entries(stream)):
            if number == most_entries:
                raise ArchiveError(f"holds more than {most_entries:,} files and folders")
            if entry.size > left:
                raise ArchiveError(f"unpacks to more than {most_bytes:,} bytes")
            left -= entry.size
            _put(stream, entry, scratch, target.name)
        stream.drain()
        if not (scratch / target.name).is_dir():
            raise ArchiveError(f"holds no folder {target.name}")
        (scratch / target.name).rename(target)


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder beside the target that nobody else can write to, gone whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(stream: "_Stream", entry: _Entry, scratch: Path, top: str) -> None:
    """Make one file or folder. There are no links below `scratch`, since only this function writes there."""
    parts = _parts(entry.path)
    if not parts and entry.is_folder:
        return  # "./"
    shown = safe_text(entry.path)
    if not parts or parts[0] != top or (len(parts) == 1 and not entry.is_folder):
        raise ArchiveError(f"holds {shown}, outside of its folder {top}")
    place = scratch.joinpath(*parts)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_folder:
            place.mkdir(exist_ok=True)
            return
        handle = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except (FileExistsError, NotADirectoryError):
        raise ArchiveError(f"holds {shown} twice") from None
    with os.fdopen(handle, "wb") as file:
        for portion in stream.portions(entry.size):
            file.write(portion)


def _parts(path: str) -> list[str]:
    """The names of a path. Raises ArchiveError for one that could lead anywhere else, on any system."""
    parts = [part for part in path.rstrip("/").split("/") if part != "."]
    odd = path.startswith("/") or any(part in ("", "..") or len(os.fsencode(part)) > LONGEST_NAME for part in parts)
    if odd or len(path) > LONGEST_PATH or len(parts) > DEEPEST or "\\" in path or ":" in path or not path.isprintable():
        raise ArchiveError(f"holds the path {safe_text(path) or '(empty)'}, which is not unpacked")
    return parts


class _Stream:
    """The unpacked archive from front to back, never more than `most` bytes of it."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, most: int) -> None:
        self._file = file
        self._left = most

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, fewer at the end. Raises ArchiveError."""
        parts = []
        while count > 0:
            if self._left <= 0:
                raise ArchiveError("unpacks to far more than it says it holds")
            try:
                part = self._file.read(min(count, self._left, PORTION))
            except (zlib.error, EOFError, gzip.BadGzipFile) as error:
                raise ArchiveError(f"is damaged ({error})") from None
            if not part:
                break
            parts.append(part)
            count -= len(part)
            self._left -= len(part)
        return b"".join(parts)

    def whole(self, size: int) -> bytes:
        """The next `size` bytes; what fills up the last block is skipped. Raises ArchiveError if they end before."""
        return b"".join(self.portions(size))

    def portions(self, size: int) -> Iterator[bytes]:
        """As `whole`, in portions."""
        filling = -size % BLOCK
        while size > 0:
            part = self.read(min(size, PORTION))
            if not part:
                raise ArchiveError("ends in the middle of a file")
            size -= len(part)
            yield part
        self.read(filling)

    def drain(self) -> None:
        """Read to the end, where gzip's checksum stands."""
        while self.read(PORTION):
            pass


def _entries(stream: _Stream) -> Iterator[_Entry]:
    """Files and folders, in order; whoever takes a file reads its content before the next is asked for."""
    long_name: str | None = None
    while True:
        header = stream.read(BLOCK)
        if header == bytes(BLOCK) or not header:
            return
        if len(header) < BLOCK or not _sums_up(header):
            raise ArchiveError("is no tar archive, or is damaged")
        kind, size = header[156:157].replace(b"\0", FILE), _octal(header[124:136])
        if size is None:
            raise ArchiveError("holds a size that is no octal number")
        if kind in (PAX, PAX_OF_ALL, LONG_NAME):
            if size > LARGEST_RECORD:
                raise ArchiveError("holds a record of its own that is larger than any name")
            content = stream.whole(size)
            if kind == LONG_NAME:
                long_name = _text(content.split(b"\0")[0])
            elif kind == PAX:
                long_name = _name_in_pax(content)
            continue
        name, long_name = long_name or _name(header), None
        if kind not in (FILE, FOLDER):
            what = REFUSED.get(kind, f"an entry of kind {safe_text(_text(kind))}")
            raise ArchiveError(f"holds {what}, {safe_text(name)}; only files and folders are unpacked")
        is_folder = kind == FOLDER or name.endswith("/")  # before ustar, the slash alone told a folder
        if is_folder and size:
            raise ArchiveError(f"holds a folder with content, {safe_text(name)}")
        yield _Entry(name, size, is_folder)


def _name(header: bytes) -> str:
    """Name and, in a ustar header, the prefix before it."""
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    return _text(prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _octal(field: bytes) -> int | None:
    """A number, None if it is none; sizes above 8 GiB are written in another way and are none here."""
    digits = field.replace(b"\0", b" ").strip()
    return int(digits or b"0", 8) if all(digit in b"01234567" for digit in digits) else None


def _sums_up(header: bytes) -> bool:
    """Whether the header's checksum is that of its bytes, its own field counted as spaces."""
    return _octal(header[148:156]) == sum(header) - sum(header[148:156]) + 8 * ord(" ")


def _name_in_pax(content: bytes) -> str | None:
    """The `path` among a pax record's `length key=value` lines. Raises ArchiveError."""
    path = None
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not len(length) + 3 <= int(length) <= len(content):
            raise ArchiveError("holds a damaged pax record")
        key, equals, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equals or key == b"size" or key.startswith(b"GNU.sparse"):
            raise ArchiveError(f"holds a pax record that is not unpacked, {safe_text(_text(key))}")
        path = _text(value) if key == b"path" else path
        content = content[int(length) :]
    return path
