"""Shares of classes, their entropy, and when a class counts as lost."""

import math

import pytest
import torch

from dltrain.measuring import modes


def test_shares_and_entropy() -> None:
    classes = torch.tensor([0, 0, 2, 1])
    assert modes.shares(classes, 4) == [0.5, 0.25, 0.25, 0]
    assert modes.entropy([0.5, 0.25, 0.25, 0]) == pytest.approx(1.5 * math.log(2) / math.log(4), abs=1e-12)
    assert modes.entropy([0.1] * 10) == pytest.approx(1, abs=1e-12)
    assert modes.entropy([1, 0, 0]) == 0
    assert modes.entropy([1.0]) == 0


def test_a_class_is_lost_below_a_fifth_of_what_real_images_have_of_it() -> None:
    even = [0.25] * 4
    assert modes.lost([0.049, 0.051, 0.4, 0.5], even, 1000) == [0]
    assert modes.lost([0, 0, 0.5, 0.5], even, 39) == []  # with fewer than ten expected, nothing is said
    assert modes.lost([0, 0, 0.5, 0.5], even, 40) == [0, 1]
    rare = [0.01, 0.33, 0.33, 0.33]  # among the real images too
    assert modes.lost([0.005, 0.3, 0.3, 0.395], rare, 10_000) == []
    assert modes.lost([0.0, 0.3, 0.3, 0.4], [0.0, 0.3, 0.3, 0.4], 10_000) == []


def test_the_note_names_them_and_what_to_try() -> None:
    names = ["zero", "one\n", "two"]
    text = modes.lost_note([0.0, 0.01, 0.99], [1 / 3] * 3, 500, names, ["task.r1=10", "optim.lr=0.1"])
    assert text.startswith("2 of 3 classes are as good as lost among the samples: zero, one\\n.")
    assert text.endswith("If that stays so, try task.r1=10 or optim.lr=0.1")
    assert modes.lost_note([1 / 3] * 3, [1 / 3] * 3, 500, names, ["task.r1=10"]) == ""


@pytest.mark.parametrize("k", [2, 10, 100])
def test_the_bars_are_drawn(k: int) -> None:
    names = [f"class {i} $x^2$" for i in range(k)]
    picture = modes.bars([1 / k] * k, [1 / k] * k, names, "LeNet-5")
    assert picture.mode == "RGB"
    assert picture.width < 1600
