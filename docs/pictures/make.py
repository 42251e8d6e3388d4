"""Makes the README's pictures: trains the default twice, kills one run three times, and draws both.

python docs/pictures/make.py
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
from PIL import Image

HERE = Path(__file__).parent
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
        pictures = whole / "run" / "pictures"
        draw(*(rows(run) for run in runs), kills, sha[0], pictures / "batch.png")
        side_by_side([pictures / f"{name}.png" for name in ("run", "worst", "confusion")])


def side_by_side(files: list[Path]) -> None:
    """The first picture, and the others below it."""
    first, *others = [Image.open(file).convert("RGB") for file in files]
    height = round(first.width / sum(one.width / one.height for one in others))
    others = [one.resize((round(one.width * height / one.height), height), Image.Resampling.LANCZOS) for one in others]
    whole = Image.new("RGB", (first.width, first.height + height), "white")
    whole.paste(first, (0, 0))
    for i, one in enumerate(others):
        whole.paste(one, (sum(other.width for other in others[:i]), first.height))
    whole.quantize(128).save(HERE / "first-run.png", optimize=True)


def draw(a: list[dict[str, float]], b: list[dict[str, float]], kills: list[int], sha: str, batch: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1, 1.7], layout="constrained")
    left.imshow(Image.open(batch))
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
    figure.savefig(HERE / "killed-and-resumed.png", dpi=110)


if __name__ == "__main__":
    main()
