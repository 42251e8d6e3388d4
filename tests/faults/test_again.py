"""T22: the same command in two fresh processes, in other surroundings and side by side, gives the same bits."""

import os
import subprocess
import sys
from pathlib import Path

from tests.faults.compare import run_differences, the_run

WORDS = ["model=lenet5", "model.dropout=0.2", "data.augment.rotate=10", "optim=adam", "trainer.ema=0.9"]
WORDS += ["trainer.threads=1", "trainer.batch_size=100", "trainer.epochs=2", "data.loader=streaming", "data.workers=1"]
WORDS += ["data.train_per_class=70", "log=quiet"]


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True)
    return subprocess.Popen(
        [sys.executable, "-m", "dltrain", *WORDS, *words],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_same_command_side_by_side_in_other_surroundings_gives_the_same_bits(tmp_path: Path) -> None:
    """Hash seed, locale, time zone, folder, the threads torch would take; a third run, of another seed, beside them."""
    one, other, control = tmp_path / "one", tmp_path / "другая папка", tmp_path / "control"
    runs = [
        start(one, PYTHONHASHSEED="1", LC_ALL="C", TZ="UTC"),
        start(other, PYTHONHASHSEED="2", LC_ALL="C.UTF-8", LANG="tr_TR.UTF-8", TZ="Asia/Tokyo", OMP_NUM_THREADS="2"),
        start(control, "seed=1", PYTHONHASHSEED="1", LC_ALL="C", TZ="UTC"),
    ]
    for run in runs:
        shown = run.communicate(timeout=300)[0].decode(errors="replace")
        assert run.returncode == 0, shown
    assert run_differences(the_run(one), the_run(other)) == []
    assert run_differences(the_run(one), the_run(control)) != []
