"""Whether a task, its network and its data set go together. Needs no data."""

import shlex
from typing import Any

from dltrain.config import table
from dltrain.config.messages import Mistake
from dltrain.config.mode import Compare, Config, LookAtData
from dltrain.config.overlay import option_of
from dltrain.config.spec import Target

_GIVES = {
    "classification": "an answer for each image",
    "segmentation": "an answer for each pixel, and learns from masks",
    "adversarial": "images",
}


def check_fit(cfg: Config) -> None:
    """Raise Mistake for the first two that do not."""
    if isinstance(cfg, Compare | LookAtData):
        return
    if cfg.data.target_kind == Target.mask and "adversarial" in (cfg.task.name, cfg.model.task):
        raise images_without_masks(cfg)
    _targets(cfg)
    _answers(cfg)


def _schemas(group: str) -> dict[str, Any]:
    """The dataclass behind each name that can be typed."""
    return {name: table.schema(group, name) for name in table.options(group)}


def _sets(kinds: tuple[str, ...]) -> list[str]:
    """The data sets with targets of these kinds, those that come with dltrain first."""
    found = {name: cls for name, cls in _schemas("data").items() if cls.kind in kinds}
    return sorted(found, key=lambda name: hasattr(found[name], "root"))


def _models(asked: str) -> list[str]:
    return [name for name, cls in _schemas("model").items() if _of_its_kind(cls.task) == asked]


def _of_its_kind(task: str) -> str:
    """The task that stands for all whose networks give the same: a class or values for each image, say."""
    return task if task in _GIVES else "classification"


def images_without_masks(cfg: Config) -> Mistake:
    root = getattr(cfg.data, "root", None)
    sets, models = _sets(table.SCHEMAS["task"]["adversarial"].kinds), _models("adversarial")  # type: ignore[attr-defined]
    words = [f"data={sets[0]}"]
    if cfg.data.name == "mask_folder" and root:
        words = ["data=images", f"data.root={root}/images"]
    words += [f"model={models[0]}"] if cfg.model.task != "adversarial" else []
    who = f"model={option_of('model', cfg.model)}" if cfg.model.task == "adversarial" else f"task={cfg.task.name}"
    return Mistake(
        f"{who} learns to make images, and has no use for the masks of data={cfg.data.name}",
        allowed=f"data={'|'.join(sets)}; of a set with masks the images alone: data=images data.root=FOLDER",
        type_this=shlex.join(words),
    )


def _targets(cfg: Config) -> None:
    """The task must be able to learn what the data set's targets are."""
    kind = cfg.data.target_kind
    if kind in cfg.task.kinds:
        return
    able = [name for name, cls in _schemas("task").items() if kind in cls.kinds]
    tasks = [name for name in able if name == table.TASK_OF_KIND.get(kind)] or able
    sets, schemas = _sets(cfg.task.kinds), _schemas("model")
    models = [name for name, cls in schemas.items() if cls.task in tasks and cls.task != cfg.model.task]
    what = f"task={cfg.task.name} cannot learn from data={cfg.data.name}: its targets are of kind {kind}"
    if kind == Target.nothing:
        words = [f"task={tasks[0]}", *(f"model={name}" for name in models[:1])]
        raise Mistake(what, allowed=_with_images_alone(), type_this=" ".join(words))
    if tasks and cfg.task == type(cfg.task)():  # none of its keys was typed
        others = f"; or targets that task={cfg.task.name} can learn: data={'|'.join(sets)}" if sets else ""
        allowed, type_this = f"task={'|'.join(tasks)} for data={cfg.data.name}{others}", f"task={tasks[0]}"
    elif tasks and sets:
        allowed, type_this = f"with task={cfg.task.name}: data={'|'.join(sets)}", f"data={sets[0]}"
    else:
        pairs = [f"model={name} data={cfg.data.name}" for name in models]
        pairs += [f"model={option_of('model', cfg.model)} data={name}" for name in sets]
        allowed, type_this = "; ".join(pairs[:6]), f"dltrain {pairs[0]}" if pairs else ""
    raise Mistake(what, allowed=allowed, type_this=type_this)


def _with_images_alone() -> str:
    return (
        f"a network that learns to make such: model={'|'.join(_models('adversarial'))}; mode=data looks at them; "
        "to learn classes, data=folder with one folder a class, or data=csv"
    )


def _answers(cfg: Config) -> None:
    """The network must give what the task asks for: an answer for each image, one for each pixel, or images."""
    asked, given = _of_its_kind(cfg.task.name), _of_its_kind(cfg.model.task)
    if asked == given:
        return
    models = _models(asked)
    verb = "makes" if given == "adversarial" else "gives"
    what = f"model={option_of('model', cfg.model)} {verb} {_GIVES[given]}"
    allowed, type_this = f"model={'|'.join(models)}", f"model={models[0]}"
    if cfg.data.target_kind == Target.nothing:
        what += f", and data={cfg.data.name} has images alone"
        allowed = _with_images_alone()
    elif asked == "segmentation":
        what += ", and the masks want one for each pixel"
    elif asked == "adversarial":
        what += f", and task={cfg.task.name} learns to make images"
    elif given == "segmentation":
        sets = _sets((Target.mask,))
        best = sets[0] if getattr(cfg.data, "root", None) is None else "mask_folder"
        allowed = f"data={'|'.join(sets)}; or, for answers to images, another model"
        type_this = f"data={best} task=segmentation"
    else:
        what += f", and task={cfg.task.name} wants an answer for each"
        allowed, type_this = f"task={given}, or another model: {allowed}", f"task={given}"
    raise Mistake(what, allowed=allowed, type_this=type_this)
