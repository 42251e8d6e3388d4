"""What a judge sees of an image is what its own data set would have made of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.config.compose import compose
from dltrain.data import describe
from dltrain.data.sizes import fit, pad
from dltrain.measuring.view import View, channels, resize


def view_of_digits(native: tuple[int, int, int] | None, size: tuple[int, int]) -> View:
    """Of LeNet-5 on the digits, whose images are padded to 32x32."""
    cfg, _ = compose(["model=lenet5", "data=digits"])
    return View(native, size, cfg, describe(cfg, print))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("side", [28, 32, 64, 33])
def test_a_known_sets_border_is_taken_off_and_the_judges_own_put_on(side: int) -> None:
    digits = noise(5, 1, 28, 28).numpy()
    shown = torch.from_numpy(pad(digits, (side, side)))
    seen = view_of_digits((1, 28, 28), (side, side))(shown)
    assert seen.dtype == torch.float32
    assert np.array_equal(seen.numpy(), pad(digits, (32, 32)))


def test_colours_become_grey_as_pillow_makes_them() -> None:
    images = noise(4, 3, 9, 11)
    grey = channels(images, 1)
    for image, found in zip(images, grey, strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert np.array_equal(found[0].numpy(), expected)
    assert torch.equal(channels(grey, 3), grey.repeat(1, 3, 1, 1))


@pytest.mark.parametrize(("own", "size"), [((64, 64), (32, 32)), ((40, 64), (32, 32)), ((28, 28), (48, 48))])
def test_resizing_is_pillows_within_a_grey_level_or_two(own: tuple[int, int], size: tuple[int, int]) -> None:
    images = noise(2, 3, *own).float()
    found = resize(images, size)
    assert torch.equal(found, found.round().clamp(0, 255))
    for image, here in zip(images, found, strict=True):
        pixels = image.to(torch.uint8).permute(1, 2, 0).numpy()
        theirs = fit(Image.fromarray(pixels), size).astype(np.float32)
        apart = np.abs(here.numpy() - theirs)
        # at the sides of a part Pillow's filter reaches into what was cut off
        assert apart[..., 1:-1].max() <= 2
        assert own[0] != own[1] or apart.max() <= 2


def test_images_of_no_known_set_are_brought_to_the_judges_own_size_first() -> None:
    """A judge that learned 28x28 digits in a border of 2 sees large digits of others in that border too."""
    seen = view_of_digits(None, (64, 64))(torch.full((1, 1, 64, 64), 200, dtype=torch.uint8))
    assert torch.equal(seen[0, 0, 2:30, 2:30], torch.full((28, 28), 200.0))
    assert float(seen.sum()) == 200.0 * 28 * 28
