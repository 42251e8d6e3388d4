"""`--help`: one screen for people; `--help GROUP`: a group's options and keys, read from the dataclasses."""

import inspect
import os
import re
import textwrap
from collections.abc import Iterable, Iterator

from dltrain import __version__
from dltrain.config import table
from dltrain.config.choices import Key, alone, as_given, chosen, default_options, keys_of
from dltrain.config.meant import group_with, meant
from dltrain.config.messages import Mistake, command
from dltrain.config.mode import GROUPS, Config
from dltrain.config.nearest import nearest
from dltrain.config.value import allowed, shape_of, usual

NARROWEST, WIDEST = 40, 100

GROUP_SUMMARIES = {
    "mode": "what to do",
    "model": "the network",
    "data": "the images",
    "task": "what is learned; follows from model and data",
    "reg": "penalties on weights, and presets against overfitting",
    "clip": "gradient clipping",
    "optim": "the optimizer",
    "schedule": "the learning rate over time",
    "precision": "number format while training",
    "trainer": "how long, and in what portions",
    "log": "what is told while training",
    "init": "where the first weights come from",
    "experiment": "named, complete settings with their results",
}

EXAMPLES = [
    ([], "LeNet-5 on the embedded digits"),
    (["model=mlp", "optim=adam", "trainer.epochs=5"], "other options, another length"),
    (["mode=data", "data=folder", "data.root=photos"], "look at your own folders"),
    (["mode=summary", "model=mlp", "data=mnist"], "layers, parameters, memory"),
    (["experiment=mnist_lenet5"], "a named, complete setting"),
    (["resume=last"], "go on with an unfinished run"),
    (["-m", "model=mlp,lenet5", "seed=0,1,2"], "a sweep: every combination"),
    (["mode=compare", "runs=outputs/sweeps"], "runs side by side"),
    (["mode=eval", "run=last"], "a run's metrics again"),
    (["mode=predict", "run=last", "input=photos"], "what it says of images"),
    (["mode=generate", "run=last", "n=64"], "images, of a generator"),
    (["mode=export", "run=last"], "as ONNX"),
    (["mode=reproduce", "run=last"], "train it again: same bits?"),
]

FLAGS = [
    ("-m", "sweep over values parted by commas"),
    ("--help [GROUP]", "this, or a group's options and keys"),
    ("--cfg job", "print the config of a command, run nothing"),
    ("--completion SHELL", "tab completion for bash, zsh or fish"),
    ("--version", "the version"),
]


def show(topic: str | None = None, columns: int | None = None) -> str:
    """The text of `--help TOPIC`: a group, `group=option`, a key, or without a topic everything on one screen.

    Raises:
        Mistake: there is no such topic.
    """
    page = _Page(columns)
    if not topic:
        return page.overview()
    group, equals, option = topic.partition("=")
    if not equals and topic not in GROUPS and group_with(topic):
        group, equals, option = group_with(topic), "=", topic
    if group in GROUPS:
        if equals and option not in table.options(group):
            like = nearest(option, table.options(group))
            raise Mistake(
                f"--help {topic}: {group} has no option {option}",
                allowed=f"{group}={'|'.join(table.options(group))}",
                nearest=f"{group}={like}",
                type_this=command(["--help", f"{group}={like}"]),
            )
        return page.group(group, option)
    keys = [key for key in _every_key() if key.name == topic or key.name.startswith(f"{topic}.")]
    if not keys:
        guess = meant(group, chosen({}), option if equals else None)
        raise Mistake(
            f"--help {topic}: there is no group or key of that name",
            allowed=f"groups {', '.join(GROUPS)}; keys, such as trainer.epochs",
            nearest=guess.name,
            type_this=command(["--help", guess.name] if guess.near else ["--help"]),
        )
    first = {key.name: key for key in reversed(keys)}  # an option's key may be another's too
    return "\n".join(line for key in reversed(first.values()) for line in page.key(key))


def _every_key() -> Iterator[Key]:
    for option in table.options("mode"):
        yield from alone(table.schema("mode", option))
    for group, schemas in table.SCHEMAS.items():
        if group != "mode":
            for cls in schemas.values():
                yield from keys_of(cls, f"{group}.")


def _first_paragraph(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


class _Page:
    """Text of a given width."""

    def __init__(self, columns: int | None) -> None:
        wanted = _terminal_columns() if columns is None else columns
        self.columns = max(NARROWEST, min(wanted, WIDEST))

    def wrap(self, text: str, indent: int = 0, first: str = "") -> list[str]:
        """Lines of `text`, all but the first indented; the first begins with `first`."""
        return textwrap.wrap(
            text,
            self.columns,
            initial_indent=first,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [first.rstrip()]

    def table(self, rows: Iterable[tuple[str, str]], left: int) -> list[str]:
        """Two columns, `left` wide the first; one below the other where the screen is narrow."""
        lines: list[str] = []
        for head, text in rows:
            if self.columns < 60 or len(head) > left - 2:
                lines += self.wrap(head, 4, "  ")
                lines += self.wrap(text, 6, "      ")
            else:
                lines += self.wrap(text, left + 2, f"  {head:<{left}}")
        return lines

    # ---- everything on one screen

    def overview(self) -> str:
        defaults = {group: next(iter(options), "") for group, options in chosen({}).items()}
        groups = [(group, self._options(group, defaults.get(group, "none"))) for group in GROUP_SUMMARIES]
        lines = self.wrap(f"dltrain {__version__}  trains image networks from Hydra YAML, exactly")
        lines += self.wrap("dltrain [-m] [group=option ...] [group.key=value ...]", 7, "usage  ")
        examples = self.table([(command(words), text) for words, text in EXAMPLES], 48)
        lines += ["", "examples", *examples]
        lines += ["", *self.wrap("groups: their options, * by default; dltrain --help GROUP says more")]
        lines += self.table(groups, 12)
        lines += ["", "keys that stand alone, and their modes", *self.table(self._alone(), 12)]
        lines += ["", "flags", *self.table(FLAGS, 20)]
        return "\n".join(lines)

    @staticmethod
    def _options(group: str, default: str) -> str:
        return " ".join(f"{option}*" if option == default else option for option in table.options(group))

    @staticmethod
    def _alone() -> list[tuple[str, str]]:
        base = [key.name for key in alone(Config)]
        having: dict[str, list[str]] = {}
        for mode in table.options("mode"):
            for key in alone(table.schema("mode", mode)):
                if key.name not in base:
                    having.setdefault(key.name, []).append(mode)
        return [("every mode", " ".join(base)), *((name, " ".join(modes)) for name, modes in having.items())]

    # ---- a group

    def group(self, group: str, only: str = "") -> str:
        default = next(iter(chosen({}).get(group, {})), default_options().get(group, ""))
        lines = self.wrap(f"{group}: {GROUP_SUMMARIES.get(group, '')}; {group}={default} by default")
        wanted = [only] if only else table.options(group)
        if group not in table.SCHEMAS:
            for option in wanted:
                lines += ["", f"{group}={option}"]
                lines += [line for text in _comments(group, option) for line in self.wrap(text, 4, "  ")]
            return "\n".join(lines)
        by_class: dict[type, list[str]] = {}
        for option in wanted:
            by_class.setdefault(table.schema(group, option), []).append(option)
        if group == "mode":
            lines += ["", "in every mode"]
            lines += [line for key in alone(Config) for line in self.key(key)]
        for cls, options in by_class.items():
            lines += ["", *self.wrap(f"{group}={'|'.join(options)}", 2)]
            lines += self.wrap(_first_paragraph(cls), 2, "  ")
            for option in options:
                lines += self._about(group, option)
            if group == "mode":
                base = [key.name for key in alone(Config)]
                keys = [key for key in alone(cls) if key.name not in base]
            else:
                keys = list(keys_of(cls, f"{group}."))
            if only and group != "mode":
                keys = [as_given(key, only) for key in keys]
            lines += [line for key in keys for line in self.key(key)]
        return "\n".join(lines)

    def _about(self, group: str, option: str) -> list[str]:
        """What an option's file says beside the dataclass: its comment, the options and values that it chooses."""
        body = table.option_text(group, option)
        choices = [
            f"{other}={name}" for other, name in re.findall(r"^\s*-\s*override /(\w+)\S*:\s*(\w+)", body, re.MULTILINE)
        ]
        values = [line.split("#")[0].strip() for line in body.splitlines() if re.match(r"[a-z_]\w*:\s*\S", line)]
        values = [value for value in values if not value.startswith("name:")]
        text = " ".join(_comments(group, option))
        text += f"{text and ' '}Chooses {' '.join(choices)}." if choices else ""
        text += f"{text and ' '}Sets {', '.join(values)}." if values else ""
        return self.table([(f"{group}={option}", text)], 32) if text else []

    def key(self, key: Key) -> list[str]:
        """A key with its default; what may stand there; what it means."""
        meta = key.field.metadata
        unit = f"; {meta['unit']}" if meta.get("unit") else ""
        source = f" ({meta['source']})" if meta.get("source") else ""
        head = f"{key.name}={usual(key)}"
        may = allowed(key) + unit
        if shape_of(key.type)[0] is str and not unit and "null" not in may:
            may = ""
        rows = self.table([(head, may)] if may else [], 32) or [f"  {head}"]
        return rows + self.wrap(f"{meta.get('help', '')}{source}", 6, "      ")


def _comments(group: str, option: str) -> list[str]:
    """The comment at the head of an option's file."""
    lines = table.option_file(group, option).read_text(encoding="utf-8").splitlines()
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        if "@package" not in line:
            head.append(line.lstrip("# ").rstrip())
    return head


def _terminal_columns() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80
