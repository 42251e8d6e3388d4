"""Runs the commands of the lecture pages, prints their tables and draws docs/pictures/universal-approximation.png.

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

import matplotlib.pyplot as plt
import numpy as np
import torch
from functions import wave

import dltrain

HERE = Path(__file__).parent
PICTURE = HERE.parent / "pictures" / "universal-approximation.png"
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
    draw(folder, short, long)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
