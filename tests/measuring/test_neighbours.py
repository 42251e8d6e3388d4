"""Precision, recall and nearest training images against a brute force that shares no line with them."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dltrain.measuring import neighbours
from dltrain.measuring.neighbours import apart_from_others, nearest, precision_recall, radii

Points = NDArray[np.float64]


def kth(points: Points, k: int) -> list[float]:
    """Distance to the k-th nearest of the others, one pair at a time."""
    found = []
    for i, p in enumerate(points):
        others = sorted(math.dist(p, q) for j, q in enumerate(points) if j != i)
        found.append(others[k - 1])
    return found


def share_covered(points: Points, centres: Points, reach: list[float]) -> float:
    hits = [any(math.dist(p, c) <= r for c, r in zip(centres, reach, strict=True)) for p in points]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_those_of_a_brute_force(k: int) -> None:
    rng = np.random.default_rng(k)
    real, generated = rng.normal(size=(60, 4)), rng.normal(size=(50, 4)) * 0.9 + 1.2
    found = precision_recall(torch.from_numpy(generated), torch.from_numpy(real), k)
    expected = share_covered(generated, real, kth(real, k)), share_covered(real, generated, kth(generated, k))
    assert found == expected
    assert 0 < expected[0] < 1
    assert 0 < expected[1] < 1


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(size=(41, 3)).astype(np.float32)) for _ in range(2))
    pixels = torch.from_numpy(rng.integers(0, 256, (33, 12), dtype=np.uint8))
    among = torch.from_numpy(rng.integers(0, 256, (57, 12), dtype=np.uint8))
    whole = precision_recall(x, y), nearest(pixels, among)
    monkeypatch.setattr(neighbours, "BLOCK", 100)
    parts = precision_recall(x, y), nearest(pixels, among)
    assert parts[0] == whole[0]
    assert all(torch.equal(a, b) for a, b in zip(parts[1], whole[1], strict=True))


def test_lost_modes_lower_recall_and_strange_images_precision() -> None:
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0], [50, 0], [0, 50], [50, 50]])
    real = torch.from_numpy(np.concatenate([rng.normal(size=(50, 2)) + c for c in centres]))
    one = torch.from_numpy(rng.normal(size=(200, 2)))
    precision, recall = precision_recall(one, real)
    assert precision > 0.9
    assert recall < 0.3
    precision, recall = precision_recall(real, one)
    assert precision < 0.3
    assert recall > 0.9
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(one + 1000, real) == (0, 0)


def test_far_from_the_origin_neighbours_are_what_they_are() -> None:
    """In float64 and from a common middle: float32 of the same numbers would know no two of them apart."""
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(40, 5)), rng.normal(size=(40, 5))
    here = precision_recall(torch.from_numpy(generated), torch.from_numpy(real))
    far = precision_recall(torch.from_numpy(generated + 1e6), torch.from_numpy(real + 1e6))
    assert far == here


def test_a_point_is_not_its_own_neighbour_even_among_copies() -> None:
    x = torch.tensor([[0.0], [0.0], [3.0], [7.0]], dtype=torch.float64)
    assert radii(x, 1).tolist() == [0, 0, 9, 16]
    assert radii(x, 3).tolist() == [49, 49, 16, 49]
    assert radii(x, 9).tolist() == radii(x, 3).tolist()  # with fewer others than k, the farthest
    assert radii(x[:1], 3).tolist() == [0]


def test_the_nearest_image_is_the_nearest_and_its_distance_exact() -> None:
    rng = np.random.default_rng(3)
    images, among = (rng.integers(0, 256, (n, 48), dtype=np.uint8) for n in (20, 70))
    among[41] = images[7]
    index, distances, around = nearest(torch.from_numpy(images), torch.from_numpy(among), k=9)
    for row, image in enumerate(images):
        apart = [float(np.sqrt(np.mean((image / 255.0 - other / 255.0) ** 2))) for other in among]
        assert int(index[row]) == int(np.argmin(apart))
        assert float(distances[row]) == pytest.approx(min(apart), rel=1e-12)
        assert float(around[row]) == pytest.approx(np.mean(sorted(apart)[:9]), rel=1e-5)
    assert int(index[7]) == 41
    assert float(distances[7]) == 0


def test_with_fewer_images_than_asked_for_all_of_them_are_around() -> None:
    images, among = torch.tensor([[0, 0]], dtype=torch.uint8), torch.tensor([[0, 0], [51, 51]], dtype=torch.uint8)
    _, distances, around = nearest(images, among)
    assert float(around) == pytest.approx(0.1)
    assert apart_from_others(distances, around).tolist() == [0]


def test_a_plain_grey_image_is_near_to_all_and_a_copy_of_none() -> None:
    """By the distance alone it would count: it is nearer to an image of noise than another image of noise is."""
    rng = np.random.default_rng(4)
    noise = torch.from_numpy(rng.integers(0, 256, (300, 48), dtype=np.uint8))
    among, others = noise[:200], noise[200:]
    grey, copied = torch.full((1, 48), 128, dtype=torch.uint8), among[:1] ^ 1
    found = {name: nearest(images, among) for name, images in (("grey", grey), ("copy", copied), ("other", others))}
    assert found["grey"][1].max() < found["other"][1].min()
    apart = {name: apart_from_others(distances, around) for name, (_, distances, around) in found.items()}
    assert apart["grey"].min() > apart["other"].quantile(0.5)
    assert apart["copy"].max() < 0.05
    assert apart["other"].max() <= 1
    same = torch.zeros(3, 48, dtype=torch.uint8)
    _, distances, around = nearest(same, same)
    assert apart_from_others(distances, around).tolist() == [0, 0, 0]
