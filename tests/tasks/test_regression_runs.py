"""A regression from the command line: what it learns, says, writes and repeats, on the digits in their poses."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

import dltrain
from dltrain.cli import main
from dltrain.data.digits_pose import open_digits_pose
from dltrain.data.sizes import to_image
from dltrain.run import Run
from tests.models.family import every_classifier, few_pixels

NAMES = ("rotation", "scale", "shift_x", "shift_y")
SMALL = ["data=digits_pose", "model=mlp", "model.widths=[16]", "device=cpu", "trainer.threads=1", "log=quiet"]
SHORT = [*SMALL, "trainer.epochs=2", "trainer.batch_size=250"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def results(folder: str = "run") -> dict[str, Any]:
    return Run(Path(folder)).results()


def test_a_run_is_judged_by_r2_and_its_test_is_scikit_learns(capsys: pytest.CaptureFixture[str]) -> None:
    """The recorded figures against those of the loaded network's own answers to the images of the test split."""
    assert main([*SHORT, "output=run"]) == 0
    found = results()
    metrics = found["metrics"]
    assert found["best"]["metric"] == "val/r2"
    loaded = dltrain.load("run")
    images = open_digits_pose(loaded.config.data, None, 0, print)
    numbers = images.splits["test"]
    batch = np.stack([loaded.preprocess(to_image(images.read(int(n)))).numpy() for n in numbers])
    import torch

    answers = loaded.task.predict(torch.from_numpy(batch)).values.numpy()
    true = images.targets[numbers]
    assert metrics["test/r2"] == pytest.approx(r2_score(true, answers), abs=1e-6)
    for k, name in enumerate(NAMES):
        assert metrics[f"test/r2/{name}"] == pytest.approx(r2_score(true[:, k], answers[:, k]), abs=1e-6)
        assert metrics[f"test/mae/{name}"] == pytest.approx(mean_absolute_error(true[:, k], answers[:, k]), abs=1e-6)
    said = capsys.readouterr().out
    assert "4 outputs" in said
    assert f"test R²        {metrics['test/r2']:.3f}" in said
    assert f"  rotation     R² {metrics['test/r2/rotation']:.3f}   MAE" in said
    assert " degrees" in said
    assert "MAE" not in [line for line in said.splitlines() if line.startswith("epoch")][-1]  # of what unit?
    head = Path("run/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/loss", "val/r2", "val/r2/scale", "val/mae/shift_y"} <= set(head)


def test_evaluated_again_and_trained_again_it_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "data.values=[shift_y]", "output=run"]) == 0
    assert main(["mode=eval", "run=run", "output=again"]) == 0
    metrics = results()["metrics"]
    assert results("again")["metrics"] == metrics
    said = capsys.readouterr().out
    assert f"test MAE       {metrics['test/mae']:.4g} pixels" in said
    (row,) = [line for line in said.splitlines() if line.startswith("R² ")]
    assert row.split()[1:] == [f"{metrics[f'{split}/r2']:.3f}" for split in ("val", "test")]
    assert main(["mode=reproduce", "run=run"]) == 0
    assert main([*SHORT, "data.values=[shift_y]", "data.loader=streaming", "data.workers=0", "output=streamed"]) == 0
    assert results("streamed")["weights_sha256"] == results()["weights_sha256"]
    assert results("streamed")["metrics"] == metrics


def test_a_sweep_ends_with_r2_and_its_spread(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", *SHORT, "seed=0,1", "output=sweep"]) == 0
    with Path("sweep/sweep.csv").open() as file:
        found = [float(row["test/r2"]) for row in csv.DictReader(file)]
    mean, spread = np.mean(found), np.std(found, ddof=1)
    assert f"{mean:.3f} ± {spread:.3f}" in capsys.readouterr().out


def test_each_loss_and_delta_and_choice_of_values_trains_weights_of_its_own() -> None:
    seen = {}
    for words in ([], ["task.loss=mae"], ["task.loss=huber"], ["task.loss=huber", "task.delta=0.3"], ["seed=1"]):
        assert main([*SHORT, *words, f"output={len(seen)}"]) == 0
        seen[" ".join(words)] = results(str(len(seen)))["weights_sha256"]
    assert len(set(seen.values())) == len(seen), seen
    assert main([*SHORT, "task.delta=0.3", "task.loss=huber", "output=again"]) == 0
    assert results("again")["weights_sha256"] == seen["task.loss=huber task.delta=0.3"]


@every_classifier
def test_every_family_learns_values(words: tuple[str, ...]) -> None:
    """Those of a few images, by heart; the loss of every step is a row."""
    few = [
        *words,
        *few_pixels(words),
        "data=digits_pose",
        "trainer.overfit_batches=1",
        "trainer.batch_size=16",
        "trainer.steps=20",
    ]
    slowly = ["optim=adam", "optim.lr=0.001", "schedule=constant", "trainer.threads=1", "log=quiet"]
    assert main([*few, *slowly, "trainer.eval_every=5", "output=run"]) == 0
    losses = [row["train/loss"] for row in Run(Path("run")).read_metrics()]
    assert losses[-1] < 0.8 * losses[0]


def test_pictures_are_made() -> None:
    assert main([*SHORT, "log.pictures=true", "output=run"]) == 0
    made = {path.stem for path in Path("run/pictures").glob("*.png")}
    assert {"run", "batch", "scatter", "worst", "predictions"} <= made


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("task=regression", "type     dltrain task=classification"),
        ("data=digits_pose task=classification", "type     dltrain data=digits_pose task=regression"),
        ("data=digits_pose task.label_smoothing=0.1", "type     dltrain data=digits_pose\n"),
        ("data=digits task.delta=2", "type     dltrain data=digits\n"),
        ("data=digits task=regression task.delta=2", "data=digits_pose\n"),
        ("data=digits_pose data.values=[rotaton]", "data.values=[rotation]'\n"),
        ("data=digits_pose data.augment.rotate=10", "data.augment.rotate=0\n"),
        ("data=digits_pose task.loss=mea", "task.loss=mae\n"),
    ],
)
def test_a_mistake_is_answered_with_a_command_that_passes(
    words: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    from dltrain.config.check import check
    from dltrain.config.compose import compose
    from dltrain.config.precheck import precheck

    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert answer in said
    command = said.split("  type     ")[1].splitlines()[0]
    check(compose(precheck(shlex.split(command)[1:]))[0])
