"""Whether a typed value fits a key, as far as that is plain without Hydra; and what would fit."""

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin

from dltrain.config.choices import Key
from dltrain.config.nearest import nearest, plain
from dltrain.config.quote import is_quoted, split, unquote

_INT = r"(?:0|[1-9](?:_?\d)*)"
_POINT = rf"(?:{_INT}\.|(?:{_INT})?\.\d(?:_?\d)*)"
_IS_INT = re.compile(rf"[+-]?{_INT}\Z")
_IS_FLOAT = re.compile(rf"[+-]?(?:{_POINT}|(?:{_POINT}|{_INT})[eE][+-]?\d(?:_?\d)*|inf|nan)\Z", re.IGNORECASE)
_IS_CALL = re.compile(r"[A-Za-z_][\w-]*\s*\(.*\)\s*\Z", re.DOTALL)
_TRUE, _FALSE = {"true", "yes", "y", "on", "1"}, {"false", "no", "n", "off", "0"}


def shape_of(kind: Any) -> tuple[Any, bool, bool]:
    """A key's type, taken apart: the plain type, whether it is a list of them, whether null may stand there."""
    optional = False
    if get_origin(kind) in (Union, UnionType):
        optional = True
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is list:
        return get_args(kind)[0], True, optional
    return kind, False, optional


def parse(text: str) -> bool | int | float | str | None:
    """A plain value as Hydra's grammar reads it."""
    text = text.strip(" \t")
    low = text.lower()
    if low == "null":
        return None
    if low in ("true", "false"):
        return low == "true"
    if _IS_INT.match(text):
        return int(text)
    return float(text) if _IS_FLOAT.match(text) else unquote(text)


def bounds(metadata: Mapping[str, Any]) -> str:
    """The range in words: `>= 0 and < 1`."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return " and ".join(f"{sign} {_number(metadata[k])}" for k, sign in signs.items() if metadata.get(k) is not None)


def _number(value: float) -> str:
    if isinstance(value, int) and value > 1e6 and value.bit_count() == 1:
        return f"2^{value.bit_length() - 1}"
    return f"{value:g}"


def allowed(key: Key) -> str:
    """What may stand behind a key: type or choices, range, null."""
    kind, is_list, optional = shape_of(key.type)
    if isinstance(kind, type) and issubclass(kind, Enum):
        words = ", ".join(kind.__members__)
    else:
        words = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
    if is_list:
        inner, nested, _ = shape_of(kind)
        words = {int: "whole numbers", float: "numbers"}.get(inner, words)
        form = "[[a, b, ...], ...]" if nested else "[a, b, ...]"
        words = f"a list of {how_many(key.field.metadata)}{'lists of ' if nested else ''}{words}: {form}"
    limits = bounds(key.field.metadata)
    words += f"{', each' if is_list and limits else ''} {limits}" if limits else ""
    return words + (", or null" if optional else "")


def how_many(metadata: Mapping[str, Any]) -> str:
    """How many elements a list may have, in front of what they are: `1 to 8 `; nothing where any number will do."""
    fewest, most = metadata.get("fewest", 0), metadata.get("most")
    return f"{fewest} to {most} " if most is not None else f"{fewest} or more " if fewest else ""


def enough(metadata: Mapping[str, Any], elements: int) -> bool:
    """Whether a list may have so many elements."""
    fewest, most = metadata.get("fewest", 0), metadata.get("most")
    return bool(elements >= fewest and (most is None or elements <= most))


def undecided(text: str) -> bool:
    """Whether only Hydra can tell what a value is: it refers to another, or is a call."""
    return "${" in text or (bool(_IS_CALL.match(text.strip())) and not is_quoted(text.strip()))


def fits(key: Key, text: str) -> bool:
    """Whether a single value (no sweep) fits the key's type, choices and range. What only Hydra can tell fits."""
    kind, is_list, optional = shape_of(key.type)
    text = text.strip(" \t")
    if undecided(text):
        return True
    if parse(text) is None:
        return optional
    if is_list:
        if not text.startswith("["):
            return key.free_text and (bool(text) or default_of(key) == [])
        inner = text[1:-1].strip()
        parts = split(inner) if inner else []
        right = all(_fits(kind, key, part) for part in parts)
        return text.endswith("]") and right and enough(key.field.metadata, len(parts))
    return _fits(kind, key, text)


def _fits(kind: Any, key: Key, text: str) -> bool:
    text = text.strip(" \t")
    if undecided(text):
        return True
    if get_origin(kind) is list:
        parts = split(text[1:-1]) if text.startswith("[") and text.endswith("]") else []
        return bool(parts) and all(_fits(get_args(kind)[0], key, part) for part in parts)
    if text[:1] in ("[", "{") and not is_quoted(text):
        return key.free_text
    value = parse(text)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return isinstance(value, str) and value.removeprefix(f"{kind.__name__}.") in kind.__members__
    if kind is bool:
        return isinstance(value, int) or (isinstance(value, str) and value.lower() in _TRUE | _FALSE)
    if kind in (int, float):
        if isinstance(value, bool) or value is None or (kind is int and isinstance(value, float)):
            return False
        try:
            return within(key.field.metadata, kind(value))
        except ValueError:
            return False
    return value is not None


def within(metadata: Mapping[str, Any], value: float) -> bool:
    """Whether a number is finite and in the range of a field."""
    ge, gt, le, lt = (metadata.get(k) for k in ("ge", "gt", "le", "lt"))
    return (
        math.isfinite(value)
        and (ge is None or value >= ge)
        and (gt is None or value > gt)
        and (le is None or value <= le)
        and (lt is None or value < lt)
    )


def suggest(key: Key, text: str) -> str:
    """A value near the typed one that fits; an empty string if nothing does."""
    kind, is_list, optional = shape_of(key.type)
    text = text.strip(" \t=")
    tries: list[str] = [text]
    if is_list:
        inner = text.strip("[](){}").replace(";", ",")
        tries += [f"[{inner}]", "[" + ",".join(inner.split()) + "]", f"[[{inner}]]"]
    elif isinstance(kind, type) and issubclass(kind, Enum):
        tries += [nearest(text, kind.__members__)]
    elif kind is bool:
        tries += ["true"] if plain(text)[:1] == "t" else ["false"] if plain(text)[:1] in ("f", "n") else []
    elif kind in (int, float):
        tries += _numbers(key, kind, text.replace(",", ".") if text.count(",") == 1 else text)
    if optional and plain(text) in ("", "none", "nil", "nan", "off", "false", "no", "~"):
        tries.insert(0, "null")
    tries.append(usual(key))
    return next((t for t in tries if t and fits(key, t)), "")


def _numbers(key: Key, kind: Any, text: str) -> list[str]:
    try:
        value = float(text)
    except ValueError:
        return []
    if not math.isfinite(value):
        return []
    meta = key.field.metadata
    clipped = max(value, meta["ge"]) if meta.get("ge") is not None else value
    clipped = min(clipped, meta["le"]) if meta.get("le") is not None else clipped
    return [str(round(clipped))] if kind is int else [written(float(clipped))]


def default_of(key: Key) -> Any:
    """The default that the dataclass gives."""
    if key.field.default is not MISSING:
        return key.field.default
    return key.field.default_factory() if key.field.default_factory is not MISSING else None


def usual(key: Key) -> str:
    """What a key is if nobody sets it, as one types it: by the chosen option's file, else by the dataclass."""
    if key.given.startswith("["):
        return key.given.replace(" ", "")
    return written(parse(key.given) if key.given else default_of(key))


def written(value: Any) -> str:
    """A value as one types it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(written(v) for v in value) + "]"
    if isinstance(value, Enum):
        return value.name
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
