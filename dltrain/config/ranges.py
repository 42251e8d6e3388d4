"""What every value must be on its own: within its range, and in the grammar of strings that have one."""

import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from dltrain.config import parse
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.value import enough, how_many


def check_ranges(cfg: Config) -> None:
    """Raise Mistake for the first value that is out of its range, or no time, size, device or thread count."""
    for key, value, f in _settings(cfg):
        check_range(key, value, f)
    parse.device_name(cfg.device)
    parse.thread_count(cfg.trainer.threads)
    parse.save_interval(cfg.trainer.save_every)
    parse.image_size(cfg.data.size)
    if cfg.trainer.max_time is not None:
        parse.seconds(cfg.trainer.max_time)


def _settings(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, Field[Any]]]:
    for f in fields(settings):
        value = getattr(settings, f.name)
        if is_dataclass(value):
            yield from _settings(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value, f


def check_range(key: str, value: Any, f: Field[Any]) -> None:
    """Raise Mistake if a value lies outside what its field allows."""
    if isinstance(value, list) and not enough(f.metadata, len(value)):
        raise Mistake(
            f"{key}={shown(value)} has {len(value)} elements",
            allowed=f"a list of {how_many(f.metadata).strip()}",
            type_this=f"{key}={shown(_default(f))}",
        )
    for one in _flat(value):
        if isinstance(one, str) and ("${" in one or "\0" in one):
            raise Mistake(f"{key}={one!r} holds {'${' if '${' in one else 'a null byte'}", allowed="other text")
        if isinstance(one, bool) or not isinstance(one, int | float):
            continue
        bounds = {name: f.metadata.get(name) for name in ("ge", "gt", "le", "lt")}
        outside = (
            not math.isfinite(one)
            or (bounds["ge"] is not None and one < bounds["ge"])
            or (bounds["gt"] is not None and one <= bounds["gt"])
            or (bounds["le"] is not None and one > bounds["le"])
            or (bounds["lt"] is not None and one >= bounds["lt"])
        )
        if outside:
            raise Mistake(
                f"{key}={shown(value)} is out of range",
                allowed=range_of(f),
                type_this=f"{key}={shown(_default(f))}",
            )


def _flat(value: Any) -> list[Any]:
    """The value, or all that lists of it hold."""
    return [one for item in value for one in _flat(item)] if isinstance(value, list) else [value]


def range_of(f: Field[Any]) -> str:
    """`> 0`, `>= 0 and < 1`, `finite`, in words for people."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [f"{sign} {f.metadata[name]:g}" for name, sign in signs.items() if f.metadata.get(name) is not None]
    return " and ".join(parts) or "a finite number"


def _default(f: Field[Any]) -> Any:
    return f.default if f.default_factory is MISSING else f.default_factory()


def shown(value: Any) -> str:
    """A value as one types it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(shown(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value)
