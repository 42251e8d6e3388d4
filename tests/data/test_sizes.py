"""`data.size`, padding and resizing."""

import numpy as np
import pytest
from PIL import Image

from dltrain.config import data, model
from dltrain.config.messages import Mistake
from dltrain.data import decode_for, describe
from dltrain.data.imageset import open_set
from dltrain.data.sizes import final_size, fit, pad, parse_size, reach, to_image
from tests.data.conftest import config, picture, quiet


@pytest.mark.parametrize(("text", "size"), [("auto", None), ("96", (96, 96)), ("180x240", (180, 240)), ("1", (1, 1))])
def test_sizes_are_read(text: str, size: tuple[int, int] | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "3x", "x3", "3X4", "3 x 4", "9000", "12x0", "big", "１２", "1e2", "[3,4]"]
)
def test_other_sizes_are_mistakes(text: str) -> None:
    with pytest.raises(Mistake, match="is no image size"):
        parse_size(text)


def test_size_comes_from_the_user_then_the_model_then_the_set() -> None:
    assert final_size("40x50", model.LeNet5().size_for, (28, 28)) == (40, 50)
    assert final_size("auto", model.LeNet5().size_for, (28, 28)) == (32, 32)
    assert final_size("auto", model.MLP().size_for, (28, 28)) == (28, 28)
    assert final_size("auto", None, (28, 28)) == (28, 28)


def test_a_model_asks_for_no_more_than_it_needs() -> None:
    assert model.VGG().size_for((28, 40)) == (32, 40)


def test_padding_puts_the_image_in_the_middle() -> None:
    image = np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3)
    assert pad(image, (3, 6)).tolist() == [[[0, 1, 2, 3, 0, 0], [0, 4, 5, 6, 0, 0], [0] * 6]]


def test_fit_takes_the_largest_centred_part() -> None:
    """Columns are numbered: a wide image loses the same on both sides."""
    columns = np.broadcast_to(np.arange(100, dtype=np.uint8), (40, 100))
    out = fit(Image.fromarray(np.ascontiguousarray(columns)), (20, 20))
    assert out.shape == (1, 20, 20)
    assert out[0, 10, 0] == pytest.approx(30.5, abs=0.6)  # columns 30 to 69 remain, two a pixel
    assert out[0, 10, 19] == pytest.approx(68.5, abs=0.6)


def test_fit_antialiases() -> None:
    """A fine checkerboard becomes even grey, not noise."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    out = fit(Image.fromarray(board), (8, 8))
    assert out.min() >= 120
    assert out.max() <= 136


def test_an_image_of_the_size_is_not_touched() -> None:
    image = picture(30, 20, 1)
    assert np.array_equal(fit(image, (30, 20)), np.asarray(image).transpose(2, 0, 1))
    assert np.array_equal(np.asarray(to_image(fit(image, (30, 20)))), np.asarray(image))


def test_fit_equals_torchvision_where_both_are_defined() -> None:
    """Short side, centre crop, antialias: torchvision on a square image, and on a wide one where nothing is rounded."""
    from torchvision.transforms import v2

    for height, width, side in ((60, 60, 20), (40, 80, 20)):
        image = picture(height, width, 4)
        theirs = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(side)])(image)
        ours = fit(image, (side, side)).transpose(1, 2, 0).astype(int)
        assert np.abs(ours - np.asarray(theirs).astype(int))[:, 1:-1].max() <= 1


def test_known_sets_are_padded_or_resized_and_say_so() -> None:
    small = describe(config(data.Digits(size="20")), quiet)
    assert small.shape == (1, 20, 20)
    assert small.notes[1] == "images resized (largest centred part, antialias) from 28x28 to 20x20"
    mixed = describe(config(data.Digits(size="20x40")), quiet)
    assert (mixed.shape, "resized" in mixed.notes[1]) == ((1, 20, 40), True)
    large = open_set(config(data.Digits(size="40x30")), quiet)
    assert "zero-padded from 28x28 to 40x30" in large.spec.notes[1]
    assert np.array_equal(large.read(3)[:, 6:34, 1:29], open_set(config(data.Digits()), quiet).read(3))
    assert np.array_equal(
        open_set(config(data.Digits(size="20")), quiet).read.everything(quiet)[:2].shape, (2, 1, 20, 20)
    )


def test_reach_is_the_same_for_one_image_as_for_all() -> None:
    images = open_set(config(data.Digits(size="33")), quiet)
    everything = images.read.everything(quiet)
    for number in (0, 2500, 4999):
        assert np.array_equal(everything[number], images.read(number))
    assert reach(images.read(0), (33, 33)) is not None


def test_a_single_picture_is_prepared_as_evaluation_prepares_it() -> None:
    cfg = config(data.Digits(), model.LeNet5())
    images = open_set(cfg, quiet)
    read = decode_for(cfg, images.spec)
    plain = open_set(config(data.Digits()), quiet)
    digit = to_image(plain.read(1234))
    assert np.array_equal(read(digit), images.read(1234))
    assert np.array_equal(read(digit.convert("RGB")), images.read(1234))
    larger = read(digit.resize((280, 280), Image.Resampling.NEAREST))  # goes by way of 28x28
    assert larger.shape == (1, 32, 32)
    assert np.corrcoef(larger.ravel(), images.read(1234).ravel())[0, 1] > 0.95
    assert not larger[:, :2].any()


def test_mean_of_the_wrong_length_is_a_mistake() -> None:
    with pytest.raises(Mistake, match=r"data.mean=\[0.1, 0.2\] has 2 values"):
        describe(config(data.Digits(mean=[0.1, 0.2])), quiet)
