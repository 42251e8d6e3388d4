"""The experiments: what their heads promise, as means over three seeds (slow), and that each begins to learn.

They read real data below DLTRAIN_TEST_DATA (default ../shared/data) and are skipped where it is missing.
"""

import csv
import os
import statistics
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dltrain.cli import main
from dltrain.config import table
from dltrain.modes import judge_run
from dltrain.run import Run
from tests.real_data import MISSING, SHARED

PROMISED = {
    "mnist_lenet5": 0.994,
    "mnist_mlp": 0.987,
    "mnist_attention": 0.993,
    "cifar10_resnet20": 0.86,
    "fashion_lenet5": 0.908,
    "digits_lenet5": 0.977,
    "digits_pose_lenet5": 0.87,
    "scenes_unet": 0.8,
    "em_unet": 0.92,
    "camvid_unet": 0.5,
}
GENERATORS = {  # FID at most, as a share of what a run begins with: the judge decides how large it is
    "digits_dcgan": 0.1,
    "mnist_dcgan": 0.1,
}
RAREST = 0.04  # share of a class among a generator's samples at least
METRIC = {  # of the others the accuracy
    "digits_pose_lenet5": "test/r2",
    "scenes_unet": "test/mean_iou",
    "em_unet": "test/pixel_accuracy",
    "camvid_unet": "test/mean_iou",
}
LONG = (  # too long for the first steps of each to be tried in every run
    "mnist_attention",
    "cifar10_resnet20",
    "scenes_unet",
    "em_unet",
    "camvid_unet",
    "mnist_dcgan",
)
SEEDS = {"em_unet": (0,), "camvid_unet": (0,)}  # half an hour a run; of the others 0, 1, 2
FOLDERS = {"mnist": "MNIST", "fashion": "FashionMNIST"}  # where torchvision's root is that of all sets


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def words_for(name: str) -> list[str]:
    """The command of an experiment, with the place of its data if it needs any."""
    if name.startswith("cifar10"):  # the copy that is there is a folder of JPEG files
        if not (SHARED / "cifar10-jpeg.tar").is_file():
            pytest.skip(MISSING)
        with tarfile.open(SHARED / "cifar10-jpeg.tar") as file:
            file.extractall(".", filter="data")
        return [f"experiment={name}", "data=folder", "data.root=cifar10-jpeg"]
    first = name.partition("_")[0]
    if first in ("digits", "scenes"):
        return [f"experiment={name}"]
    if not (SHARED / FOLDERS.get(first, first)).is_dir():
        pytest.skip(MISSING)
    return [f"experiment={name}", f"data.root={SHARED if first in FOLDERS else SHARED / first}"]


def test_every_experiment_is_tested() -> None:
    assert set(PROMISED) | set(GENERATORS) | {"none"} == set(table.options("experiment"))


def some(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in names]


@pytest.mark.parametrize("name", some(PROMISED))
def test_the_loss_falls_from_the_start(name: str) -> None:
    """The first steps of the experiment, by its own recipe but for the length."""
    losses = []
    for steps in (5, 100):
        words = [*words_for(name), f"trainer.steps={steps}", "schedule=constant", "trainer.threads=1", "log=quiet"]
        assert main([*words, f"output={steps}"]) == 0
        losses.append(Run(Path(str(steps))).results()["metrics"]["val/loss"])
    assert losses[1] < 0.7 * losses[0], losses


def fid_at_first(name: str) -> float:
    words = [*words_for(name), "trainer.steps=1", "trainer.threads=1", "log=quiet", "output=first"]
    assert main(words) == 0
    return float(Run(Path("first")).results()["metrics"]["val/fid"])


@pytest.mark.parametrize("name", some(GENERATORS))
def test_the_distance_falls_from_the_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first steps of the experiment, by its own recipe but for the length, to a judge of two epochs."""
    monkeypatch.setattr(judge_run, "EPOCHS", 2)
    first = fid_at_first(name)
    words = [*words_for(name), "trainer.steps=150", "trainer.ema=0.9", "trainer.threads=1", "log=quiet"]
    assert main([*words, "output=later"]) == 0
    assert Run(Path("later")).results()["metrics"]["val/fid"] < 0.7 * first


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_every_class_is_made_and_the_distance_reached(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each of three seeds, by the command in the experiment's head; with all cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first = fid_at_first(name)
    assert main(["-m", *words_for(name), "seed=0,1,2", f"trainer.threads={os.cpu_count()}", "output=sweep"]) == 0
    with Path("sweep/sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        assert float(row["test/rarest_class"]) >= RAREST, row
        assert float(row["test/fid"]) <= GENERATORS[name] * first, (row, first)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISED)
def test_the_promised_result_is_reached(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the seeds in the experiment's head, by the command there; with all cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seeds = SEEDS.get(name, (0, 1, 2))
    words = [*words_for(name), f"seed={','.join(map(str, seeds))}", f"trainer.threads={os.cpu_count()}", "output=sweep"]
    assert main(["-m", *words]) == 0
    with Path("sweep/sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = [float(row[METRIC.get(name, "test/accuracy")]) for row in rows]
    assert len(found) == len(seeds)
    assert statistics.mean(found) >= PROMISED[name], found
    if name == "em_unet":
        assert statistics.mean(float(row["test/dice/membrane"]) for row in rows) >= 0.8
    if name == "mnist_lenet5":
        assert Run(Path(rows[0]["folder"])).read_config().trainer.epochs <= 10
