"""Fetching a file over the network, on first use: bounded and checked before anything is written. Needs no torch."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

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
    digest = hashlib.md5(usedforsecurity=False)
    received = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            while block := answer.read(BLOCK):
                received += block
                digest.update(block)
                if len(received) > most:
                    raise FetchError(f"{url} sent more than {most:,} bytes")
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise FetchError(f"{url}: {getattr(error, 'reason', None) or error}") from None
    if digest.hexdigest() != md5:
        raise FetchError(f"{url} sent {len(received):,} bytes with another checksum than the known one")
    return bytes(received)
