"""Masks in colours that are told apart, what is ignored in stripes, errors in red; and classes of pixels in words."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from dltrain.config.spec import IGNORED, DataSpec, Target
from dltrain.report import plots
from dltrain.report.masks import Looked, mask_sheet
from dltrain.report.palette import coloured, errors, overlaid, palette, seen_in, with_legend
from dltrain.report.sheet import WRONG
from dltrain.report.table import metric, rank, spoken
from dltrain.report.values import MOST_CLASSES, of_each_class

NAMES = ("ground", "cell", "a\x1b[31m\nname")


def lab(colours: np.ndarray) -> np.ndarray:
    """CIELAB (1976) of (N, 3) sRGB colours under D65."""
    linear = colours / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(f > (6 / 29) ** 3, np.cbrt(f), f / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize(("classes", "least"), [(2, 60), (11, 25), (21, 14)])
def test_colours_of_classes_are_told_apart(classes: int, least: float) -> None:
    """By their distance in CIELAB, of which 2.3 is just noticed side by side."""
    colours = lab(palette(classes).astype(float))
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(colours, 2)) > least


def test_a_class_keeps_its_colour_and_255_classes_have_one_each() -> None:
    assert np.array_equal(palette(30)[:5], palette(5))
    assert len(np.unique(palette(255), axis=0)) == 255


def test_masks_are_coloured_by_class_and_ignored_pixels_striped() -> None:
    mask = np.array([[0, 1, 2], [IGNORED] * 3], dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    drawn = coloured(mask, 3)
    assert np.array_equal(drawn[0, ::8], palette(3))
    assert len(np.unique(drawn[8:].reshape(-1, 3), axis=0)) == 2
    image = Image.fromarray(np.full(mask.shape, 100, dtype=np.uint8))
    assert np.asarray(overlaid(image, mask, 3))[0, 0].tolist() == [round(0.55 * 34 + 0.45 * 100)] * 3


def test_errors_are_wrong_pixels_alone() -> None:
    truth = np.array([[0, 1, IGNORED, 1]], dtype=np.uint8)
    drawn = np.asarray(errors(Image.fromarray(np.zeros((1, 4), dtype=np.uint8)), truth, np.array([[1, 1, 0, 0]])))
    assert [tuple(pixel) == WRONG for pixel in drawn[0].tolist()] == [True, False, False, True]


def test_classes_that_are_seen() -> None:
    assert seen_in([np.array([[0, 2]]), np.array([[2, 2]])], 4) == ([0, 2], False)
    assert seen_in([np.array([[1, IGNORED]])], 4) == ([1], True)


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (160, 30), (3, 160)])
def test_sheets_hold_pictures_of_all_sizes(size: tuple[int, int]) -> None:
    g = np.random.default_rng(0)
    masks = [g.integers(0, 3, size).astype(np.uint8) for _ in range(2)]
    image = Image.fromarray(g.integers(0, 256, (*size, 3)).astype(np.uint8))
    looks = [Looked(image, masks[0], masks[1], "a caption that is longer than the four pictures are wide" * 3)] * 5
    page = mask_sheet(looks, NAMES, "title")
    other = mask_sheet([look._replace(answer=masks[0]) for look in looks], NAMES, "title")
    assert page.mode == "RGB"
    assert page.size == other.size or max(size) == 1
    assert np.asarray(page).tobytes() != np.asarray(other).tobytes() or np.array_equal(*masks)
    with pytest.raises(ValueError, match="at least one"):
        mask_sheet([], NAMES)


def test_a_legend_folds_and_keeps_the_page() -> None:
    page = Image.new("RGB", (300, 40), (1, 2, 3))
    names = [f"class number {k}" for k in range(40)]
    few, many = (with_legend(page, names, range(n), is_ignored=True, is_wrong=True) for n in (1, 40))
    assert few.width == many.width == 300
    assert many.height > few.height + 5 * 17
    assert np.array_equal(np.asarray(many)[:40], np.asarray(page))


def test_pixels_in_the_confusion_matrix_are_shares_of_their_row() -> None:
    assert [plots._in_percent(share) for share in (0.123, 0.0004, 1.0, 0.9999)] == ["12.3", "<0.1", "100", "99.9"]
    counts = np.array([[8_000_000, 2, 0], [200, 800, 0], [0, 0, 0]])
    images, pixels = plots.confusion(counts, NAMES), plots.confusion(counts, NAMES, of="pixels")
    assert images.size == pixels.size
    assert np.asarray(images).tobytes() != np.asarray(pixels).tobytes()


SPEC = DataSpec("cells", (1, 8, 8), Target.mask, NAMES, {"train": 4, "val": 2}, (0.1,), (0.5,), ignore_index=IGNORED)


def test_classes_of_pixels_in_words() -> None:
    metrics = {"val/iou/ground": 0.5, "val/dice/ground": 0.66667, "val/mean_iou": 0.5, "test/iou/cell": 1.0}
    assert of_each_class(metrics, SPEC, "val") == [
        ("ground", "IoU 50.0 %   Dice 66.7 %"),
        ("cell", "no pixels in val"),
        ("a\\x1b[31m\\nname", "no pixels in val"),
    ]
    of_images = dataclasses.replace(SPEC, target=Target.classes)
    assert of_each_class(metrics, of_images, "val") == []
    many = dataclasses.replace(SPEC, class_names=tuple(map(str, range(40))))
    rows = of_each_class({}, many, "val")
    assert len(rows) == MOST_CLASSES + 1
    assert rows[-1] == ("…", "and 8 more in results.json")


def test_mean_iou_comes_first_and_shares_are_in_percent() -> None:
    names = ["test/loss", "test/pixel_accuracy", "test/mean_dice", "test/mean_iou"]
    assert sorted(names, key=rank) == ["test/mean_iou", "test/mean_dice", "test/pixel_accuracy", "test/loss"]
    assert [spoken(name) for name in names] == ["test loss", "test pixel accuracy", "test mean Dice", "test mean IoU"]
    assert {metric(name, 0.5) for name in (*names[1:], "val/iou/cell", "val/dice/cell")} == {"50.0 %"}
