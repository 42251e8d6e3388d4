"""`config.json`: the only config that is ever read back, and never trusted.

Plain JSON of bounded size and depth into the dataclasses of `table.SCHEMAS`, found by the `name` of each group. Every
group must be there, no key that is not ours may be, and each value has the exact type of its field. Nothing in the
file names code, is interpolated, or is merged by Hydra. What belongs to one command line and not to the run (`trust
output resume`) is neither written nor read: trust never comes from a file.
"""

import json
import math
import types
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from dltrain.config import table
from dltrain.config.messages import Mistake
from dltrain.config.mode import GROUPS, Config
from dltrain.config.ranges import check_ranges

MAX_BYTES = 256 * 1024
MAX_DEPTH = 8
OF_THE_COMMAND_LINE = frozenset({"trust", "output", "resume"})


def to_json(cfg: Config) -> dict[str, Any]:
    """The config as plain JSON values, without what belongs to the command line."""
    return {f.name: _plain(getattr(cfg, f.name)) for f in fields(cfg) if f.name not in OF_THE_COMMAND_LINE}


def from_json(text: str, where: str = "config.json") -> Config:
    """The config in a text. Raises Mistake if it is not exactly a config of ours."""
    if len(text) > MAX_BYTES:
        raise Mistake(f"{where} is larger than any config: more than {MAX_BYTES:,} bytes")
    _check_depth(text, where)
    try:
        tree = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Mistake(f"{where} is not JSON: {error}") from None
    cfg = _Reader(where).config(tree)
    try:
        check_ranges(cfg)
    except Mistake as mistake:
        raise Mistake(f"{where}: {mistake.what}", allowed=mistake.allowed) from None
    return cfg


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _check_depth(text: str, where: str) -> None:
    depth = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Mistake(f"{where} is nested deeper than any config: more than {MAX_DEPTH} levels")
        elif char in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_show(twice)} is there twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _show(value: Any) -> str:
    """A value from the file for a message: short, printable, on one line."""
    text = ascii(value) if isinstance(value, str) else f"a {type(value).__name__}"
    if isinstance(value, int | float) or value is None:
        text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Reader:
    """Turns a tree of JSON values into dataclasses, or tells the first place where it does not fit."""

    def __init__(self, where: str) -> None:
        self.where = where

    def refuse(self, what: str, allowed: str = "", type_this: str = "") -> NoReturn:
        raise Mistake(f"{self.where}: {what}", allowed=allowed, type_this=type_this)

    def config(self, tree: Any) -> Config:
        if not isinstance(tree, dict):
            self.refuse("not a config: no keys")
        cls = self.named("mode", tree.get("mode"))
        values = self.entries(tree, cls, "", skip=OF_THE_COMMAND_LINE)
        for f in fields(Config):
            if f.name in GROUPS and f.name != "mode":
                if f.name not in values:
                    self.refuse(f"the group {f.name} is missing")
                values[f.name] = self.group(f.name, values[f.name])
        return cls(**values)  # type: ignore[no-any-return]

    def named(self, group: str, name: Any) -> Any:
        known = table.SCHEMAS[group]
        if not isinstance(name, str) or name not in known:
            key = "mode" if group == "mode" else f"{group}.name"
            hint = "a model or data set of your own needs its package: trust=[my_package]"
            self.refuse(
                f"{key} is {_show(name)}, which is not known here",
                allowed=", ".join(sorted(known)),
                type_this=hint if group in ("model", "data") else "",
            )
        return known[name]

    def group(self, group: str, tree: Any) -> Any:
        if not isinstance(tree, dict):
            self.refuse(f"{group} is {_show(tree)}, not a set of keys")
        cls = self.named(group, tree.get("name"))
        return cls(**self.entries(tree, cls, f"{group}."))

    def entries(
        self, tree: dict[str, Any], cls: Any, prefix: str, skip: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        wanted = [f.name for f in fields(cls) if f.name not in skip]
        for key in tree:
            if key not in wanted:
                self.refuse(f"the key {_show(prefix + key)} does not belong there")
        hints = get_type_hints(cls)
        # A key that is missing is newer than the run: its default means what was done before there was a choice.
        return {key: self.value(tree[key], hints[key], prefix + key) for key in wanted if key in tree}

    def value(self, value: Any, hint: Any, key: str) -> Any:
        """The value as its field's type has it."""
        if hint is Any:
            return value  # a group: read by its own name
        if get_origin(hint) in (Union, types.UnionType):
            if value is None and type(None) in get_args(hint):
                return None
            hint = next(arg for arg in get_args(hint) if arg is not type(None))
        if get_origin(hint) is list:
            if not isinstance(value, list):
                self.refuse(f"{key} is {_show(value)}", allowed="a list")
            return [self.value(item, get_args(hint)[0], key) for item in value]
        if is_dataclass(hint):
            if not isinstance(value, dict):
                self.refuse(f"{key} is {_show(value)}", allowed="a set of keys")
            return hint(**self.entries(value, hint, f"{key}."))  # type: ignore[operator]
        return self.scalar(value, hint, key)

    def scalar(self, value: Any, hint: type, key: str) -> Any:
        if issubclass(hint, Enum):
            names = [str(member.value) for member in hint]
            if not isinstance(value, str) or value not in names:
                self.refuse(f"{key} is {_show(value)}", allowed=", ".join(names))
            return hint(value)
        if hint is float and type(value) in (int, float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number):
                self.refuse(f"{key} is not a finite number")
            return number
        if type(value) is not hint:
            self.refuse(f"{key} is {_show(value)}", allowed=f"a value of type {hint.__name__}")
        if isinstance(value, str) and ("${" in value or value == "???" or "\0" in value):
            self.refuse(f"{key} is {_show(value)}, which Hydra would not take as plain text")
        return value
