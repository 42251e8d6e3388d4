"""The screen: plain lines, one live line on a terminal, and the same lines with their time in `run.log`.

The live line is drawn by carriage return and "erase to the end of line" alone. No cursor is hidden and no thread
runs, so a process killed at any moment leaves the terminal as it was, and drawing costs the loop one write.
"""

import contextlib
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from dltrain.text import safe_text

REDRAW_SECONDS = 0.2
ERASE = "\r\x1b[K"
_PLAIN = str.maketrans(
    {
        "±": "+/-",
        "…": "...",
        "×": "x",
        "·": "*",
        "—": "-",
        "–": "-",
        "━": "=",
        "╸": ">",
        "─": "-",
        "→": "->",
        "µ": "u",
        "²": "2",
    }
)


def safe(name: str) -> str:
    r"""A file or class name with every control character shown as `\x1b`, line ends too, whole."""
    return safe_text(name, longest=sys.maxsize)


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """`text`, at most `columns` wide."""
    while width(text) > columns:
        text = text[:-1]
    return text


def encodable(text: str, encoding: str | None) -> str:
    """`text` as a stream of this encoding can hold it: ASCII stand-ins, then `\\u2026` for the rest."""
    if encoding is None:  # a stream of text, not of bytes
        return text
    try:
        text.encode(encoding)
        return text
    except UnicodeError:
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)


class Screen:
    """Where people read: standard output, warnings on standard error, and `run.log` once a run has one.

    `typed` are the words of the command line and `notes` lines for the banner (what a recipe chose); `brief` is
    true inside a sweep, which tells of its runs in lines of its own, and `place` then heads the live line.

    Output that nobody can receive any more (`dltrain | head`, a closed terminal, a full disk) is dropped; the run
    goes on.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out
        self._err = err
        self.typed: list[str] = []
        self.notes: list[str] = []
        self.brief = False
        self.place = ""
        self._log: TextIO | None = None
        self._gone: list[TextIO] = []  # streams that cannot be written any more
        self._drawn = False
        self._last_draw = float("-inf")

    # ---- streams

    @property
    def out(self) -> TextIO:
        return sys.stdout if self._out is None else self._out

    @property
    def err(self) -> TextIO:
        return sys.stderr if self._err is None else self._err

    @property
    def live(self) -> bool:
        """True where a line can be redrawn: a terminal that is not dumb."""
        return _is_terminal(self.out) and os.environ.get("TERM", "") != "dumb"

    @property
    def colours(self) -> bool:
        return self.live and not os.environ.get("NO_COLOR")

    @property
    def columns(self) -> int:
        return max(20, shutil.get_terminal_size((100, 24)).columns)

    @property
    def room(self) -> int | None:
        """Columns that a table may take; None where there is no terminal: as many as it needs."""
        return self.columns if self.live else None

    def _write(self, stream: TextIO, text: str) -> None:
        if stream is None or self._is_gone(stream):  # a process may be started without standard streams
            return
        try:
            stream.write(encodable(text, stream.encoding))
            stream.flush()
        except (OSError, ValueError):
            self._gone.append(stream)
            _discard(stream)

    def _is_gone(self, stream: TextIO) -> bool:
        return any(stream is other for other in self._gone)

    # ---- lines

    def line(self, text: str = "") -> None:
        """Print `text` as it is; line ends in it separate lines."""
        self._erase()
        lines = [safe(part) for part in text.split("\n")]
        self._write(self.out, "\n".join(lines) + "\n")
        self._mirror(lines)

    def warn(self, text: str) -> None:
        """Print `warning  text` on standard error."""
        self._erase()
        lines = [safe(part) for part in text.split("\n")]
        word = "\x1b[33mwarning\x1b[0m" if self.colours and _is_terminal(self.err) else "warning"
        body = "\n".join(lines)
        self._write(self.err, f"{word}  {body}\n")
        self._mirror(["warning  " + lines[0], *lines[1:]])

    def error(self, text: str) -> None:
        """Print `text` on standard error: what went wrong and what to type."""
        self._erase()
        lines = [safe(part) for part in text.split("\n")]
        self._write(self.err, "\n".join(lines) + "\n")
        self._mirror(lines)

    def log_only(self, text: str) -> None:
        """Write `text` (a traceback, say) to `run.log` alone."""
        self._mirror([safe(part) for part in text.rstrip("\n").split("\n")])

    # ---- run.log

    def attach(self, path: Path) -> None:
        """From now on every line also goes to `path`, behind what is there, with its time."""
        self.detach()
        self._log = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def detach(self) -> None:
        """No longer write to a `run.log`."""
        log, self._log = self._log, None
        if log is not None:
            with contextlib.suppress(OSError):  # what could not be written has been told when it was
                log.close()

    def _mirror(self, lines: Sequence[str]) -> None:
        if self._log is None:
            return
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            self._log.write("".join(f"{now}  {text}".rstrip() + "\n" for text in lines))
        except (OSError, ValueError) as error:
            path, self._log = self._log.name, None
            self.warn(f"cannot write {path} any more: {error}")

    # ---- the live line

    def progress(self, label: str, done: float, total: int, parts: Callable[[], Sequence[str]] = tuple) -> None:
        """Redraw the live line, at most five times a second; nothing where there is no terminal.

        `parts` is called only when the line is drawn and gives what stands behind the bar, the most important
        first: where the terminal is narrow, the bar goes first, then the last parts.
        """
        now = time.monotonic()
        if now - self._last_draw < REDRAW_SECONDS:
            return
        self._last_draw = now
        if not self.live or self._is_gone(self.out):
            return
        share = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
        self._write(self.out, ERASE + self._compose(safe(label), share, [safe(part) for part in parts()]))
        self._drawn = True

    def _compose(self, label: str, share: float, parts: list[str]) -> str:
        room = self.columns - 1  # the last column wraps on some terminals
        while parts and width("  ".join([label, *parts])) > room:
            parts = parts[:-1]
        text = "  ".join(["", *parts])
        bar = min(32, room - width(label) - width(text) - 2)
        if bar < 8:
            return cut(label + text, room)
        full = round(share * bar)
        if encodable("━", self.out.encoding) != "━":
            return f"{label}  [{'=' * max(0, min(full, bar - 2)):<{bar - 2}}]{text}"
        if self.colours:
            return f"{label}  \x1b[36m{'━' * full}\x1b[0m\x1b[2m{'─' * (bar - full)}\x1b[0m{text}"
        return f"{label}  {'━' * full}{'─' * (bar - full)}{text}"

    def clear(self) -> None:
        """Take the live line away; the next `progress` draws at once."""
        self._erase()
        self._last_draw = float("-inf")

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = False
            self._write(self.out, ERASE)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _discard(stream: TextIO) -> None:
    """Point the stream's descriptor at nothing, so that the flush at exit does not fail once more."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError):
        pass  # no descriptor behind it: nothing will be flushed
