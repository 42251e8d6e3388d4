"""A generator's training from the command line: what it learns, writes, stops at and repeats, on the digits."""

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain import checkpoint, signals
from dltrain.cli import main
from dltrain.engine import loop
from dltrain.run import Run

SMALL = ["model=dcgan", "model.base_channels=2", "model.latent_dim=6", "data.train_per_class=30", "task.judge=none"]
SMALL += ["task.samples=70", "trainer.threads=1", "trainer.batch_size=50", "trainer.steps=12", "device=cpu"]
QUIET = "log=quiet"  # 6 steps an epoch
ALONE = "model.discriminator_norm=none"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def results(folder: str = "run") -> dict[str, Any]:
    return Run(Path(folder)).results()


def rows(folder: str = "run") -> list[dict[str, str]]:
    with Path(folder, "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def last(folder: str = "run") -> dict[str, Any]:
    saved = checkpoint.load(Path(folder), "last", print)
    assert saved is not None
    return saved


def test_both_updates_are_written_down_and_the_last_weights_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "output=run"]) == 0
    found = results()
    assert found["best"] == {"epoch": 2, "step": 12, "metric": "step", "value": 12}
    head = list(rows()[0])
    scalars = ["loss", "real_score", "fake_score", "accuracy", "grad_norm", "clipped"]
    assert head[3:11] == [
        *(f"train/discriminator/{name}" for name in scalars),
        *(f"train/generator/{name}" for name in ("loss", "fake_score")),
    ]
    for row in rows():
        assert 0 < float(row["train/discriminator/real_score"]) < 1
        assert 0 <= float(row["train/discriminator/accuracy"]) <= 1
        assert float(row["train/generator/grad_norm"]) > 0
        assert 0 < float(row["val/real_score"]) < 1
    for split in ("val", "test"):
        assert 0 <= found["metrics"][f"{split}/discriminator_accuracy"] <= 1
    assert "discriminator loss" in capsys.readouterr().out


def test_steps_penalties_and_rates_come_from_the_settings() -> None:
    words = ["task.loss=hinge", "task.r1=1", "task.r1_every=5", "task.discriminator_steps=3", ALONE, "trainer.ema=0.9"]
    assert main([*SMALL, *words, QUIET, "output=run"]) == 0
    saved = last()
    assert set(saved["optimizers"]) == {"discriminator", "generator"}
    turns = {name: int(state["state"][0]["step"]) for name, state in saved["optimizers"].items()}
    assert turns == {"discriminator": 12 + 3, "generator": 4}  # steps 0 to 11; R1 at 0, 5, 10; the generator at 0, 3, …
    assert int(saved["ema"]["n_averaged"]) == 12 + 4
    assert "train/r1/loss" in rows()[0]


def test_an_epoch_without_a_lazy_penalty_has_an_empty_cell() -> None:
    words = ["task.r1=1", "task.r1_every=100", ALONE]
    assert main([*SMALL, *words, QUIET, "output=run"]) == 0
    assert [row["train/r1/loss"] != "" for row in rows()] == [True, False]


EXTRAS = {
    "plain": [],
    "two steps, lazy, average": [
        "task.discriminator_steps=2",
        "task.r1=1",
        "task.r1_every=3",
        "trainer.ema=0.9",
        ALONE,
    ],
    "critic, micro-batches": ["task.loss=wgan_gp", "model.discriminator_norm=spectral", "trainer.micro_batch_size=20"],
    "bf16": ["precision=bf16", "task.loss=minimax"],
    "fp16, overflowing": ["precision=fp16", "precision.init_scale=1e13", "trainer.ema=0.9", "task.loss=hinge"],
}


@pytest.mark.parametrize(
    "extra", [pytest.param(extra, marks=pytest.mark.slow if extra in ("plain", "bf16") else ()) for extra in EXTRAS]
)
def test_stopped_and_gone_on_it_is_as_if_it_never_stopped(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, in the middle of an epoch; and evaluated again it is worth the same."""
    words = [*SMALL, *EXTRAS[extra], QUIET]
    assert main([*words, "output=whole"]) == 0
    asked = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(signals, "requested", lambda: "SIGTERM" if next(asked) > 3 else None)
        assert main([*words, "output=parts"]) == 75
    assert 0 < results("parts")["steps"] < 6
    assert main(["resume=parts"]) == 0
    whole, parts = results("whole"), results("parts")
    assert whole["weights_sha256"] == parts["weights_sha256"]
    assert whole["metrics"] == parts["metrics"]
    assert rows("whole") == rows("parts")
    assert main(["mode=eval", "run=whole", "output=again"]) == 0
    assert results("again")["metrics"] == whole["metrics"]


def test_a_stop_among_the_samples_of_an_evaluation_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*SMALL, QUIET]
    assert main([*words, "output=whole"]) == 0
    real, asked = signals.stop_if_asked, []
    with monkeypatch.context() as patch:

        def stop() -> None:
            asked.append(1)
            if len(asked) == 2:
                patch.setattr(signals, "requested", lambda: "SIGTERM")
            real()

        patch.setattr(signals, "stop_if_asked", stop)
        assert main([*words, "output=parts"]) == 75
    assert results("parts")["steps"] == 6
    assert main(["resume=parts"]) == 0
    assert rows("whole") == rows("parts")


def test_what_is_no_number_names_its_update(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = loop.apply_update

    def update(cfg: Any, turn: Any, batch: Any, position: Any, lr: float) -> Any:
        if position.step == 8 and turn.update.name == "generator":
            with torch.no_grad():
                turn.named_params[0][1].view(-1)[0] = float("nan")
        return real(cfg, turn, batch, position, lr)

    monkeypatch.setattr(loop, "apply_update", update)
    assert main([*SMALL, QUIET, "output=run"]) == 1
    assert "the generator loss is nan and the gradient's norm nan at step 8" in capsys.readouterr().err
    assert results()["status"] == "failed"
    assert last()["step"] == 6


def test_an_update_that_only_overflows_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "MOST_OVERFLOWS", 3)
    assert main([*SMALL, QUIET, "precision=fp16", "precision.init_scale=1e38", "output=run"]) == 1
    assert "discriminator updates overflowed in fp16, up to step 5" in capsys.readouterr().err


def test_short_ways(capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run, a few images alone, and a profile of both updates."""
    assert main([*SMALL, QUIET, "trainer.dry_run=true"]) == 0
    assert "everything works" in capsys.readouterr().out
    assert not Path("outputs").exists() or not any(Path("outputs").rglob("config.json"))
    assert main([*SMALL, QUIET, "trainer.overfit_batches=1", "trainer.eval_every=12", "output=few"]) == 0
    assert (results("few")["steps"], results("few")["epochs"]) == (12, 12)
    assert main([*SMALL, QUIET, "trainer.profile=true", "output=run"]) == 0
    said = Path("run/profile/operations.txt").read_text()
    assert said.startswith("profile        10 steps after 2 to warm up")
    assert "conv" in said


@pytest.mark.parametrize("words", [[], pytest.param(["task.loss=wgan_gp", ALONE], marks=pytest.mark.slow)])
def test_the_same_command_gives_the_same_bits_and_another_seed_others(words: list[str]) -> None:
    for output, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert main([*SMALL, *words, QUIET, f"seed={seed}", f"output={output}"]) == 0
    assert rows("a") == rows("b") != rows("c")
    assert results("a")["weights_sha256"] == results("b")["weights_sha256"] != results("c")["weights_sha256"]


def test_evaluation_and_logging_leave_no_trace() -> None:
    assert main([*SMALL, QUIET, "output=seldom", "trainer.eval_every=2"]) == 0
    assert main([*SMALL, "output=often", "log.every=1", "log.layer_norms=true", "log.histograms=true"]) == 0
    assert results("seldom")["weights_sha256"] == results("often")["weights_sha256"]
