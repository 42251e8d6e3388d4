"""Attention over images: colours are the weights, an even map is even, and nothing overlaps."""

import numpy as np
import pytest
from PIL import Image

from dltrain.report.heatmaps import CONTRAST, OVER, PLASMA, Layer, colours, heatmaps, overlay, relative, span


def grey(height: int = 28, wide: int = 28, value: int = 100) -> Image.Image:
    return Image.new("L", (wide, height), value)


def pale(grey: float) -> float:
    return 127.5 + CONTRAST * (grey - 127.5)


def test_colours_are_matplotlibs_plasma_and_brighter_the_larger() -> None:
    from matplotlib import colormaps

    shares = np.linspace(0, 1, 101)
    theirs = np.asarray(colormaps["plasma"](shares))[:, :3] * 255
    assert np.abs(colours(shares) - theirs).max() < 6
    light = colours(shares) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()


@pytest.mark.parametrize("weight", [1 / 64, 0.5, 1.0, 1e-30])
def test_an_even_map_is_one_colour_over_an_even_image(weight: float) -> None:
    """Softmax weights, a gate that is half open, one that is open; rounding makes no pattern."""
    noise = np.random.default_rng(0).normal(1, 1e-6, (8, 8))
    pixels = np.asarray(overlay(grey(), weight * noise)).reshape(-1, 3)
    assert np.ptp(pixels, axis=0).max() == 0
    expected = OVER * np.array(PLASMA[-1]) + (1 - OVER) * pale(100)
    assert np.abs(pixels[0] - expected).max() <= 1


def test_a_pixel_is_its_positions_colour_over_the_images_grey() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))
    weights = rng.random((3, 4))
    found = np.asarray(overlay(image, weights))
    dim = np.asarray(image.convert("L"))
    for y in range(10):
        for x in range(12):
            heat = colours(np.array(weights[y * 3 // 10, x * 4 // 12] / weights.max()))
            assert np.abs(found[y, x] - (OVER * heat + (1 - OVER) * pale(dim[y, x]))).max() <= 0.5


def test_weights_are_seen_from_0_to_the_largest() -> None:
    assert relative(np.array([[0.0, 1], [2, 4]])).tolist() == [[0, 0.25], [0.5, 1]]
    assert relative(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    assert relative(np.array([[np.nan, 1], [np.inf, -3]])).tolist() == [[0, 1], [0, 0]]
    assert span(np.array([[0.1, 0.1], [0.1, 0.7]])) == "0.4 to 2.8"
    assert span(np.array([[0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]])) == "0.0 to 12"
    assert span(np.full((7, 7), 1 / 49, dtype=np.float32)) == "1.0 to 1.0"
    assert span(np.zeros((2, 2))) == "all 0"
    assert span(np.array([[np.nan, 1.0]])) == "not finite"


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (224, 224), (60, 200), (400, 30), (1, 1), (2, 700), (64, 3)])
@pytest.mark.parametrize("layers", [1, 3, 6])
def test_any_size_and_number_fits(size: tuple[int, int], layers: int) -> None:
    maps = [Layer(f"layer{n}", np.random.default_rng(n).random((8, 7, 7))) for n in range(layers)]
    page = heatmaps([grey(*size)] * 8, maps, ["a\t99 %\ntrue b\t1 %"] * 8, [True, False] * 4, "title")
    assert page.width <= 1500
    near_edge = np.asarray(page.convert("L"))
    assert near_edge[:, -10:].min() > 128
    assert near_edge[-8:].min() > 128


def test_many_lines_of_words_beside_a_low_image_do_not_reach_the_next() -> None:
    """The six lines of one image end above those of the next: some rows of pixels between them are white."""
    words = "\n".join(f"value {n} 0.123 / 0.456" for n in range(6))
    page = heatmaps([grey(10, 200)] * 2, [Layer("x", np.ones((2, 3, 3)))] * 6, [words] * 2)
    beside = np.asarray(page.convert("L"))[75:, :150].min(axis=1) < 200
    blocks = np.flatnonzero(np.diff(beside.astype(int)) == 1)
    gaps = np.diff(np.flatnonzero(beside))
    assert len(blocks) >= 12
    assert gaps.max() > 8


def test_hostile_names_are_spelled_out_and_wrong_numbers_refused() -> None:
    heatmaps([grey()], [Layer("a\x1b[31m\n" * 9, np.ones((1, 2, 2)))], ["\x1b]0;t\x07\nкот"], [None], "\x1b" * 40)
    for images, maps, captions in (([], 0, []), ([grey()], 1, []), ([grey()], 2, ["a"])):
        with pytest.raises(ValueError, match="images"):
            heatmaps(images, [Layer("x", np.ones((maps, 2, 2)))], captions)
