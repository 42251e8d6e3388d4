"""Runs the commands of the lecture pages, prints their tables and draws their pictures in docs/pictures/.

python docs/lecture/make.py [FOLDER]        (needs matplotlib; what lies in FOLDER already is not trained again)
"""

import csv
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gan
import matplotlib.pyplot as plt
import numpy as np
import torch
from functions import wave
from PIL import Image
from scipy import ndimage

import dltrain

HERE = Path(__file__).parent
PICTURE = HERE.parent / "pictures" / "universal-approximation.png"
TOUCHING = HERE.parent / "pictures" / "touching-cells.png"
Rows = list[dict[str, str]]


def commands(page: Path) -> list[list[str]]:
    """The commands in the indented blocks of a page, as words; a line that ends with a backslash goes on."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if re.match(r"    (dltrain|python)\b", line)]
    return [shlex.split(re.split(r"\s#\s", line)[0]) for line in lines]


def run(words: list[str], folder: Path) -> None:
    output = next((word.partition("=")[2] for word in words if word.startswith("output=")), "")
    if output and (folder / output / "sweep.csv").exists():
        return
    print("$", shlex.join(words), flush=True)
    script = [str(HERE.parents[1] / words[1]), *words[2:]] if words[0] == "python" else ["-m", "dltrain", *words[1:]]
    subprocess.run([sys.executable, *script], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def sweep(path: Path) -> Rows:
    with (path / "sweep.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by(rows: Rows, key: str, value: Callable[[dict[str, str]], float]) -> dict[str, list[float]]:
    """The values of the jobs of each setting, in order."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row[key].strip("[]"), []).append(value(row))
    return found


def told(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def error(row: dict[str, str]) -> float:
    """Squared error on the test points, as a share of the function's variance there."""
    return 1 - float(row["test/r2"])


def widths_table(short: Rows, long: Rows, tents: Rows) -> None:
    print("\n| width | 20 epochs | 200 epochs |\n| ---: | ---: | ---: |")
    after = by(long, "model.widths", error)
    for width, values in by(short, "model.widths", error).items():
        print(f"| {width} | {told(values, 3)} | {told(after[width], 4)} |")
    print("\n| width | smallest | middle | largest |\n| ---: | ---: | ---: | ---: |")
    for width, values in by(tents, "model.widths", error).items():
        print(f"| {width} | {min(values):.4f} | {statistics.median(values):.4f} | {max(values):.4f} |")


def outputs_table(together: Rows, alone: Rows) -> None:
    print("\n| output | one network of four | four networks of one |\n| --- | ---: | ---: |")
    for name in ("rotation", "scale", "shift_x", "shift_y"):
        four = [float(row[f"test/r2/{name}"]) for row in together]
        one = [float(row["test/r2"]) for row in alone if row["data.values"] == f"[{name}]"]
        print(f"| {name} | {told(four, 3)} | {told(one, 3)} |")


def scenes_table(key: str, rows: Rows) -> None:
    print(f"\n| {key} | mean IoU | digits | ground | pixel accuracy |\n| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        whole, ground, accuracy = (float(row[f"test/{name}"]) for name in ("mean_iou", "iou/ground", "pixel_accuracy"))
        digits = statistics.mean(float(row[f"test/iou/{digit}"]) for digit in range(10))
        print(f"| {row[key]} | {whole:.3f} | {digits:.3f} | {ground:.3f} | {accuracy:.3f} |")


def cells_table(folder: Path, rows: Rows) -> None:
    print("\n| weight map | pixel accuracy | cells found | merged |\n| --- | ---: | ---: | ---: |")
    found = [(row["task.weight_map"], float(row["test/pixel_accuracy"]), *cells(folder, row)) for row in rows]
    for weighted in ("False", "True"):
        accuracy, share, merged = zip(*(values[1:] for values in found if values[0] == weighted), strict=True)
        print(f"| {weighted} | {told(accuracy, 3)} | {told(share, 3)} | {told(merged, 0)} |")


def answers(run: Path, images: Path) -> list[np.ndarray]:
    """The class of each pixel, (H, W), that a network answers with for each image of a folder."""
    loaded = dltrain.load(run)
    return [loaded.predict(path) for path in sorted(images.iterdir())]


def cells(folder: Path, row: dict[str, str]) -> tuple[float, int]:
    """The share of the test cells that a part of the answer has an IoU above 1/2 with, and how many hang together.

    Parts hang together by the sides of their pixels. Cells of fewer than 20 pixels, which the image's border cuts, are
    left out.
    """
    test = folder / "outputs" / "cells" / "test"
    found = known = merged = 0
    for path, classes in zip(
        sorted((test / "masks").iterdir()), answers(folder / row["folder"], test / "images"), strict=True
    ):
        answer, _ = ndimage.label(classes)
        truth, count = ndimage.label(np.array(Image.open(path)))
        shared = np.zeros((count + 1, answer.max() + 1), int)
        np.add.at(shared, (truth, answer), 1)
        area, own = shared.sum(1)[1:, None], shared[1:, 1:]
        large = area[:, 0] >= 20
        known += int(large.sum())
        found += int(((own / (area + shared.sum(0)[1:] - own)) > 0.5).any(1)[large].sum())
        inside = ((own > 0.5 * area) & large[:, None]).sum(0)
        merged += int(np.maximum(inside - 1, 0).sum())
    return found / known, merged


def draw_cells(folder: Path, rows: Rows) -> None:
    """The first test images of seed 0, each connected part of mask and answers in a colour of its own."""
    test = folder / "outputs" / "cells" / "test"
    named = {"image": test / "images", "cells": test / "masks"}
    columns = {name: [np.array(Image.open(path)) for path in sorted(place.iterdir())] for name, place in named.items()}
    for row in (row for row in rows if row["seed"] == "0"):
        name = "with weight map" if row["task.weight_map"] == "True" else "without"
        columns[name] = answers(folder / row["folder"], test / "images")
    figure, axes = plt.subplots(3, 4, figsize=(8, 6.3), layout="constrained")
    for place, name in enumerate(columns):
        axes[0, place].set_title(name)
        for cell, pixels in zip(axes[:, place], columns[name], strict=False):
            cell.axis("off")
            if name == "image":
                cell.imshow(pixels, cmap="gray")
                continue
            parts, _ = ndimage.label(pixels)
            cell.imshow(np.where(parts > 0, parts * 7 % 19 + 1, np.nan), cmap="tab20", vmin=0, vmax=20)
    figure.savefig(TOUCHING, dpi=100)
    print(f"\n{TOUCHING}")


def surface(run: Path) -> np.ndarray:
    """What a network says of each of the 256 x 256 possible pictures."""
    loaded = dltrain.load(run)
    y, x = np.mgrid[:256, :256].astype(np.uint8)
    mean, std = (torch.tensor(value) * 255 for value in (loaded.spec.mean, loaded.spec.std))
    pixels = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 1, 1, 2)).float()
    return loaded.task.predict((pixels - mean) / std).values.reshape(256, 256).numpy()


def draw(folder: Path, short: Rows, long: Rows) -> None:
    figure = plt.figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
    axes = left.subplots()
    for rows, colour, label in ((short, "C1", "20 epochs"), (long, "C0", "200 epochs")):
        found = by(rows, "model.widths", error)
        widths = [int(width) for width in found]
        axes.loglog(widths, [statistics.mean(v) for v in found.values()], color=colour, label=label)
        for width, values in zip(widths, found.values(), strict=True):
            axes.plot([width] * len(values), values, "o", color=colour, mfc="none", markersize=4)
    axes.plot(widths, [1.4 / width for width in widths], ":", color="0.5", label="a slope of 1/width")
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set(xlabel="width of the hidden layer", ylabel="squared error / variance of the function")
    axes.set_title("each circle is a seed, each line their mean")
    axes.grid(alpha=0.3)
    axes.legend()
    y, x = np.mgrid[:256, :256] / 255
    first = {int(row["model.widths"].strip("[]")): folder / row["folder"] for row in long if row["seed"] == "0"}
    shown = {"the function": wave(x, y)} | {f"width {width}": surface(first[width]) for width in (4, 16, 256)}
    for cell, (name, values) in zip(right.subplots(2, 2).flat, shown.items(), strict=True):
        cell.imshow(values, origin="lower", extent=(0, 1, 0, 1), vmin=-1.2, vmax=1.2, cmap="RdBu")
        cell.set_title(name, fontsize=10)
        cell.axis("off")
    figure.savefig(PICTURE, dpi=110)
    print(f"\n{PICTURE}")


def main(folder: Path) -> None:
    for page in sorted(HERE.glob("*.md")):
        for words in commands(page):
            run(words, folder)
    short, long, tents, together, alone = (
        sweep(folder / "outputs" / name) for name in ("short", "long", "tents", "together", "alone")
    )
    widths_table(short, long, tents)
    outputs_table(together, alone)
    scenes_table("model.skips", sweep(folder / "outputs" / "skips"))
    scenes_table("task.loss", sweep(folder / "outputs" / "losses"))
    cells_table(folder, sweep(folder / "outputs" / "borders"))
    draw_cells(folder, sweep(folder / "outputs" / "borders"))
    draw(folder, short, long)
    gan.main(folder)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
