"""Tests reach no network and write to temporary folders only: watched from inside Python, in children too.

Imported first in each process of the tests (conftest.py, and the server that `tests/faults` forks from). An audit hook
cannot be taken away again, so it looks at `watching`.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ROOT = str(Path(__file__).resolve().parents[1])
MAY_WRITE = tuple(f"{os.path.realpath(place)}/" for place in (tempfile.gettempdir(), "/dev", "/proc"))
TOOLS = (".coverage", ".pytest_cache", "/__pycache__/")  # what the tools of the tests write in the repository
WRITES = {"os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.truncate": 0}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

watching = False
violations: list[str] = []


def _local(address: Any) -> bool:
    if not isinstance(address, tuple):  # a path, of a Unix socket
        return True
    return str(address[0]) in ("localhost", "::1", "") or str(address[0]).startswith("127.")


def _outside(path: Any) -> bool:
    if isinstance(path, int) or path is None:
        return False
    text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
    if any(tool in text for tool in TOOLS):
        return False
    # the repository itself may lie in a temporary folder
    return f"{text}/".startswith(f"{ROOT}/") or not f"{text}/".startswith(MAY_WRITE)


def _violation(event: str, args: tuple[Any, ...]) -> str | None:
    if event == "open":
        path, _, flags = args
        if flags & WRITING and _outside(path):
            return f"writes {path}"
    elif event in WRITES:
        path = args[WRITES[event]]
        has_folder = event in ("os.remove", "os.rmdir", "os.mkdir") and args[-1] != -1  # relative to an open folder
        if not has_folder and _outside(path):
            return f"{event} {path}"
    elif event in ("socket.connect", "socket.sendto"):
        if not _local(args[1]):
            return f"{event} {args[1]}"
    elif event == "socket.getaddrinfo" and not _local((args[0],)) and args[0] is not None:
        return f"looks up {args[0]}"
    return None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if watching and (what := _violation(event, args)):
        violations.append(what)
        raise PermissionError(f"a test {what}")


def one_thread() -> None:
    """One thread a process, before torch is imported; processes that are started inherit it."""
    for name in ONE_THREAD:
        os.environ[name] = "1"


def watch() -> None:
    """Refuse, from now on, what a test must not do."""
    global watching
    watching = True


one_thread()
sys.addaudithook(_hook)
