"""What every run can do, done by runs that learn masks: from the command line, on a tiny folder."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dltrain
from dltrain.cli import main
from dltrain.config.messages import Failure
from dltrain.modes.train import final_evaluation
from dltrain.run import Run, all_runs
from tests.data.masks import save_pairs
from tests.runs.states import tree_of

Capture = pytest.CaptureFixture[str]
WORDS = ["data=mask_folder", "data.root=set", "data.crop=24", "model=unet", "model.depth=2", "model.base_channels=4"]
WORDS += ["trainer.batch_size=5", "trainer.threads=1", "device=cpu"]
QUIET = [*WORDS, "log=quiet"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """18 pairs of three classes in `set`: 13 to train."""
    monkeypatch.chdir(tmp_path)
    save_pairs(Path("set"), count=18, classes=3)


def results(name: str) -> dict[str, Any]:
    return Run(Path(name)).results()


def rows(name: str) -> list[dict[str, str]]:
    with Path(name, "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_with_borders_is_evaluated_and_reproduced_to_the_bit(capsys: Capture) -> None:
    more = ["task.weight_map=true", "trainer.ema=0.9", "trainer.epochs=2", "data.augment.elastic=2"]
    assert main([*QUIET, *more, "output=run"]) == 0
    assert main(["mode=eval", "run=run", "output=again"]) == 0
    assert "not the images" not in capsys.readouterr().err
    assert results("again")["metrics"] == results("run")["metrics"]
    assert main(["mode=reproduce", "run=run"]) == 0
    assert "identical      weights sha256" in capsys.readouterr().out
    (copy,) = [path for path in all_runs() if path.name != "run"]
    assert Path(copy, "metrics.csv").read_bytes() == Path("run/metrics.csv").read_bytes()


@pytest.mark.parametrize("more", [["task.loss=both", "task.weight_map=true"], ["task.balanced=true"]], ids=" ".join)
def test_micro_batches_lose_what_the_whole_batch_loses(more: list[str]) -> None:
    """To 1e-6, over images with very different numbers of ignored pixels; without what sees a batch as one."""
    for number in range(0, 18, 2):
        path = Path(f"set/masks/{number:02d}.png")
        with Image.open(path) as image:
            mask = np.array(image)
        mask[: 2 * number - 4 if number > 4 else 0] = 255
        Image.fromarray(mask).save(path)
    alone = ["data.ignore_index=255", "model.norm=none", "model.dropout=0", "optim=sgd", "trainer.epochs=3"]
    found = []
    for size in ("null", "2"):
        name = f"parts-{size}"
        assert main([*QUIET, *alone, *more, "optim.lr=0.01", f"trainer.micro_batch_size={size}", f"output={name}"]) == 0
        found.append([float(row[f"{split}/loss"]) for split in ("train", "val") for row in rows(name)])
    whole, parts = found
    assert parts == pytest.approx(whole, rel=1e-6)
    assert len(set(whole)) == 6  # it has learned something in between


def test_a_run_does_not_go_on_with_other_masks(capsys: Capture) -> None:
    """Nor does an evaluation pass over them."""
    assert main([*QUIET, "trainer.epochs=1", "output=whole"]) == 0
    assert main([*QUIET, "trainer.epochs=2", "trainer.max_time=0.01s", "output=run"]) == 75
    for number in range(18):  # whichever split it is in
        path = f"set/masks/{number:02d}.png"
        with Image.open(path) as image:
            mask = np.array(image)
        Image.fromarray(np.roll(mask, 1)).save(path)
    capsys.readouterr()
    assert main(["resume=run"]) == 1
    said = capsys.readouterr().err
    assert "are not those that run has learned from" in said
    assert "Traceback" not in said
    assert main(["mode=eval", "run=whole"]) == 0
    assert "val and test: not the images that the run had" in capsys.readouterr().err


def test_an_opened_run_refuses_tiles_that_are_too_small_with_a_line_that_works(capsys: Capture) -> None:
    words = [word.replace("model.depth=2", "model.depth=3") for word in QUIET]
    assert main([*words, "trainer.steps=1", "log.pictures=false", "output=run"]) == 0
    least = dltrain.load("run").task.model.sides.least
    assert least > 40
    for mode in (["mode=eval"], ["mode=predict", "input=set/images"]):
        before = tree_of(Path())
        assert main([*mode, "run=run", "task.tile=40"]) == 2
        said = capsys.readouterr().err
        assert "task.tile=40 is too small for unet" in said
        assert f"type     dltrain {' '.join(mode)} run=run task.tile={least}" in said
        assert tree_of(Path()) == before
        assert main([*mode, "run=run", f"task.tile={least}"]) == 0


def test_other_images_with_masks_may_have_other_sizes_and_lack_a_class(capsys: Capture) -> None:
    """The window is that of training: evaluation sees images whole. Classes are the run's."""
    assert main([*WORDS[:2], *QUIET[3:], "trainer.epochs=2", "output=run"]) == 0
    save_pairs(Path("other"), count=12, classes=2)
    for path in Path("other").glob("*/*.png"):
        with Image.open(path) as image:
            image.crop((0, 0, 19, 17)).save(path)
    assert main(["mode=eval", "run=run", "data.root=other", "output=found"]) == 0
    assert "not the images that the run had" in capsys.readouterr().err
    found, own = results("found")["metrics"], results("run")["metrics"]
    assert found["val/mean_iou"] != own["val/mean_iou"]
    assert "val/iou/1" in found
    assert "val/iou/2" not in found  # there is none, and the network says so nowhere


def test_a_run_without_a_best_checkpoint_does_not_say_that_it_may_go_on() -> None:
    """It would fail again."""
    state: Any = SimpleNamespace(best=None, task=SimpleNamespace(monitor="val/mean_iou"))
    nothing: Any = None
    with pytest.raises(Failure, match="no evaluation gave a val/mean_iou that is a number") as caught:
        final_evaluation(nothing, state, nothing, Path("run"), nothing, nothing)
    assert not caught.value.resumes


def test_short_ways_and_folds_and_early_stopping_work_on_masks(capsys: Capture) -> None:
    assert main([*QUIET, "trainer.dry_run=true", "trainer.epochs=9", "data.folds=3", "data.fold=2"]) == 0
    said = capsys.readouterr().out
    assert "dry run: everything works; nothing is kept" in said
    assert "val is fold 2 of 0 to 2, cut from train and val together by seed" in said
    assert all_runs() == []
    assert main([*QUIET, "trainer.early_stop=1", "trainer.epochs=30", "optim.lr=1e-9", "output=early"]) == 0
    assert len(rows("early")) < 30
    assert results("early")["status"] == "completed"
    # one batch learned by heart, from the weights of another run
    words = ["trainer.overfit_batches=1", "model.dropout=0", "optim.lr=0.03", "task.loss=both", "trainer.epochs=60"]
    assert main([*QUIET, *words, "init=run", "init.source=early", "trainer.eval_every=60", "output=over"]) == 0
    assert float(rows("over")[-1]["val/mean_iou"]) > 0.9
    found = results("over")["metrics"]
    assert not [name for name in found if name.startswith("test/")]


def test_a_sweep_and_its_comparison_say_mean_iou(capsys: Capture) -> None:
    words = ["task.loss=cross_entropy,dice", "seed=0,1", "trainer.epochs=1"]
    assert main(["-m", *QUIET, *words, "output=sweep"]) == 0
    said = capsys.readouterr().out
    assert "mean ± standard deviation over the seeds" in said
    table = list(csv.DictReader(Path("sweep/sweep.csv").read_text().splitlines()))
    assert len(table) == 4
    assert all(0 <= float(row["test/mean_iou"]) <= 1 for row in table)
    assert main(["mode=compare", "runs=[sweep]", "output=compared"]) == 0
    said = capsys.readouterr().out
    assert "test mean IoU minus A's, paired by seed" in said
    assert "task.loss" in said
    assert Path("compared/compare.png").stat().st_size > 0


def test_tensorboard_has_curves_a_class_and_pictures(capsys: Capture) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main([*WORDS, "trainer.epochs=2", "trainer.profile=true", "output=run"]) == 0
    assert "own time a step" in capsys.readouterr().out
    tags = {}
    for below in ("", "val", "test"):
        events = EventAccumulator(str(Path("run/tensorboard", below)))
        events.Reload()
        tags[below] = events.Tags()
    assert "batch" in tags[""]["images"]
    assert {"loss/loss", "metric/mean_iou", "metric_detail/iou/1", "metric_detail/dice/2"} <= set(
        tags["val"]["scalars"]
    )
    assert {"confusion", "worst", "predictions"} == set(tags["test"]["images"])
    trace = json.loads(Path("run/profile/trace.json").read_text())
    assert trace["traceEvents"]
