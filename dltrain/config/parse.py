"""Reads the few settings that are strings with a grammar of their own: times, sizes, devices, thread counts."""

import re
from typing import Literal

from dltrain.config.messages import Mistake

_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "sec": 1.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(min|sec|h|m|s)")
_LARGEST_SIDE = 65_536


def seconds(text: str, key: str = "trainer.max_time") -> float:
    """`90s`, `45min`, `2h30m` or `1.5h` in seconds. Raises Mistake on anything else, and on no time at all."""
    compact = text.strip().lower().replace(" ", "")
    parts = _PART.findall(compact)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != compact or not 0 < total < 1e9:
        raise Mistake(f"{key}={text} is not a time", allowed="90s, 45min, 2h30m", type_this=f"{key}=45min")
    return total


def save_interval(text: str) -> tuple[Literal["seconds"], float] | tuple[Literal["steps"], int]:
    """`10min` as ("seconds", 600.0), `500` as ("steps", 500)."""
    stripped = text.strip()
    if re.fullmatch(r"[0-9]{1,15}", stripped):
        if int(stripped) < 1:
            raise Mistake(f"trainer.save_every={text} is no interval", allowed="1 step or more, or a time: 10min")
        return "steps", int(stripped)
    try:
        return "seconds", seconds(stripped)
    except Mistake:
        raise Mistake(
            f"trainer.save_every={text} is neither a time nor a number of steps",
            allowed="a time (10min, 2h30m) or a number of steps (500)",
            type_this="trainer.save_every=10min",
        ) from None


def image_size(text: str, key: str = "data.size") -> tuple[int, int] | None:
    """`180x240` as (180, 240), `96` as (96, 96), `auto` as None."""
    stripped = text.strip().lower()
    if stripped == "auto":
        return None
    found = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", stripped)
    if found:
        height = int(found[1])
        width = int(found[2]) if found[2] else height
        if 1 <= height <= _LARGEST_SIDE and 1 <= width <= _LARGEST_SIDE:
            return height, width
    raise Mistake(
        f"{key}={text} is not an image size",
        allowed="auto, 96 or 180x240 (height x width in pixels)",
        type_this=f"{key}=auto",
    )


def thread_count(text: str) -> int | None:
    """Number of CPU threads, None for `auto`."""
    stripped = text.strip().lower()
    if stripped == "auto":
        return None
    if re.fullmatch(r"[0-9]{1,4}", stripped) and 1 <= int(stripped) <= 1024:
        return int(stripped)
    raise Mistake(
        f"trainer.threads={text} is not a number of threads",
        allowed="auto, or a whole number from 1 to 1024",
        type_this="trainer.threads=auto",
    )


def device_name(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N`, as torch spells it."""
    stripped = text.strip().lower()
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", stripped):
        return stripped
    raise Mistake(f"device={text} is not a device", allowed="auto, cpu, cuda, cuda:0", type_this="device=auto")
