"""Which jobs the words behind `-m` make. Needs no torch.

The words are parsed by Hydra's own override parser and multiplied as its basic sweeper does (the last key varies
fastest), so its grammar and quoting hold: `a,b`, `choice(a,b)`, `range(1,4)`, `glob(*)`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from dltrain.config import table
from dltrain.config.messages import Mistake, command
from dltrain.config.quote import is_quoted, quote, unquote

LAUNCHING = ("hydra/launcher", "hydra/sweeper")


class _Options:
    """The group options that `glob(...)` chooses from: ours alone, without Hydra's own nodes."""

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        return table.options(group_name) if group_name in table.SCHEMAS else []


def expand(words: list[str]) -> tuple[list[list[str]], list[str]]:
    """The words of each job, and the keys that differ between jobs; the last key varies fastest."""
    parser = OverridesParser.create(config_loader=_Options())  # type: ignore[arg-type]
    choices: list[list[str]] = []
    keys: list[str] = []
    for word in words:
        try:
            one = parser.parse_override(word)
        except Exception as error:
            raise Mistake(f"{word} cannot be read: {error}", allowed="key=value, or key=a,b,c to sweep") from None
        if not one.is_sweep_override():
            choices.append([word])
            continue
        key = one.get_key_element()
        if not one.is_discrete_sweep():
            raise Mistake(
                f"{word} is a range without steps, of which a grid knows no values",
                allowed="values: key=a,b,c, choice(a,b,c) or range(start,stop,step)",
                type_this=f"{key}=range(1,4)",
            )
        one.config_loader = parser.config_loader
        values = list(one.sweep_string_iterator())
        _refuse_twice(word, key, values)
        choices.append([f"{key}={value}" for value in values])
        if len(values) > 1:
            keys.append(key)
    return [list(job) for job in itertools.product(*choices)], keys


def _refuse_twice(word: str, key: str, values: list[str]) -> None:
    if not values:
        raise Mistake(f"{word} holds no value", allowed="at least one", type_this=f"--help {key.partition('.')[0]}")
    once = list(dict.fromkeys(values))
    if len(once) < len(values):
        raise Mistake(f"{word} holds a value twice", allowed="each value once", type_this=f"{key}={','.join(once)}")


def own_words(words: list[str]) -> tuple[list[str], str | None]:
    """The words of the jobs, and where the sweep's folder is wanted. What would be ignored is a mistake."""
    kept, output = [], None
    for word in words:
        key, _, value = word.partition("=")
        if key in LAUNCHING:
            if value != "basic":
                raise foreign_launcher(key, value)
        elif key.startswith(("hydra.launcher", "hydra.sweeper", "hydra.sweep", "hydra.run", "hydra.job")):
            raise Mistake(
                f"{word} has no say in a sweep",
                allowed="output=FOLDER for the sweep's folder; its jobs run one after another in this process",
                type_this="output=sweeps/first",
            )
        elif key == "resume" and value != "null":
            raise Mistake(f"{word}: a sweep makes new runs", allowed="resume= without -m", type_this=command([word]))
        elif key == "output" and value != "null":
            output = unquote(value)
            if len(expand([word])[0]) > 1:
                raise Mistake(f"{word}: a sweep has one folder", allowed="one folder", type_this="output=sweeps/first")
        else:
            kept.append(word)
    return kept, output


def foreign_launcher(key: str, value: str) -> Mistake:
    return Mistake(
        f"{key}={value} cannot run a sweep here",
        allowed=f"{key}=basic: jobs run one after another in this process",
        type_this=f"{key}=basic",
    )


def as_typed(words: Sequence[str]) -> list[str]:
    """The words as people type them: free text without the quotes that it has for Hydra."""
    shown = []
    for word in words:
        key, _, value = word.partition("=")
        plain = unquote(value)
        shown.append(f"{key}={plain}" if is_quoted(value) and quote(plain) == value and plain != "null" else word)
    return shown
