"""Imported by the server that processes are forked from: it has trained once, so that each costs only its own run.

A process begins with all imported, composed and drawn once; the runs that are compared all begin so. Runs in fresh
processes are compared in `test_again.py` and `tests/test_sweep_alone.py`.
"""

import contextlib
import os
import tempfile
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a process that has touched a GPU cannot be forked; these tests are the CPU's

WORDS = ["model=mlp", "model.widths=[8]", "trainer.threads=1", "trainer.steps=2", "trainer.ema=0.9", "device=cpu"]
WORDS += ["trainer.batch_size=100", "data.train_per_class=20", "data.augment.rotate=10"]


def train_once() -> None:
    """One small run, which leaves no file."""
    from dltrain.cli import main

    with (
        tempfile.TemporaryDirectory() as place,
        open(os.devnull, "w") as nowhere,  # noqa: PTH123
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        assert main([*WORDS, f"output={Path(place) / 'run'}"]) == 0


train_once()
