"""The tables and pictures of gan.md, from the runs that its commands make; make.py calls it.

python docs/lecture/gan.py SWEEP        the table and the picture of docs/generate.md, from the sweep that it names
"""

import csv
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import dltrain
from dltrain.config import model as settings
from dltrain.data import open_set
from dltrain.data.embedded import digits_splits, read_sheet
from dltrain.measuring.checkerboard import excess, spectrum
from dltrain.models.dcgan import DCGAN

PICTURES = Path(__file__).parents[1] / "pictures"
CELL, MARGIN = 58, 2  # pixels of a digit in a grid of samples: twice 28, and a gap
ACROSS, DOWN = 4, 4  # digits shown of each grid
MOMENTS = 5  # of a run
UPS = ("transpose", "resize", "pixelshuffle")
Rows = list[dict[str, str]]
Pixels = NDArray[np.uint8]


def sweep(path: Path) -> Rows:
    with (path / "sweep.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def told(values: Sequence[float], form: str) -> str:
    """Mean ± standard deviation; of one run its value."""
    mean = format(statistics.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"


def table(key: str, rows: Rows, names: dict[str, tuple[str, str]]) -> None:
    """One line a setting, means over its seeds. `names`: each metric's head, and its format."""
    print(f"\n| {key} | {' | '.join(head for head, _ in names.values())} |")
    print(f"| --- |{' ---: |' * len(names)}")
    for setting in dict.fromkeys(row[key] for row in rows):
        of = [row for row in rows if row[key] == setting]
        cells = [told([float(row[name]) for row in of], form) for name, (_, form) in names.items()]
        print(f"| {setting} | {' | '.join(cells)} |")


def metrics(run: Path) -> dict[int, dict[str, str]]:
    """The rows of a run's metrics.csv that have an evaluation, by their steps."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return {int(row["step"]): row for row in csv.DictReader(file) if row["val/fid"]}


def draw_histories(folder: Path, key: str, rows: Rows, path: Path) -> None:
    """Seed 0 of each setting, a row: what the same latents become as training goes on."""
    chosen = [row for row in rows if row.get("seed", "0") == "0"]
    figure, axes = plt.subplots(len(chosen), MOMENTS, figsize=(2.0 * MOMENTS, 2.35 * len(chosen)), layout="constrained")
    for line, row in zip(np.atleast_2d(axes), chosen, strict=True):
        run = folder / row["folder"]
        there = metrics(run)
        steps = sorted(there)
        for cell, at in zip(line, np.linspace(0, len(steps) - 1, MOMENTS).round().astype(int), strict=True):
            step = steps[at]
            with Image.open(run / "pictures" / "samples" / f"{step}.png") as image:
                cell.imshow(image.crop((0, 0, ACROSS * CELL + MARGIN, DOWN * CELL + MARGIN)), cmap="gray")
            fid, rarest = (float(there[step][name]) for name in ("val/fid", "val/rarest_class"))
            cell.set_title(
                f"epoch {there[step]['epoch']}: FID {fid:.1f}\nrarest class {100 * rarest:.1f} %", fontsize=8
            )
            cell.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"{key.partition('.')[2]}={row[key]}", fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"\n{path}")


def decibels(power: torch.Tensor) -> NDArray[np.float64]:
    """From -1/4 to 3/4 cycles a pixel, so that the frequencies of a stride of 2 lie inside."""
    height, width = power.shape
    return 10 * np.log10(np.roll(power.numpy(), (height // 4, width // 4), (0, 1)) + 1)


def untrained(up: str, seed: int) -> Pixels:
    """(200, 64, 64) of a generator before its first step, their contrast stretched: a deviation of 40 levels."""
    torch.manual_seed(seed)
    network = DCGAN(settings.DCGAN(base_channels=16, up=settings.UpSampling(up)), (1, 64, 64), 0)
    with torch.no_grad():
        images = network(torch.randn(200, network.latent_dim))[:, 0]
    levels = 128 + 40 * (images - images.mean()) / images.std()
    return np.asarray(levels.round().clamp(0, 255).to(torch.uint8))


def trained(folder: Path, rows: Rows, real: Pixels) -> dict[str, Pixels]:
    """1,000 images by seed 0 of each kind of up-sampling, real ones first."""
    kinds = {"real": real[np.random.default_rng(0).permutation(len(real))]}
    for row in (row for row in rows if row.get("seed", "0") == "0"):
        kinds[row["model.up"]] = dltrain.load(folder / row["folder"]).generate(1000, 0)
    return kinds


def tested_on(run: Path) -> Pixels:
    """The grey test images of a run's data set, zero-padded to the size of the network's."""
    loaded = dltrain.load(run)
    images = open_set(loaded.config, print)
    pixels = np.stack([images.read(int(number)) for number in images.splits["test"]])[:, 0]
    border = [(total - own) // 2 for total, own in zip(loaded.spec.shape[1:], pixels.shape[1:], strict=True)]
    return np.pad(pixels, [(0, 0), *((width, width) for width in border)])


def draw_artifacts(kinds: dict[str, Pixels], path: Path) -> None:
    """Of each kind some images, and the spectrum of all with its score."""
    shown = 5
    figure, axes = plt.subplots(
        len(kinds), 2, figsize=(9, 1.95 * len(kinds)), width_ratios=[shown - 0.9, 1], layout="constrained"
    )
    for (left, right), (name, pixels) in zip(axes, kinds.items(), strict=True):
        left.imshow(np.concatenate(list(pixels[:shown]), axis=1), cmap="gray", vmin=0, vmax=255)
        left.set(xticks=[], yticks=[])
        left.set_ylabel(name)
        power = spectrum(torch.from_numpy(pixels)[:, None])
        level = decibels(power)
        right.imshow(level, extent=(-0.25, 0.75, 0.75, -0.25), vmax=level.max(), vmin=level.max() - 50, cmap="magma")
        for x, y in ((0.5, 0), (0, 0.5), (0.5, 0.5)):
            right.plot(x, y, "o", markersize=13, markerfacecolor="none", markeredgecolor="white")
        right.set_xticks([0, 0.5], ["0", "1/2"])
        right.set_yticks([0, 0.5], ["0", "1/2"])
        right.tick_params(labelsize=7)
        right.set_title(f"{excess(power):.1f} dB", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"\n{path}")


def first_table() -> None:
    print("\n| up | 2 pixels | 4 pixels |\n| --- | ---: | ---: |")
    for up in UPS:
        powers = [spectrum(torch.from_numpy(untrained(up, seed))[:, None]) for seed in range(3)]
        print(f"| {up} | {' | '.join(told([excess(power, p) for power in powers], '.1f') for p in (2, 4))} |")


MEASURED = {"test/fid": ("FID", ".1f"), "test/rarest_class": ("rarest class", ".3f")}


def up_table(rows: Rows) -> None:
    board = {"test/checkerboard": ("checkerboard (dB)", ".1f"), "test/real_checkerboard": ("of real digits", ".1f")}
    table("model.up", rows, MEASURED | board)


def main(folder: Path) -> None:
    first_table()
    draw_artifacts({up: untrained(up, 0) for up in UPS}, PICTURES / "checkerboard-at-first.png")
    balance, up = (sweep(folder / "outputs" / name) for name in ("balance", "up"))
    table("task.discriminator_lr_scale", balance, MEASURED | {"test/class_entropy": ("entropy", ".3f")})
    draw_histories(folder, "task.discriminator_lr_scale", balance, PICTURES / "mode-collapse.png")
    table("task.loss", sweep(folder / "outputs" / "games"), MEASURED)
    up_table(up)
    digits = read_sheet()[digits_splits()["test"]][:, 0]
    draw_artifacts(trained(folder, up, digits), PICTURES / "checkerboard.png")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    jobs = sweep(place)
    up_table(jobs)
    draw_artifacts(trained(Path(), jobs, tested_on(Path(jobs[0]["folder"]))), PICTURES / "checkerboard-mnist.png")
