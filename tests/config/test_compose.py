"""Words to typed config: precedence, presets, the task that follows, runs laid under what is typed, trust."""

import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from dltrain.config import saved, table, trust
from dltrain.config.check import check
from dltrain.config.compose import compose, leaves
from dltrain.config.groups import Adam, AdamW, ClipNorm, Cosine, Fp16, Sgd
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config, Eval, Reproduce, Train
from dltrain.config.model import MLP, Activation, LeNet5, Norm
from dltrain.run import Run

ROOTED = ("folder", "csv", "array", "images", "mask_folder", "em", "camvid")  # sets that need data.root


def config(*words: str) -> Config:
    cfg, _ = compose(list(words))
    check(cfg)
    return cfg


def test_no_words_are_lenet5_on_digits() -> None:
    cfg = config()
    assert isinstance(cfg, Train)
    assert isinstance(cfg.model, LeNet5)
    assert (cfg.data.name, cfg.task.name, cfg.seed, cfg.init.name) == ("digits", "classification", 0, "scratch")


@pytest.mark.parametrize("group", [group for group in table.SCHEMAS if group != "mode"])
def test_every_option_composes_to_the_dataclass_behind_it_and_is_read_back_the_same(group: str) -> None:
    for option in table.options(group):
        words = [f"{group}={option}", "seed=9223372036854775807", "trainer.ema=0.1"]
        words += ["data.root=photos"] if option in ROOTED else []
        words += ["model=unet"] if group == "data" and table.schema(group, option).kind == "mask" else []
        words += ["data=digit_scenes"] if "unet" in option or option == "segmentation" else []
        words += ["model=unet"] if option == "segmentation" else []
        words += ["model=dcgan"] if option in ("images", "adversarial") else []
        words += ["data=digits_pose"] if option == "regression" else []
        words += ["init.source=last"] if group == "init" and option == "run" else []
        cfg, _ = compose(words)
        check(cfg)
        assert type(getattr(cfg, group)) is table.schema(group, option)
        assert saved.from_json(json.dumps(saved.to_json(cfg))) == cfg


def test_every_schema_can_be_chosen() -> None:
    for group, names in table.SCHEMAS.items():
        reached = {table.schema(group, option) for option in table.options(group)}
        assert reached == set(names.values())


def test_command_line_wins_over_experiment_over_model() -> None:
    assert config("experiment=mnist_mlp").trainer.epochs == 10
    assert config("experiment=mnist_mlp", "trainer.epochs=3").trainer.epochs == 3
    assert isinstance(config("experiment=mnist_mlp").model, MLP)
    assert isinstance(config("experiment=mnist_mlp", "model=lenet5").model, LeNet5)
    assert config("experiment=mnist_mlp", "data=fashion_mnist").data.name == "fashion_mnist"


def test_a_recipe_is_replaced_whole_and_its_keys_are_still_the_users() -> None:
    assert config("model=lenet5").schedule.name == "onecycle"
    assert isinstance(config("model=lenet5", "schedule=cosine").schedule, Cosine)
    adam = config("model=mlp", "optim=adam", "optim.lr=0.5").optim
    assert adam == Adam(lr=0.5)
    assert config("optim.lr=0.5").optim == AdamW(lr=0.5)


def test_reg_presets_write_into_the_model_and_give_way_to_the_user() -> None:
    assert config("reg=dropout").model.dropout == 0.5
    assert config("reg=batchnorm", "model=mlp").model.norm is Norm.batch
    assert config("reg=dropout", "model.dropout=0.1").model.dropout == 0.1
    everything = config("reg=all")
    assert everything.reg.l1 > 0
    assert everything.reg.l2 > 0
    assert everything.model.dropout > 0
    assert everything.model.norm is Norm.batch


@pytest.mark.parametrize("reg", ["none", "l1", "l2", "dropout", "batchnorm", "all"])
def test_reg_keys_work_under_every_preset(reg: str) -> None:
    assert config(f"reg={reg}", "reg.l2=0.25").reg.l2 == 0.25


def test_values_have_their_types() -> None:
    cfg = config("trainer.ema=0.99", "model.activation=tanh", "clip=norm", "precision=fp16", "optim.lr=1")
    assert cfg.trainer.ema == 0.99
    assert cfg.model.activation is Activation.tanh
    assert cfg.clip == ClipNorm(max_norm=1.0)
    assert isinstance(cfg.precision, Fp16)
    assert isinstance(cfg.optim.lr, float)
    assert config("precision=bf16").precision.name == "bf16"


def test_two_lengths_are_a_mistake() -> None:
    with pytest.raises(Mistake, match="both say how long"):
        config("trainer.epochs=3", "trainer.steps=10")
    assert config("trainer.steps=10").trainer.steps == 10
    assert config("trainer.steps=null", "trainer.epochs=3").trainer.epochs == 3


# ---- runs laid under what is typed


def make_run(folder: Path, *words: str, status: str = "interrupted") -> Path:
    cfg = config(*words)
    folder.mkdir(parents=True)
    record = Run(folder)
    record.write_config(cfg)
    record.write_results(status=status)
    return folder


SPECIAL = (
    "model=mlp",
    "model.widths=[7,5]",
    "model.activation=silu",
    "reg=all",
    "clip=agc",
    "clip.factor=0.02",
    "optim=adamw",
    "optim.betas=[0.8,0.9]",
    "schedule=step",
    "schedule.milestones=[1,2]",
    "precision=bf16",
    "trainer.epochs=7",
    "trainer.ema=0.9",
    "data=mnist",
    "data.root='a folder, with [brackets] = #'",
    "data.augment.rotate=3",
    "task.class_weights=[1,2,3,4,5,6,7,8,9,10]",
    "seed=11",
    "determinism=fast",
)


@pytest.mark.parametrize(
    ("mode", "key", "kind"), [("train", "resume", Train), ("eval", "run", Eval), ("reproduce", "run", Reproduce)]
)
def test_a_run_is_opened_with_its_own_config(tmp_path: Path, mode: str, key: str, kind: type) -> None:
    run = make_run(tmp_path / "r", *SPECIAL)
    cfg = config(f"mode={mode}", f"{key}={run}", "data.loader=streaming", "log.every=3")
    assert type(cfg) is kind
    was, now = dict(leaves(Run(run).read_config())), dict(leaves(cfg))
    differ = {name for name in was if name not in ("mode", *saved.OF_THE_COMMAND_LINE) and now.get(name) != was[name]}
    assert differ == {"data.loader", "log.every"}
    assert getattr(cfg, key) == str(run)


def test_hydras_composition_of_an_opened_run_holds_the_same_values(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", *SPECIAL)
    cfg, composed = compose(["mode=reproduce", f"run={run}"])
    assert composed.model.widths == cfg.model.widths == [7, 5]
    assert composed.seed == 11


@pytest.mark.parametrize(
    "word",
    [
        "optim.lr=0.5",
        "optim=adam",
        "model=lenet5",
        "reg=l2",
        "seed=2",
        "device=cpu",
        "trainer.batch_size=3",
        "data.augment={flip: 0.1}",
        "output=elsewhere",
        "trainer.threads=1",
        "experiment=mnist_mlp",
        "precision=fp32",
    ],
)
def test_resume_refuses_what_changes_the_result(tmp_path: Path, word: str) -> None:
    run = make_run(tmp_path / "r")
    with pytest.raises(Mistake) as told:
        config(f"resume={run}", word)
    assert word.partition("=")[0] in told.value.what
    assert str(run) in told.value.type_this


@pytest.mark.parametrize(
    "word",
    ["log.every=1", "log.layer_norms=true", "data.workers=2", "trainer.max_time=1h", "trainer.save_every=5"],
)
def test_resume_takes_what_cannot_change_the_result(tmp_path: Path, word: str) -> None:
    config(f"resume={make_run(tmp_path / 'r')}", word)


def test_a_longer_run_needs_a_schedule_that_does_not_look_ahead(tmp_path: Path) -> None:
    for schedule in ("constant", "step"):
        run = make_run(tmp_path / schedule, f"schedule={schedule}", status="completed")
        assert config(f"resume={run}", "trainer.epochs=99").trainer.epochs == 99
    for schedule in ("cosine", "onecycle"):
        run = make_run(tmp_path / schedule, f"schedule={schedule}", "model=mlp", "model.widths=[9]")
        with pytest.raises(Mistake, match="depends on the length") as told:
            config(f"resume={run}", "trainer.epochs=99")
        again = shlex.split(told.value.type_this)[1:]
        cfg = config(*again)
        assert (cfg.init.name, cfg.trainer.epochs, cfg.model.widths) == ("run", 99, [9])


def test_eval_refuses_keys_that_it_does_not_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    for word in ("optim.lr=1", "model.dropout=0.1", "data.augment.flip=1", "trainer.epochs=2", "seed=3"):
        with pytest.raises(Mistake, match="has no say"):
            config("mode=eval", f"run={run}", word)
    cfg = config("mode=eval", f"run={run}", "precision=fp32", "checkpoint=last", "device=cpu")
    assert isinstance(cfg, Eval)
    assert (cfg.precision.name, cfg.checkpoint.value, cfg.device) == ("fp32", "last", "cpu")


@pytest.mark.parametrize(
    ("words", "mode", "taken", "refused"),
    [
        (
            ["data=mask_folder", "data.root=x", "model=unet"],
            "eval",
            ["task.tile=256"],
            ["task.loss=dice", "task.class_weights=[1,2]"],
        ),
        (
            ["data=mask_folder", "data.root=x", "model=unet"],
            "predict",
            ["task.tile=256"],
            ["task.w0=3", "task.balanced=true"],
        ),
        (["data=mask_folder", "data.root=x", "model=unet"], "export", [], ["task.tile=256"]),
        (["model=dcgan"], "eval", ["task.samples=20", "task.judge=none"], ["task.r1=1", "task.loss=hinge"]),
        ([], "eval", [], ["task.label_smoothing=0.1", "task.balanced=true"]),
        ([], "predict", [], ["task.label_smoothing=0.1"]),
    ],
)
def test_of_the_task_only_what_the_mode_reads_may_be_typed(
    words: list[str], mode: str, taken: list[str], refused: list[str], tmp_path: Path
) -> None:
    """What is offered instead keeps the rest of the line, and the keys that are named are those that are taken."""
    run = make_run(tmp_path / "r", *words)
    opened = [f"mode={mode}", f"run={run}", *(["input=x"] if mode == "predict" else [])]
    cfg = config(*opened, *taken)
    for word in taken:
        key, _, value = word.partition("=")
        assert str(getattr(cfg.task, key.removeprefix("task."))) == value
    for word in refused:
        with pytest.raises(Mistake, match=re.escape(f"{word} has no say in mode={mode}")) as told:
            config(*opened, *taken, word)
        assert set(taken) <= set(shlex.split(told.value.type_this))
        named = [part for part in told.value.allowed.split(", ") if part.startswith("task.")]
        assert named == sorted(word.partition("=")[0] for word in taken)


@pytest.mark.parametrize("words", [["mode=eval"], ["mode=reproduce"]])
def test_a_mode_that_opens_a_run_needs_one(words: list[str]) -> None:
    with pytest.raises(Mistake, match="needs a run"):
        config(*words)


# ---- files that set what the chosen model does not have, and trust


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A user's own package in the working directory: a model without dropout, and a set of masks."""
    home = tmp_path / "my_nets"
    (home / "configs" / "model").mkdir(parents=True)
    (home / "configs" / "data").mkdir()
    (home / "__init__.py").write_text("")
    (home / "config.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from dltrain.config.data import Data\n"
        "from dltrain.config.model import Model\n"
        "@dataclass\n"
        "class Tiny(Model):\n"
        "    builds: ClassVar[str] = 'tiny:Tiny'\n"
        "    name: str = 'tiny'\n"
        "    width: int = 3\n"
        "@dataclass\n"
        "class Cells(Data):\n"
        "    kind: ClassVar[str] = 'mask'\n"
        "    name: str = 'cells'\n"
        "@dataclass\n"
        "class Ages(Data):\n"
        "    kind: ClassVar[str] = 'value'\n"
        "    name: str = 'ages'\n"
        "@dataclass\n"
        "class Pinned(Tiny):\n"
        "    task: ClassVar[str] = 'pinned_task'\n"
        "    name: str = 'pinned'\n"
    )
    recipe = "defaults:\n  - _tiny\n  - override /optim@_global_.optim: adam\n  - _self_\nwidth: 5\n"
    (home / "configs" / "model" / "tiny.yaml").write_text(recipe)
    for group, name in (("data", "cells"), ("data", "ages"), ("model", "pinned")):
        (home / "configs" / group / f"{name}.yaml").write_text(f"defaults:\n  - _{name}\n  - _self_\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_nets"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_nets"]:
        del sys.modules[name]
    table.forget_extras()


def test_no_foreign_code_is_imported_without_trust(package: str) -> None:
    trust.apply(["model=tiny"])
    with pytest.raises(Mistake):
        compose(["model=tiny"])
    assert package not in sys.modules


def test_a_trusted_package_brings_models_and_data_sets(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    word = f"trust=[{package}]"
    trust.apply([word])
    cfg = config(word, "model=tiny")
    assert cfg.model.width == 5
    assert isinstance(cfg.optim, Adam)
    assert cfg.trust == [package]
    assert "tiny" in table.options("model")
    text = json.dumps(saved.to_json(cfg))
    assert dataclasses.asdict(saved.from_json(text).model) == {"name": "tiny", "width": 5}
    trust.apply([])  # without it the same file is no config
    with pytest.raises(Mistake, match="not known here"):
        saved.from_json(text)
    assert "tiny" not in table.options("model")
    monkeypatch.setenv("DLTRAIN_TRUST", package)
    trust.apply([])
    assert config("model=tiny").model.width == 5


def test_experiment_wins_over_model_and_the_command_line_over_both(package: str) -> None:
    folder = Path(package) / "configs" / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /model: tiny\n  - override /optim: sgd\n  - _self_\n"
        "model: {width: 8}\noptim: {lr: 0.25}\nseed: 6\n"
    )
    trust.apply([f"trust=[{package}]"])
    cfg = config("experiment=mine")
    assert (cfg.model.name, cfg.model.width, cfg.optim, cfg.seed) == ("tiny", 8, Sgd(lr=0.25), 6)
    cfg = config("experiment=mine", "optim=adam", "model.width=9", "seed=1")
    assert (cfg.model.width, cfg.optim, cfg.seed) == (9, Adam(lr=0.25), 1)


def test_the_task_follows_data_then_model_then_the_user(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(package) / "configs" / "task"
    folder.mkdir()
    for name in ("value_task", "pinned_task"):
        kind = dataclasses.make_dataclass(name, [("name", str, name)])
        kind.kinds = ("class", "value")  # type: ignore[attr-defined]
        monkeypatch.setitem(table.SCHEMAS["task"], name, kind)
        (folder / f"{name}.yaml").write_text(f"defaults:\n  - _{name}\n  - _self_\n")
    monkeypatch.setitem(table.TASK_OF_KIND, "value", "value_task")
    monkeypatch.setattr(table, "_extra_folders", [Path(package).absolute() / "configs"])
    monkeypatch.syspath_prepend(Path.cwd())
    module = trust._import(package)
    for (group, name), cls in trust._declared(module).items():
        monkeypatch.setitem(table.SCHEMAS[group], name, cls)
    assert config("data=digits").task.name == "classification"
    assert config("data=ages").task.name == "value_task"
    assert config("data=ages", "model=pinned").task.name == "pinned_task"
    assert config("data=ages", "model=pinned", "task=value_task").task.name == "value_task"
    assert config("task=pinned_task").task.name == "pinned_task"


def test_an_impossible_pair_is_answered_with_pairs_that_work(package: str) -> None:
    trust.apply([f"trust=[{package}]"])
    with pytest.raises(Mistake, match="model=lenet5 gives an answer for each image") as told:
        config("data=cells")
    assert "model=unet" in told.value.allowed
    config("data=cells", told.value.type_this)


def test_a_preset_that_the_model_cannot_take_is_told(package: str) -> None:
    trust.apply([f"trust=[{package}]"])
    with pytest.raises(Mistake, match=r"reg=dropout sets model\.dropout"):
        config("model=tiny", "reg=dropout")


@pytest.mark.parametrize("name", ["os", "no_such_package", "a.b", "../x", "os;x"])
def test_what_is_no_package_of_the_users_is_not_trusted(name: str) -> None:
    with pytest.raises(Mistake, match="trust="):
        trust.apply([f"trust=[{name}]"])
    trust.apply([])
