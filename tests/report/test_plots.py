"""Figures: right for every size of a matrix and every kind of run, and drawn without a word on the screen."""

import hashlib
import itertools
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain.engine.loop import is_better
from dltrain.report import curves as module
from dltrain.report import plots
from dltrain.report.curves import curves

Row = dict[str, float]


def counts(k: int, images: int = 40) -> np.ndarray:
    found = np.diag(np.full(k, images))
    found[0, -1] += 3
    return found


def test_matplotlib_is_used_without_its_global_state(capfd: pytest.CaptureFixture[str]) -> None:
    plots.confusion(counts(3), ["$x^$", "a_b", "猫"], title="$\\frac{")
    assert [path for path in Path(plots.__file__).parents[1].rglob("*.py") if "pyplot" in path.read_text()] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("k", [1, 2, 10, plots.WITH_NUMBERS, plots.WITH_NUMBERS + 1, plots.WITH_NAMES + 1, 1000])
def test_confusion_has_a_picture_of_any_number_of_classes(k: int) -> None:
    picture = plots.confusion(counts(k), [f"class {i}" for i in range(k)], "title")
    assert picture.mode == "RGB"
    assert min(picture.size) > 200
    assert max(picture.size) < 2200


def test_cells_are_coloured_by_the_share_of_their_row() -> None:
    """Two rows of the same shares and different counts look the same; a class without images is grey."""
    picture = np.asarray(plots.confusion(np.array([[8, 2, 0], [200, 800, 0], [0, 0, 0]]), ["a", "b", "c"]))
    blues = [tuple(pixel) for pixel in picture.reshape(-1, 3) if pixel[2] > pixel[0]]
    common = [colour for colour, n in zip(*np.unique(blues, axis=0, return_counts=True), strict=True) if n > 2000]
    assert len(common) == 3, "shares of 80 %, 20 % and 0"
    assert (np.all(picture == 0xF3, axis=2)).sum() > 10_000


def test_a_single_mistake_among_a_thousand_classes_is_seen() -> None:
    names = [str(i) for i in range(1000)]
    with_it, without = counts(1000), counts(1000)
    with_it[700, 300] = 1
    pictures = [np.asarray(plots.confusion(found, names)).astype(int) for found in (with_it, without)]
    left = slice(0, 900)  # the matrix, without the words beside it
    assert np.abs(pictures[0][:, left] - pictures[1][:, left]).max() > 25


def test_counts_of_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 class names"):
        plots.confusion(counts(3), ["a", "b"])


@pytest.mark.parametrize("n", [0, 1, 50, 6000])
def test_scatter_of_any_number_of_points(n: int) -> None:
    x = np.random.default_rng(0).normal(size=n)
    y = x.copy()
    y[: n // 10] = np.nan
    assert plots.scatter(x, y, "rotation $x^$").size == (550, 550)


# ---- run.png


def row(epoch: int, **values: float) -> Row:
    made = {"epoch": epoch, "step": 27 * epoch, "train/lr": 0.01 / epoch}
    return made | {name.replace("__", "/"): value for name, value in values.items()}


def classifier(epochs: int) -> list[Row]:
    return [
        row(e, train__loss=2 / e, train__accuracy=1 - 1 / e, train__grad_norm=1.0, train__clipped=0.3)
        | {"val/loss": 2.1 / e, "val/accuracy": 1 - 1.1 / e, "val/class_accuracy/cat": 0.5}
        for e in range(1, epochs + 1)
    ]


NOT_FINITE = [row(e, train__loss=math.nan, val__loss=math.inf, val__accuracy=math.nan) for e in (1, 2)]
RUNS: dict[str, tuple[list[Row], str]] = {
    "nothing yet": ([], "val/accuracy"),
    "one epoch": (classifier(1), "val/accuracy"),
    "twenty": (classifier(20), "val/accuracy"),
    "a thousand": (classifier(1000), "val/accuracy"),
    "not finite": ([*classifier(2), *NOT_FINITE], "val/accuracy"),
    "never finite": (NOT_FINITE, "val/accuracy"),
    "evaluated seldom": ([*classifier(1), row(2, train__loss=1.0), *classifier(3)[2:]], "val/accuracy"),
    "regression": (
        [row(e, train__loss=1 / e, val__loss=2 / e, val__r2=1 - 2 / e, val__mae=9.0) for e in (1, 2)],
        "val/r2",
    ),
    "monitors the loss": ([row(e, train__loss=1 / e, val__loss=2 / e) for e in (1, 2, 3)], "-val/loss"),
    "generator": (
        [row(e, train__critic__loss=-1.0 * e, train__generator__loss=2.0, train__critic__clipped=1.0) for e in (1, 2)],
        "step",
    ),
    "two networks": (
        [
            row(e, train__discriminator__loss=1.3, train__generator__loss=0.8, val__fid=90 / e, val__real_fid=0.4)
            | {"train/discriminator/real_score": 0.6, "train/discriminator/fake_score": 0.4}
            | {"train/discriminator/grad_norm": 1.0, "train/generator/grad_norm": 2.0, "val/rarest_class": 0.05}
            for e in (1, 2, 3)
        ],
        "-val/fid",
    ),
    "without a judge": (
        [row(e, train__discriminator__loss=1.3, train__generator__loss=0.8, val__checkerboard=3.0) for e in (1, 2)],
        "step",
    ),
    "zero": ([row(e, train__loss=0.0, val__loss=0.0, train__grad_norm=0.0) for e in (1, 2)], "-val/loss"),
    "by layer": ([row(e, train__grad_norm=1.0) | {"train/grad_norm/model.0.weight": 0.5} for e in (1, 2)], "-val/loss"),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_run_has_its_picture(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    rows, monitor = RUNS[name]
    picture = curves(rows, monitor, "lenet5 on $digits^, seed 0", "epoch 1")
    assert picture.size == (1265, 726)
    assert len(set(picture.convert("L").get_flattened_data())) > 20, "empty"
    assert capfd.readouterr() == ("", "")


def test_the_best_epoch_is_the_one_that_the_run_keeps() -> None:
    """Against the loop's own rule, over all orders of values that tie or are not numbers."""
    for monitor, values in itertools.product(
        ("val/accuracy", "-val/loss"), itertools.product((0.5, 0.7, math.nan, None), repeat=4)
    ):
        name = monitor.lstrip("-")
        rows = [{"epoch": e} | ({} if v is None else {name: v}) for e, v in enumerate(values, start=1)]
        kept = None
        for one in rows:
            if name in one and is_better(monitor, one, kept):
                kept = {"epoch": one["epoch"], "value": one[name]}
        found = module._best(rows, monitor)
        assert (None if found is None else found["epoch"]) == (None if kept is None else kept["epoch"])


def test_lines_go_on_over_epochs_without_evaluation_and_break_where_numbers_are_not_finite() -> None:
    rows = [row(1, val__loss=1.0), row(2), row(3, val__loss=math.inf), row(4, val__loss=2.0)]
    x, y = module._points(rows, "val/loss")
    assert x == [1, 3, 4]
    assert [y[0], y[2]] == [1.0, 2.0]
    assert math.isnan(y[1])


def test_lines_of_one_update_and_of_several() -> None:
    one = [row(1, train__loss=1.0, train__grad_norm=1.0) | {"train/grad_norm/model.0.weight": 0.5}]
    assert module._of_training(one, "loss") == {"train": "train/loss"}
    assert module._of_training(one, "grad_norm", single="") == {"": "train/grad_norm"}
    two = [row(1, train__critic__loss=1.0, train__generator__loss=1.0)]
    assert module._of_training(two, "loss") == {"critic": "train/critic/loss", "generator": "train/generator/loss"}


def panels(rows: list[Row], monitor: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, list[float]]]:
    """Title of each panel, with what its lines show by their labels."""
    found: dict[str, dict[str, list[float]]] = {}
    real = module.draw

    def watched(width: float, height: float, fill: Any, **layout: Any) -> Image.Image:
        def filled(figure: Any) -> None:
            fill(figure)
            for axes in figure.axes:
                lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_label()[0] != "_"}
                found[axes.get_title(loc="left")] = lines

        return real(width, height, filled, **layout)

    monkeypatch.setattr(module, "draw", watched)
    curves(rows, monitor)
    return found


def test_two_networks_are_shown_by_both_losses_their_scores_and_fid_beside_real_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, monitor = RUNS["two networks"]
    found = panels(rows, monitor, monkeypatch)
    assert found["loss"] == {"discriminator": [1.3] * 3, "generator": [0.8] * 3}
    assert found["FID, validation"] == {"generated": [90, 45, 30], "real images": [0.4] * 3}
    assert found["discriminator's scores"] == {"real images": [0.6] * 3, "generated": [0.4] * 3}
    assert found["gradient norm"] == {"discriminator": [1.0] * 3, "generator": [2.0] * 3}
    assert "learning rate" in panels(classifier(3), "val/accuracy", monkeypatch)


def test_nothing_in_the_users_surroundings_disturbs(tmp_path: Path) -> None:
    """No folder to write to, a backend that is not there, settings of the user's own: same picture, no word."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nnonsense: 3\nlines.linewidth: 40\n")
    code = (
        "import sys, os, hashlib; from dltrain.report.curves import curves;"
        "picture = curves([{'epoch': 1, 'step': 1, 'train/loss': 1.0}], '-val/loss', 'a');"
        "assert os.environ.get('MPLBACKEND') == sys.argv[1] and 'MPL_IGNORE_SYSTEM_FONTS' not in os.environ;"
        "print(hashlib.sha256(picture.tobytes()).hexdigest())"
    )
    rough = {"MPLBACKEND": "nonsense", "MPLCONFIGDIR": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "LC_ALL": "C"}
    command = [sys.executable, "-c", code, "nonsense"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | rough, capture_output=True, text=True)
    here = curves([{"epoch": 1, "step": 1, "train/loss": 1.0}], "-val/loss", "a")
    assert (done.stderr, done.stdout.strip()) == ("", hashlib.sha256(here.tobytes()).hexdigest())


def test_a_figure_is_quick() -> None:
    """Not a benchmark: what is meant to take a fifth of a second does not take many times that."""
    curves(classifier(2), "val/accuracy")  # imports
    began = time.process_time()
    curves(classifier(20), "val/accuracy")
    plots.confusion(counts(10), [str(i) for i in range(10)])
    assert time.process_time() - began < 2


def test_pictures_are_pixels_of_their_own() -> None:
    picture = plots.confusion(counts(2), ["a", "b"])
    assert isinstance(picture, Image.Image)
    picture.putpixel((0, 0), (1, 2, 3))
    assert plots.confusion(counts(2), ["a", "b"]).getpixel((0, 0)) == (255, 255, 255)
