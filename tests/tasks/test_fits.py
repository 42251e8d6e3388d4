"""What a regression shows: which images, which numbers, how they are written."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dltrain.tasks import Batch, fits
from dltrain.tasks.fits import Fits, in_words, side_by_side, written

NAMES, UNITS, STD = ("age", "height"), ("years", ""), (20.0, 0.1)


def to_pixels(images: Tensor) -> Tensor:
    return images.to(torch.uint8)


def looked_at(n: int, size: int, errors: Tensor | None = None) -> Fits:
    """Fits of n images, each of the grey level of its number, in batches of `size`."""
    g = torch.Generator().manual_seed(0)
    values = torch.randn(n, 2, generator=g) * torch.tensor(STD)
    errors = torch.randn(n, 2, generator=g) if errors is None else errors
    images = torch.arange(n)[:, None, None, None].remainder(256).expand(n, 1, 8, 8).float()
    batch = Batch(images, values, torch.arange(n))
    found = Fits(NAMES, UNITS, STD)
    for at in range(0, n, size):
        part = batch.part(slice(at, at + size))
        error = errors[at : at + size]
        answers = (part.targets + error * torch.tensor(STD)).double()
        found.add(part, answers, error.double(), to_pixels)
    return found


def sheets(found: Fits, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[list[int], list[str], str]]:
    """Grey levels, captions and title of each sheet."""
    seen: dict[str, Any] = {}

    def record(images: list[Image.Image], captions: list[str], title: str = "") -> Image.Image:
        seen["now"] = ([image.getpixel((0, 0)) for image in images], captions, title)
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(fits, "sheet", record)
    result = {}
    for name, draw in found.pictures().items():
        if name != "scatter":
            draw()
            result[name] = seen["now"]
    return result


@pytest.mark.parametrize("size", [7, 60])
def test_the_largest_errors_are_shown_the_largest_first(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = torch.zeros(60, 2)
    errors[40], errors[3], errors[11, 1] = torch.tensor([0.0, 3.0]), torch.tensor([2.0, 2.0]), torch.nan
    numbers, captions, title = sheets(looked_at(60, size, errors), monkeypatch)["worst"]
    assert numbers[:3] == [11, 40, 3]  # what is no number is worst; 3 and 0 deviations are more than 2 and 2
    assert captions[0].splitlines()[1].startswith("height nan / ")
    assert title == "the largest errors of 60 images: answer / true value"


def test_the_pictures_do_not_follow_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (sheets(looked_at(100, size), monkeypatch) for size in (9, 100))
    assert first == second
    numbers = first["predictions"][0]
    assert numbers == sorted(numbers)
    assert numbers[0] < 10 < 90 < numbers[-1]
    assert len(numbers) == fits.SHOWN


def test_scatter_has_all_pairs_of_each_output_in_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    from dltrain.report import plots

    seen = []

    def record(targets: np.ndarray, answers: np.ndarray, name: str, title: str = "") -> Image.Image:
        seen.append((len(targets), float(np.abs(answers - targets).max()), name))
        return Image.new("RGB", (4, 4))

    monkeypatch.setattr(plots, "scatter", record)
    looked_at(50, 8, torch.full((50, 2), 2.0)).pictures()["scatter"]()
    assert [(n, name) for n, _, name in seen] == [(50, "age [years]"), (50, "height")]
    assert [far for _, far, _ in seen] == pytest.approx([40.0, 0.2], rel=1e-4)


def test_they_are_drawn_for_any_number_of_outputs() -> None:
    for outputs in (1, 11):
        found = Fits([f"v{k}" for k in range(outputs)], [], [1.0] * outputs)
        zeros = torch.zeros(2, outputs)
        found.add(Batch(torch.zeros(2, 3, 8, 8), zeros, torch.arange(2)), zeros.double(), zeros.double(), to_pixels)
        assert all(draw().width > 50 for draw in found.pictures().values())


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (-12.34, 26, "-12.3"),
        (0.5698, 0.115, "0.570"),
        (1.234, 1.7, "1.23"),
        (41234.5, 9000, "41234"),
        (-0.004, 1.0, "0.00"),
        (3e-9, 1e-7, "0.000000003"),
        (float("nan"), 1.0, "nan"),
        (1e30, 1e29, f"{1e30:.0f}"),
    ],
)
def test_numbers_are_written_to_a_hundredth_of_a_deviation(value: float, std: float, text: str) -> None:
    assert written(value, std) == text


def test_values_in_words() -> None:
    values, targets = torch.tensor([[30.0, 1.75]]), torch.tensor([[31.26, 1.8]])
    assert in_words(values, NAMES, STD) == ["age 30.0\nheight 1.750"]
    assert in_words(values, NAMES, STD, targets) == ["age 30.0 / 31.3\nheight 1.750 / 1.800"]
    many = in_words(torch.zeros(1, 9), [f"v{k}" for k in range(9)], [1.0] * 9)[0].splitlines()
    assert many == [*(f"v{k} 0.00" for k in range(5)), "and 4 more"]


def test_images_side_by_side() -> None:
    images = [Image.new("RGB", (3, 2), (k, 0, 0)) for k in range(5)]
    page = side_by_side(images)
    assert page.size == (9, 4)
    assert page.getpixel((3, 2)) == (4, 0, 0)
    assert page.getpixel((8, 3)) == (255, 255, 255)


def test_looking_reads_nothing_back_to_the_host() -> None:
    meta = torch.device("meta")
    found = Fits(NAMES, UNITS, STD)
    for _ in range(2):
        values = torch.empty(40, 2, device=meta)
        batch = Batch(torch.empty(40, 1, 8, 8, device=meta), values, torch.empty(40, dtype=torch.int64, device=meta))
        found.add(batch, values.double(), values.double(), to_pixels)
