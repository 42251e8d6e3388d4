"""Colour changes against torchvision sample by sample, against colorsys, and bit for bit in any batch."""

import colorsys
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from dltrain.config.data import Augment
from dltrain.data import color
from dltrain.data.augment import BRIGHTNESS, CONTRAST, DRAWS, HUE, SATURATION, augment
from dltrain.engine import random

Change = Callable[[Tensor, Tensor], Tensor]
CHANGES: list[tuple[Change, Callable[[Tensor, float], Tensor], float, float]] = [
    (color.adjust_brightness, V.adjust_brightness, 0, 2),
    (color.adjust_contrast, V.adjust_contrast, 0, 2),
    (color.adjust_saturation, V.adjust_saturation, 0, 2),
    (color.adjust_hue, V.adjust_hue, -0.5, 0.5),
]
NAMES = ["brightness", "contrast", "saturation", "hue"]


def some_images(count: int, channels: int = 3, height: int = 12, width: int = 9) -> Tensor:
    """Random pixels, and corners where formulas change: greys, pure and mixed colours, two equal channels."""
    values = random.uniform(random.key(3, "test"), torch.arange(count), channels * height * width)
    images = (values * 256).floor().reshape(count, channels, height, width)
    if channels == 3:
        corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0, 128.0, 255.0])] * 3)  # (64, 3)
        images[:, :, :7, :9] = corners[:63].T.reshape(3, 7, 9)
    return images


def even(count: int, low: float, high: float) -> Tensor:
    return torch.linspace(low, high, count)


@pytest.mark.parametrize(
    ("change", "channels"),
    [*((change, 3) for change in CHANGES), *((change, 1) for change in CHANGES[:2])],
    ids=[*NAMES, "brightness of grey", "contrast of grey"],
)
def test_each_change_is_torchvisions_sample_by_sample(
    change: tuple[Change, Callable[[Tensor, float], Tensor], float, float], channels: int
) -> None:
    ours, theirs, low, high = change
    images, values = some_images(25, channels), even(25, low, high)
    found = ours(images, values)
    for i in range(25):
        expected = theirs(images[i].double() / 255, float(values[i])) * 255
        assert (found[i] - expected).abs().max() < 2e-3, i
    assert (found.min(), found.max()) == (0, 255)


def test_hue_is_that_of_colorsys_pixel_by_pixel() -> None:
    """The definition, in float64, from the standard library."""
    images = some_images(9)
    turns = even(9, -0.5, 0.5)
    found = color.adjust_hue(images, turns).permute(0, 2, 3, 1)
    for i, image in enumerate(images.permute(0, 2, 3, 1).tolist()):
        for row, found_row in zip(image, found[i].tolist(), strict=True):
            for pixel, mine in zip(row, found_row, strict=True):
                hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
                turned = colorsys.hsv_to_rgb((hue + float(turns[i])) % 1, saturation, value)
                assert max(abs(255 * a - b) for a, b in zip(turned, mine, strict=True)) < 2e-3


def test_no_turn_a_whole_turn_and_a_grey_image_change_nothing() -> None:
    images = some_images(4)
    none = torch.zeros(4)
    assert (color.adjust_hue(images, none) - images).abs().max() < 1e-4
    half = color.adjust_hue(color.adjust_hue(images, none + 0.5), none + 0.5)
    assert (half - images).abs().max() < 1e-3
    grey = images[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(color.adjust_hue(grey, none + 0.3), grey)
    for change in (color.adjust_brightness, color.adjust_contrast, color.adjust_saturation):
        assert (change(images, none + 1) - images).abs().max() < 1e-4


def test_the_changes_come_in_the_order_that_is_stated() -> None:
    """Brightness, contrast, saturation, hue: torchvision's functions one after another, and no other order."""
    images, ids = some_images(6), torch.arange(6)
    cfg = Augment(brightness=0.5, contrast=0.6, saturation=0.7, hue=0.2)
    found = augment(images, ids, 2, 5, cfg)
    s = 2 * random.uniform(random.key(5, "augment", 2), ids, DRAWS) - 1

    def by_torchvision(i: int, order: list[int]) -> Tensor:
        image = images[i].double() / 255
        values = [1 + s[i, BRIGHTNESS] * 0.5, 1 + s[i, CONTRAST] * 0.6, 1 + s[i, SATURATION] * 0.7, s[i, HUE] * 0.2]
        for number in order:
            image = CHANGES[number][1](image, float(values[number]))
        return image * 255

    def difference(order: list[int]) -> float:
        return max(float((found[i] - by_torchvision(i, order)).abs().max()) for i in range(6))

    assert difference([0, 1, 2, 3]) < 2e-3
    for other in ([1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]):
        assert difference(other) > 1


def test_colours_change_on_the_image_as_read_and_its_border_stays_black() -> None:
    images, ids = some_images(8).clamp(min=50), torch.arange(8)
    both = augment(images, ids, 0, 0, Augment(contrast=1.0, rotate=90))
    alone = augment(augment(images, ids, 0, 0, Augment(contrast=1.0)), ids, 0, 0, Augment(rotate=90))
    assert torch.equal(both, alone)
    border = augment(torch.full_like(images, 255), ids, 0, 0, Augment(rotate=90)) == 0
    assert border.any()
    assert not both[border].any()


@pytest.mark.parametrize("size", [(12, 9), (200, 190)])
def test_a_sample_has_the_same_bits_alone_in_any_batch_and_with_any_number_of_threads(size: tuple[int, int]) -> None:
    """Also where one image is large enough that torch shares its reduction out among threads."""
    count = 128 if size[0] == 12 else 9
    images = some_images(count, height=size[0], width=size[1]).mul_(0.37)  # no whole numbers
    cfg, ids = Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5), torch.arange(count) * 1_000_003
    together = augment(images, ids, 3, 9, cfg)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for batch in (1, 7, 128):
            parts = [
                augment(images[i : i + batch], ids[i : i + batch], 3, 9, cfg)
                for i in range(0, count if batch > 1 else 5, batch)
            ]
            found = torch.cat(parts)
            assert torch.equal(found, together[: len(found)]), (threads, batch)


def test_means_are_exact_whatever_the_order_and_float32s_are_not() -> None:
    """What `means` is for: the plain mean follows the batch and the threads."""
    images = some_images(5, height=200, width=190).mul_(0.37)
    exact = color.means(images)
    rounded = images[0, 0].flatten().double().mul(2**15).round().tolist()  # to multiples of 2^-15, at most half of one
    mean = sum((Fraction(int(value), 2**15) for value in rounded), Fraction(0)) / len(rounded)
    assert abs(float(mean) - float(exact[0, 0])) < 2**-15
    orders = [torch.randperm(200 * 190, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    shuffled = [images.flatten(2)[..., order].reshape(images.shape) for order in orders]
    assert all(torch.equal(color.means(other), exact) for other in shuffled)
    assert any(not torch.equal(other.mean((2, 3)), images.mean((2, 3))) for other in shuffled)


def test_portions_whole_numbers_and_float_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    images = some_images(31)
    changes = {name: even(31, 0.2, 0.5) for name in NAMES}
    whole = color.jitter(images, **changes)
    assert whole.dtype == torch.float32
    assert torch.equal(color.jitter(images.to(torch.uint8), **changes), whole)
    for portion in (1, 1000, 10**9):
        monkeypatch.setattr(color, "PORTION", portion)
        assert torch.equal(color.jitter(images, **changes), whole)


@pytest.mark.parametrize("name", NAMES)
def test_strengths_are_reached_and_not_passed(name: str) -> None:
    """Over many samples the factors are even over what is allowed: read off one pixel."""
    count, strength = 4000, 0.4
    pixel = torch.tensor([100.0, 50.0, 50.0]).reshape(1, 3, 1, 1)  # hue 0
    image = torch.cat([pixel, torch.zeros(1, 3, 1, 1)], dim=3) if name == "contrast" else pixel
    out = augment(image.expand(count, -1, -1, -1), torch.arange(count), 0, 0, Augment(**{name: strength}))
    red, green, blue = out[..., 0].squeeze(-1).unbind(1)
    if name == "brightness":
        value = red / 100 - 1
    elif name == "contrast":
        mean = (0.2989 * 100 + 0.587 * 50 + 0.114 * 50) / 2
        value = (red - mean) / (100 - mean) - 1
    elif name == "saturation":
        value = (red - green) / 50 - 1
    else:
        hues = [
            colorsys.rgb_to_hsv(*triple)[0] for triple in zip(red.tolist(), green.tolist(), blue.tolist(), strict=True)
        ]
        value = torch.tensor([hue - 1 if hue > 0.5 else hue for hue in hues])
    assert -strength * 1.001 < value.min() < -0.99 * strength
    assert 0.99 * strength < value.max() < strength * 1.001
    assert abs(value.mean()) < 4 * strength / math.sqrt(3 * count)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_the_same_bits() -> None:
    images = some_images(40)
    for change, _, low, high in CHANGES:
        values = even(40, low, high)
        assert torch.equal(change(images.cuda(), values.cuda()).cpu(), change(images, values))
