"""T20: TensorBoard's event files after any number of kills are those of a run that was never killed."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.faults.compare import run_differences, the_run
from tests.faults.killing import Bomb, dltrain
from tests.faults.told import out_of_order, told

WORDS = ["model=mlp", "model.widths=[16]", "model.dropout=0.2", "trainer.epochs=4", "trainer.batch_size=100"]
WORDS += ["data.train_per_class=70"]
WORDS += ["trainer.threads=1", "device=cpu", "clip=norm", "clip.max_norm=1"]
WORDS += ["log.every=3", "log.histograms=true", "log.layer_norms=true", "trainer.save_every=2"]
STEP = "dltrain.engine.loop:train_step"  # 7 an epoch, 28 in all
POINTS = [3, 6, 9, 12, 15, 18, 21, 24, 27]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    assert dltrain(WORDS, folder) == 0, (folder / "screen.txt").read_text()
    return the_run(folder)


def difference(a: Path, b: Path) -> list[str]:
    """The series that differ between two runs."""
    one, other = told(a), told(b)
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def killed(folder: Path, *bombs: Bomb, setup: str | None = None) -> Path:
    """A run killed by each bomb in turn and then resumed to its end; `setup` is for the resumed ones."""
    words = WORDS
    for bomb in bombs:
        code = dltrain(words, folder, bomb, setup=None if words[0] != "resume=last" else setup)
        assert code == -9, (folder / "screen.txt").read_text()
        words = ["resume=last"]
    assert dltrain(words, folder, setup=setup) == 0, (folder / "screen.txt").read_text()
    return the_run(folder)


def test_whole_run_tells_what_metrics_csv_holds_and_points_at_each_third_step(whole: Path) -> None:
    """The independent oracle of what the others are compared with."""
    found = told(whole)
    assert out_of_order(found) == []
    with (whole / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for tag, column in (("loss/loss", "val/loss"), ("metric_detail/class_accuracy/7", "val/class_accuracy/7")):
        expected = [(int(row["step"]), float(np.float32(row[column]))) for row in rows]
        assert found[f"val {tag}"] == expected
    for tag in ("loss/loss", "metric/accuracy", "optim/lr", "optim/grad_norm", "optim/clipped"):
        assert [step for step, _ in found[f"train {tag}"]] == POINTS
    of_three = [float(value) for _, value in found["train optim/clipped"]]
    assert all(round(3 * share, 5) in (0, 1, 2, 3) for share in of_three)
    assert [step for step, _ in found["train weights/output.weight"]] == [7, 14, 21, 28]
    assert [step for step, _ in found["train optim_detail/grad_norm/output"]] == POINTS
    assert [step for step, _ in found["train batch"]] == [0]
    assert [step for step, _ in found["test loss/loss"]] == [28]


TOLD = "dltrain.report:Report.step"  # at each point, and at the first step of each start
POINTS_BEYOND = [Bomb(TOLD, 2, after=True), Bomb(TOLD, 3, after=True), Bomb(TOLD, 4, after=True)]  # of a save
WRITE = "dltrain.report.events:EventFile.write"
PLACES = [
    Bomb(STEP, 2),  # before the first checkpoint: begins anew
    Bomb("dltrain.report:Report.epoch", 1, after=True),  # told, and not yet saved
    Bomb("dltrain.report:Report.flush", 2, after=True),
    Bomb("os:replace", holding="tfevents"),  # the cut file is made, and not yet in its place
    Bomb("os:replace", holding="tfevents", after=True),  # in its place, with the one it was made from
    Bomb("os:unlink", holding="tfevents"),
    Bomb(WRITE, 6),
    Bomb("dltrain.modes.train:final_evaluation", after=True),
    Bomb("dltrain.report.tensorboard:TensorBoard.end", after=True),  # the end is told, and not yet recorded
]


def test_killed_three_times_with_the_clock_set_back_between(whole: Path, tmp_path: Path) -> None:
    resumed = killed(tmp_path, *POINTS_BEYOND, setup="tests.faults.told:clock_back")
    assert out_of_order(told(resumed)) == []
    assert difference(whole, resumed) == []
    assert run_differences(whole, resumed) == []
    for part in ("", "val", "test"):
        assert len(list((resumed / "tensorboard" / part).glob("*tfevents*"))) == 1


def test_killed_between_writes(whole: Path, tmp_path: Path) -> None:
    resumed = killed(tmp_path, *PLACES)
    assert difference(whole, resumed) == []
    assert [path.name for path in (resumed / "tensorboard").rglob(".*")] == []


@pytest.mark.parametrize("wrong", ["keep_all", "forget_window"])
def test_comparison_sees_what_is_doubled_or_forgotten(wrong: str, whole: Path, tmp_path: Path) -> None:
    """The negative controls."""
    resumed = killed(tmp_path, POINTS_BEYOND[0], setup=f"tests.faults.told:{wrong}")
    assert difference(whole, resumed) != []
    assert bool(out_of_order(told(resumed))) == (wrong == "keep_all")
