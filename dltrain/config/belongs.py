"""Which option a key belongs to that the chosen options do not have, and how a command line comes to it."""

from dltrain.config import table
from dltrain.config.choices import Chosen
from dltrain.config.line import Line
from dltrain.config.meant import everywhere
from dltrain.config.value import fits


def option_with(name: str, value: str) -> str:
    """The option of a key's group that has the key; one that declares it itself before one that inherits it.

    `value` is what was typed for it: it tells which of several choices of one name is meant, and a table's or a
    folder's name which of the user's own sets.
    """
    found = [
        (
            not fits(key, value),
            key.owner is not cls,
            name == "data.root" and not value.lower().endswith(cls.ending),  # type: ignore[attr-defined]
            getattr(cls, "kind", "") == "mask",
            option not in table.SCHEMAS[name.partition(".")[0]],  # a preset stands behind what it is one of
            option,
        )
        for option, cls, key in everywhere(name.partition(".")[0])
        if key.name == name
    ]
    return min(found, key=lambda one: one[:5])[5] if found else ""


def not_for(line: Line, known: Chosen, group: str, option: str) -> bool:
    """Whether it is a task that the chosen data or network cannot have, or masks in place of what was typed."""
    kinds = {getattr(cls, "kind", "") for cls in known["data"].values()}
    if group == "data" and any(word.key == "data" for word in line.words):
        return (getattr(table.schema(group, option), "kind", "") == "mask") != ("mask" in kinds)
    if group != "task":
        return False
    if any(word.key in ("run", "resume") for word in line.words):  # whose task and network are what they are
        return True
    of_networks = {table.task_of("model", cls) for cls in known["model"].values()} - {None}
    can_learn = not kinds or any(kind in table.schema(group, option).kinds for kind in kinds)  # type: ignore[attr-defined]
    return not can_learn or bool(of_networks and option not in of_networks)


def what_chooses(line: Line, known: Chosen, group: str, option: str) -> tuple[str, str]:
    """The group and option to type for an option: for a task the network that learns it, where others do not."""
    of_networks = {table.task_of("model", cls) for cls in known["model"].values()}
    if group == "task" and of_networks != {option} and not any(word.key == "task" for word in line.words):
        names = table.options("model")
        network = next((name for name in names if table.task_of("model", table.schema("model", name)) == option), "")
        return ("model", network) if network else (group, option)
    return group, option
