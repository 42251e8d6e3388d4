"""Text from outside (file names, class names) made safe to print."""

import json
import re
from collections.abc import Sequence

SHOWN = 5  # names in a message at most


def safe_text(text: str, longest: int = 200) -> str:
    r"""Control characters, line breaks, bidirectional marks and undecodable bytes shown as `\x1b`, `\u202e`.

    Longer text is cut in the middle. Rich markup is left as it is: whoever prints with markup escapes it.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    if len(shown) > longest:
        half = (longest - 3) // 2
        shown = f"{shown[:half]}...{shown[-half:]}"
    return shown


def json_bytes(text: str) -> bytes:
    """JSON text in UTF-8; what cannot be printed is escaped, which means the same, so that a terminal may show it."""
    return re.sub(r"[^\x00-\x7e]", lambda c: c[0] if c[0].isprintable() else json.dumps(c[0])[1:-1], text).encode()


def some(names: Sequence[str]) -> str:
    """A few names, safe to print, and how many more there are."""
    shown = ", ".join(safe_text(name) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN:,} more"
