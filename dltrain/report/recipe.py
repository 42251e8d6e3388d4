"""What a model's, an experiment's or a reg preset's YAML chose for the user: the banner's "from ..." lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from dltrain.config import table

ASKED = ("experiment", "reg", "model")  # in the order in which the later gives way to the earlier


def recipe(choices: Mapping[str, str], typed: Sequence[str] = ()) -> list[str]:
    """`from model=lenet5: optim=sgd schedule=onecycle`, one line a file that chose something which was not typed.

    `choices` is the option in force of each group, `typed` the words of the command line.
    """
    settled = {word.partition("=")[0] for word in typed}
    lines = []
    for group in ASKED:
        if group not in choices:
            continue
        words = []
        for key, value in _chosen(group, choices[group]):
            # a part that is off but for what was typed is not off; an option stays one, whatever of its keys was typed
            in_part = "." in key and any(one.startswith(f"{key}.") for one in settled)
            if key in settled or in_part or choices.get(key, value) != value or value == "default":
                continue
            settled.add(key)
            words.append(f"{key}={value}")
        if words:
            lines.append(f"from {group}={choices[group]}: {' '.join(words)}")
    return lines


def _chosen(group: str, option: str) -> Iterator[tuple[str, str]]:
    """Groups and keys that an option's YAML, and those that it builds on, set outside the option itself."""
    try:
        path = table.option_file(group, option)
    except ValueError:  # an option of the user's own search path
        return
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    is_global = group in ("experiment", "preset")
    for entry in content.pop("defaults", []):
        if isinstance(entry, str):
            if entry != "_self_" and not entry.startswith("_"):
                yield from _chosen(group, entry)
            continue
        for key, name in entry.items():
            other = str(key).removeprefix("override ").removeprefix("/").partition("@")[0]
            if other == "preset":
                yield from _chosen("preset", str(name))
            else:
                yield other, str(name)
    if is_global:
        yield from _leaves(content)


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The keys that a file sets; as one those of a whole part that it turns off."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and len(value) > 1 and prefix and not any(value.values()):
            yield name, "off"
        elif isinstance(value, dict):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, json.dumps(value, separators=(",", ":"), ensure_ascii=False).strip('"')
