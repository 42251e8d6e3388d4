"""What must hold before torch is imported: the range of every key, and what keys ask of each other."""

from dataclasses import dataclass
from itertools import pairwise

from dltrain.config import table
from dltrain.config.adversarial import Adversarial
from dltrain.config.check_adversarial import check_adversarial
from dltrain.config.check_fit import check_fit
from dltrain.config.check_settings import check_data_settings, check_size
from dltrain.config.check_task import check_task_settings, check_tile
from dltrain.config.data import Masks
from dltrain.config.messages import Mistake, command
from dltrain.config.mode import GROUPS, Config, Eval, Export, Generate, Predict, Reproduce, Summary
from dltrain.config.model import MLP, VGG, Attention, CifarResNet, Shortcut
from dltrain.config.overlay import option_of
from dltrain.config.ranges import check_ranges, shown
from dltrain.config.spec import DataSpec


def check(cfg: Config) -> None:
    """Raise Mistake for the first thing that cannot be. What needs the data is in `check_data`."""
    check_ranges(cfg)
    for rule in _RULES:
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
    if isinstance(cfg, Eval | Reproduce | Predict | Export | Generate) and cfg.run is None:
        raise Mistake(
            f"mode={cfg.mode} needs a run",
            allowed="run=FOLDER or run=last",
            type_this=f"dltrain mode={cfg.mode} run=last" + (" input=photos" if isinstance(cfg, Predict) else ""),
        )
    _suits_the_run(cfg)
    if isinstance(cfg, Predict) and cfg.input is None:
        raise Mistake(
            "mode=predict needs the images to look at",
            allowed="input=FILE, input=FOLDER with all that is below it, or a pattern: input='scans/*.png'",
            type_this="input=photos",
        )


def _suits_the_run(cfg: Config) -> None:
    """A generator makes images; all others say something of images."""
    makes_images = isinstance(cfg.task, Adversarial)
    if isinstance(cfg, Predict) and makes_images:
        raise Mistake(
            f"mode=predict asks what a network says of images, and run={cfg.run} is of a generator, which makes them",
            allowed="mode=generate for its images, mode=eval for its metrics; or the run of another network",
            type_this=command(["mode=generate", f"run={cfg.run}"]),
        )
    if isinstance(cfg, Generate) and not makes_images:
        of_its_data = [f"data={option_of('data', cfg.data)}"] if cfg.data.target_kind in Adversarial.kinds else []
        root = getattr(cfg.data, "root", None)
        of_its_data += [f"data.root={root}"] if of_its_data and root is not None else []
        raise Mistake(
            f"mode=generate makes images, and run={cfg.run} is of {cfg.model.title}, which says something of them",
            allowed="the run of a generator, as model=dcgan trains one; mode=predict and mode=eval for this one",
            type_this=command(["model=dcgan", *of_its_data]),
        )


def _output(cfg: Config) -> None:
    if isinstance(cfg, Summary) and cfg.output is not None:
        raise Mistake(
            f"output={cfg.output}: mode=summary prints, and makes no files",
            allowed="output=null; a shell keeps what is printed: dltrain mode=summary > layers.txt",
            type_this="output=null",
        )


def _model(cfg: Config) -> None:
    model = cfg.model
    if isinstance(model, MLP) and model.depth and not model.widths:
        raise Mistake(
            f"model.depth={model.depth} and model.widths=[] do not agree",
            allowed="at least one width, of which the last is repeated",
            type_this=f"model.depth={model.depth} model.widths=[300]",
        )
    if isinstance(model, CifarResNet) and not model.residual and model.shortcut is not Shortcut.A:
        raise Mistake(
            f"model.shortcut={model.shortcut} does nothing in the plain network (model.residual=false)",
            allowed="model.residual=true, or model.shortcut as it is",
            type_this="model.residual=false model.shortcut=A",
        )
    plain = isinstance(model, VGG) or (isinstance(model, CifarResNet) and not model.residual)
    attention = getattr(model, "attention", Attention.none)
    if plain and attention in (Attention.se, Attention.cbam) and not model.norms_batches:
        raise Mistake(
            f"model.attention={attention} in {model.title} without a norm: its gates begin near a half, "
            "and leave nothing of an image behind the last layer",
            allowed="model.norm=batch; model.attention=none|spatial_softmax; a network with shortcuts",
            type_this="model.norm=batch",
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


_RULES = (
    _names,
    _mode,
    _output,
    check_fit,
    _model,
    check_data_settings,
    check_task_settings,
    check_adversarial,
    _optim,
    _schedule,
    _trainer,
    _init,
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
    check_size(cfg.model, (height, width), "data.crop" if isinstance(cfg.data, Masks) else "data.size")
    of_tanh = isinstance(cfg.task, Adversarial)
    for name in ("mean", "std"):
        values = getattr(cfg.data, name)
        if values is not None and len(values) not in (1, channels):
            raise Mistake(
                f"data.{name}={shown(values)} has {len(values)} numbers, and the images {channels} channels",
                allowed=f"{channels} numbers, one for all channels, or null",
                type_this="data.mean=[0.5] data.std=[0.5]" if of_tanh else f"data.{name}=null",
            )
    check_colours(cfg, spec)
    weights = getattr(cfg.task, "class_weights", None)
    if weights is not None and len(weights) != spec.num_outputs:
        raise Mistake(
            f"task.class_weights has {len(weights)} numbers, and {spec.name} {spec.num_outputs} classes",
            allowed=f"{spec.num_outputs} numbers, in the order of the classes",
            type_this="task.balanced=true task.class_weights=null",
        )
    check_tile(cfg, spec)
    _check_training(cfg, spec)


def check_colours(cfg: Config, spec: DataSpec) -> None:
    """Raise Mistake for a change of colours where there are none."""
    for name in ("saturation", "hue"):
        value = getattr(cfg.data.augment, name)
        if spec.shape[0] == 1 and value > 0:
            raise Mistake(
                f"data.augment.{name}={shown(value)} changes colours, and the images of {spec.name} are grey",
                allowed="data.augment.brightness and data.augment.contrast, for grey images",
                type_this=f"data.augment.{name}=0",
            )


def _check_training(cfg: Config, spec: DataSpec) -> None:
    if isinstance(cfg, Eval | Summary):
        return
    images, val = spec.counts.get("train", 0), spec.counts.get("val", 0)
    if images < 1:
        raise Mistake(f"data={cfg.data.name} holds no images to train on")
    portions = _portions(cfg, images)
    if portions.smallest == 1 and not cfg.model.learns_from_one(spec.shape[1:]):
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
