"""Free text on the command line: literal unless the user quotes it.

Hydra's grammar refuses non-ASCII letters, `#`, `=` and `a(1).png` in values. For keys whose value is free text
(paths, runs), what was typed is put in quotes that Hydra reads back as exactly the typed text.
Text in quotes is Hydra's own; `null` stays null.
"""

import re

_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def quote(text: str) -> str:
    """The text in single quotes, so that Hydra and OmegaConf read exactly this text."""
    text = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", text)  # OmegaConf: an escaped interpolation is text
    text = re.sub(r"(\\+)('|\Z)", lambda m: m[1] * 2 + m[2], text)  # Hydra: only before a quote or the end
    return "'" + text.replace("'", r"\'") + "'"


def element(text: str) -> str:
    """The text as an element of a list of free text; in quotes only where it would be read otherwise."""
    if "," not in text and not text.startswith(("'", '"')) and text == text.strip() and text not in ("null", "..."):
        return text
    return f'"{text}"' if not set('"\\$') & set(text) else quote(text)


def closing(text: str, start: int) -> int:
    """Index of the quote that closes the one at `start`, -1 if there is none."""
    i = start + 1
    while i < len(text):
        if text[i] == "\\":
            i += 2
        elif text[i] == text[start]:
            return i
        else:
            i += 1
    return -1


def is_quoted(text: str) -> bool:
    """Whether the whole text is one value in quotes."""
    return len(text) >= 2 and text[0] in "'\"" and closing(text, 0) == len(text) - 1


def unquote(text: str) -> str:
    """The text that a value stands for: quotes taken off if it has them."""
    if not is_quoted(text):
        return text
    mark, inner = text[0], text[1:-1]
    inner = re.sub(r"(\\+)" + mark, lambda m: "\\" * (len(m[1]) // 2) + mark, inner)
    inner = re.sub(r"\\+\Z", lambda m: "\\" * (len(m[0]) // 2), inner)
    return re.sub(r"(\\+)\$\{", lambda m: "\\" * (len(m[1]) // 2) + "${", inner)


def split(text: str, *, brackets: bool = True) -> list[str]:
    """Parts between commas that stand outside of quotes, and outside of brackets if they count.

    A quote mark opens a quoted part only at the beginning of a part, so that `it's` is a word like any other.
    """
    parts, start, i = [], 0, 0
    stack: list[str] = []
    fresh = True  # nothing but space since the last comma or bracket
    while i < len(text):
        c = text[i]
        if c in "'\"" and fresh and (end := closing(text, i)) > 0:
            i, fresh = end + 1, False
            continue
        if c == "\\" and brackets:
            i, fresh = i + 2, False
            continue
        if brackets and c in _BRACKETS:
            stack.append(_BRACKETS[c])
            i, fresh = i + 1, True
            continue
        if brackets and stack and c == stack[-1]:
            stack.pop()
        elif c == "," and not stack:
            parts.append(text[start:i])
            start = i + 1
        fresh = c == "," or (fresh and c.isspace())
        i += 1
    return [*parts, text[start:]]


def _literal(text: str) -> str:
    return text if text == "null" or is_quoted(text) else quote(text)


def free_text(value: str, *, sweep: bool = False, elements: bool = False) -> str:
    """The value of a free-text key as Hydra must see it.

    Args:
        value: what was typed behind `=`.
        sweep: under `-m`, where commas part the values of a sweep.
        elements: the key holds a list: `[a, b]`, each element free text; without brackets a list of one.
    """
    if elements:
        lists = split(value) if sweep else [value]
        return ",".join(_list(part.strip()) for part in lists)
    if not sweep:
        return _literal(value)
    return ",".join(
        _literal(part.strip() if is_quoted(part.strip()) else part) for part in split(value, brackets=False)
    )


def _list(text: str) -> str:
    if not (text.startswith("[") and text.endswith("]")):
        return text if text == "null" else f"[{_literal(text)}]" if text else "[]"
    inner = text[1:-1]
    if not inner.strip():
        return "[]"
    return "[" + ",".join(_literal(part.strip()) for part in split(inner, brackets=False)) + "]"
