"""Metrics of generated images, by a judge whose features are known."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dltrain.measuring import measures as module
from dltrain.measuring.fid import Moments, frechet_distance
from dltrain.measuring.judge import Seen
from dltrain.measuring.measures import Measures, evenly

SIDE = 16


class Corners:
    """A judge whose features are the means of an image's quarters, and whose class is the brightest."""

    name, where, weights_sha256 = "Corners", "here", "0" * 64
    width = 4
    class_names = ("a", "b", "c", "d")
    most = 1 << 24

    def __init__(self) -> None:
        self.looked = 0

    def look(self, images: Tensor) -> Seen:
        self.looked += len(images)
        half = SIDE // 2
        features = torch.nn.functional.avg_pool2d(images.float(), half).mean(1).flatten(1)
        return Seen(features, features.argmax(1))


def images(n: int, seed: int, bright: int | None = None) -> Tensor:
    """(n, 1, 16, 16): one of four quarters is bright, each in turn or always the same."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 100, (n, 1, SIDE, SIDE))
    for i in range(n):
        row, column = divmod(i % 4 if bright is None else bright, 2)
        pixels[i, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 100
    return torch.from_numpy(pixels.astype(np.uint8))


def measures(training: Tensor, judge: Any = None, said: list[str] | None = None) -> Measures:
    def go_over() -> Iterator[Tensor]:
        yield from training.split(37)

    return Measures(judge, go_over, len(training), ["optim.lr=1e-4"], [].append if said is None else said.append)


def test_real_images_measure_as_real() -> None:
    training, real, judge = images(400, 1), images(200, 2), Corners()
    found = measures(training, judge).evaluate(real, real)
    metrics = found.metrics
    expected = frechet_distance(*(Moments.of(judge.look(x).features) for x in (training, real)))
    assert metrics["fid"] == metrics["real_fid"] == pytest.approx(expected, rel=1e-9)
    assert metrics["nearest_distance"] == metrics["real_nearest_distance"] > 0.1
    assert metrics["checkerboard"] == metrics["real_checkerboard"]
    assert metrics["precision"] > 0.7
    assert metrics["recall"] > 0.7
    assert [metrics[f"class_share/{name}"] for name in "abcd"] == [0.25] * 4
    assert metrics["rarest_class"] == 0.25
    assert metrics["class_entropy"] == pytest.approx(1)
    assert metrics["copies"] <= 0.02
    assert found.notes == ()
    assert set(found.pictures) == {"modes", "nearest", "checkerboard"}
    assert all(draw().mode == "RGB" for draw in found.pictures.values())


def test_real_fid_is_of_as_many_images_since_few_of_any_kind_lie_far() -> None:
    """Samples of the training set's own distribution: else they would look ten times worse than real ones."""
    training, real = images(4000, 24), images(2000, 25)
    ours = measures(training, Corners())
    few, many = (ours.evaluate(images(n, 26), real).metrics for n in (20, 2000))
    assert few["real_fid"] > 10 * many["real_fid"]
    assert 0.2 < few["fid"] / few["real_fid"] < 5


def test_memory_shows_in_copies_and_distance() -> None:
    training = images(300, 3)
    found = measures(training, Corners()).evaluate(training[:100], images(200, 4)).metrics
    assert found["nearest_distance"] == 0
    assert found["copies"] == 1
    assert found["real_nearest_distance"] > 0.1


def test_memory_shows_where_real_images_have_twins_in_the_training_set() -> None:
    training = images(300, 3)
    real = torch.cat([training[:5], images(195, 4)])
    found = measures(training, Corners()).evaluate(training[:100], real).metrics
    assert found["copies"] == 1
    assert measures(training, Corners()).evaluate(images(100, 5), real).metrics["copies"] == 0


def test_grey_images_are_copies_of_nothing() -> None:
    grey = torch.full_like(images(100, 3), 128)
    assert measures(images(300, 3), Corners()).evaluate(grey, images(200, 4)).metrics["copies"] <= 0.01


def test_a_lost_mode_shows_in_shares_recall_and_a_note() -> None:
    """Of four classes one is left."""
    found = measures(images(400, 5), Corners()).evaluate(images(200, 6, bright=2), images(100, 7))
    assert found.metrics["class_share/c"] == 1
    assert found.metrics["rarest_class"] == found.metrics["class_entropy"] == 0
    assert found.metrics["recall"] < 0.5 < found.metrics["precision"]
    assert found.metrics["fid"] > 100 * found.metrics["real_fid"]
    (note,) = found.notes
    assert "3 of 4 classes are as good as lost among the samples: a, b, d" in note


def test_without_a_judge_there_are_the_pixels_measures() -> None:
    found = measures(images(100, 8)).evaluate(images(50, 9), images(40, 10))
    assert set(found.metrics) == {
        "nearest_distance",
        "real_nearest_distance",
        "copies",
        "checkerboard",
        "real_checkerboard",
    }
    assert set(found.pictures) == {"nearest", "checkerboard"}
    assert found.notes == ()


def test_too_few_samples_for_the_features_are_noted() -> None:
    found = measures(images(100, 11), Corners()).evaluate(images(7, 12), images(40, 13))
    assert "7 samples are few for FID over the 4 features of Corners" in found.notes[0]
    assert "task.samples=8" in found.notes[0]
    assert measures(images(100, 11), Corners()).evaluate(images(8, 12), images(40, 13)).notes == ()


def test_training_and_real_images_are_looked_at_once() -> None:
    judge, real = Corners(), images(30, 14)
    ours = measures(images(200, 15), judge)
    for seed in range(3):
        ours.evaluate(images(20, seed), real)
    assert judge.looked == 200 + 20 + 3 * 20  # as many real images as generated ones
    ours.evaluate(images(20, 4), images(25, 16))  # those of another split
    assert judge.looked == 200 + 20 + 4 * 20 + 20


def test_of_very_many_images_some_are_looked_at_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 50 * SIDE * SIDE)
    monkeypatch.setattr(module, "MOST_FEATURES", 30)
    judge, training, said = Corners(), images(400, 17), []
    monkeypatch.setattr(judge, "most", 120)
    ours = measures(training, judge, said)
    found = ours.evaluate(images(40, 18), images(40, 19)).metrics
    assert judge.looked == 120 + 40 + 40
    known = ours._known
    assert known is not None
    assert torch.equal(known.pixels, evenly(training, 50))
    assert known.moments is not None
    assert known.moments.count == 120
    np.testing.assert_allclose(known.moments.mean, judge.look(evenly(training, 120)).features.double().mean(0))
    assert torch.equal(known.features, judge.look(evenly(evenly(training, 120), 30)).features)
    assert ["50 of 400" in said[0], "120 of 400" in said[1]] == [True, True]
    assert found["fid"] < 200


def test_the_same_measures_serve_a_copy_of_the_task() -> None:
    ours = measures(images(20, 20), Corners())
    holder = torch.nn.Linear(2, 2)
    holder.measures = ours  # type: ignore[assignment]
    assert copy.deepcopy(holder).measures is ours
    assert set(holder.state_dict()) == {"weight", "bias"}


def test_one_sample_and_one_real_image_are_measured() -> None:
    found = measures(images(1, 21), Corners()).evaluate(images(1, 22), images(1, 23)).metrics
    assert all(np.isfinite(value) for value in found.values())
