"""Which font draws a text: the one in matplotlib's folder, found without importing matplotlib, or one of the system.

DejaVu Sans has the Latin, Greek, Cyrillic, Arabic and Hebrew scripts and the signs that pictures use. For others a
font of the system is looked for by name; letters that no font has are shown as `\\u732b`.
"""

import importlib.util
import itertools
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from dltrain.text import safe_text

SYSTEM = (  # with Chinese, Japanese and Korean letters, by the names of their files on Linux, macOS and Windows
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
)
NOWHERE = "\uffff"  # no font has it: what is drawn in its place stands for a letter that is missing


@lru_cache(maxsize=64)
def face(size: int, path: str = "") -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The default font, or the one at `path`, `size` pixels high."""
    file = path or default_file()
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


def shown(text: str) -> str:
    r"""A text from outside as pictures can show it, on one line: `\x1b`, and `\u732b` where no font has the letter."""
    text = safe_text(text, longest=4096)
    if text.isascii():
        return text
    return "".join(c if _file(c) is not None else c.encode("unicode_escape").decode("ascii") for c in text)


def pieces(text: str) -> list[tuple[str, str]]:
    """A text that `shown` gave, cut into pieces, each with the file of a font that has all its letters."""
    if text.isascii():
        return [(text, default_file())] if text else []
    letters = [(c, _file(c) or default_file()) for c in text]
    groups = itertools.groupby(letters, key=lambda pair: pair[1])
    return [("".join(c for c, _ in group), file) for file, group in groups]


def system_font() -> str | None:
    """The file of the system's font, if a text that was shown has needed one."""
    return _system() if _system.cache_info().currsize else None


@lru_cache(maxsize=1)
def default_file() -> str:
    """DejaVu Sans in matplotlib's folder; empty if it is not there: Pillow's own font."""
    spec = importlib.util.find_spec("matplotlib")
    file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf" if spec and spec.origin else None
    return str(file) if file and file.is_file() else ""


def _file(letter: str) -> str | None:
    """The font that has a letter; None if none has."""
    if _has(default_file(), letter):
        return default_file()
    system = _system()
    return system if system and _has(system, letter) else None


@lru_cache(maxsize=1)
def _system() -> str | None:
    """The file of the system's font for other scripts; None if there is none."""
    for name in SYSTEM:
        try:
            return str(ImageFont.truetype(name, 12).path)
        except (OSError, ImportError):
            continue
    return None


@lru_cache(maxsize=65536)
def _has(path: str, letter: str) -> bool:
    return letter.isascii() or _drawn(path, letter) != _drawn(path, NOWHERE)


def _drawn(path: str, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = face(16, path).getmask(letter)
    return mask.size, bytes(mask)
