"""Event files, which TensorBoard reads: written record by record, and cut at a step when a run goes on.

A record is the length of its data (8 bytes), the checksum of the length (4), the data (an `Event`) and their checksum
(4). All that a run keeps in a folder lies in one file, the newest; an older one is what a kill has left.
"""

import os
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dltrain import atomic

PREFIX = "events.out.tfevents."  # by this TensorBoard takes a file for one of events
OURS = re.compile(rf"{re.escape(PREFIX)}(\d{{10}})\.dltrain")


class EventFile:
    """The events of one folder, behind what is there already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None

    def write(self, events: Sequence[Any]) -> None:
        """Append; once this has returned, a kill of the process loses none. Raises OSError."""
        if self._file is None:
            self._file = self._open()
        self._file.write(b"".join(_record(event.SerializeToString()) for event in events))
        self._file.flush()

    def _open(self) -> BinaryIO:
        self.folder.mkdir(exist_ok=True)
        there = newest(self.folder)
        if there is not None:
            return there.open("ab")
        file = _next_name(self.folder).open("xb")
        file.write(_first_record())
        return file

    def sync(self) -> None:
        """From now on a power cut loses none either. Raises OSError."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """The next `write` opens the file again. Raises OSError."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def newest(folder: Path) -> Path | None:
    """The file that holds all that the run keeps in this folder."""
    return max(_ours(folder), default=None)


def read(path: Path) -> Iterator[Any]:
    """The events of a file but the first, which tells its version, up to a record that is torn or damaged."""
    return (event for _, event in _records(path))


def cut(folder: Path, change: Callable[[Any], Any]) -> None:
    """Leave what `change` makes of each event, nothing where it gives None, in a file whose name sorts last.

    A kill at any moment leaves a newest file that is whole. Raises OSError.
    """
    atomic.clear_temporaries(folder)
    old, there, new = _ours(folder), newest(folder), _next_name(folder)
    if there is None:
        return

    def fill(file: BinaryIO) -> None:
        file.write(_first_record())
        for record, event in _records(there):
            left = change(event)
            if left is not None:
                file.write(record if left is event else _record(left.SerializeToString()))

    temporary = atomic.temporary_name(folder / "cut")  # TensorBoard would read a name that begins with PREFIX
    try:
        atomic.write_new(temporary, fill)
        temporary.replace(new)
    finally:
        temporary.unlink(missing_ok=True)
    atomic.sync_folder(folder)
    for path in old:
        path.unlink()


def remove(folder: Path) -> None:
    """Take away all events. Raises OSError."""
    for path in sorted(_ours(folder)):  # the newest last: until then it is what counts
        path.unlink()


def _ours(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{PREFIX}*") if OURS.fullmatch(path.name)]


def _next_name(folder: Path) -> Path:
    """A name behind all that are there, whatever the clock says: TensorBoard reads files in the order of names."""
    numbers = [int(path.name[len(PREFIX) :].split(".")[0]) for path in _ours(folder)]
    return folder / f"{PREFIX}{max([int(time.time()), *(number + 1 for number in numbers)]):010d}.dltrain"


def _first_record() -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event

    return _record(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    return struct.pack("<I", masked_crc32c(data))


def _records(path: Path) -> Iterator[tuple[bytes, Any]]:
    """(the whole record, its event) of each but the first.

    The checksum of the data, which takes a second for 10 MB, is looked at in the last record alone: what lies before
    was flushed to the disk with a checkpoint, or is cut off for its step.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    left = path.stat().st_size
    with path.open("rb") as file:
        while left >= 16:
            head = file.read(12)
            (length,) = struct.unpack("<Q", head[:8])
            left -= 16 + length
            if _checksum(head[:8]) != head[8:] or left < 0:
                return
            data, footer = file.read(length), file.read(4)
            if left < 16 and _checksum(data) != footer:
                return
            try:
                event = Event.FromString(data)
            except DecodeError:
                return
            if not event.HasField("file_version"):
                yield head + data + footer, event
