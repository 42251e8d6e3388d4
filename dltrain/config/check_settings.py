"""What must hold within the settings of a data set, and between them and the model. Needs no data."""

from dltrain.config import parse
from dltrain.config.adversarial import Adversarial
from dltrain.config.check_masks import check_masks
from dltrain.config.data import Augment, Csv, DigitsPose, LoaderKind, Masks, Sampling
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config, LookAtData, Reproduce, Train
from dltrain.config.model import Model, Size
from dltrain.config.nearest import nearest
from dltrain.config.ranges import shown

# What `data.root` is for sets that have no place of their own: what is needed, what may stand there, an example.
_ROOTS = {
    "folder": (
        "the folder of your images",
        "a folder with one folder a class, or with train, val and test folders of them",
        "photos",
    ),
    "images": (
        "the folder of your images",
        "a folder of images, or with train, val and test folders of them",
        "photos",
    ),
    "csv": ("your table", "a .csv file: one line an image, the first line names the columns", "photos.csv"),
    "mask_folder": (
        "the folder of your images and masks",
        "a folder with images/ and masks/ of equal names, or with train, val and test folders of both",
        "cells",
    ),
    "array": ("your arrays", "a .npz file with images and labels or values", "set.npz"),
}


def check_data_settings(cfg: Config) -> None:
    """Raise Mistake for the first thing that cannot be."""
    _data(cfg)
    _root(cfg)
    _columns(cfg)
    _of_classes(cfg)
    _poses(cfg)
    check_masks(cfg.data)
    _folds(cfg)
    _augment(cfg)
    _short_ways(cfg)


def _data(cfg: Config) -> None:
    data, model = cfg.data, cfg.model
    size = parse.image_size(data.size)
    if isinstance(data, Masks):  # whose images are answered whatever their size
        window = parse.image_size(data.crop, "data.crop")
        if window is not None and model.task == cfg.task.name:
            check_size(model, window, "data.crop")
    elif isinstance(cfg.task, Adversarial) != (model.task == "adversarial"):
        pass  # mode=data of images alone, which another network learns from than the one in force
    elif model.fixed_size is not None and size not in (None, model.fixed_size):
        fixed = f"{model.fixed_size[0]}x{model.fixed_size[1]}"
        raise Mistake(
            f"data.size={data.size}: {model.title} takes images of {fixed} only",
            allowed=f"auto or {fixed}",
            type_this="data.size=auto",
        )
    elif size is not None:
        check_size(model, size)
    shares = [getattr(data, name, 0.0) for name in ("val_share", "test_share")]
    if sum(shares) >= 1:
        raise Mistake(
            f"data.val_share={shown(shares[0])} and data.test_share={shown(shares[1])} leave nothing to train on",
            allowed="a sum below 1",
            type_this="data.val_share=0.1 data.test_share=0.2",
        )
    lengths = [len(values) for values in (data.mean, data.std) if values is not None and len(values) != 1]
    if len(set(lengths)) > 1:
        raise Mistake(
            f"data.mean={shown(data.mean)} and data.std={shown(data.std)} differ in length",
            allowed="one number a channel in each, or one for all",
            type_this="data.mean=null data.std=null",
        )


def check_size(model: Model, size: Size, key: str = "data.size") -> None:
    """Raise Mistake for images, or windows of data.crop, (H, W) that the network cannot take."""
    if model.takes(size):
        return
    (height, width), least, fits = size, model.min_size, model.size_for(size)
    small = height < least[0] or width < least[1]
    raise Mistake(
        f"{'windows' if key == 'data.crop' else 'images'} of {height}x{width} "
        f"{'are too small for' if small else 'do not suit'} {model.title}",
        allowed=f"{model.sizes(size)}, or {key}=auto",
        type_this=f"{key}={fits[0]}x{fits[1]}",
    )


def _root(cfg: Config) -> None:
    name = cfg.data.name
    if name in _ROOTS and not cfg.data.root:
        needed, allowed, example = _ROOTS[name]
        raise Mistake(f"data={name} needs {needed}", allowed=allowed, type_this=f"data.root={example}")


def _columns(cfg: Config) -> None:
    """What the columns of a table are named for."""
    data = cfg.data
    if not isinstance(data, Csv):
        return
    if data.values is not None and not data.values:
        raise Mistake(
            "data.values=[] names no column",
            allowed="columns of real numbers, or null to learn the class in data.label",
            type_this="data.values=null",
        )
    learned = [("label", data.label)] if data.values is None else [("values", name) for name in data.values]
    used: dict[str, str] = {}
    for key, name in (("file", data.file), *learned, ("split", data.split), ("group", data.group)):
        if name in used:
            raise Mistake(
                f"the column {name} is named twice: by data.{used[name]} and by data.{key}",
                allowed="a column of its own for each",
            )
        if name is not None:
            used[name] = key


def _of_classes(cfg: Config) -> None:
    """What only a set with classes can have."""
    data = cfg.data
    typed = {
        "data.classes": (data.classes, None),
        "data.train_per_class": (data.train_per_class, None),
        "data.sampling": (data.sampling, Sampling.shuffled),
    }
    for key, (value, off) in typed.items():
        if data.target_kind != "class" and value != off:
            raise Mistake(
                f"{key}={shown(value)} needs classes: the targets of data={data.name} are of kind {data.target_kind}",
                allowed=f"{key}={shown(off)}",
                type_this=f"{key}={shown(off)}",
            )
    if data.classes is not None and len(set(data.classes)) < 2:
        raise Mistake(
            f"data.classes={shown(data.classes)} keeps fewer than two classes",
            allowed="names of two classes or more, or null for all",
            type_this="data.classes=null",
        )


def _poses(cfg: Config) -> None:
    """What the poses of digits_pose can be, and that no change at random makes them wrong."""
    data = cfg.data
    if not isinstance(data, DigitsPose):
        return
    if data.values is not None and (
        not data.values or len(set(data.values)) < len(data.values) or not set(data.values) <= set(data.all_values)
    ):
        better = [nearest(name, data.all_values) for name in data.values] or [data.all_values[0]]
        raise Mistake(
            f"data.values={shown(data.values)}: what data=digits_pose knows is {', '.join(data.all_values)}",
            allowed="some of them, each once, or null for all",
            type_this=f"data.values=[{','.join(dict.fromkeys(better))}]",
        )
    augment, off = data.augment, Augment()
    for name in ("resized_crop", "flip", "crop", "rotate", "translate", "scale", "shear"):
        if getattr(augment, name) != getattr(off, name):
            raise Mistake(
                f"data.augment.{name}={shown(getattr(augment, name))} moves the digits of data=digits_pose, and where"
                " they are is what is learned",
                allowed="changes of pixels alone: data.augment.cutout, erase, brightness, contrast",
                type_this=f"data.augment.{name}={shown(getattr(off, name))}",
            )


def _folds(cfg: Config) -> None:
    data = cfg.data
    if data.folds is None and data.fold != 0:
        raise Mistake(
            f"data.fold={data.fold} says which fold is val, and data.folds says nothing of how many there are",
            allowed="data.folds as well",
            type_this=f"data.folds={max(5, data.fold + 1)} data.fold={data.fold}",
        )
    if data.folds is not None and data.fold >= data.folds:
        raise Mistake(
            f"data.fold={data.fold}: with data.folds={data.folds} there is no such fold",
            allowed=f"0 to {data.folds - 1}",
            type_this=f"data.folds={data.folds} data.fold={data.folds - 1}",
        )


def _augment(cfg: Config) -> None:
    data, changes = cfg.data, cfg.data.augment
    if not isinstance(changes, Augment):  # masks move with their images, and nothing is blended
        return
    mixes = {
        "mixup": (("class", "value"), "blends targets, which can be done with classes and with real values"),
        "cutmix": (("class",), "shares targets out by area, which can be done with classes only"),
    }
    for name, (kinds, why) in mixes.items():
        alpha = getattr(changes, name)
        if alpha > 0 and data.target_kind not in kinds:
            raise Mistake(
                f"data.augment.{name}={shown(alpha)} {why}, and the targets of data={data.name} are of kind "
                f"{data.target_kind}",
                allowed=f"data.augment.{name}=0",
                type_this=f"data.augment.{name}=0",
            )
    trains = isinstance(cfg, Train | Reproduce | LookAtData) and cfg.trainer.overfit_batches is None
    if trains and changes.resized_crop is not None and data.loader == LoaderKind.resident:
        raise Mistake(
            f"data.augment.resized_crop={shown(changes.resized_crop)} takes parts of the images as they are read, and "
            "data.loader=resident reads each of them once",
            allowed="data.loader=streaming, or auto",
            type_this="data.loader=streaming",
        )


def _short_ways(cfg: Config) -> None:
    if cfg.trainer.dry_run and not isinstance(cfg, Train):
        raise Mistake(
            f"trainer.dry_run=true tries a training, and mode={cfg.mode} is none",
            allowed="mode=train",
            type_this="mode=train trainer.dry_run=true",
        )
