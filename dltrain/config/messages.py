"""A user's mistake, told in one shape."""

import importlib.util
import shlex
import sys
from collections.abc import Iterable, Sequence

from dltrain.text import safe_text


def command(words: Iterable[str]) -> str:
    """A command line, quoted for a shell, ready to paste."""
    return shlex.join(["dltrain", *words])


def ready_to_paste(advice: str, words: Sequence[str]) -> str:
    """Words that put a mistake right, among the others that were typed; whole commands stay as they are."""
    try:
        right = dict(word.split("=", 1) for word in shlex.split(advice))
    except ValueError:  # no words of the form key=value
        return advice
    if not right:
        return advice
    kept = [word for word in words if word.partition("=")[0] not in right]
    return command([*kept, *(f"{key}={value}" for key, value in right.items())])


class Mistake(Exception):
    """Something the user can put right: exit code 2, no traceback.

    `what` names the key and the value, `allowed` what may stand there, `nearest` the closest valid name,
    `type_this` a command or words to paste.
    """

    def __init__(self, what: str, *, allowed: str = "", nearest: str = "", type_this: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.allowed = allowed
        self.nearest = nearest
        self.type_this = type_this

    def __str__(self) -> str:
        lines = [self._lines(self.what, "")]
        for head, text in (("allowed", self.allowed), ("nearest", self.nearest), ("type", self.type_this)):
            if text:
                lines.append(self._lines(text, f"  {head:<9}"))
        return "\n".join(lines)

    @staticmethod
    def _lines(text: str, head: str) -> str:
        lines = [safe_text(line, longest=sys.maxsize) for line in text.split("\n")]
        return head + ("\n" + " " * len(head)).join(lines)


class Failure(Exception):
    """A run that cannot go on, with a message for people: exit code 1. `resumes`: whether `resume=` may help."""

    def __init__(self, what: str, *, resumes: bool = True) -> None:
        super().__init__(what)
        self.resumes = resumes


def has_module(module: str) -> bool:
    """Whether a package is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require_extra(module: str, extra: str, *, what: str = "") -> None:
    """Make sure that an optional package is installed, without importing it.

    Args:
        module: the module that is needed, such as `onnx`.
        extra: the extra of dltrain that brings it, such as `export`.
        what: the key and value that need it; by default the module's name.

    Raises:
        Mistake: it is not installed.
    """
    if not has_module(module):
        raise Mistake(
            f"{what or module}: needs the package {module}, not installed", type_this=f'pip install "dltrain[{extra}]"'
        )
