"""Which option of each group a command line chooses, and so which keys there are. Needs neither Hydra nor torch.

Reads the same defaults lists as Hydra, so that a key can be looked up in a few milliseconds.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

from dltrain.config import table
from dltrain.config.mode import GROUPS

Chosen = dict[str, dict[str, type]]  # group -> option -> dataclass; several options where the group is swept over

_OVERRIDE = re.compile(r"^\s*-\s*(?:override\s+)?/?(\w+)(?:@[\w.]+)?\s*:\s*(\w+)\s*(?:#.*)?$", re.MULTILINE)
_BUILDS_ON = re.compile(r"^\s*-\s*([a-z]\w*)\s*(?:#.*)?$", re.MULTILINE)
_MOST_COMBINATIONS = 256  # of options typed for a sweep


@dataclass(frozen=True)
class Key:
    """A settings key: its full name, its field, its type, and the class that declares it."""

    name: str
    field: Field[Any]
    type: Any
    owner: type
    given: str = ""  # the value in the YAML of the option that is chosen, as it stands there

    @property
    def group(self) -> str:
        """The group it belongs to; empty for a key that stands alone."""
        return self.name.partition(".")[0] if "." in self.name else ""

    @property
    def free_text(self) -> bool:
        return bool(self.field.metadata.get("free_text"))


def keys_of(cls: type, prefix: str = "") -> Iterator[Key]:
    """The keys below a dataclass, in order. `name` is left out: it says which dataclass reads a saved config."""
    types = get_type_hints(cls)
    for f in fields(cls):
        if is_dataclass(types[f.name]):
            yield from keys_of(types[f.name], f"{prefix}{f.name}.")
        elif f.name != "name" or not prefix:
            owner = next(c for c in cls.__mro__ if f.name in vars(c).get("__annotations__", {}))
            yield Key(prefix + f.name, f, types[f.name], owner)


def as_given(key: Key, option: str) -> Key:
    """The key with its value in the option's own file, or in one that it builds on."""
    if option not in table.options(key.group):  # the dataclass's name, from the config of a run
        return key
    name = re.escape(key.name.partition(".")[2])
    values = (re.search(rf"^{name}:[ ]*([^#\n]+)", text, re.MULTILINE) for text in _files(key.group, option))
    return replace(key, given=next((found[1].strip() for found in values if found), ""))


def alone(mode: type) -> list[Key]:
    """The keys that stand alone in a mode."""
    return [key for key in keys_of(mode) if key.name not in GROUPS]


def default_options() -> dict[str, str]:
    """The root's defaults list."""
    text = (table.configs_folder() / "config.yaml").read_text(encoding="utf-8")
    return {group: option for group, option in _OVERRIDE.findall(text) if group in GROUPS}


def chosen(typed: dict[str, list[str]], saved: dict[str, str] | None = None) -> Chosen:
    """The options in force: typed ones, else the saved run's, else what experiment, reg, model, data and root say.

    Args:
        typed: group -> options on the command line, several if they are swept over. Unknown ones are passed over.
        saved: group -> name of the dataclass, from the config of the run that is opened.
    """
    known = {group: [o for o in given if o in table.options(group)] for group, given in typed.items()}
    known = {group: given for group, given in known.items() if given}
    result: Chosen = {group: {} for group in GROUPS if group in table.SCHEMAS}
    for combination in itertools.islice(itertools.product(*known.values()), _MOST_COMBINATIONS):
        one = dict(zip(known, combination, strict=True))
        for group, options in result.items():
            if saved and group in saved and group not in one:
                options[saved[group]] = table.SCHEMAS[group][saved[group]]
        for group, option in _complete(one).items():
            if group in result and not (saved and group in saved and group not in one):
                result[group][option] = table.schema(group, option)
    return result


def _complete(typed: dict[str, str]) -> dict[str, str]:
    """One choice a group: lists are walked from the root's last group to its first, the first word counts."""
    found, root = dict(typed), default_options()
    for group in reversed(GROUPS):
        option = found.get(group) or root.get(group)
        if option is None:
            continue
        found[group] = option
        for other, choice in _says(group, option):
            if other in GROUPS:
                found.setdefault(other, choice)
        task = table.task_of(group, table.schema(group, option)) if group in table.SCHEMAS else None
        if task is not None:
            found.setdefault("task", task)
    return found


def _says(group: str, option: str) -> Iterator[tuple[str, str]]:
    """What an option's file says about other groups; the file itself before what it builds on."""
    for text in _files(group, option):
        yield from _OVERRIDE.findall(text)


def _files(group: str, option: str) -> Iterator[str]:
    for _ in range(10):
        text = table.option_text(group, option)
        yield text
        builds_on = _BUILDS_ON.search(text)
        if builds_on is None:
            return
        option = builds_on[1]
