"""The files that `input=` means: one, all below a folder, or those that fit a pattern. Needs no torch."""

import difflib
import fnmatch
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dltrain.config.messages import Mistake
from dltrain.data.decode import SUFFIXES
from dltrain.data.scan import hidden, is_image
from dltrain.text import safe_text, some

MOST_FOLDERS = 1000  # that are looked through for a hint: below the root of a disk there is all of it
MAGIC = re.compile(r"[*?\[]")
_KINDS = {
    stat.S_ISFIFO: "named pipe",
    stat.S_ISSOCK: "socket",
    stat.S_ISCHR: "device",
    stat.S_ISBLK: "device",
}


@dataclass
class Inputs:
    """Names are relative to `root`, with `/`, and as they are on the disk: not safe to print."""

    root: Path
    files: list[str] = field(default_factory=list)  # to be read, sorted folder by folder
    skipped: list[tuple[str, str]] = field(default_factory=list)  # no regular files, and folders that cannot be read
    others: list[str] = field(default_factory=list)  # regular files that are no images by their names


def find_inputs(text: str) -> Inputs:
    """What `input=text` means.

    A file is taken whatever its name is; a folder with all that is below it; of a pattern (`*`, `?`, `[a-z]`, and `**`
    for any number of folders) what fits. The part of the text that exists is taken as it is, whatever characters it
    holds, and links in it are followed; further down, links are skipped. Names are relative to the folder, or to the
    part of the pattern before its first wildcard. Raises Mistake if nothing is there to be read.
    """
    path = Path(text).expanduser()
    existing, rest = _existing(path)
    if rest and not MAGIC.search(rest[0]):
        raise _not_there(text, existing, rest)
    found = Inputs(existing)
    if not rest and not existing.is_dir():
        mode = existing.stat().st_mode
        if not stat.S_ISREG(mode):
            raise Mistake(f"input={_shown(text)} is a {_kind(mode)}", allowed="an image, a folder or a pattern")
        return Inputs(existing.parent, [existing.name])
    _Search(found, rest or ["**"]).run()
    found.files.sort(key=lambda name: name.split("/"))
    found.others.sort(key=lambda name: name.split("/"))
    found.skipped.sort(key=lambda entry: entry[0].split("/"))
    if not found.files:
        raise _nothing(text, found, is_pattern=bool(rest))
    return found


def _existing(path: Path) -> tuple[Path, list[str]]:
    """The longest part of a path that is there, and the names behind it."""
    parts = path.parts
    known = Path(parts[0]) if path.is_absolute() else Path()
    names = list(parts[1:] if path.is_absolute() else parts)
    while names and os.path.exists(known / names[0]):  # noqa: PTH110 - Path.exists raises for names that are too long
        known /= names.pop(0)
    return known, names


class _Search:
    """Goes down from a root by the parts of a pattern. Hidden files are not seen unless the pattern names them."""

    def __init__(self, found: Inputs, parts: list[str]) -> None:
        self.found = found
        self.parts = [part for i, part in enumerate(parts) if part != "**" or parts[i - 1 : i] != ["**"]]
        self.fits: list[Callable[[str], object]] = [re.compile(fnmatch.translate(part)).match for part in self.parts]

    def run(self, most: int | None = None) -> None:
        """Fill `found`. A folder is looked through once for each place in the pattern that it can stand at.

        `most`: of so many folders only.
        """
        waiting = [("", 0)]
        seen = set(waiting)
        taken: set[str] = set()
        looked = 0
        while waiting and looked != most:
            looked += 1
            folder, at = waiting.pop()
            for entry, name in self._entries(folder):
                is_folder = entry.is_dir(follow_symlinks=False)
                for following in self._places(entry.name, at, is_folder):
                    if is_folder and following < len(self.parts) and (name, following) not in seen:
                        seen.add((name, following))
                        waiting.append((name, following))
                    elif not is_folder and following == len(self.parts) and name not in taken:
                        taken.add(name)
                        self._take(entry, name)

    def _places(self, name: str, at: int, is_folder: bool) -> Iterator[int]:
        """The places in the pattern that can follow an entry of this name met at `at`; the length: it fits the end."""
        part = self.parts[at]
        if part == "**":
            last = at + 1 == len(self.parts)
            if not hidden(name):
                yield at if is_folder else len(self.parts) if last else at
            if not last:  # no folder at all in its place
                yield from self._places(name, at + 1, is_folder)
        elif name == part or (self.fits[at](name) and (not hidden(name) or part[0] == name[0])):
            yield at + 1

    def _entries(self, folder: str) -> Iterator[tuple[os.DirEntry[str], str]]:
        try:
            with os.scandir(self.found.root / folder) as entries:
                yield from ((entry, f"{folder}/{entry.name}" if folder else entry.name) for entry in entries)
        except OSError as error:
            if not any(name == folder for name, _ in self.found.skipped):
                self.found.skipped.append((folder or ".", error.strerror or "cannot be read"))

    def _take(self, entry: os.DirEntry[str], name: str) -> None:
        if entry.is_symlink():
            self.found.skipped.append((name, "link"))
        elif not entry.is_file(follow_symlinks=False):
            self.found.skipped.append((name, _kind(entry.stat(follow_symlinks=False).st_mode)))
        elif is_image(entry):
            self.found.files.append(name)
        else:
            self.found.others.append(name)


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS.items() if is_kind(mode)), "no regular file")


# ---- mistakes


def _not_there(text: str, existing: Path, rest: list[str]) -> Mistake:
    try:
        names = os.listdir(existing)  # noqa: PTH208
    except OSError:
        names = []
    close = difflib.get_close_matches(rest[0], names, n=1, cutoff=0.6)
    nearest = existing.joinpath(close[0], *rest[1:]) if close else None
    if nearest is not None and not os.path.exists(nearest) and not MAGIC.search("/".join(rest)):  # noqa: PTH110
        nearest = existing / close[0]
    where = f" in {_shown(str(existing))}" if len(rest) > 1 or existing != Path() else ""
    what = f"input={_shown(text)} is not there"
    if existing.is_dir() and where:
        what += f": no {_shown(rest[0])}{where}"
    return Mistake(
        what,
        allowed="an image, a folder (with all that is below it), or a pattern such as 'scans/*.png'",
        nearest=_shown(str(nearest)) if nearest else "",
        type_this=_word(nearest),
    )


def _nothing(text: str, found: Inputs, *, is_pattern: bool) -> Mistake:
    """No image, and what is there instead."""
    what = f"input={_shown(text)} {'fits no image' if is_pattern else 'holds no image'}"
    there = [*found.others, *(f"{name} ({kind})" for name, kind in found.skipped)]
    if there:
        what += f"; what it {'fits' if is_pattern else 'holds'}: {some(there)}"
    images = Inputs(found.root)
    if is_pattern and found.root.is_dir():
        _Search(images, ["**"]).run(most=MOST_FOLDERS)
    nearest = found.root if images.files else None
    return Mistake(
        what,
        allowed="files that end in " + " ".join(sorted(SUFFIXES)),
        nearest=f"{_shown(str(nearest))}, which holds {some(sorted(images.files))}" if nearest else "",
        type_this=_word(nearest),
    )


def _shown(text: str) -> str:
    return safe_text(text)


def _word(path: Path | None) -> str:
    """`input=PATH` to be typed; nothing for a name that cannot be typed."""
    return shlex.join([f"input={path}"]) if path is not None and str(path).isprintable() else ""
