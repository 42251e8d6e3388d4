"""The folder of what a mode makes: whole or not there, and never in place of anything. Needs no torch."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dltrain import atomic
from dltrain.config.messages import Failure, Mistake
from dltrain.run import shown
from dltrain.text import safe_text


class Made:
    """A folder being made: files are written into `temporary`; once all is well they lie in `path`."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self.path = path
        self.temporary = temporary


def check_output(output: str | None, default: Path) -> None:
    """Raise Mistake if `output`, or a new folder below `default`, cannot be what a mode makes. Makes nothing."""
    path = default if output is None else Path(output).expanduser()
    if output is not None and os.path.lexists(path):
        if not path.is_dir():
            raise Mistake(
                f"output={safe_text(output)} is a file, and what is made lies in a folder",
                allowed="a folder that is new or empty",
                type_this="output=FOLDER",
            )
        if any(path.iterdir()):
            raise Mistake(
                f"output={safe_text(output)} holds files, and nothing is written over",
                allowed="a folder that is new or empty",
                type_this=f"output={shown(_free(path))}",
            )
    above = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        what = "cannot be written" if above.is_dir() else "is no folder"
        raise Mistake(
            f"{safe_text(str(path))} cannot be made: {safe_text(str(above))} {what}",
            allowed="a folder that you may write to",
            type_this="output=FOLDER",
        )


@contextmanager
def made(output: str | None, default: Path) -> Iterator[Made]:
    """A folder for the block to fill: `output`, or one below `default` that is named by the time.

    All of it appears at the end of the block, in one rename where the folder is new; if the block raises, whatever
    it raises, nothing is left. Raises Mistake if the folder cannot be made, Failure if the disk is full.
    """
    path = default / time.strftime("%Y-%m-%d-%H-%M-%S") if output is None else Path(output).expanduser().absolute()
    # An empty folder of the user's stays the one it is: it may be a link, or have its own rights.
    fill = output is not None and path.is_dir()
    parent = path if fill else path.parent
    new = [place for place in (parent, *parent.absolute().parents) if not place.exists()]
    temporary = atomic.temporary_name(parent / path.name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        _remove(new)
        raise Mistake(
            f"{safe_text(str(path))} cannot be made: {error.strerror}",
            allowed="a folder that you may write to",
            type_this="output=FOLDER",
        ) from error
    product = Made(path, temporary)
    try:
        yield product
        _flush(temporary)
        if fill:
            _move(sorted(temporary.iterdir()), path)
        else:
            product.path = _publish(temporary, path)
        atomic.sync_folder(parent)
    except OSError as error:
        if error.errno in atomic.FULL:
            place, kind = atomic.file_system(parent)
            raise Failure(f"no space left on {place}{kind and f' ({kind})'}: {path} was not made") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove(new)


def _flush(folder: Path) -> None:
    """So that a power cut after the rename finds whole files, whoever wrote them."""
    for entry in folder.iterdir():
        if entry.is_dir():
            _flush(entry)
            continue
        with entry.open("rb") as opened, suppress(OSError):
            os.fsync(opened.fileno())
    atomic.sync_folder(folder)


def _publish(temporary: Path, wanted: Path) -> Path:
    """Give a folder its name, or one with -2, -3, … behind it where that is taken."""
    path = wanted
    while True:
        try:
            if not os.path.lexists(path):
                temporary.rename(path)
                return path
        except OSError as error:  # somebody was quicker
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        path = _free(wanted)


def _move(entries: list[Path], folder: Path) -> None:
    """Move files and folders into a folder, all of them or none. Raises Failure if a name is taken."""
    done: list[Path] = []
    try:
        for entry in entries:
            path = folder / entry.name
            try:
                if entry.is_dir():
                    path.mkdir()  # what is taken raises here; a rename would replace an empty folder
                else:
                    os.link(entry, path)  # unlike a rename, never in place of another
            except OSError as error:
                if entry.is_dir() or error.errno not in atomic.NO_LINKS or os.path.lexists(path):
                    raise Failure(f"{safe_text(str(path))} cannot be made: {error.strerror}") from error
                entry.rename(path)
            done.append(path)
            if entry.is_dir():
                entry.rename(path)
    except BaseException:
        for path in done:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _free(path: Path) -> Path:
    path = path.absolute() if path.name in ("", "..") else path
    numbered = (path.with_name(f"{path.name}-{number}") for number in range(2, 1_000_000))
    return next(one for one in numbered if not os.path.lexists(one))


def _remove(folders: list[Path]) -> None:
    """Folders, innermost first, as far as they are empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
