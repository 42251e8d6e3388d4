"""T22 for sweeps, by training: each job has the same bits as its own command; and commands that are shown run."""

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain import job, sweep
from dltrain.cli import main
from dltrain.config.precheck import precheck
from dltrain.report.terminal import Screen
from dltrain.run import Run


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table() -> list[dict[str, str]]:
    (path,) = Path("outputs/sweeps").glob("*/*/sweep.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


SHORT = ("trainer.epochs=1", "data.train_per_class=50", "trainer.threads=1", "model.dropout=0.2", "log=quiet")


def test_each_job_equals_the_same_command_alone(tmp_path: Path) -> None:
    """T22: job 1 after job 0 in one process, and alone in a fresh one with another hash seed and folder."""
    words = ("model=lenet5,mlp", *SHORT)
    assert main(["-m", *words, "seed=0,1"]) == 0
    alone = tmp_path / "alone"
    alone.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    command = [sys.executable, "-m", "dltrain", "model=mlp", "seed=1", *SHORT, "output=run"]
    subprocess.run(command, cwd=alone, env=environment, check=True, capture_output=True)
    sets = table()
    assert [row["status"] for row in sets] == ["completed"] * 4
    there = Run(alone / "run")
    assert sets[3]["weights_sha256"] == there.results()["weights_sha256"]
    assert float(sets[3]["test/accuracy"]) == there.results()["metrics"]["test/accuracy"]
    here = Path(sets[3]["folder"])
    assert (here / "metrics.csv").read_bytes() == (there.path / "metrics.csv").read_bytes()
    assert json.loads((here / "config.json").read_text()) == json.loads((there.path / "config.json").read_text())
    assert len({row["weights_sha256"] for row in sets}) == 4, "another seed or model gives other weights"


def test_the_command_in_the_last_column_gives_the_job_again() -> None:
    assert main(["-m", "seed=3,4", "model=mlp", *SHORT]) == 0
    row = table()[0]
    assert main([*shlex.split(row["command"])[1:], "output=again"]) == 0
    assert Run(Path("again")).results()["weights_sha256"] == row["weights_sha256"]


def test_every_command_shown_at_the_end_passes(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["model=mlp", "model.widths=[30,10]", *SHORT]
    assert main(typed) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("next"))
    commands = [shlex.split(line.removeprefix("next"))[1:] for line in lines[start:]]
    assert [words[0] for words in commands] == ["mode=eval", "-m", "mode=reproduce"]
    assert len(sweep.plan(precheck(commands[1])[1:], Screen())) == 3
    for words in (commands[0], commands[2]):
        job.prepare(precheck(words), Screen())
