"""Who owns a run folder: one live process. Needs no torch.

The lock names process, start time, boot and machine. A process id alone says little: it is given again to other
programs. A lock of the same machine is judged by looking at the process; one of another machine (a shared file
system) by its age, since the owner touches it while it lives.
"""

import fcntl
import json
import os
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dltrain import atomic
from dltrain.config.messages import Mistake

NAME = ".lock"
HEARTBEAT = 20.0  # seconds between two touches
DEAD_AFTER = 120.0  # seconds without a touch until an owner elsewhere counts as dead


def process_start(pid: int) -> str | None:
    """When a process began, in clock ticks since the boot (field 22 of its stat); None if there is none.

    Where there is no /proc, "?" for a process that lives: then the id alone decides.
    """
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the program's name may hold spaces and brackets
        return None if fields[0] in ("Z", "X") else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # it is another user's
    return "?"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _place() -> dict[str, str]:
    """What tells this machine, this boot and (in containers) this world of process ids from others."""
    processes = ""
    with suppress(OSError):
        processes = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "boot": _read("/proc/sys/kernel/random/boot_id"), "processes": processes}


def _me() -> dict[str, str | int]:
    pid = os.getpid()
    return {"pid": pid, "start": process_start(pid) or "?", **_place()}


def _owner(folder: Path) -> dict[str, str | int] | None:
    """What the lock says; None if there is none or it cannot be read (a write that was cut short is no owner)."""
    try:
        with (folder / NAME).open("rb") as file:
            owner = json.loads(file.read(4096))
    except (OSError, ValueError, RecursionError):
        return None
    return owner if isinstance(owner, dict) and isinstance(owner.get("pid"), int) else None


def live_owner(folder: Path) -> str:
    """Words for the live process that owns a folder, or "" if nobody does."""
    owner = _owner(folder)
    if owner is None:
        return ""
    here = _place()
    if owner.get("host") == here["host"] and owner.get("boot") != here["boot"]:
        return ""  # this machine has been started anew since
    if all(owner.get(name) == here[name] for name in ("boot", "processes")):
        pid = int(owner["pid"])
        alive = 0 < pid < 2**31 and process_start(pid) == owner.get("start")
        return f"process {pid}" if alive else ""
    age = _age(folder)
    if age is not None and age > DEAD_AFTER:
        return ""
    return f"process {owner['pid']} on {str(owner.get('host'))[:64]!r}"


def _age(folder: Path) -> float | None:
    """Seconds since the lock was touched, by the file system's own clock where a file can be made."""
    try:
        touched = (folder / NAME).stat().st_mtime
    except OSError:
        return None
    now = time.time()
    probe = atomic.temporary_name(folder / NAME)
    with suppress(OSError):
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        now = probe.stat().st_mtime
        probe.unlink()
    return now - touched


def owned(what: str, owner: str) -> Mistake:
    return Mistake(f"{what} is being written by {owner}", allowed="one process a run: wait for it, or end it")


def unwritable(folder: Path, error: OSError) -> Mistake:
    return Mistake(
        f"{folder} cannot be written: {error.strerror}",
        allowed="a run folder that you may write to; to look at it needs no writing",
        type_this=f"dltrain mode=eval run={shlex.quote(str(folder))}",
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time judges and takes a lock. File systems without flock are left to the rename."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Own a run folder; a dead owner's lock is taken over.

    Raises Mistake if a live process owns it or if it cannot be written.
    """
    me = _me()
    try:
        with _alone(folder):
            owner = live_owner(folder)
            if owner:
                raise owned(f"{folder}", owner)
            atomic.write_json(folder / NAME, me)
    except OSError as error:
        raise unwritable(folder, error) from error
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(folder / NAME, ended), name="dltrain-lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        if _owner(folder) == me:
            with suppress(OSError):
                (folder / NAME).unlink()


def _beat(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT):
        with suppress(OSError):
            os.utime(lock)
