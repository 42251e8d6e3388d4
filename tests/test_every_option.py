"""Every option of every group trains from the command line, exactly, and goes on exactly after a failure.

A new option is tested here the moment its YAML exists.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dltrain import checkpoint
from dltrain.cli import main
from dltrain.config import table
from dltrain.config.choices import keys_of
from dltrain.engine import loop
from dltrain.run import Run
from tests.faults.compare import run_differences
from tests.faults.killing import dltrain
from tests.models.family import NAMES, answers_per_pixel, every_member, few_pixels, generates

ELSEWHERE = {
    ("data", "mnist"): "needs files: tests/test_experiments.py",
    ("data", "fashion_mnist"): "needs files: tests/test_experiments.py",
    ("data", "folder"): "needs a folder: tests/runs",
    ("data", "cifar10"): "needs files: tests/data/test_cifar.py",
    ("data", "cifar100"): "needs files: tests/data/test_cifar.py",
    ("data", "csv"): "needs a table: tests/data/test_csv.py",
    ("data", "array"): "needs arrays: tests/data/test_arrays.py",
    ("data", "images"): "needs a folder: tests/test_every_network.py",
    **{("data", name): "needs files: tests/data" for name in ("mask_folder", "em", "camvid", "pets", "voc2012")},
    ("init", "run"): "needs a run: tests/engine/test_loop.py",
    **{("experiment", name): "long: tests/test_experiments.py" for name in table.options("experiment")},
}
EXTRA = {  # what lets an option do its work in a few steps
    "precision=fp16": ["precision.init_scale=1e9", "precision.growth_interval=2"],  # overflows, then grows
    "task=regression": ["data=digits_pose", "task.loss=huber", "task.delta=0.5"],
    "task=segmentation": ["task.loss=both", "task.balanced=true"],
    "task=adversarial": ["task.loss=hinge", "task.r1=1", "task.r1_every=2", "task.discriminator_steps=2"],
    "clip=norm": ["clip.max_norm=0.1"],
    "clip=value": ["clip.max_value=0.001"],
    "schedule=step": ["schedule.milestones=[1]", "schedule.warmup=0.5"],
    "schedule=cosine": ["schedule.warmup=0.5"],
    "schedule=onecycle": ["schedule.warmup=0.5"],
}
OPTIONS = [
    f"{group}={option}"
    for group in table.SCHEMAS
    if group not in ("mode", "model")
    for option in table.options(group)
    if (group, option) not in ELSEWHERE
]
# 3 epochs of 4 steps; LeNet-5 draws in its dropout and its augmentation, and keeps batch norm's statistics
WORDS = ["determinism=exact", "device=cpu", "trainer.threads=1", "trainer.epochs=3", "trainer.batch_size=80"]
WORDS += ["trainer.ema=0.5", "trainer.save_every=2", "data.augment.rotate=10", "model.dropout=0.2", "model.norm=batch"]


FEW = ["data.classes=[3,7]", "data.train_per_class=20"]
SCENES = ["data=digit_scenes", "data.size=32", "data.train_scenes=40"]
UNJUDGED = ["task.judge=none", "task.samples=20"]
MORE = ["trainer.batch_size=10", "optim.lr=0.01"]  # 3 epochs of 4 steps here too


def words_for(option: str) -> list[str]:
    group = option.partition("=")[0]
    if option in ("data=digit_scenes", "task=segmentation"):
        return [*words_of_network(("model=unet", "model.depth=2", "model.base_channels=2")), *EXTRA.get(option, [])]
    if option == "task=adversarial":
        network = ("model=dcgan", "model.base_channels=4", "model.discriminator_norm=spectral")
        return [*words_of_network(network), *EXTRA[option]]
    words = [option, *EXTRA.get(option, []), *WORDS]
    if "data=digits_pose" in words:  # turned at random, its targets would be wrong
        words = [word.replace("data.augment.rotate=10", "data.augment.cutout=6") for word in words]
        words = [word.replace("trainer.batch_size=80", "trainer.batch_size=800") for word in words]
    else:
        words.append("data.train_per_class=35")
    small = ["model=mlp", "model.widths=[16]"]
    small += [] if group == "log" else ["log=quiet"]
    return [*small, *words]


def words_of_network(network: tuple[str, ...]) -> list[str]:
    """Of the words above those that the model has, which draw and keep statistics; and fewer images."""
    name = network[0].partition("=")[2]
    known = {key.name for key in keys_of(table.schema("model", name), "model.")}
    words = [word for word in WORDS if not word.startswith("model.") or word.partition("=")[0] in known]
    words = [word for word in words if not word.startswith("trainer.batch_size")]
    of = SCENES if answers_per_pixel(name) else [*FEW, *UNJUDGED] if generates(name) else FEW
    return [*network, *words, *of, *MORE, *few_pixels(network), "log=quiet"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def emptied(empty_folder: None, tmp_path: Path) -> Iterator[None]:
    """What a large network leaves is taken away at once: a checkpoint has half a gigabyte."""
    yield
    for path in tmp_path.iterdir():
        shutil.rmtree(path)


class FailedHere(Exception):
    """What stands for a crash."""


def fail_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    real = loop.train_step

    def train_step(cfg: Any, state: Any, *rest: Any) -> None:
        if state.step == step:
            raise FailedHere
        real(cfg, state, *rest)

    monkeypatch.setattr(loop, "train_step", train_step)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_and_goes_on_bit_exact(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_goes_on(words_for(option), monkeypatch)


@every_member
def test_every_family_trains_and_goes_on_bit_exact(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    check_goes_on(words_of_network(words), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_network_trains_and_goes_on_bit_exact(name: str, monkeypatch: pytest.MonkeyPatch, emptied: None) -> None:
    check_goes_on(words_of_network((f"model={name}",)), monkeypatch)


def check_goes_on(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*words, "output=whole"]) == 0
    found = Run(Path("whole")).results()
    assert (found["status"], found["steps"], found["epochs"]) == ("completed", 12, 3)
    assert {"test/accuracy", "test/r2", "test/mean_iou", "test/nearest_distance"} & found["metrics"].keys()
    with monkeypatch.context() as patch:
        fail_in_step(patch, 7)  # the last checkpoint is step 6's, inside an epoch
        assert main([*words, "output=cut"]) == 1
    saved = checkpoint.load(Path("cut"), "last", print)
    assert saved is not None
    assert saved["step"] == 6
    assert main(["resume=cut"]) == 0
    assert run_differences(Path("whole"), Path("cut")) == []


@pytest.mark.parametrize("lost", ["optimizer", "ema", "step"])
def test_the_comparison_sees_what_was_lost(lost: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The control, for an option of the table: in a process of its own, which forgets one item when it resumes."""
    words = words_for("optim=adam")
    assert main([*words, "output=whole"]) == 0
    with monkeypatch.context() as patch:
        fail_in_step(patch, 7)
        assert main([*words, "output=cut"]) == 1
    assert dltrain(["resume=cut"], tmp_path, setup=f"tests.faults.losing:lose_{lost}") == 0
    assert run_differences(Path("whole"), Path("cut")) != []


def test_another_seed_gives_other_bits_and_each_option_its_own() -> None:
    """No option of these is read and ignored: each gives other weights than the plain run."""
    plain = ["model=mlp", "model.widths=[16]", "log=quiet", "data.train_per_class=35", *WORDS]
    base = ["reg=none", "clip=none", "optim=adamw", "schedule=onecycle", "precision=fp32"]
    changes = [["seed=1"], ["reg=l1"], ["reg=l2"], ["clip=agc"], ["precision=bf16"]]
    changes += [[option, *EXTRA[option]] for option in ("clip=norm", "clip=value", "schedule=step", "schedule=cosine")]
    changes += [["schedule=constant"], ["optim=sgd"], ["optim=adam", "optim.lr=0.01"]]
    seen = {}
    for change in [[], *changes]:
        replaced = {word.partition("=")[0] for word in change}
        words = [word for word in base if word.partition("=")[0] not in replaced]
        output = "-".join(word.partition("=")[2] for word in change) or "plain"
        assert main([*plain, *words, *change, f"output=runs/{output}"]) == 0
        seen[output] = Run(Path("runs") / output).results()["weights_sha256"]
    assert len(set(seen.values())) == len(seen), seen
