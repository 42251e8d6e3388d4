"""Which group or key a mistyped name was meant to be."""

from collections.abc import Iterator
from dataclasses import dataclass

from dltrain.config import table
from dltrain.config.choices import Chosen, Key, alone, chosen, keys_of
from dltrain.config.mode import GROUPS
from dltrain.config.nearest import nearest, plain, score
from dltrain.config.value import default_of, written

# Names that other tools and books give to our keys.
_ALIASES = {
    "learning_rate": "optim.lr",
    "lr0": "optim.lr",
    "wd": "optim.weight_decay",
    "decay": "optim.weight_decay",
    "beta": "optim.betas",
    "batch": "trainer.batch_size",
    "bs": "trainer.batch_size",
    "max_epochs": "trainer.epochs",
    "num_epochs": "trainer.epochs",
    "n_epochs": "trainer.epochs",
    "max_steps": "trainer.steps",
    "iterations": "trainer.steps",
    "patience": "trainer.early_stop",
    "num_workers": "data.workers",
    "data_dir": "data.root",
    "data_root": "data.root",
    "path": "data.root",
    "image_size": "data.size",
    "img_size": "data.size",
    "imgsz": "data.size",
    "grad_clip": "clip.max_norm",
    "clip_grad": "clip.max_norm",
    "clip_norm": "clip.max_norm",
    "weights": "init.source",
    "checkpoint_path": "init.source",
    "smoothing": "task.label_smoothing",
    "random_seed": "seed",
    "deterministic": "determinism",
    "gpu": "device",
    "accelerator": "device",
    "output_dir": "output",
    "net": "model",
    "network": "model",
    "arch": "model",
    "architecture": "model",
    "dataset": "data",
    "optimizer": "optim",
    "opt": "optim",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "lr_schedule": "schedule",
    "sched": "schedule",
    "regularization": "reg",
    "regularizer": "reg",
    "clipping": "clip",
    "amp": "precision",
    "dtype": "precision",
    "loss": "task",
    "action": "mode",
    "command": "mode",
    "exp": "experiment",
    "nz": "model.latent_dim",
    "z_dim": "model.latent_dim",
    "ngf": "model.base_channels",
    "ndf": "model.base_channels",
    "n_critic": "task.discriminator_steps",
    "num_samples": "n",
    "num_images": "n",
}
_ELSEWHERE = 1.2  # what it costs to take a key of another group
_NOT_CHOSEN = 0.2  # what it costs to take a key of an option that is not chosen


@dataclass(frozen=True)
class Guess:
    """A real name near a typed one."""

    name: str
    near: bool  # close enough to be put into a command


def key_names(group: str, known: Chosen) -> list[str]:
    """The keys of a group as it is chosen; with several options, those that all of them have."""
    lists = [[key.name for key in keys_of(cls, f"{group}.")] for cls in known[group].values()]
    return [name for name in lists[0] if all(name in other for other in lists)] if lists else []


def everywhere(group: str) -> Iterator[tuple[str, type, Key]]:
    """Every key of a group, with the option that has it: (option, dataclass, key)."""
    for option in table.options(group):
        if group in table.SCHEMAS:
            cls = table.schema(group, option)
            for key in keys_of(cls, f"{group}."):
                yield option, cls, key


def meant(name: str, known: Chosen, value: str | None = None) -> Guess:
    """The group or key that was meant by `name`, and whether that is a safe guess.

    Args:
        name: what was typed before `=`, or behind `--`.
        known: the options in force.
        value: what was typed behind `=`; a group that has this option is preferred.
    """
    last = name.rpartition(".")[2]
    alias = _ALIASES.get(plain(name).replace(".", "_")) or _ALIASES.get(plain(last))
    if alias:
        return Guess(alias, near=True)
    mode = next(iter(known["mode"].values()))
    first, _, rest = name.partition(".")
    costs: dict[str, float] = {key.name: _cost_of_alone(name, key.name) for key in alone(mode)}
    if not rest:
        costs |= {group: _cost_of_group(name, group, value) for group in GROUPS}
    for group in known:
        if group == "mode":
            continue
        in_force = set(key_names(group, known))
        for key in dict.fromkeys(key.name for _, _, key in everywhere(group)):
            costs[key] = _cost_of_key(name, key) + (0 if key in in_force else _NOT_CHOSEN)
    best = min(costs, key=lambda candidate: costs[candidate])
    wrong = rest if first in GROUPS and rest else name
    return Guess(best, near=costs[best] <= max(1.25, 0.45 * len(wrong)))


def _cost_of_group(name: str, group: str, value: str | None) -> float:
    cost = score(name, group)
    if value is None:
        return cost
    has = value in table.options(group)
    return cost - 0.3 if has else cost + 0.3


def _cost_of_alone(name: str, key: str) -> float:
    last = name.rpartition(".")[2]
    return score(name, key) if last == name else _ELSEWHERE + 2 * score(last, key)


def _cost_of_key(name: str, key: str) -> float:
    group, _, rest = key.partition(".")
    last = rest.rpartition(".")[2]
    if "." not in name:
        return min(score(name, last), score(name, rest)) + 0.05
    first, _, typed = name.partition(".")
    here = score(first, group) + score(typed, rest)
    if "." not in typed and last != rest:
        here = min(here, score(first, group) + score(typed, last) + 0.3)
    return min(here, _ELSEWHERE + 2 * score(name.rpartition(".")[2], last))


def group_with(option: str) -> str:
    """The group that has an option of this name; an empty string if none has."""
    return next((group for group in ("model", "data", *GROUPS) if option in table.options(group)), "")


def nearest_option(group: str, option: str) -> str:
    """The option of a group that was meant."""
    return nearest(option.removesuffix(".yaml").rpartition("/")[2], table.options(group))


def example(name: str) -> str:
    """A value that fits a key or group: what it is by default."""
    known = chosen({})
    if name in ("run", "resume", "runs"):
        return "last"
    if name in GROUPS:
        return next(iter(known.get(name, {})), "none")
    keys = [key for cls in known["mode"].values() for key in alone(cls)]
    for group in known:
        if group != "mode":
            keys += [key for _, _, key in everywhere(group)]
    return next((written(default_of(key)) for key in keys if key.name == name), "")
