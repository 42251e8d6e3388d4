"""Looking through a folder of images: which files there are, and whether each can be read. Needs no torch.

What was found is kept in the user's cache by path, size and time of change, so a second look reads no image.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import PIL

from dltrain.atomic import write_bytes
from dltrain.config.data import Files, Unreadable
from dltrain.config.messages import Failure, Mistake
from dltrain.data.decode import SUFFIXES, Header, UnreadableError, check_pixels, examine
from dltrain.data.fetch import cache_folder
from dltrain.data.imageset import Say
from dltrain.text import SHOWN, safe_text

VERSION = [3, PIL.__version__]  # another Pillow may read what this one does not
LARGEST_CACHE = 1 << 28  # bytes
EVERY = 2.0  # seconds between two lines of progress
THREADS, PORTION = 8, 32  # that decode, and images that one takes at a time

Stat = tuple[int, int]  # bytes, and nanoseconds of the last change
T = TypeVar("T")
R = TypeVar("R")


class Found(NamedTuple):
    """Image files, and what was left out, as paths relative to the root with `/`."""

    files: dict[str, Stat]
    links: list[str]
    others: list[str]


class Looked(NamedTuple):
    """Headers of the images that can be read, and why the others cannot, by file in the order asked for."""

    headers: dict[str, Header]
    unreadable: dict[str, str]


class Progress:
    """Says how far something has come, every two seconds."""

    def __init__(self, say: Say, what: str, total: int, unit: str = "images") -> None:
        self._say = say
        self._what = what
        self._total = total
        self._unit = unit
        self._began = self._told = time.monotonic()

    def __call__(self, done: int) -> None:
        """Call after each item."""
        now = time.monotonic()
        if now - self._told > EVERY:
            self._told = now
            left = round((now - self._began) / max(1, done) * (self._total - done))
            ahead = f", {left // 60}:{left % 60:02d} left" if done < self._total else ""
            self._say(f"{self._what}: {done:,} of {self._total:,} {self._unit}{ahead}")


def by_threads(function: Callable[[T], R], items: Sequence[T], progress: Progress) -> Iterator[R]:
    """What `function` gives for each item, in their order, from a few threads that take portions of them."""

    def portion(start: int) -> list[R]:
        return [function(item) for item in items[start : start + PORTION]]

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            done = 0
            for found in pool.map(portion, range(0, len(items), PORTION)):
                yield from found
                progress(done := done + len(found))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class Scan:
    """What is known of the images below a root, and what else is worth keeping between two runs."""

    def __init__(self, root: Path, kind: str = "folder") -> None:
        self.root = root
        name = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=16).hexdigest()
        self._path = cache_folder() / "scans" / f"{name}-{kind}.json"
        stored = _load(self._path)
        self._files: dict[str, Any] = stored.get("files", {})
        self.notes: dict[str, Any] = stored.get("notes", {})
        self._changed = False

    def look(self, files: dict[str, Stat], settings: Files, say: Say) -> Looked:
        """Decode each file that is new. Raises Mistake if none, or with `data.unreadable=stop` one, cannot be read."""
        known = {file: kept for file, stat in files.items() if (kept := self._known(file, stat)) is not None}
        entries = {file: self._files[file] for file in known}
        new = [file for file in files if file not in known]
        failed: dict[str, str] = {}
        try:
            for file, found in self._examine(new, settings.max_pixels, say):
                if isinstance(found, Header):
                    entries[file], known[file] = [*files[file], *found.record()], found
                elif found.lasting:
                    entries[file], known[file] = [*files[file], found.reason], found.reason
                else:
                    failed[file] = found.reason
                self._changed = True
        except BaseException:
            self._files |= entries  # what has been seen need not be seen again
            self.save()
            raise
        self._files = entries
        looked = Looked({}, {})
        for file in files:
            header = known.get(file)
            if header is None:
                looked.unreadable[file] = failed[file]
            elif isinstance(header, str):
                looked.unreadable[file] = header
            else:
                try:
                    check_pixels(file, (header.width, header.height), settings.max_pixels)
                    looked.headers[file] = header
                except UnreadableError as error:
                    looked.unreadable[file] = error.reason
        if looked.unreadable and (settings.unreadable == Unreadable.stop or not self.leaves_some(looked)):
            self.save()
            raise self._refusal(looked, settings)
        return looked

    def examine(self, file: str, max_pixels: int) -> Header:
        """What there is to know of a file. Raises UnreadableError."""
        return examine(self.root / file, max_pixels)

    def header(self, file: str, record: list[Any]) -> Header | None:
        """What the cache holds of a file, if it can be that."""
        return Header.of(record)

    def leaves_some(self, looked: Looked) -> bool:
        """Whether there is something to learn from without the files that cannot be read."""
        return bool(looked.headers)

    def _known(self, file: str, stat: Stat) -> Header | str | None:
        """Of this very file, its header or what is wrong with it: [bytes, time, …] is kept."""
        stored = self._files.get(file)
        if not isinstance(stored, list) or stored[:2] != [*stat]:
            return None
        if len(stored) == 3:
            reason = stored[2]
            return reason if isinstance(reason, str) and reason == safe_text(reason, 1000) else None
        return self.header(file, stored[2:])

    def _examine(
        self, files: Sequence[str], max_pixels: int, say: Say
    ) -> Iterator[tuple[str, Header | UnreadableError]]:
        """The header of each file, or what is wrong with it."""

        def one(file: str) -> Header | UnreadableError:
            try:
                return self.examine(file, max_pixels)
            except UnreadableError as error:
                return error

        progress = Progress(say, f"scanning {safe_text(str(self.root))}", len(files))
        yield from zip(files, by_threads(one, files, progress), strict=True)

    def _refusal(self, looked: Looked, settings: Files) -> Mistake:
        wrong = [f"{safe_text(file)} {reason}" for file, reason in looked.unreadable.items()]
        count = len(wrong) + len(looked.headers)
        return Mistake(
            f"{len(wrong):,} of {count:,} files in {safe_text(str(self.root))} cannot be used:"
            + "".join(f"\n  {text}" for text in wrong[:SHOWN])
            + (f"\n  and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""),
            allowed="images that can be read whole, within data.max_pixels; replace or remove these files"
            + (", or leave them out" if self.leaves_some(looked) else ""),
            type_this="data.unreadable=skip" if self.leaves_some(looked) else "",
        )

    def keep(self, name: str, value: Any) -> None:
        """Store something beside what is known of the images, in place of what was kept before."""
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

    def identity(self, files: Sequence[str]) -> bytes:
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


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones, links and what tools leave behind are left out."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not hidden(e.name) and e.is_dir(follow_symlinks=False))


def holds_images(folder: Path) -> bool:
    """Whether images lie in the folder itself, not only below it."""
    with os.scandir(folder) as entries:
        return any(is_image(entry) for entry in entries if not hidden(entry.name))


def find_images(root: Path, below: str) -> Found:
    """Image files below `root/below`, however deep, in no order. Links, devices and hidden files are left out."""
    files: dict[str, Stat] = {}
    others: list[str] = []
    links: list[str] = []
    waiting = [below]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if hidden(entry.name):
                    continue
                if entry.is_symlink():
                    links.append(path)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif is_image(entry):
                    stat = entry.stat(follow_symlinks=False)
                    files[path] = (stat.st_size, stat.st_mtime_ns)
                else:
                    others.append(path)
    return Found(files, sorted(links), sorted(others))


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a regular file is an image, by its name."""
    suffix = entry.name[entry.name.rfind(".") :].lower()
    return suffix in SUFFIXES and entry.is_file(follow_symlinks=False)


def hidden(name: str) -> bool:
    """Whether a name is hidden, or what tools leave behind."""
    return name.startswith((".", "__", "@")) or name.lower() in ("thumbs.db", "desktop.ini")
