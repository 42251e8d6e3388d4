"""What may be typed beside a run that is opened: only what the mode reads and the run leaves open."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from dltrain.config import table
from dltrain.config.choices import as_given, keys_of
from dltrain.config.messages import Mistake, command
from dltrain.config.mode import GROUPS, Config
from dltrain.config.ranges import shown
from dltrain.config.value import usual, written

_ANYWHERE = {"log", "log.", "data.root", "data.loader", "data.workers", "trust", "mode", "hydra."}
_RESUME = _ANYWHERE | {"resume", "trainer.max_time", "trainer.save_every", "trainer.profile"}
_EVAL = _ANYWHERE | {"run", "checkpoint", "output", "device", "determinism", "precision", "precision."}
_EVAL |= {f"trainer.{key}" for key in ("batch_size", "micro_batch_size", "threads", "memory_format", "compile")}
_EVAL |= {"data.max_pixels"}
_LOOK = _EVAL | {"input"}  # predict, export and summary
_GENERATE = {"log", "log.", "trust", "mode", "hydra.", "run", "checkpoint", "output", "device", "determinism"}
_GENERATE |= {"seed", "n", "trainer.threads", "trainer.memory_format"}
# What is not learned but asked of what was learned: keys of a task that a mode reads anew, by the task's name.
_TASK_EVAL = {
    "segmentation": ["task.tile"],
    "regression": ["task.delta", "task.loss"],
    "adversarial": ["task.judge", "task.samples"],
}
_TASK_PREDICT = {"segmentation": ["task.tile"]}
_OF_LOOKS = (
    "device, determinism, precision, checkpoint, output, log.*, {}data.{{root,loader,workers,max_pixels}}, "
    "trainer.{{batch_size,micro_batch_size,threads,memory_format,compile}}"
)
_OF_GENERATE = "n, seed, checkpoint, output, device, determinism, log.*, trainer.{threads,memory_format}"
# Settings that say where, how fast and with how many stops a run goes, never what comes out; nor do those of `log`.
WITHOUT_EFFECT = {"trainer.max_time", "trainer.save_every", "trainer.profile"}
WITHOUT_EFFECT |= {"data.root", "data.loader", "data.workers"}
HORIZON = {"trainer.epochs", "trainer.steps"}
OPEN_ENDED = {"constant", "step"}  # schedules whose past does not depend on the length of the run


def refuse_changes(mode: str, folder: Path, of_the_run: Config, typed: dict[str, str]) -> None:
    """Raise Mistake for the first typed key that the mode cannot take beside the run in `folder`.

    `typed` holds the word that each key was typed in.
    """
    for key in sorted(typed):
        if mode == "train":
            _check_resume(key, folder, of_the_run, typed)
        elif mode == "eval":
            _check_look(mode, _EVAL, _TASK_EVAL.get(of_the_run.task.name, []), key, folder, typed)
        elif mode == "generate":
            _check_look(mode, _GENERATE, [], key, folder, typed)
        elif mode in ("predict", "export", "summary"):
            of_task = _TASK_PREDICT.get(of_the_run.task.name, []) if mode == "predict" else []
            _check_look(mode, _LOOK, of_task, key, folder, typed)
        else:
            _check_reproduce(mode, key, folder, typed)


def _within(key: str, allowed: set[str]) -> bool:
    return key in allowed or any(one.endswith(".") and key.startswith(one) for one in allowed)


def _check_resume(key: str, folder: Path, of_the_run: Config, typed: dict[str, str]) -> None:
    if key in ("output", "hydra.run.dir"):
        raise Mistake(
            f"{typed[key]} and resume= do not go together: a run goes on in its own folder",
            type_this=command([f"resume={folder}"]),
        )
    schedule = of_the_run.schedule.name
    if (key in HORIZON and schedule in OPEN_ENDED) or _within(key, _RESUME):
        return
    words = [typed[name] for name in sorted(typed) if name not in ("resume", "mode", "model", "data")]
    again = anew(folder, of_the_run, list(dict.fromkeys(words)))
    if key in HORIZON:
        raise Mistake(
            f"{typed[key]} cannot be changed on resume: under schedule={schedule} the learning rate of every step "
            "so far depends on the length of the run",
            allowed="another length under schedule=constant and schedule=step; here a new run from its weights",
            type_this=again,
        )
    raise Mistake(
        f"{typed[key]} cannot be changed on resume: it changes the result, and a resumed run ends as if never stopped",
        allowed="log.*, data.root, data.loader, data.workers, trainer.{max_time,save_every,profile}; "
        "for others a new run from its weights",
        type_this=again,
    )


def anew(folder: Path, of_the_run: Config, words: Sequence[str] = ()) -> str:
    """The command of a new run of the same network on the same data, from the weights of the run in `folder`."""
    of_words = {word.partition("=")[0] for word in words}
    network = [word for word in _same_network(of_the_run) if word.partition("=")[0] not in of_words]
    return command(["init=run", f"init.source={folder}", *network, *words])


def _same_network(of_the_run: Config) -> list[str]:
    """The words that build the run's network and open its data again."""
    words = [f"model={option_of('model', of_the_run.model)}", f"data={option_of('data', of_the_run.data)}"]
    for group in ("model", "data"):
        settings = getattr(of_the_run, group)
        usually = _usual(group, settings)
        for f in fields(settings):
            value = getattr(settings, f.name)
            if f.name not in ("name", "augment", "loader", "workers") and written(value) != usually[f.name]:
                words.append(f"{group}.{f.name}={shown(value)}")
    return words


def model_words(wanted: Any, typed: Any) -> list[str]:
    """The words that turn one model's settings into another's."""
    usually, words = _usual("model", wanted), [f"model={option_of('model', wanted)}"]
    for f in fields(wanted):
        value = getattr(wanted, f.name)
        if f.name != "name" and not (written(value) == usually[f.name] and value == getattr(typed, f.name, value)):
            words.append(f"model.{f.name}={shown(value)}")
    return words


def option_of(group: str, settings: Any) -> str:
    """A name behind `group=` that gives this dataclass: what the settings are called, else one without a preset."""
    fitting = [name for name in table.options(group) if table.schema(group, name) is type(settings)]
    called = (getattr(settings, "title", ""), settings.name, "none", "default")
    return next((name for name in called if name in fitting), fitting[0])


def _usual(group: str, settings: Any) -> dict[str, str]:
    """What `option_of` alone makes of each key of the group, as one types it."""
    option = option_of(group, settings)
    keys = [as_given(key, option) for key in keys_of(type(settings), f"{group}.")]
    return {key.name.partition(".")[2]: usual(key) for key in keys}


def _check_look(
    mode: str, allowed: set[str], of_task: list[str], key: str, folder: Path, typed: dict[str, str]
) -> None:
    every = allowed | set(of_task)
    if not _within(key, every):
        words = [word for name, word in typed.items() if _within(name, every) and name not in ("mode", "run")]
        raise Mistake(
            f"{typed[key]} has no say in mode={mode} run=…: the run's own is used",
            allowed=_OF_GENERATE if allowed is _GENERATE else _OF_LOOKS.format("".join(f"{one}, " for one in of_task)),
            type_this=command([f"mode={mode}", f"run={folder}", *dict.fromkeys(words)]),
        )


def _check_reproduce(mode: str, key: str, folder: Path, typed: dict[str, str]) -> None:
    if key in GROUPS and key not in ("mode", "log"):
        raise Mistake(
            f"{typed[key]} cannot be chosen anew in mode={mode}: the run's own is trained again",
            allowed="single keys, to see what they change",
            type_this=command([f"mode={mode}", f"run={folder}"]),
        )
