"""The loop from the command line: best, ties, early stop, time limits, evaluation that leaves no trace, bad numbers."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain import checkpoint
from dltrain.cli import main
from dltrain.engine import loop
from dltrain.run import all_runs
from dltrain.tasks import Evaluation
from tests.faults.compare import run_differences

SMALL = [
    "model=mlp",
    "model.widths=[16]",
    "trainer.threads=1",
    "log=quiet",
    "trainer.batch_size=500",
    "trainer.epochs=3",
    "device=cpu",
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: int = 0) -> Path:
    before = set(all_runs())
    keys = {word.partition("=")[0] for word in words}
    assert main([*(word for word in SMALL if word.partition("=")[0] not in keys), *words]) == code
    return next(iter(set(all_runs()) - before)).resolve()


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> str:
    return str(results(folder)["weights_sha256"])


def test_same_command_same_bits_other_seed_other_bits() -> None:
    first, second, other = run(), run(), run("seed=1")
    assert run_differences(first, second) == []
    assert run_differences(first, other)


def test_evaluation_and_logging_leave_no_trace() -> None:
    plain = run("model.dropout=0.3")
    seldom = run("model.dropout=0.3", "trainer.eval_every=3", "log.every=1", "log.layer_norms=true")
    assert weights(plain) == weights(seldom)
    assert [row["val/accuracy"] != "" for row in rows(seldom)] == [False, False, True]
    assert len(rows(seldom)) == 3
    assert any(name.startswith("train/grad_norm/") for name in rows(seldom)[0])


@pytest.mark.parametrize(
    "words", [["data.loader=streaming", "data.workers=0"], ["data.loader=streaming", "data.workers=1"]]
)
def test_both_loaders_give_the_same_weights(words: list[str]) -> None:
    assert run_differences(run("data.loader=resident"), run(*words)) == []


def forced(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let the validation accuracy of each epoch be what the test wants."""
    real, calls = loop.evaluate, iter(values)

    def evaluate(cfg: Any, task: Any, data: Any, split: str, step: int, env: Any) -> Evaluation:
        found = real(cfg, task, data, split, step, env)
        return found._replace(metrics=found.metrics | {"accuracy": next(calls)}) if split == "val" else found

    monkeypatch.setattr(loop, "evaluate", evaluate)


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.5, 0.9, 0.7], 2), ([0.5, 0.9, 0.9], 2), ([0.9, 0.9, 0.1], 1), ([float("nan"), 0.2, 0.1], 2)],
)
def test_best_is_the_best_and_a_tie_keeps_the_earlier(
    values: list[float], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced(monkeypatch, values)
    folder = run()
    assert results(folder)["best"]["epoch"] == best
    saved = checkpoint.load(folder, "best", print)
    assert saved["step"] == results(folder)["best"]["step"] == best * 7


def test_early_stop_counts_evaluations_without_improvement(monkeypatch: pytest.MonkeyPatch) -> None:
    forced(monkeypatch, [0.5, 0.4, 0.5, 0.9, 0.9])
    folder = run_without("trainer.epochs=3", "trainer.early_stop=2", "trainer.epochs=5", "schedule=constant")
    assert (results(folder)["epochs"], results(folder)["best"]["epoch"]) == (3, 1)


def test_ema_is_what_is_evaluated() -> None:
    plain, averaged = run("trainer.eval_every=3"), run("trainer.eval_every=3", "trainer.ema=0.9")
    assert weights(plain) == weights(averaged)  # the raw weights do not know of it
    assert rows(plain)[2]["val/loss"] != rows(averaged)[2]["val/loss"]


def test_steps_replace_epochs_and_the_last_part_of_an_epoch_is_evaluated() -> None:
    folder = run_without("trainer.epochs=3", "trainer.steps=10")
    assert [(row["epoch"], row["step"]) for row in rows(folder)] == [("1", "7"), ("2", "10")]
    assert results(folder)["steps"] == 10


def run_without(word: str, *words: str) -> Path:
    before = set(all_runs())
    assert main([other for other in SMALL if other != word] + list(words)) == 0
    return next(iter(set(all_runs()) - before)).resolve()


def test_max_time_stops_saves_and_goes_on_to_the_same_bits(capsys: pytest.CaptureFixture[str]) -> None:
    whole = run()
    part = run("trainer.max_time=0.001s", code=75)
    assert results(part)["status"] == "interrupted"
    assert "dltrain resume=" in capsys.readouterr().out
    assert main([f"resume={part}", "trainer.max_time=1h"]) == 0
    assert run_differences(whole, part) == []


@pytest.mark.parametrize("where", ["image", "lr"])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if where == "lr":
        folder = run("optim.lr=1e30", "schedule=constant", code=1)
    else:
        real = loop.train_step

        def poisoned(*args: Any) -> None:
            state, batch = args[1], args[3]
            if state.step == 9:
                batch.images[0, 0, 0, 0] = float("nan")
            real(*args)

        monkeypatch.setattr(loop, "train_step", poisoned)
        folder = run(code=1)
        assert "step 9" in capsys.readouterr().err
        saved = checkpoint.load(folder, "last", print)
        assert saved["step"] == 7
        assert all(torch.isfinite(value).all() for value in saved["task"].values())
    assert results(folder)["status"] == "failed"
    assert "Traceback" not in capsys.readouterr().err


def test_fp16_skips_and_halves_and_says_how_often() -> None:
    folder = run("precision=fp16", "precision.init_scale=1e13", "optim=sgd")
    skipped = [float(row["train/skipped"]) for row in rows(folder)]
    assert skipped[0] > 0
    assert results(folder)["precision"] == "fp16"
    saved = checkpoint.load(folder, "last", print)
    assert saved["scaler"]["scale"] < 1e13


def test_fp16_that_only_overflows_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "MOST_OVERFLOWS", 10)
    run("precision=fp16", "precision.init_scale=1e38", code=1)
    assert "overflowed in fp16" in capsys.readouterr().err


def test_init_from_a_run_starts_with_its_weights() -> None:
    first = run()
    again = run(
        "init=run",
        f"init.source={first}",
        "init.checkpoint=last",
        "optim=sgd",
        "optim.lr=1e-30",
        "optim.momentum=0",
        "optim.nesterov=false",
    )
    ours, theirs = (checkpoint.load(f, "last", print)["task"] for f in (again, first))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-12) for name in theirs)


def test_init_from_another_network_lists_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    first = run()
    assert main([*SMALL[2:], "model=mlp", "model.widths=[16,8]", "init=run", f"init.source={first}"]) == 2
    error = capsys.readouterr().err
    assert "model.hidden.1" in error
    assert "model.output.weight: (10, 8) here, (10, 16) there" in error
    assert len(all_runs()) == 1


def test_l2_penalty_and_weight_decay_of_plain_sgd_are_the_same_step() -> None:
    """(l2/2) sum w^2 on the weights alone equals torch's weight_decay where biases are left out."""
    plain = ["optim=sgd", "optim.momentum=0", "optim.nesterov=false", "trainer.eval_every=3"]
    assert weights(run(*plain, "reg.l2=0.01")) != weights(run(*plain))
    assert float(rows(run(*plain, "reg.l1=0.001"))[0]["train/penalty"]) > 0


def test_class_weights_and_balance_change_the_loss() -> None:
    given = ["task.class_weights=[1,1,1,1,1,1,1,1,1,9]"]
    assert weights(run()) != weights(run(*given))
    assert weights(run()) == weights(run("task.balanced=true"))  # digits are balanced: every weight is 1


def test_a_task_without_a_measure_keeps_its_last_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from dltrain.tasks.classification import Classification

    monkeypatch.setattr(Classification, "monitor", "step")
    folder = run()
    assert results(folder)["best"] == {"epoch": 3, "step": 21, "metric": "step", "value": 21}


@pytest.mark.parametrize("first", ["true", "false"])
def test_what_is_logged_may_change_in_the_middle_of_an_epoch(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of an epoch and of a point of the curves go on for the scalars of both; the result is the same."""
    whole = run("log.every=5")
    real, made = loop.train_step, []

    def step(*args: Any) -> None:
        real(*args)
        made.append(1)
        if len(made) == 10:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "train_step", step)
    part = run("log.every=5", f"log.layer_norms={first}", code=130)
    monkeypatch.setattr(loop, "train_step", real)
    assert main([f"resume={part}", f"log.layer_norms={'false' if first == 'true' else 'true'}"]) == 0
    assert weights(part) == weights(whole)
    for column in ("train/loss", "train/accuracy", "train/grad_norm", "val/loss"):
        assert [row[column] for row in rows(part)] == [row[column] for row in rows(whole)]


def test_a_checkpoint_older_than_the_points_of_the_curves_goes_on() -> None:
    folder = run("schedule=constant")
    saved = checkpoint.load(folder, "last", print)
    assert saved is not None
    older = {name: value for name, value in saved.items() if name not in ("window", "overflows")}
    checkpoint.save(folder, older, best=False)
    assert main([f"resume={folder}", "trainer.epochs=4"]) == 0
    assert weights(folder) == weights(run("schedule=constant", "trainer.epochs=4"))
