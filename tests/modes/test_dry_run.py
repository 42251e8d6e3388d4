"""trainer.dry_run: all is tried and nothing kept. trainer.overfit_batches: a few images are learned by heart."""

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest

from dltrain import checkpoint, run
from dltrain.cli import main
from dltrain.engine import loop
from dltrain.modes import train

Capture = pytest.CaptureFixture[str]
SMALL = ["model=mlp", "model.widths=[8]", "trainer.threads=1", "trainer.batch_size=50"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_dry_run_does_all_of_a_run_once_and_keeps_nothing(
    capsys: Capture, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    made: list[str] = []

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    for module, name in ((loop, "train_step"), (loop, "evaluate"), (checkpoint, "save"), (train, "final_evaluation")):
        watch(module, name)
    remove = run.Run.write_results

    def look(self: run.Run, **changes: Any) -> None:
        remove(self, **changes)
        if changes.get("status") == "completed":
            made.extend(everything(self.path))

    monkeypatch.setattr(run.Run, "write_results", look)
    assert main([*SMALL, "trainer.dry_run=true"]) == 0
    assert done == ["train_step", "evaluate", "save", "final_evaluation", "evaluate"]
    assert {"config.json", "metrics.csv", "checkpoints/best.pt", "checkpoints/last.pt", "run.log"} <= set(made)
    assert everything(empty_folder) == []
    out = capsys.readouterr().out.splitlines()
    assert "3,500 train, 50 val, 50 test images" in out[1]
    assert out[2].endswith("   dry run")
    assert out[-2] == "dry run: everything works; nothing is kept"
    assert out[-1].split("next")[1].strip() == shlex.join(["dltrain", *SMALL])


@pytest.mark.parametrize(
    "words",
    [
        ["schedule=cosine", "schedule.warmup=2"],
        ["task.balanced=true", "data.sampling=balanced", "trainer.ema=0.9"],
        ["trainer.overfit_batches=2", "data.folds=3"],
        ["data=digits_pose", "output=a/b/c"],
        ["trainer.micro_batch_size=20", "trainer.early_stop=1", "trainer.eval_every=5", "trainer.save_every=7"],
        ["trainer.profile=true", "log.histograms=true", "log.layer_norms=true"],
    ],
    ids=" ".join,
)
def test_settings_that_count_epochs_or_classes_do_not_stand_in_its_way(
    words: list[str], capsys: Capture, empty_folder: Path
) -> None:
    quiet = [] if any(word.startswith("log.") for word in words) else ["log=quiet"]
    assert main([*SMALL, *words, *quiet, "trainer.dry_run=true"]) == 0
    assert "dry run: everything works" in capsys.readouterr().out
    assert everything(empty_folder) == []


def test_it_is_no_run_that_another_command_finds(capsys: Capture, empty_folder: Path) -> None:
    assert main([*SMALL, "trainer.steps=2", "log=quiet"]) == 0
    before = everything(empty_folder)
    assert main([*SMALL, "trainer.dry_run=true", "log=quiet"]) == 0
    assert everything(empty_folder) == before
    assert len(run.all_runs()) == 1


def test_what_fails_says_so_names_no_folder_that_is_gone_and_leaves_nothing(
    capsys: Capture, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(train, "final_evaluation", broken)
    assert main([*SMALL, "trainer.dry_run=true", "log=quiet"]) == 1
    found = capsys.readouterr()
    assert found.err.splitlines()[0] == "failed  RuntimeError: no such kernel"
    assert "resume" not in found.err
    assert "run.log" not in found.err
    assert everything(empty_folder) == []


def test_a_signal_ends_it_and_leaves_nothing(
    capsys: Capture, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.signals, "requested", lambda: "SIGTERM")
    assert main([*SMALL, "trainer.dry_run=true", "log=quiet"]) == 75
    found = capsys.readouterr()
    assert "resume" not in found.out + found.err
    assert "stopped        before the dry run was through; it keeps nothing" in found.out
    assert everything(empty_folder) == []


def test_a_sweep_and_a_resumed_run_cannot_be_dry(capsys: Capture, empty_folder: Path) -> None:
    assert main(["-m", *SMALL, "seed=0,1", "trainer.dry_run=true"]) == 2
    assert "makes no runs" in capsys.readouterr().err
    assert everything(empty_folder) == []
    assert main([*SMALL, "trainer.steps=2", "log=quiet"]) == 0
    assert main([f"resume={run.all_runs()[0]}", "trainer.dry_run=true"]) == 2


def test_a_few_images_are_learned_by_heart(capsys: Capture) -> None:
    words = [*SMALL, "model.widths=[64]", "trainer.steps=150", "trainer.eval_every=50", "optim.lr=0.01", "log=quiet"]
    words.remove("model.widths=[8]")
    assert main([*words, "trainer.overfit_batches=1", "data.augment.rotate=45", "data.augment.mixup=1"]) == 0
    folder = run.all_runs()[0]
    results = run.Run(folder).results()
    assert results["metrics"]["val/accuracy"] == 1.0
    assert results["metrics"]["val/loss"] < 0.05
    assert not any(name.startswith("test/") for name in results["metrics"])
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150  # an epoch is that batch
    last = rows[-1]
    assert float(last["val/loss"]) <= float(last["train/loss"]) * 1.05  # the same images, nothing augmented
    capsys.readouterr()
    assert main(["mode=eval", "run=last"]) == 0
    assert "100.0 %" in capsys.readouterr().out
