"""What must hold before torch is imported: the range of every key, and what keys ask of each other."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dltrain.config import parse, table
from dltrain.config.messages import Mistake
from dltrain.config.mode import GROUPS, Config, Eval, Reproduce
from dltrain.config.model import MLP
from dltrain.config.ranges import check_ranges, shown
from dltrain.config.spec import DataSpec


def check(cfg: Config) -> None:
    """Raise Mistake for the first thing that cannot be. What needs the data is in `check_data`."""
    check_ranges(cfg)
    for rule in (_names, _mode, _task, _model, _data, _classification, _optim, _schedule, _trainer, _init):
        rule(cfg)


def _names(cfg: Config) -> None:
    for group in GROUPS:
        if group in ("mode", "experiment"):
            continue
        settings = getattr(cfg, group)
        if table.SCHEMAS[group].get(settings.name) is not type(settings):
            raise Mistake(
                f"{group}.name={settings.name} does not fit the other keys of {group}",
                allowed=f"{group}={'|'.join(table.options(group))} chooses; {group}.name is not typed",
            )


def _mode(cfg: Config) -> None:
    if isinstance(cfg, Eval | Reproduce) and cfg.run is None:
        raise Mistake(
            f"mode={cfg.mode} needs a run",
            allowed="run=FOLDER or run=last",
            type_this=f"dltrain mode={cfg.mode} run=last",
        )


def _task(cfg: Config) -> None:
    """The task must be able to learn what the data set's targets are."""
    if cfg.data.kind in cfg.task.kinds:
        return
    schemas: dict[str, dict[str, Any]] = {
        group: {name: table.schema(group, name) for name in table.options(group)} for group in ("data", "model", "task")
    }
    sets = [name for name, cls in schemas["data"].items() if cls.kind in cfg.task.kinds]
    tasks = [name for name, cls in schemas["task"].items() if cfg.data.kind in cls.kinds]
    models = [name for name, cls in schemas["model"].items() if cls.task in tasks and cls.task != cfg.model.task]
    pairs = [f"model={name} data={cfg.data.name}" for name in models]
    pairs += [f"model={cfg.model.name} data={name}" for name in sets]
    raise Mistake(
        f"task={cfg.task.name} cannot learn from data={cfg.data.name}, whose targets are of kind {cfg.data.kind}",
        allowed="; ".join(pairs[:6]),
        type_this=f"dltrain {pairs[0]}" if pairs else "",
    )


def _model(cfg: Config) -> None:
    model = cfg.model
    if isinstance(model, MLP) and model.depth and not model.widths:
        raise Mistake(
            f"model.depth={model.depth} and model.widths=[] do not agree",
            allowed="at least one width, of which the last is repeated",
            type_this=f"model.depth={model.depth} model.widths=[300]",
        )


def _data(cfg: Config) -> None:
    data, model = cfg.data, cfg.model
    size = parse.image_size(data.size)
    if model.fixed_size is not None and size not in (None, model.fixed_size):
        fixed = f"{model.fixed_size[0]}x{model.fixed_size[1]}"
        raise Mistake(
            f"data.size={data.size}: model={model.name} takes images of {fixed} only",
            allowed=f"auto or {fixed}",
            type_this="data.size=auto",
        )
    if data.name == "folder" and data.root is None:
        raise Mistake(
            "data=folder needs the folder of your images",
            allowed="a folder with one folder a class, or with train, val and test folders of them",
            type_this="dltrain data=folder data.root=photos",
        )
    shares = [getattr(data, name, 0.0) for name in ("val_share", "test_share")]
    if sum(shares) >= 1:
        raise Mistake(
            f"data.val_share={shown(shares[0])} and data.test_share={shown(shares[1])} leave nothing to train on",
            allowed="a sum below 1",
            type_this="data.val_share=0.1 data.test_share=0.2",
        )
    if data.mean is not None and data.std is not None and len(data.mean) != len(data.std):
        raise Mistake(
            f"data.mean={shown(data.mean)} and data.std={shown(data.std)} differ in length",
            allowed="one number a channel in each",
        )


def _classification(cfg: Config) -> None:
    weights = getattr(cfg.task, "class_weights", None)
    if weights is None:
        return
    if cfg.task.balanced:
        raise Mistake(
            "task.class_weights and task.balanced=true both weight the classes",
            allowed="one of the two",
            type_this="task.balanced=true task.class_weights=null",
        )
    if not any(weight > 0 for weight in weights):
        raise Mistake(
            f"task.class_weights={shown(weights)} weight no class at all",
            allowed="one weight a class, at least one above 0",
            type_this="task.class_weights=null",
        )


def _optim(cfg: Config) -> None:
    optim = cfg.optim
    if getattr(optim, "nesterov", False) and optim.momentum == 0:
        raise Mistake(
            "optim.nesterov=true needs momentum, and optim.momentum=0",
            allowed="optim.momentum above 0, or optim.nesterov=false",
            type_this="optim.momentum=0 optim.nesterov=false",
        )
    betas = getattr(optim, "betas", None)
    if betas is not None and len(betas) != 2:
        raise Mistake(f"optim.betas={shown(betas)}", allowed="two numbers", type_this="optim.betas=[0.9,0.999]")


def _schedule(cfg: Config) -> None:
    schedule = cfg.schedule
    milestones = getattr(schedule, "milestones", [])
    if any(later <= earlier for earlier, later in pairwise(milestones)):
        ascending = shown(sorted(set(milestones)))
        raise Mistake(
            f"schedule.milestones={shown(milestones)} do not ascend",
            allowed="epochs, each later than the one before",
            type_this=f"schedule.milestones={ascending}",
        )
    if cfg.trainer.steps is None:
        _warmup_within(cfg, float(cfg.trainer.epochs))


def _warmup_within(cfg: Config, epochs: float) -> None:
    warmup = cfg.schedule.warmup
    if warmup is not None and warmup > 0 and warmup >= epochs:
        raise Mistake(
            f"schedule.warmup={shown(warmup)} epochs is no shorter than the run of {epochs:.4g}",
            allowed=f"below {epochs:.4g}",
            type_this=f"schedule.warmup={epochs / 10:.2g}",
        )


def _trainer(cfg: Config) -> None:
    trainer = cfg.trainer
    micro = trainer.micro_batch_size
    if micro is not None and micro > trainer.batch_size:
        raise Mistake(
            f"trainer.micro_batch_size={micro} is larger than trainer.batch_size={trainer.batch_size}",
            allowed=f"1 to {trainer.batch_size}",
            type_this=f"trainer.micro_batch_size={trainer.batch_size}",
        )


def _init(cfg: Config) -> None:
    if cfg.init.name == "run" and cfg.init.source is None:
        raise Mistake(
            "init=run needs the run whose weights to start from",
            allowed="init.source=FOLDER or init.source=last",
            type_this="init=run init.source=last",
        )


# ---- what needs the data


@dataclass(frozen=True)
class _Portions:
    batch: int
    smallest: int
    steps_per_epoch: int


def _portions(cfg: Config, images: int) -> _Portions:
    batch = min(cfg.trainer.batch_size, images)
    micro = min(cfg.trainer.micro_batch_size or batch, batch)
    return _Portions(batch, batch % micro or micro, max(1, images // cfg.trainer.batch_size))


def check_data(cfg: Config, spec: DataSpec) -> None:
    """Raise Mistake for the first setting that this data set cannot take."""
    channels, height, width = spec.shape
    smallest = cfg.model.min_size
    if height < smallest[0] or width < smallest[1]:
        raise Mistake(
            f"images of {height}x{width} are too small for model={cfg.model.name}",
            allowed=f"{smallest[0]}x{smallest[1]} and above",
            type_this=f"data.size={smallest[0]}x{smallest[1]}",
        )
    for name in ("mean", "std"):
        values = getattr(cfg.data, name)
        if values is not None and len(values) != channels:
            raise Mistake(
                f"data.{name}={shown(values)} has {len(values)} numbers, and the images {channels} channels",
                allowed=f"{channels} numbers, or null",
                type_this=f"data.{name}=null",
            )
    weights = getattr(cfg.task, "class_weights", None)
    if weights is not None and len(weights) != spec.num_outputs:
        raise Mistake(
            f"task.class_weights has {len(weights)} numbers, and {spec.name} {spec.num_outputs} classes",
            allowed=f"{spec.num_outputs} numbers, in the order of the classes",
            type_this="task.balanced=true task.class_weights=null",
        )
    _check_training(cfg, spec.counts.get("train", 0), spec.counts.get("val", 0))


def _check_training(cfg: Config, images: int, val: int) -> None:
    if isinstance(cfg, Eval):
        return
    if images < 1:
        raise Mistake(f"data={cfg.data.name} holds no images to train on")
    portions = _portions(cfg, images)
    if getattr(cfg.model, "norm", None) == "batch" and portions.smallest == 1:
        raise Mistake(
            "model.norm=batch needs two images at a time, and here some are computed alone "
            f"(batches of {portions.batch}, trainer.micro_batch_size={shown(cfg.trainer.micro_batch_size)})",
            allowed="portions of two images and more",
            type_this="trainer.batch_size=128 trainer.micro_batch_size=null" if images > 1 else "model.norm=none",
        )
    if cfg.trainer.early_stop is not None and val < 1:
        raise Mistake(
            f"trainer.early_stop={cfg.trainer.early_stop} needs validation images, and data={cfg.data.name} has none",
            type_this="trainer.early_stop=null",
        )
    if cfg.trainer.steps is not None:
        _warmup_within(cfg, cfg.trainer.steps / portions.steps_per_epoch)
