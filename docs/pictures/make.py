"""Makes killed-and-resumed.png: trains the default twice, kills one run three times, and draws both.

python docs/pictures/make.py        (needs matplotlib)
"""

import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from dltrain.config.compose import compose
from dltrain.data import describe, open_data
from dltrain.tasks.pictures import grid, to_pixels

EPOCHS = 20
WORDS = [f"trainer.epochs={EPOCHS}", "trainer.save_every=20"]


def dltrain(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "dltrain", *words], cwd=folder, stdout=subprocess.DEVNULL)


def rows(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def killed(folder: Path) -> list[int]:
    """Train, with SIGKILL at three moments; returns the epochs under way."""
    at = []
    process = dltrain(folder, *WORDS, "output=run")
    for epoch in (5, 9, 15):
        while len(rows(folder / "run")) < epoch:
            time.sleep(0.01)
        time.sleep(random.uniform(0.02, 0.15))
        process.kill()
        process.wait()
        at.append(len(rows(folder / "run")) + 1)
        process = dltrain(folder, "resume=run")
    assert process.wait() == 0
    return at


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name) / "whole", Path(name) / "broken"
        whole.mkdir()
        broken.mkdir()
        assert dltrain(whole, *WORDS, "output=run").wait() == 0
        kills = killed(broken)
        runs = [whole / "run", broken / "run"]
        sha = [json.loads((run / "results.json").read_text())["weights_sha256"] for run in runs]
        assert sha[0] == sha[1], "not the same weights"
        draw(*(rows(run) for run in runs), kills, sha[0])


def draw(a: list[dict[str, float]], b: list[dict[str, float]], kills: list[int], sha: str) -> None:
    cfg, _ = compose([])
    spec = describe(cfg, print)
    data = open_data(cfg, spec, torch.device("cpu"), "resident", 0, print)
    batch = next(data.batches(0))
    sheet = grid(to_pixels(batch.images[:64], torch.tensor(spec.mean), torch.tensor(spec.std)))

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1, 1.7], layout="constrained")
    left.imshow(sheet[0].numpy(), cmap="gray")
    left.set_title("a batch, as LeNet-5 sees it")
    left.axis("off")

    epochs = [row["epoch"] for row in a]
    right.plot(epochs, [row["train/loss"] for row in a], color="C0", label="training loss, never killed")
    right.plot(epochs, [row["train/loss"] for row in b], "o", color="C0", mfc="none", label="killed three times")
    right.plot(epochs, [row["val/loss"] for row in a], color="C1", label="validation loss, never killed")
    right.plot(epochs, [row["val/loss"] for row in b], "o", color="C1", mfc="none", label="killed three times")
    for i, epoch in enumerate(kills):
        right.axvline(epoch - 0.5, color="0.5", ls=":", label=None if i else "kill -9, then resume=last")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.set(xlabel="epoch", yscale="log", title=f"both runs end with weights sha256 {sha[:12]}…")
    right.legend(fontsize=8)
    figure.savefig(Path(__file__).parent / "killed-and-resumed.png", dpi=110)


if __name__ == "__main__":
    main()
