"""Signals: from outside to a real process, which ends with its code; and at chosen moments. Resume ends the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dltrain import checkpoint
from dltrain.run import Run
from tests.faults.compare import run_differences, the_run
from tests.faults.killing import Bomb, dltrain

WORDS = ["model=mlp", "model.widths=[16]", "model.dropout=0.3", "optim=adam", "trainer.ema=0.9", "device=cpu"]
WORDS += ["trainer.threads=1", "trainer.batch_size=100", "trainer.epochs=4"]  # 28 steps
WORDS += ["data.train_per_class=70", "log=quiet"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert dltrain(WORDS, folder) == 0, (folder / "screen.txt").read_text()
    return the_run(folder)


def until_first_row(process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + 120
    while not list(folder.glob("outputs/*/*/metrics.csv")):
        assert process.poll() is None, "ended before its first epoch"
        assert time.monotonic() < end, "no epoch in two minutes"
        time.sleep(0.02)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75)])
def test_a_signal_from_outside_ends_with_its_code_and_resume_ends_the_same(
    name: str, code: int, whole: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "tests.faults.slow", *WORDS]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until_first_row(process, tmp_path)
        process.send_signal(getattr(signal, name))
        shown = process.communicate(timeout=60)[0].decode()
    assert process.returncode == code, shown
    cut = the_run(tmp_path)
    found = Run(cut).results()
    assert (found["status"], found["weights_sha256"]) == ("interrupted", None)
    assert "next           dltrain resume=last" in shown
    assert "Traceback" not in shown
    assert run_differences(whole, cut) != [], "the signal came too late to be a test"
    assert dltrain(["resume=last"], tmp_path) == 0
    assert run_differences(whole, cut) == []


STEP = "dltrain.engine.loop:train_step"
MOMENTS = {
    "ctrl-c twice": (Bomb(STEP, 10, sends=("SIGINT", "SIGINT")), 130, 7),  # not saved: step 7's checkpoint stays
    "ctrl-c after a sigterm": (Bomb(STEP, 10, sends=("SIGTERM", "SIGINT")), 75, 7),
    "sigterm twice": (Bomb(STEP, 10, sends=("SIGTERM", "SIGTERM")), 75, 10),
    "the terminal is closed": (Bomb(STEP, 10, sends=("SIGHUP",)), 75, 10),
    "in the first step": (Bomb(STEP, 1, sends=("SIGINT",)), 130, 1),
    "in an evaluation": (Bomb("dltrain.engine.loop:evaluate", 2, sends=("SIGTERM",)), 75, 14),
    "in a save": (Bomb("os:replace", 2, holding="last.pt", sends=("SIGTERM",)), 75, 14),
    "between last and best": (Bomb("os:replace", 2, after=True, holding="last.pt", sends=("SIGUSR1",)), 75, 14),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment_leaves_a_state_that_goes_on_to_the_same(
    moment: str, whole: Path, tmp_path: Path
) -> None:
    bomb, code, step = MOMENTS[moment]
    assert dltrain(WORDS, tmp_path, bomb) == code, (tmp_path / "screen.txt").read_text()
    run = the_run(tmp_path)
    assert Run(run).results()["status"] == "interrupted"
    saved = checkpoint.load(run, "last", print)
    assert saved is not None
    assert saved["step"] == step
    assert not list(run.rglob("*.tmp"))
    assert dltrain(["resume=last"], tmp_path) == 0
    assert run_differences(whole, run) == []


def test_a_reader_that_leaves_does_not_end_the_run(tmp_path: Path, whole: Path) -> None:
    """`dltrain | head -1`: nobody reads the screen any more."""
    words = [sys.executable, "-m", "dltrain", *WORDS, "log.every=1"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read().decode()
        code = process.wait(120)
    assert "Traceback" not in error
    assert code == 0, error
    assert run_differences(whole, the_run(tmp_path)) == []
    assert os.WIFEXITED(code)
