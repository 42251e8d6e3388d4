"""The lecture pages: every command in them runs, one after another, as a student types it but for its length."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from dltrain.cli import main
from dltrain.data.digits_pose import open_digits_pose
from dltrain.run import Run

LECTURE = Path(__file__).parents[1] / "docs" / "lecture"
PAGES = sorted(LECTURE.glob("*.md"))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(LECTURE))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, LECTURE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def shortened(words: list[str]) -> list[str]:
    """One epoch of large batches, two values of each sweep: the same keys, so that what is typed is what is checked."""
    short = []
    adversarial = not {"model=dcgan", "experiment=digits_dcgan"}.isdisjoint(words)
    for word in words:
        key, _, value = word.partition("=")
        if key == "trainer.epochs":
            value = "1"
        elif key == "model.base_channels" and adversarial:
            value = "2"
        elif key == "trainer.batch_size" and adversarial:
            value = "500"
        elif key in ("seed", "model.widths", "model.up", "data.values", "task.loss"):
            once = key == "seed" and "data=digits_pose" not in words  # else its runs alone are nothing to compare
            value = ",".join(value.split(",")[: 1 if once else 2])
        short.append(f"{key}={value}" if value else word)
    if adversarial:
        short += ["task.samples=20", "task.judge=none"]
    if "experiment=digits_dcgan" in words:
        short += ["model.base_channels=2", "trainer.batch_size=500", "trainer.epochs=1"]
    if "data=digit_scenes" in words:
        short += ["data.train_scenes=32", "data.size=32", "trainer.batch_size=16"]
    keys = {word.partition("=")[0] for word in short}
    if "-m" in words:
        short += [
            word
            for word in ("trainer.epochs=1", "trainer.batch_size=1000", "trainer.threads=1", "log=quiet")
            if word.partition("=")[0] not in keys
        ]
    return short


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_run_one_after_another(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = script("make").commands(page)
    assert len(lines) >= 4
    for words in lines:
        if words[0] == "python":
            assert (LECTURE.parents[1] / words[1]).parent == LECTURE
            script(Path(words[1]).stem).main(Path(words[2]))
            continue
        assert words[0] == "dltrain"
        assert main(shortened(words[1:])) == 0, (words, capsys.readouterr().err)
    trained = [word.partition("=")[2] for words in lines for word in words if word.startswith("output=")]
    assert trained
    for output in trained:
        assert (Path(output) / "sweep.csv").is_file()
        for run in (Run(path) for path in Path(output).iterdir() if path.is_dir()):
            metrics = run.results()["metrics"]
            if "test/checkerboard" in metrics:
                assert 0 <= metrics["test/real_score"] <= 1
                continue
            assert (metrics["test/mean_iou"] if "test/mean_iou" in metrics else metrics["test/r2"]) < 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, part = target.partition("#")
        assert (page.parent / file).is_file(), target
        titles = (
            re.findall(r"^#+ (.*)$", (page.parent / file).read_text(encoding="utf-8"), re.MULTILINE) if part else []
        )
        heads = [title.lower().replace(" ", "-") for title in titles] or [""]
        assert part in heads, target
    assert not re.search(r"\b[A-Z]{6,}\b", text)  # nothing left to be filled in


def test_the_functions_are_what_the_page_says() -> None:
    functions = script("functions")
    x, y = np.random.default_rng(0).random((2, 100))
    relu = lambda z: np.maximum(z, 0)  # noqa: E731
    four = relu(2 * x - 1) + relu(1 - 2 * x) + relu(2 * y - 1) + relu(1 - 2 * y)
    assert np.allclose(functions.tents(x, y), four)
    functions.main(Path())
    with np.load("wave.npz", allow_pickle=False) as file:
        pixels, values = file["test_images"], file["test_values"]
    assert pixels.shape == (4096, 1, 2)
    expected = np.sin(2 * np.pi * pixels[:, 0, 0] / 255) * np.cos(2 * np.pi * pixels[:, 0, 1] / 255)
    assert np.allclose(values, expected, atol=1e-6)


def test_the_cells_of_the_page_touch() -> None:
    """Each mask holds several cells, and lines of ground between them that the image hardly shows."""
    drawn = [script("cells").cells(np.random.default_rng(seed)) for seed in range(50)]
    image, mask = (np.stack(kind) for kind in zip(*drawn, strict=True))
    line = (mask == 0) & (ndimage.binary_closing(mask, np.ones((1, 3, 3))) == 1)
    counts = [ndimage.label(one)[1] for one in mask]
    assert np.mean(counts) > 8
    assert 0.02 < line.mean() < 0.15
    levels = [image[where].mean() for where in (mask == 1, line, (mask == 0) & ~line)]
    assert levels[2] < levels[1] < levels[0] < levels[1] + 2 * script("cells").NOISE
    closed = [ndimage.label(one)[1] for one in mask | line]
    assert np.mean(closed) < 0.5 * np.mean(counts)  # without the lines they hang together


def test_only_transposed_convolutions_begin_with_a_checkerboard() -> None:
    """What the page's first table of scores says, each kind of up-sampling before its first step of training."""
    gan = script("gan")
    scores = {up: gan.excess(gan.spectrum(gan.torch.from_numpy(gan.untrained(up, 0))[:, None])) for up in gan.UPS}
    assert scores["transpose"] > 10
    assert max(scores["resize"], scores["pixelshuffle"]) < 0


def test_the_variances_in_the_table_are_those_of_the_training_set() -> None:
    from dltrain.config.data import DigitsPose

    spec = open_digits_pose(DigitsPose(), None, 0, print).spec
    text = (LECTURE / "more-outputs.md").read_text(encoding="utf-8")
    variances = [std**2 for std in spec.value_std]
    for name, variance in zip(spec.value_names, variances, strict=True):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |") and "%" in line]
        own, share = line.split("|")[2:4]
        assert float(own.split()[0]) == pytest.approx(variance, rel=0.005)
        assert float(share.split()[0]) == pytest.approx(100 * variance / sum(variances), rel=0.03)
