"""What must hold before torch is imported: ranges, grammars, what keys ask of each other and of the data."""

import shlex
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import pytest

from dltrain.config import parse, table
from dltrain.config.check import check, check_data
from dltrain.config.compose import compose
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec, Target


def config(*words: str) -> Config:
    cfg, _ = compose(list(words))
    check(cfg)
    return cfg


def spec(**changes: Any) -> DataSpec:
    given: dict[str, Any] = {
        "name": "digits",
        "shape": (1, 32, 32),
        "target": Target.classes,
        "class_names": tuple("0123456789"),
        "counts": {"train": 3500, "val": 500, "test": 1000},
        "mean": (0.1,),
        "std": (0.3,),
    }
    return DataSpec(**(given | changes))


# ---- each value alone: every bounded field of every dataclass, by the table


def bounded() -> list[tuple[str, str, Field[Any]]]:
    fields_of = [
        (group, name, f) for group, names in table.SCHEMAS.items() for name in names for f in fields(names[name])
    ]
    bounds = ("ge", "gt", "le", "lt")
    return [
        it for it in fields_of if it[0] != "mode" and any(it[2].metadata.get(bound) is not None for bound in bounds)
    ]


def outside(f: Field[Any]) -> list[float]:
    values = []
    if f.metadata["ge"] is not None:
        values.append(f.metadata["ge"] - 1)
    if f.metadata["gt"] is not None:
        values.append(f.metadata["gt"])
    if f.metadata["le"] is not None:
        values.append(f.metadata["le"] + 1)
    if f.metadata["lt"] is not None:
        values.append(f.metadata["lt"])
    return values


def base(group: str, name: str) -> Config:
    cfg: Config = table.SCHEMAS["mode"]["train"]()
    for other, names in table.SCHEMAS.items():
        if other != "mode":
            setattr(cfg, other, next(iter(names.values()))())
    setattr(cfg, group, table.SCHEMAS[group][name]())
    return cfg


@pytest.mark.parametrize(("group", "name", "f"), bounded(), ids=lambda value: getattr(value, "name", value))
def test_every_bound_of_every_field_is_kept(group: str, name: str, f: Field[Any]) -> None:
    from dltrain.config.ranges import check_ranges

    is_list = f.default_factory is not MISSING or "list" in str(f.type)
    for value in outside(f):
        cfg = base(group, name)
        check_ranges(cfg)
        setattr(getattr(cfg, group), f.name, [value] * max(1, f.metadata["fewest"]) if is_list else value)
        with pytest.raises(Mistake, match=rf"{group}\.{f.name}=.* out of range") as told:
            check_ranges(cfg)
        assert told.value.allowed
        assert told.value.type_this.startswith(f"{group}.{f.name}=")


def test_numbers_that_are_none_are_out_of_range() -> None:
    for word in ("optim.lr=nan", "optim.lr=inf", "optim=adam optim.betas=[0.9,nan]", "clip=norm clip.max_norm=inf"):
        with pytest.raises(Mistake, match="out of range"):
            config(*word.split())


def test_augmentation_is_checked_in_depth() -> None:
    with pytest.raises(Mistake, match=r"data\.augment\.flip=1\.5"):
        config("data.augment.flip=1.5")


# ---- between keys


BETWEEN = [
    (["optim=sgd", "optim.momentum=0"], "nesterov"),
    (["optim=adam", "optim.betas=[0.9]"], "betas"),
    (["schedule=step", "schedule.milestones=[3,2]"], "ascend"),
    (["schedule=step", "schedule.milestones=[3,3]"], "ascend"),
    (["schedule=cosine", "schedule.warmup=20"], "warmup"),
    (["trainer.micro_batch_size=129"], "micro_batch_size"),
    (["trainer.threads=many"], "threads"),
    (["trainer.threads=0"], "threads"),
    (["trainer.save_every=soon"], "save_every"),
    (["trainer.save_every='0'"], "save_every"),
    (["trainer.max_time=forever"], "max_time"),
    (["trainer.max_time=0s"], "max_time"),
    (["device=gpu"], "device"),
    (["device=cuda:x"], "device"),
    (["data.size=big"], "size"),
    (["data.size=28"], "32x32"),
    (["data=folder"], "needs the folder"),
    (["data=folder", "data.root=x", "data.val_share=0.6", "data.test_share=0.5"], "nothing to train"),
    (["task.balanced=true", "task.class_weights=[1,2]"], "both weight"),
    (["task.class_weights=[0,0]"], "no class"),
    (["model=mlp", "model.depth=3", "model.widths=[]"], "do not agree"),
    (["model=resnet20", "model.residual=false", "model.shortcut=B"], "does nothing in the plain network"),
    (["model=vgg16", "model.attention=se"], "se in vgg16 without a norm"),
    (["model=vgg11", "model.attention=cbam"], "cbam in vgg11 without a norm"),
    (
        ["model=resnet20", "model.residual=false", "model.norm=none", "model.attention=se"],
        "se in plain20 without a norm",
    ),
    (["init=run"], "needs the run"),
    (["data.mean=[0.1,0.2,0.3]", "data.std=[0.1,0.2]"], "differ in length"),
    (["optim.name=adam"], "does not fit"),
    (["data.augment.resized_crop=0.5", "data.loader=resident"], "as they are read"),
    (["model=mlp", "data=digits_pose", "data.augment.cutmix=1"], "classes only"),
    (["data=mnist", "data.root='a${b}'"], "holds"),
    (["data.fold=1"], "says nothing of how many"),
    (["data.folds=3", "data.fold=3"], "there is no such fold"),
    (["data.classes=[3]"], "fewer than two"),
    (["data=digits_pose", "model=mlp", "data.sampling=balanced"], "needs classes"),
    (["data=digits_pose", "model=mlp", "data.train_per_class=5"], "needs classes"),
    (["data=digits_pose", "model=mlp", "data.classes=[a,b]"], "needs classes"),
    (["mode=summary", "trainer.dry_run=true"], "tries a training"),
    (["data=csv", "data.root=x.csv", "data.values=[]"], "names no column"),
    (["data=csv", "data.root=x.csv", "data.values=[a,a]"], "named twice"),
]


@pytest.mark.parametrize(("words", "what"), BETWEEN, ids=[" ".join(words) for words, _ in BETWEEN])
def test_what_keys_ask_of_each_other(words: list[str], what: str) -> None:
    words = [word.replace("${", "\\${") for word in words]
    with pytest.raises(Mistake, match=what) as told:
        config(*words)
    advice = shlex.split(told.value.type_this)
    if advice[:1] == ["dltrain"]:
        config(*advice[1:])
    elif advice and advice != ["init=run", "init.source=last"]:
        config(*words, *advice)


@pytest.mark.parametrize(
    "words",
    [
        ["optim=sgd", "optim.momentum=0", "optim.nesterov=false"],
        ["model=mlp", "model.depth=3", "model.widths=[50]"],
        ["model=mlp", "model.depth=3"],
        ["model=vgg16", "model.norm=batch", "model.attention=cbam"],
        ["model=vgg16", "model.attention=spatial_softmax"],
        ["model=resnet20", "model.norm=none", "model.attention=cbam"],  # shortcuts carry the signal
        ["model=resnet20", "model.residual=false", "model.attention=se"],
        ["model=mlp", "model.depth=0"],
        ["data.size=32x32"],
        ["trainer.steps=5", "schedule=cosine", "schedule.warmup=30"],  # whether it fits is known with the data
        ["trainer.max_time=2h30m", "trainer.save_every=500", "trainer.threads=2", "device=cuda:1"],
        ["seed=0", "reg.l2=0.0"],
    ],
)
def test_what_is_right_passes(words: list[str]) -> None:
    config(*words)


# ---- against the data


@pytest.mark.parametrize(
    ("words", "changes", "what"),
    [
        ([], {"shape": (1, 28, 28)}, "too small"),
        (["task.class_weights=[1,2]"], {}, "10 classes"),
        (["data.mean=[0.1,0.2,0.3]"], {}, "channels"),
        (["data.augment.saturation=0.2"], {}, r"saturation=0\.2 changes colours, and the images of digits are grey"),
        (["data.augment.hue=0.1"], {}, r"hue=0\.1 changes colours"),
        (["model.norm=batch", "trainer.batch_size=1"], {}, "two images"),
        (["model.norm=batch", "trainer.batch_size=9", "trainer.micro_batch_size=4"], {}, "two images"),
        (["model.norm=batch"], {"counts": {"train": 1, "val": 1}}, "two images"),
        (["trainer.early_stop=3"], {"counts": {"train": 100}}, "validation"),
        (["trainer.steps=27", "schedule=cosine", "schedule.warmup=1"], {}, "warmup"),
        ([], {"counts": {"train": 0, "test": 3}}, "no images"),
    ],
)
def test_what_the_data_ask(words: list[str], changes: dict[str, Any], what: str) -> None:
    cfg = config(*words)
    check_data(config(), spec())
    with pytest.raises(Mistake, match=what) as told:
        check_data(cfg, spec(**changes))
    if told.value.type_this and not changes:
        again = config(*words, *shlex.split(told.value.type_this))
        check_data(again, spec())


# ---- strings with a grammar


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("45min", 2700), ("45m", 2700), ("2h30m", 9000), ("1.5h", 5400), ("1h 2min 3s", 3723), ("2H", 7200)],
)
def test_times(text: str, value: float) -> None:
    assert parse.seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "h", "-3s", "3x", "1h30", "0s", "1e3s", "٣s", "9" * 400 + "h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Mistake):
        parse.seconds(text)


def test_intervals_sizes_threads_and_devices() -> None:
    assert parse.save_interval("10min") == ("seconds", 600.0)
    assert parse.save_interval("500") == ("steps", 500)
    assert parse.image_size("180x240") == (180, 240)
    assert parse.image_size("96") == (96, 96)
    assert parse.image_size("auto") is None
    assert parse.thread_count("auto") is None
    assert parse.thread_count("3") == 3
    assert parse.device_name("cuda:0") == "cuda:0"
    for text in ("0", "1x", "axb", "1x2x3", "-3", "0x5", "999999"):
        with pytest.raises(Mistake):
            parse.image_size(text)
    for text in ("0", "-1", "two", "1.5", "5000"):
        with pytest.raises(Mistake):
            parse.thread_count(text)


def test_every_group_field_is_a_dataclass_after_composing() -> None:
    cfg = config()
    assert all(is_dataclass(getattr(cfg, group)) for group in table.SCHEMAS if group != "mode")
