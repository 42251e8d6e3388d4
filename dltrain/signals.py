"""Being asked to stop: Ctrl-C, SIGTERM and the like. Needs no torch.

`with install():` a request stops what is under way by KeyboardInterrupt, and `requested()` tells which it was. Inside
`with patient():` the first request is only noted, for the loop to look at between two steps; Ctrl-C after any request
stops at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_ASKING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_NOTE = b"\nstops after this step and saves; Ctrl-C again stops at once\n"

_requested: str | None = None
_owner = 0  # the process that installed the handlers: a forked worker has them too, and is not asked
_patience = 0


class StopAskedError(Exception):
    """A signal came while something was under way that is simply done again on resume."""


def requested() -> str | None:
    """The signal that asked to stop (`SIGINT`, `SIGTERM`, …), None if none did."""
    return _requested


def stop_if_asked() -> None:
    """Raise StopAskedError if a signal has asked to stop."""
    if requested() is not None:
        raise StopAskedError


def _handle(number: int, frame: FrameType | None) -> None:
    global _requested
    name = signal.Signals(number).name
    if os.getpid() != _owner:
        if name != "SIGINT":  # Ctrl-C goes to the whole group, and the owner ends its workers itself
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    first = _requested is None
    if first:
        _requested = name
    if not _patience or (name == "SIGINT" and not first):
        raise KeyboardInterrupt
    if name == "SIGINT":
        with suppress(OSError):
            os.write(2, _NOTE)  # no print: a handler may run in the middle of one


@contextmanager
def install() -> Iterator[None]:
    """Handle requests to stop while the block runs; in any thread but the main one, do nothing."""
    global _requested, _owner
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _requested, _owner = None, os.getpid()
    before = {}
    try:
        for name in _ASKING:
            number = getattr(signal, name, None)
            # One set from outside Python could not be put back, and nohup asks to ignore one.
            if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, _handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requested = None


@contextmanager
def patient() -> Iterator[None]:
    """While the block runs, the first request is noted and nothing is broken off."""
    global _patience
    _patience += 1
    try:
        yield
    finally:
        _patience -= 1
