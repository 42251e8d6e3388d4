"""Every network from the command line: with nothing but model= and data=, whatever the images, and at its paper's size.

Small members of the families in the default tests, every name in the slow ones.
"""

import csv
import json
import math
import re
import shlex
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain import checkpoint, data
from dltrain.cli import main
from dltrain.config.compose import compose
from dltrain.config.overlay import model_words
from dltrain.run import Run
from dltrain.text import SHOWN
from tests.models.family import (
    CLASSIFIER_NAMES,
    CLASSIFIERS,
    GENERATOR_NAMES,
    GENERATORS,
    MASK_NAMES,
    NAMES,
    WITH_MASKS,
    answers_per_pixel,
    every_classifier,
    member_of,
    settings,
)

DRY = ["trainer.dry_run=true", "trainer.batch_size=2", "trainer.threads=1", "log=quiet", "device=cpu"]
UNJUDGED = ["task.judge=none", "task.samples=6"]
CLASSES = ("cat", "dog", "owl")
EACH = 8  # photos of a class
ROOTS = {"folder": "photos", "csv": "photos.csv", "array": "set.npz", "mask_folder": "cells", "images": "cells/images"}
OF_IMAGES = ("digits", "digits_pose", "csv", "array", "folder", "images")  # what a generator learns from
every_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of 20x24 in colour, three classes, as a folder, a table and arrays of 12x14; and photos with masks."""
    folder = tmp_path_factory.mktemp("sets")
    draw = np.random.RandomState(0)
    rows = []
    for label in CLASSES:
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(EACH):
            path = f"photos/{label}/{number}.png"
            Image.fromarray(draw.randint(0, 256, (20, 24, 3)).astype(np.uint8)).save(folder / path)
            rows.append((path, label))
    with (folder / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows])
    images = draw.randint(0, 256, (3 * EACH, 12, 14)).astype(np.uint8)
    for number in range(3 * EACH):
        for kind, pixels in (("images", draw.randint(0, 256, (20, 24, 3))), ("masks", draw.randint(0, 3, (20, 24)))):
            (folder / "cells" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "cells" / kind / f"{number}.png")
    np.savez(folder / "set.npz", images=images, labels=np.arange(3 * EACH) % 3)
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a run leaves is taken away at once: a checkpoint of a large network has half a gigabyte."""
    monkeypatch.chdir(place)
    yield
    for path in place.iterdir():
        if path.is_dir() and path.name not in ("photos", "cells"):
            shutil.rmtree(path)


def set_words(name: str) -> list[str]:
    return [f"data={name}", *([f"data.root={ROOTS[name]}"] if name in ROOTS else [])]


# ---- whatever the data


@every_classifier
def test_every_family_trains_on_photos_in_a_folder(words: tuple[str, ...]) -> None:
    assert main([*words, *set_words("folder"), *DRY]) == 0


@pytest.mark.parametrize("name", ["digits", "digits_pose", "csv", "array"])
@pytest.mark.parametrize(
    "words", [m.words for m in CLASSIFIERS if m.family in ("vgg", "lenet5", "alexnet")], ids=" ".join
)
def test_other_data_are_made_large_enough(words: tuple[str, ...], name: str) -> None:
    assert main([*words, *set_words(name), *DRY]) == 0


@pytest.mark.parametrize("of", ["digit_scenes", "mask_folder"])
@pytest.mark.parametrize("words", [m.words for m in WITH_MASKS], ids=" ".join)
def test_every_family_that_answers_for_each_pixel_trains_on_masks(words: tuple[str, ...], of: str) -> None:
    assert main([*words, *set_words(of), *DRY]) == 0


@pytest.mark.parametrize("of", OF_IMAGES)
@pytest.mark.parametrize("words", [m.words for m in GENERATORS], ids=" ".join)
def test_every_family_that_generates_trains_on_images(words: tuple[str, ...], of: str) -> None:
    assert main([*words, *set_words(of), *UNJUDGED, *DRY]) == 0


@pytest.mark.parametrize("words", [m.words for m in GENERATORS], ids=" ".join)
def test_both_updates_of_a_generator_move_all_weights_and_losses_stay_finite(words: tuple[str, ...]) -> None:
    few = [*UNJUDGED, "trainer.batch_size=16", "trainer.threads=1", "log=quiet", "data.train_per_class=8"]
    for steps in (1, 4):
        assert main([*words, *few, f"trainer.steps={steps}", f"output=after{steps}"]) == 0
    first, later = (checkpoint.load(Path(f"after{steps}"), "last", print) for steps in (1, 4))
    assert first is not None
    assert later is not None
    weights = [name for name, value in first["task"].items() if value.ndim > 1]
    assert {part for name in weights for part in ("generator", "discriminator") if part in name} == {
        "generator",
        "discriminator",
    }
    assert [name for name in weights if torch.equal(first["task"][name], later["task"][name])] == []
    with Path("after4", "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    losses = [float(row[f"train/{name}/loss"]) for name in ("discriminator", "generator")]
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "of"),
    [(name, of) for name in CLASSIFIER_NAMES for of in ("digits", "digits_pose", "csv", "array", "folder")]
    + [(name, of) for name in MASK_NAMES for of in ("digit_scenes", "mask_folder")]
    + [(name, of) for name in GENERATOR_NAMES for of in OF_IMAGES],
)
def test_every_network_trains_with_nothing_but_model_and_data(name: str, of: str) -> None:
    assert main([f"model={name}", *set_words(of), *DRY]) == 0


@pytest.mark.parametrize(
    ("words", "size", "note"),
    [
        ("model=vgg16 data=digits", (32, 32), "zero-padded from 28x28 to 32x32"),
        ("model=vgg11 model.convs=[1,1,1,1,1,1] data=digits", (64, 64), "zero-padded from 28x28 to 64x64"),
        ("model=resnet18 data=digits", (28, 28), ""),
        ("model=dcgan data=digits", (28, 28), ""),
        ("model=dcgan data=digits data.size=32", (32, 32), "zero-padded from 28x28 to 32x32"),
        ("model=dcgan data=array data.root=set.npz", (28, 28), "from 12x14 to 28x28"),
        ("model=dcgan data=folder data.root=photos", (64, 64), ""),
        ("model=attention_cnn data=digits", (32, 32), "zero-padded from 28x28 to 32x32"),
        ("model=alexnet model.stem=large data=digits", (63, 63), "zero-padded from 28x28 to 63x63"),
        ("model=alexnet model.stem=large model.form=paper data=digits_pose", (67, 67), "from 32x32 to 67x67"),
        ("model=vgg16 data=folder data.root=photos", (64, 64), ""),
        ("model=alexnet model.stem=large model.form=paper data=folder data.root=photos", (67, 67), ""),
        ("model=alexnet model.stem=large model.form=paper data=csv data.root=photos.csv", (67, 67), ""),
        ("model=vgg16 data=array data.root=set.npz", (32, 32), "from 12x14 to 32x32"),
        ("model=alexnet data=array data.root=set.npz", (15, 15), "from 12x14 to 15x15"),
        ("model=lenet5 data=array data.root=set.npz", (32, 32), "from 12x14 to 32x32"),
    ],
)
def test_auto_makes_images_as_large_as_the_network_needs_and_says_so(
    words: str, size: tuple[int, int], note: str
) -> None:
    spec = data.describe(compose(words.split())[0], print)
    assert spec.shape[1:] == size
    assert note in " ".join(spec.notes)


def test_what_is_built_for_small_images_is_said_and_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """On the screen and in the run's record; a large stem is neither."""
    words = ["model=resnet18", "model.base_channels=4", "trainer.steps=1", "trainer.batch_size=2", "trainer.threads=1"]
    words += [*set_words("folder"), "trainer.overfit_batches=1"]
    said = "small images: 3x3 first convolution of stride 1"
    assert main([*words, "output=small"]) == 0
    assert said in capsys.readouterr().out
    (note,) = Run(Path("small")).environment()["network"]
    assert note.startswith(said)
    assert main([*words, "model.stem=large", "output=large"]) == 0
    assert said not in capsys.readouterr().out
    assert Run(Path("large")).environment()["network"] == []


def test_a_run_without_that_record_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=resnet20", "model.n=1", "trainer.batch_size=2", "trainer.threads=1", "schedule=constant"]
    assert main([*words, "trainer.overfit_batches=1", "trainer.steps=1", "output=old"]) == 0
    path = Path("old/environment.json")
    record = json.loads(path.read_text())
    assert record.pop("network") == []
    path.write_text(json.dumps(record))
    assert main(["resume=old", "trainer.steps=2"]) == 0
    assert "not bit-exact" not in capsys.readouterr().err
    assert Run(Path("old")).results()["steps"] == 2


# ---- weights of another network


def test_weights_of_another_network_are_told_in_a_few_lines_and_with_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ["trainer.overfit_batches=1", "trainer.batch_size=2", "trainer.steps=1", "trainer.threads=1", "log=quiet"]
    small = ["model=resnet18", "model.base_channels=4"]
    assert main([*small, *few, "output=run"]) == 0
    again = ["init=run", "init.source=run", *few, "output=again"]
    capsys.readouterr()
    assert main(["model=resnet34", "model.base_channels=4", *again]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "init.source=run holds another network:"
    assert len([line for line in lines if line.startswith("    ") and "only in this network" in line]) == SHOWN
    assert re.fullmatch(r"    and \d+ more", lines[1 + SHOWN])
    command = next(line for line in lines if line.startswith("  type     "))
    typed = shlex.split(command.removeprefix("  type     dltrain "))
    assert {"model=resnet18", "model.base_channels=4"} <= set(typed)
    assert main([*typed, "trainer.dry_run=true"]) == 0


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("model=resnet50", "model=resnet50"),
        ("model=resnet101", "model=resnet101"),
        ("model=resnet101 model.blocks=[2,2,2,2]", "model=resnet18 model.bottleneck=true"),
        ("model=resnet56 model.shortcut=B", "model=resnet56 model.shortcut=B"),
        ("model=resnet20 model.n=8", "model=resnet20 model.n=8"),  # a CIFAR network of 50 layers is no ResNet-50
        ("model=vgg16 model.norm=batch", "model=vgg16 model.norm=batch"),
        ("model=mlp_300_100", "model=mlp"),
    ],
)
def test_the_words_of_a_network_make_it_again(typed: str, words: str) -> None:
    """What is offered as a command builds the same network: names of presets bring their values, no others."""
    model = settings(*typed.split())
    found = model_words(model, model)
    assert found == words.split()
    assert settings(*found) == model


# ---- too large for the machine


def test_a_network_that_no_memory_holds_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The system would end the process without a word."""
    words = ["model=resnet18", "model.base_channels=4096", "trainer.threads=1", "device=cpu"]
    assert main([*words, "trainer.steps=1", "output=run"]) == 2
    said = capsys.readouterr().err
    assert "resnet18 has 45,702,115,338 parameters" in said
    assert "GiB for its weights and their gradients alone" in said
    assert "  type     dltrain mode=summary model=resnet18 model.base_channels=4096\n" in said
    assert not Path("run").exists()
    assert main(["mode=summary", "model=resnet18", "model.base_channels=4096"]) == 0
    assert "45,702,115,338" in capsys.readouterr().out


# ---- at the paper's size


@pytest.mark.slow
@every_name
@pytest.mark.parametrize("form", ["", "model.form=paper"])
def test_every_network_trains_and_evaluates_at_its_papers_size_without_a_warning(
    name: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = settings(f"model={name}")
    if form and not hasattr(model, "form"):
        pytest.skip("it has one form")
    height, width = (227, 227) if name == "alexnet" and form else member_of(model).paper
    of = "mask_folder" if answers_per_pixel(name) else "folder"
    words = [f"model={name}", *filter(None, [form]), *set_words(of), f"data.size={height}x{width}", *DRY]
    words += [f"data.crop={height}x{width}"] if of == "mask_folder" else []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(words) == 0
    assert capsys.readouterr().err == ""
