"""Files that are whole or not there: written beside their place, flushed, renamed. Needs no torch."""

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dltrain.config.messages import Failure

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL, errno.EACCES}
TEMPORARY = ".tmp"


def temporary_name(path: Path, ending: str = TEMPORARY) -> Path:
    """A name in the same folder that nobody can guess, hidden, ending in `.tmp`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{ending}")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut. Not every file system can."""
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, fill: Callable[[BinaryIO], object], *, needed: int) -> None:
    """Put what `fill` writes at `path`, in one rename. `needed` is the size told when the disk is full.

    Raises Failure if the disk is full; the old file stays as it was and no temporary file is left.
    """
    with replacing(path, needed) as temporary:
        write_new(temporary, fill)
    sync_folder(path.parent)


def write_new(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Make a file that is not there yet, and flush it to the disk."""
    # O_EXCL: never through a link that somebody put there. The mode follows the user's umask.
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o666)
    with os.fdopen(handle, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path, needed: int) -> Iterator[Path]:
    """A temporary name to make; renamed to `path` at the end, gone whatever happens."""
    temporary = temporary_name(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(path, needed) from error
        raise
    finally:
        # Also after a rename that went well: renaming one hard link onto another of the same file leaves both.
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    write(path, lambda file: file.write(content), needed=len(content))


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Strict JSON, two spaces a level; a number that is not finite becomes null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def link(existing: Path, path: Path) -> None:
    """Let `path` name the same file as `existing`, in one rename; a copy where there are no hard links."""
    size = existing.stat().st_size
    with replacing(path, size) as temporary:
        try:
            temporary.hardlink_to(existing)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _copy(existing, temporary)


def _copy(existing: Path, temporary: Path) -> None:
    with existing.open("rb") as source:
        write_new(temporary, lambda target: shutil.copyfileobj(source, target, 1 << 20))


def clear_temporaries(folder: Path) -> None:
    """Remove what a killed writer left. Only for who holds the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):
            path.unlink()


def disk_full(path: Path, needed: int) -> Failure:
    """The message for a full disk: which file system, what was to be written, what is free."""
    place, kind = file_system(path.parent)
    free = "unknown"
    with suppress(OSError):
        free = f"{shutil.disk_usage(path.parent).free:,} bytes"
    return Failure(
        f"no space left on the file system {place}{kind and f' ({kind})'}: {path} needs {needed:,} bytes, {free} free\n"
        f"  the file that was there is untouched; free some space and go on with resume="
    )


def file_system(folder: Path) -> tuple[str, str]:
    """Where the file system of a folder is mounted, and its kind where the system tells it."""
    place = folder.resolve()
    while not os.path.ismount(place) and place != place.parent:
        place = place.parent
    kind = ""
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(" ")
            if len(fields) > 2 and fields[1].replace("\\040", " ") == str(place):
                kind = fields[2]
    return str(place), kind
