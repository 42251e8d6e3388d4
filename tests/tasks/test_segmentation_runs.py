"""Segmentation from the command line: what it learns, says, writes and repeats, on scenes of digits."""

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dltrain
from dltrain import signals
from dltrain.cli import main
from dltrain.config.spec import IGNORED
from dltrain.data.imageset import open_set
from dltrain.run import Run

SMALL = ["data=digit_scenes", "data.size=32", "data.train_scenes=48", "model=unet", "model.depth=2"]
SMALL += ["model.base_channels=4", "trainer.threads=1", "trainer.batch_size=8", "optim.lr=0.01"]
FOLDER = ["data=mask_folder", "data.root=set", "data.crop=32", "model=unet", "model.depth=2", "model.base_channels=4"]
FOLDER += ["trainer.threads=1", "trainer.batch_size=4", "trainer.epochs=4", "optim.lr=0.01", "log=quiet"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder() -> None:
    """16 images of two sizes in `set`, with discs in them, and their masks."""
    g = np.random.default_rng(0)
    for kind in ("images", "masks"):
        Path("set", kind).mkdir(parents=True)
    for number in range(16):
        height, width = (40, 48) if number % 3 else (37, 61)
        mask = np.zeros((height, width), dtype=np.uint8)
        for _ in range(4):
            rows, columns = np.ogrid[:height, :width]
            centre = g.integers(5, height - 5), g.integers(5, width - 5)
            mask[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= g.integers(9, 36)] = 1
        Image.fromarray(mask).save(f"set/masks/{number:02}.png")
        pixels = 60 + 120 * mask + g.integers(0, 60, mask.shape)
        Image.fromarray(pixels.astype(np.uint8)).save(f"set/images/{number:02}.png")


def results(folder: str = "run") -> dict[str, Any]:
    return Run(Path(folder)).results()


def rows(folder: str = "run") -> list[dict[str, str]]:
    with Path(folder, "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_judged_by_mean_iou_and_its_test_is_a_plain_count(capsys: pytest.CaptureFixture[str]) -> None:
    """The recorded figures against those of the loaded network's own answers to the images of the test split."""
    assert main([*SMALL, "trainer.epochs=6", "model.dropout=0", "device=cpu", "output=run"]) == 0
    found = results()
    metrics = found["metrics"]
    assert found["best"]["metric"] == "val/mean_iou"
    loaded = dltrain.load("run")
    images = open_set(loaded.config, print)
    hits, union = np.zeros(11), np.zeros(11)
    for number in images.splits["test"].tolist():
        *pixels, truth = images.read(number)
        answer = loaded.predict(Image.fromarray(pixels[0]))
        assert (truth != IGNORED).all()
        for k in range(11):
            hits[k] += ((truth == k) & (answer == k)).sum()
            union[k] += ((truth == k) | (answer == k)).sum()
    seen = union > 0
    assert metrics["test/mean_iou"] == pytest.approx((hits[seen] / union[seen]).mean(), abs=1e-9)
    assert metrics["test/pixel_accuracy"] == pytest.approx(hits.sum() / (1000 * 32 * 32), abs=1e-9)
    assert metrics["test/iou/ground"] == pytest.approx(hits[0] / union[0], abs=1e-9)
    losses = [float(row["train/loss"]) for row in rows()]
    assert losses[-1] < 0.7 * losses[0]
    said = capsys.readouterr().out
    assert "11 classes" in said
    lines = [line for line in said.splitlines() if line.startswith("test ")]
    assert [line.split("  ")[0].strip() for line in lines[:2]] == ["test mean IoU", "test mean Dice"]
    assert lines[2].startswith("test pixel accuracy ")
    assert f"ground            IoU {100 * metrics['test/iou/ground']:.1f} %   Dice" in said
    assert "val mean IoU" in next(line for line in said.splitlines() if line.startswith("epoch 1/6"))
    for name in ("batch", "confusion", "predictions", "run", "worst"):
        with Image.open(f"run/pictures/{name}.png") as picture:
            assert min(picture.size) > 200
    head = list(rows()[0])
    assert head[:6] == ["epoch", "step", "train/lr", "train/loss", "train/pixel_accuracy", "train/grad_norm"]
    assert [name for name in head if name.startswith("val/")][:4] == [
        f"val/{name}" for name in ("loss", "mean_iou", "pixel_accuracy", "mean_dice")
    ]
    assert {"val/iou/ground", "val/dice/9"} <= set(head)


EXTRAS = {
    "plain": [],
    "weight map, both": ["task.weight_map=true", "task.loss=both", "task.w0=5"],
    "micro-batches, average, dice": ["task.loss=dice", "trainer.micro_batch_size=3", "trainer.ema=0.9"],
    "half precision": ["precision=bf16", "task.balanced=true"],
    "no padding, tiles": ["model.padding=valid", "task.tile=32"],
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_stopped_and_gone_on_it_is_as_if_it_never_stopped(
    extra: str, folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit of weights and metrics, in the middle of an epoch; evaluated again too."""
    words = [*FOLDER, *EXTRAS[extra], "log.pictures=false"]
    assert main([*words, "output=whole"]) == 0
    asked = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(signals, "requested", lambda: "SIGTERM" if next(asked) > 4 else None)
        assert main([*words, "output=parts"]) == 75
    assert 0 < results("parts")["steps"] < results("whole")["steps"]
    assert results("parts")["steps"] % 2 == 1  # two steps an epoch
    assert main(["resume=parts"]) == 0
    whole, parts = results("whole"), results("parts")
    assert whole["weights_sha256"] == parts["weights_sha256"]
    assert whole["metrics"] == parts["metrics"]
    assert rows("whole") == rows("parts")
    assert main(["mode=eval", "run=whole", "output=again"]) == 0
    assert results("again")["metrics"] == whole["metrics"]


def test_both_loaders_learn_the_same(folder: None) -> None:
    for loader in ("resident", "streaming"):
        words = [*FOLDER, "task.weight_map=true", f"data.loader={loader}", "data.workers=0", f"output={loader}"]
        assert main([*words, "data.augment.rotate=20", "log.pictures=false"]) == 0
    assert results("resident")["weights_sha256"] == results("streaming")["weights_sha256"]
    assert rows("resident") == rows("streaming")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task.class_weights=[1,2,3]"], "has 3 numbers, and mask_folder 2 classes"),
        (["task.sigma=3"], "task.sigma=3 does nothing without task.weight_map=true"),
        (["task.weight_map=true", "task.sigma=1e-200"], "task.sigma=1e-200"),
        (["task.tile=33", "model.up=nearest", "model.padding=valid", "data.crop=60"], "task.tile=33"),
    ],
)
def test_mistakes_are_told_before_a_run_is_made(
    words: list[str], said: str, folder: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FOLDER, *words, "output=run"]) == 2
    assert said in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.slow
def test_a_compiled_network_learns_masks(folder: None) -> None:
    assert main([*FOLDER, "trainer.compile=true", "task.loss=both", "task.weight_map=true", "output=run"]) == 0
    losses = [float(row["train/loss"]) for row in rows()]
    assert losses[-1] < losses[0]
    assert torch.isfinite(torch.tensor(losses)).all()
