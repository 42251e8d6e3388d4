"""Looking through a folder of images: which files there are, and what their headers say. Needs no torch.

What was found is kept in the user's cache by path, size and time of change, so a second look reads no image.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from dltrain.atomic import write_bytes
from dltrain.config.messages import Failure
from dltrain.data.decode import SUFFIXES, Header, UnreadableError, decode, read_header
from dltrain.data.fetch import cache_folder
from dltrain.data.imageset import Say
from dltrain.text import safe_text

VERSION = 1
LARGEST_CACHE = 1 << 28  # bytes
EVERY = 2.0  # seconds between two lines of progress


Stat = tuple[int, int]  # bytes, and nanoseconds of the last change


class Found(NamedTuple):
    """Image files, as paths relative to the root with `/`, and how many others were left out."""

    files: dict[str, Stat]
    links: int
    others: list[str]


class Progress:
    """Says how far something has come, every two seconds."""

    def __init__(self, say: Say, what: str, total: int) -> None:
        self._say = say
        self._what = what
        self._total = total
        self._told = time.monotonic()

    def __call__(self, done: int) -> None:
        """Call after each item."""
        if time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            self._say(f"{self._what}: {done:,} of {self._total:,} images")


class Scan:
    """Headers of the images below a root, and what else is worth keeping between two runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16).hexdigest()
        self._path = cache_folder() / "scans" / f"{name}.json"
        stored = _load(self._path)
        self._files: dict[str, Any] = stored.get("files", {})
        self.notes: dict[str, Any] = stored.get("notes", {})
        self._changed = False

    def headers(self, files: dict[str, Stat], max_pixels: int, say: Say) -> tuple[list[Header], list[str]]:
        """The header of each file, and what is wrong with those that cannot be used; the lists match if none is."""
        headers, wrong = [], []
        seen: dict[str, Any] = {}
        progress = Progress(say, f"scanning {safe_text(str(self.root))}", len(files))
        for number, (file, stat) in enumerate(files.items()):
            try:
                entry = _entry(self._files.get(file), stat)
                if entry is None:
                    entry = [*stat, *examine(self.root / file, max_pixels)]
                    self._changed = True
                header = Header(*entry[2:])
                if header.height * header.width > max_pixels:
                    read_header(self.root / file, max_pixels)  # says what is wrong
                seen[file] = entry
                headers.append(header)
            except OSError as error:
                wrong.append(f"{safe_text(file)} cannot be read: {error.strerror}")
            except UnreadableError as error:
                wrong.append(str(error))
            progress(number + 1)
        self._files = {**self._files, **seen} if wrong else seen
        return headers, wrong

    def keep(self, name: str, value: Any) -> None:
        """Store something beside the headers, in place of what was kept before."""
        self.notes = {name: value}
        self._changed = True

    def save(self) -> None:
        """Write the cache if something is new. A cache that cannot be written is no reason to stop."""
        if self._changed:
            text = json.dumps({"version": VERSION, "files": self._files, "notes": self.notes})
            with contextlib.suppress(OSError, Failure):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(self._path, text.encode())
            self._changed = False

    def identity(self, files: list[str]) -> bytes:
        """A digest of the paths, sizes and times of these files."""
        digest = hashlib.blake2b(digest_size=16)
        for file in files:
            digest.update(json.dumps([file, *self._files[file][:2]]).encode())
        return digest.digest()


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CACHE:
            return {}
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(stored, dict) or stored.get("version") != VERSION:
        return {}
    return stored if all(isinstance(stored.get(part), dict) for part in ("files", "notes")) else {}


def _entry(stored: Any, stat: Stat) -> list[Any] | None:
    """What the cache holds of a file, if it is of this very file: [bytes, time, height, width, grey]."""
    if not isinstance(stored, list) or len(stored) != 5 or stored[:2] != [*stat]:
        return None
    height, width, grey = stored[2:]
    right = type(height) is int and type(width) is int and type(grey) is bool and height > 0 and width > 0
    return stored if right else None


def examine(path: Path, max_pixels: int) -> Header:
    """An image's header; an image that does not end as its format does is decoded. Raises UnreadableError."""
    header = read_header(path, max_pixels)
    if not _ends_well(path):
        decode(path, 3, max_pixels)
    return header


def _ends_well(path: Path) -> bool:
    """Whether a JPEG or PNG file has its end marker. Others have none worth looking for."""
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(max(0, os.fstat(file.fileno()).st_size - 32))
        end = file.read()
    if start.startswith(b"\xff\xd8"):
        return end.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    return start == b"\x89PNG\r\n\x1a\n" and end.endswith(b"IEND\xae\x42\x60\x82")


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones, links and what tools leave behind are left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not _hidden(e.name) and e.is_dir(follow_symlinks=False))


def holds_images(folder: Path) -> bool:
    """Whether images lie in the folder itself, not only below it."""
    with os.scandir(folder) as entries:
        return any(_is_image(entry) for entry in entries if not _hidden(entry.name))


def find_images(root: Path, below: str) -> Found:
    """Image files below `root/below`, however deep, in no order. Links, devices and hidden files are left out."""
    files: dict[str, Stat] = {}
    others: list[str] = []
    links = 0
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if _hidden(entry.name):
                    continue
                if entry.is_symlink():
                    links += 1
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif _is_image(entry):
                    stat = entry.stat(follow_symlinks=False)
                    files[path] = (stat.st_size, stat.st_mtime_ns)
                else:
                    others.append(path)
    return Found(files, links, sorted(others))


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = entry.name[entry.name.rfind(".") :].lower()
    return suffix in SUFFIXES and entry.is_file(follow_symlinks=False)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__", "@")) or name.lower() in ("thumbs.db", "desktop.ini")
