"""Fetching a file over the network, on first use: bounded and checked before anything is written. Needs no torch."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from dltrain.atomic import temporary_name, write_new

TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 16


class FetchError(Exception):
    """What could not be fetched, and why."""


def data_root(given: str | None) -> Path:
    """Where fetched sets lie: `data.root`, else $DLTRAIN_DATA, else a folder in the user's cache."""
    if given:
        return Path(given).expanduser()
    from_environment = os.environ.get("DLTRAIN_DATA")
    return Path(from_environment).expanduser() if from_environment else cache_folder() / "data"


def cache_folder() -> Path:
    """dltrain's folder in the user's cache: $XDG_CACHE_HOME/dltrain, else ~/.cache/dltrain."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "dltrain"


def fetch(url: str, most: int, md5: str) -> bytes:
    """The bytes behind a URL. Raises FetchError: no network, more than `most` bytes, another checksum."""
    received = b"".join(_blocks(url, most))
    if hashlib.md5(received, usedforsecurity=False).hexdigest() != md5:
        raise FetchError(f"{url} sent {len(received):,} bytes with another checksum than the known one")
    return received


def fetch_file(url: str, path: Path, size: int, digests: Mapping[str, str], progress: Callable[[int], None]) -> None:
    """Put the file behind a URL at `path`, in one rename, once it is known to be right; its folder must be there.

    Args:
        url: where it is served.
        path: where it belongs.
        size: its bytes; more are not read.
        digests: its checksums by the names that hashlib has for them.
        progress: told how many bytes have come, after each block.

    Raises:
        FetchError: no network, another size, another checksum. Nothing is left of what has come.
        OSError: the file cannot be written.
    """
    known = {name: hashlib.new(name, usedforsecurity=False) for name in digests}
    temporary = temporary_name(path, ".part")
    received = 0

    def fill(file: BinaryIO) -> None:
        nonlocal received
        for block in _blocks(url, size):
            file.write(block)
            for digest in known.values():
                digest.update(block)
            progress(received := received + len(block))

    try:
        write_new(temporary, fill)
        if any(known[name].hexdigest() != digest for name, digest in digests.items()):
            raise FetchError(f"{url} sent {received:,} bytes with another checksum than the known one")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _blocks(url: str, most: int) -> Iterator[bytes]:
    """What a URL sends, block by block. Raises FetchError: no network, more than `most` bytes."""
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            while block := answer.read(BLOCK):
                received += len(block)
                if received > most:
                    raise FetchError(f"{url} sent more than {most:,} bytes")
                yield block
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise FetchError(f"{url}: {getattr(error, 'reason', None) or error}") from None
