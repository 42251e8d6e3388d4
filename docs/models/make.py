"""Makes the tables of models in docs/models.md and README.md.

    python docs/models/make.py                      counts anew; speeds as they stand in speed.csv
    python docs/models/make.py --measure [NAME …]   first measures training, of all models or of these, into speed.csv;
                                                    a row of its own by its words: "vgg16 model.norm=batch"

Counts need no measuring and no memory: the networks are built and run on torch's meta device.
"""

import argparse
import csv
import functools
import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rows import ATTENTION, MODELS, PAPERS, SMALL, TABLES, VARIANTS, Row
from torch.utils.flop_counter import FlopCounterMode

from dltrain.config import table as table_of_options
from dltrain.config.compose import compose, load
from dltrain.config.model import DCGAN
from dltrain.config.nearest import nearest
from dltrain.models import outline

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "models.md")
SPEEDS = Path(__file__).with_name("speed.csv")
BATCH = {True: 16, False: 128}  # of images larger than 64 pixels, of others
BATCH_OF_MASKS = 1  # Ronneberger et al. 2015, section 3
SECONDS = 5.0  # of steps, for each row
RECIPE = ("optim", "schedule", "clip", "trainer")  # groups that a network's YAML may choose from
USUAL = ["optim=sgd", "schedule=constant", "clip=none", "trainer=default"]
Cells = list[str]


# ---- counting


@functools.cache
def count(words: str, shape: tuple[int, int, int], outputs: int, part: str = "generator") -> tuple[int, int]:
    """Parameters, and multiply-adds of convolutions and matrix products for one image in evaluation.

    `part` is which network of a DCGAN, `generator` or `discriminator`.
    """
    cfg, _ = compose([f"model={words.split()[0]}", *words.split()[1:]])
    network, inputs = outline(cfg.model, shape, outputs).eval(), tuple[int, ...](shape)
    if isinstance(cfg.model, DCGAN):
        network = network.get_submodule(part)
        inputs = (cfg.model.latent_dim,) if part == "generator" else inputs
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *inputs, device="meta"))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2


# ---- measuring


@dataclass(frozen=True)
class Speed:
    """Training, as measured: a line of speed.csv."""

    key: str
    batch: int
    precision: str
    images_per_second: float
    machine: str


def speeds() -> dict[str, Speed]:
    """By the rows' keys; empty where nothing has been measured."""
    if not SPEEDS.exists():
        return {}
    with SPEEDS.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    found = [
        Speed(line["model"], int(line["batch"]), line["precision"], float(line["images/s"]), line["machine"])
        for line in lines
    ]
    return {one.key: one for one in found}


def measure(names: list[str]) -> None:
    """Measure the rows of these models or words, all without any, and write each to speed.csv: it may take long."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from noise import Training, machine

    rows = [row for table in TABLES.values() for row in table]
    known = speeds()
    known = {row.key: known[row.key] for row in rows if row.key in known}
    for row in rows:
        if names and not {row.name, row.words} & set(names):
            continue
        shape, classes = row.at
        per_pixel = table_of_options.schema("model", row.name).task == "segmentation"
        batch = BATCH_OF_MASKS if per_pixel else BATCH[min(shape[1:]) > 64]
        training = Training([f"model={row.name}", *row.words.split()[1:]], shape, classes, batch)
        steps = training.warm_up(SECONDS)
        speed = batch * steps / training.seconds(steps)
        known[row.key] = Speed(row.key, batch, training.env.precision, speed, machine(training.env))
        print(f"{row.key:<50}{speed:>12,.1f} images/s", flush=True)
        with SPEEDS.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["model", "batch", "precision", "images/s", "machine"])
            for one in known.values():
                writer.writerow([one.key, one.batch, one.precision, f"{one.images_per_second:.4g}", one.machine])


# ---- writing


def short(number: int) -> str:
    """`61,706`, `11.69 M`, `1.814 G`: four digits from a million on."""
    for unit, name in ((10**9, "G"), (10**6, "M")):
        if number >= unit:
            value = number / unit
            return f"{value:.{max(0, 3 - len(str(int(value))) + 1)}f} {name}"
    return f"{number:,}"


def per_second(row: Row, known: dict[str, Speed]) -> str:
    """Three digits; empty where nobody has measured."""
    if row.key not in known:
        return ""
    value = known[row.key].images_per_second
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(head: Cells, rows: list[Cells], right: set[str]) -> str:
    """A Markdown table; the columns named in `right` are set to the right."""
    bars = ["---:" if name in right else "---" for name in head]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in [head, bars, *rows])


NUMBERS = {"parameters", "multiply-adds", "images/s", "added"}


def full(rows: list[Row], known: dict[str, Speed]) -> str:
    """For docs/models.md: exact counts, and a link to the test."""
    cells = []
    for row in rows:
        parameters, multiply_adds = count(row.words, *row.at)
        equals = f"[{row.equals}](../tests/{row.proof})"
        counts = [f"{parameters:,}", short(multiply_adds), per_second(row, known)]
        cells.append([f"`{row.words}`", row.paper, row.size, *counts, equals])
    return table(["model", "paper", "input", "parameters", "multiply-adds", "images/s", "equals"], cells, NUMBERS)


def small(rows: list[Row], known: dict[str, Speed]) -> str:
    cells = []
    for row in rows:
        parameters, multiply_adds = count(row.words, *row.at)
        cells.append([f"`{row.words}`", f"{parameters:,}", short(multiply_adds), per_second(row, known)])
    return table(["model", "parameters", "multiply-adds", "images/s"], cells, NUMBERS)


def attention(rows: list[Row], known: dict[str, Speed]) -> str:
    cells = []
    for row in rows:
        parameters, multiply_adds = count(row.words, *row.at)
        without, _ = count(row.words.rpartition(" ")[0], *row.at)
        added = f"{parameters - without:,}"
        equals = f"[{row.equals}](../tests/{row.proof})"
        counts = [f"{parameters:,}", added, short(multiply_adds), per_second(row, known)]
        cells.append([f"`{row.words}`", row.paper, row.size, *counts, equals])
    head = ["model", "paper", "input", "parameters", "added", "multiply-adds", "images/s", "equals"]
    return table(head, cells, NUMBERS)


def brief(rows: list[Row], known: dict[str, Speed]) -> str:
    """For README.md: short counts."""
    cells = []
    for row in rows:
        counts = [short(number) for number in count(row.words, *row.at)]
        cells.append([f"`{row.words}`", row.paper, row.size, *counts, row.equals, per_second(row, known)])
    return table(["model", "paper", "input", "parameters", "multiply-adds", "equals", "images/s"], cells, NUMBERS)


def recipes(rows: list[Row]) -> str:
    """What the networks' YAML files choose beside the network, and what the head of the optimizer's file says of it."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        _, composed = compose([f"model={row.name}"])
        taken, usual = composed.hydra.runtime.choices, load(["model=mlp", *USUAL]).hydra.runtime.choices
        chosen = [f"{group}={taken[group]}" for group in RECIPE if group == "optim" or taken[group] != usual[group]]
        found.setdefault((" ".join(chosen), taken["optim"]), []).append(row.name)
    cells = []
    for (chosen, optim), names in found.items():
        lines = table_of_options.option_text("optim", optim).splitlines()
        head = itertools.takewhile(lambda line: line.startswith("#"), lines)
        cells.append([", ".join(f"`{name}`" for name in names), f"`{chosen}`", " ".join(line[2:] for line in head)])
    return table(["networks", "recipe", "where it is from"], cells, set())


def papers() -> str:
    return "\n".join(f"- {short_form}: {title}" for short_form, title in PAPERS.items())


def measured_on(known: dict[str, Speed]) -> str:
    """One sentence. Raises ValueError where speeds of several machines would stand side by side."""
    if not known:
        return "images/s: not measured yet."
    places = sorted({(one.machine, one.precision) for one in known.values()})
    if len(places) != 1:
        raise ValueError(f"speed.csv is of {len(places)} machines; measure all of it on one: {places}")
    ((machine, precision),) = places
    large, others = BATCH[True], BATCH[False]
    return (
        f"images/s: training steps in {precision} at that input, batches of {others}, of {large} above 64 pixels, of "
        f"{BATCH_OF_MASKS} for U-Nets; of `dcgan` both updates; "
        f"{machine}."
    )


def parts(page: Path) -> dict[str, str]:
    """What stands between the markers of a page, by their names."""
    known = speeds()
    if page.name == "README.md":
        return {"models": brief(MODELS, known) + "\n\n" + measured_on(known)}
    return {
        "models": full(MODELS, known),
        "variants": full(VARIANTS, known),
        "small": small(SMALL, known),
        "attention": attention(ATTENTION, known),
        "recipes": recipes(MODELS),
        "speed": measured_on(known),
        "papers": papers(),
    }


def filled(text: str, found: dict[str, str]) -> str:
    """The page with its tables made anew. Raises ValueError if a marker is missing."""
    for name, content in found.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the page must hold <!-- {name} --> … <!-- /{name} --> once")
        text = pattern.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", nargs="*", metavar="NAME")
    args = parser.parse_args()
    names = [row.name for row in MODELS] + [row.words for rows in TABLES.values() for row in rows]
    for name in args.measure or []:
        if name not in names:
            parser.error(f"--measure {name!r}: there is no such row; the nearest is {nearest(name, names)!r}")
    if args.measure is not None:
        measure(args.measure)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text, parts(page)), encoding="utf-8")


if __name__ == "__main__":
    main()
