"""Which names a user can type, and the dataclass behind each. Needs neither Hydra nor torch.

A group's folder in `configs/` holds one YAML an option. Its defaults list begins with the option it builds on, and
in the end with a dataclass: `_lenet5` is `LeNet5` below, registered with Hydra under that name by `store.py`.
"""

import re
from pathlib import Path
from typing import Any

from dltrain.config import adversarial, data, groups, mode, model, segmentation
from dltrain.config.messages import Mistake

SCHEMAS: dict[str, dict[str, type]] = {
    "mode": {
        "train": mode.Train,
        "eval": mode.Eval,
        "predict": mode.Predict,
        "export": mode.Export,
        "generate": mode.Generate,
        "summary": mode.Summary,
        "compare": mode.Compare,
        "data": mode.LookAtData,
        "reproduce": mode.Reproduce,
    },
    "model": {
        "mlp": model.MLP,
        "lenet5": model.LeNet5,
        "lenet5_caffe": model.LeNet5Caffe,
        "alexnet": model.AlexNet,
        "vgg": model.VGG,
        "resnet": model.ResNet,
        "cifar_resnet": model.CifarResNet,
        "inception_v1": model.InceptionV1,
        "attention_cnn": model.AttentionCNN,
        "unet": model.UNet,
        "unet_resnet": model.UNetResNet,
        "dcgan": model.DCGAN,
    },
    "data": {
        "digits": data.Digits,
        "digits_pose": data.DigitsPose,
        "mnist": data.Mnist,
        "fashion_mnist": data.FashionMnist,
        "cifar10": data.Cifar10,
        "cifar100": data.Cifar100,
        "folder": data.Folder,
        "csv": data.Csv,
        "array": data.Array,
        "images": data.ImagesOnly,
        "digit_scenes": data.DigitScenes,
        "mask_folder": data.MaskFolder,
        "pets": data.Pets,
        "voc2012": data.Voc2012,
    },
    "task": {
        "classification": groups.Classification,
        "regression": groups.Regression,
        "segmentation": segmentation.Segmentation,
        "adversarial": adversarial.Adversarial,
    },
    "reg": {"reg": groups.Reg},
    "clip": {"none": groups.NoClip, "norm": groups.ClipNorm, "value": groups.ClipValue, "agc": groups.ClipAgc},
    "optim": {"sgd": groups.Sgd, "adam": groups.Adam, "adamw": groups.AdamW},
    "schedule": {
        "constant": groups.Constant,
        "step": groups.Step,
        "cosine": groups.Cosine,
        "onecycle": groups.OneCycle,
    },
    "precision": {"auto": groups.Precision, "fp32": groups.Precision, "bf16": groups.Precision, "fp16": groups.Fp16},
    "trainer": {"trainer": groups.Trainer},
    "log": {"log": groups.Log},
    "init": {"scratch": groups.Scratch, "run": groups.FromRun},
}

TASK_OF_KIND = {
    "class": "classification",
    "value": "regression",
    "mask": "segmentation",
    "none": "adversarial",
}  # what is learned from a data set's kind of targets, if nobody says more

BUILT_IN: dict[str, dict[str, type]] = {group: dict(names) for group, names in SCHEMAS.items()}
_extra_folders: list[Path] = []  # configs/ of trusted packages

_BUILDS_ON = re.compile(r"^\s*-\s*(\w+)\s*(?:#.*)?$", re.MULTILINE)
_NUMBER = re.compile(r"(\d+)")
_ON_ONE_LINE = re.compile(r"^defaults:\s*\[([^\]]*)\]", re.MULTILINE)


def configs_folder() -> Path:
    """`configs/` inside an installed wheel, or at the top of the repository."""
    package = Path(__file__).parents[1]
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def extra_folders() -> list[Path]:
    """The `configs/` folders of the packages that the user trusts."""
    return list(_extra_folders)


def add_extras(found: dict[tuple[str, str], type], folder: Path) -> None:
    """Make a trusted package's dataclasses and YAML files known."""
    for (group, name), cls in found.items():
        SCHEMAS[group][name] = cls
    _extra_folders.append(folder)


def forget_extras() -> None:
    """Back to what dltrain itself has."""
    for group, names in BUILT_IN.items():
        SCHEMAS[group].clear()
        SCHEMAS[group].update(names)
    _extra_folders.clear()


def options(group: str) -> list[str]:
    """Names that can stand behind `group=`, in their natural order."""
    folders = [configs_folder(), *_extra_folders]
    names = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
    return sorted(names, key=natural)


def natural(name: str) -> list[str | int]:
    """What to sort names by, so that resnet18 stands before resnet101."""
    return [int(part) if part.isdecimal() else part for part in _NUMBER.split(name)]


def option_file(group: str, option: str) -> Path:
    """The YAML behind `group=option`. Raises ValueError if there is none."""
    files = [folder / group / f"{option}.yaml" for folder in (configs_folder(), *_extra_folders)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise ValueError(f"there is no {group}={option}")
    return found


def option_text(group: str, option: str) -> str:
    """The YAML behind `group=option`, its defaults list one entry a line: `defaults: [_mlp, _self_]` is one too."""
    text = option_file(group, option).read_text(encoding="utf-8")
    return _ON_ONE_LINE.sub(lambda found: "\n  - ".join(["defaults:", *map(str.strip, found[1].split(","))]), text)


def schema(group: str, option: str) -> type:
    """The dataclass behind `group=option`, found by following what its YAML builds on. Raises Mistake if none is."""
    seen: set[str] = set()
    while not option.startswith("_"):
        if option in seen:
            raise Mistake(f"{option_file(group, option)} builds on itself")
        seen.add(option)
        found = next((name for name in _BUILDS_ON.findall(option_text(group, option)) if name != "_self_"), "")
        if found not in options(group) and found[1:] not in SCHEMAS[group]:
            raise Mistake(
                f"{option_file(group, option)} builds on {found or 'nothing'}",
                allowed=f"a defaults list that begins with {', '.join(f'_{name}' for name in SCHEMAS[group])}"
                f" or another {group}: [_{next(iter(SCHEMAS[group]))}, _self_]",
            )
        option = found
    return SCHEMAS[group][option[1:]]


def task_of(group: str, cls: Any) -> str | None:
    """The task that choosing this dataclass implies, None if it leaves the choice to others."""
    if group == "data":
        return TASK_OF_KIND.get(cls.kind)
    if group == "model" and cls.task != "classification":
        return str(cls.task)
    return None
