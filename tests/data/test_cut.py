"""Cutting by groups: none is ever parted, and shares are met as nearly as groups allow."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dltrain.config import data
from dltrain.config.messages import Mistake
from dltrain.data.cut import by_groups, complete, cut, fold_of, ranks, refuse_small
from dltrain.data.imageset import Numbers


def grouped(seed: int, groups: int, classes: int, largest: int = 8) -> tuple[Numbers, Numbers]:
    """Labels and groups of some samples, of groups of one class mostly."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, largest + 1, groups)
    of = np.repeat(np.arange(groups), sizes)
    main = draw.integers(0, classes, groups)[of]
    labels = np.where(draw.random(len(of)) < 0.2, draw.integers(0, classes, len(of)), main)
    mixed = draw.permutation(len(of))
    return labels[mixed].astype(np.int64), of[mixed].astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(1, 5))
def test_no_group_is_parted_and_nothing_is_lost(seed: int, groups: int, classes: int) -> None:
    labels, of = grouped(seed, groups, classes)
    numbers = np.arange(len(labels)) * 3 + 7
    parts = cut(numbers, labels, ranks(seed, numbers.tolist()), {"val": 0.2, "test": 0.3}, of)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == numbers.tolist()
    assert all(len(part) for part in parts.values())
    where = [set(of[(part - 7) // 3].tolist()) for part in parts.values()]
    assert not any(a & b for a, b in itertools.combinations(where, 2))


def test_shares_and_classes_are_met_with_many_groups() -> None:
    labels, of = grouped(3, 400, 4)
    parts = cut(np.arange(len(labels)), labels, ranks(0, range(len(labels))), {"val": 0.1, "test": 0.2}, of)
    for label in range(4):
        total = (labels == label).sum()
        for name, share in {"val": 0.1, "test": 0.2, "train": 0.7}.items():
            assert abs((labels[parts[name]] == label).sum() / total - share) < 0.01


@pytest.mark.parametrize("seed", range(20))
def test_few_groups_come_close_to_the_best_of_all_ways(seed: int) -> None:
    """The oracle tries every way to put eight groups into three parts."""
    labels, of = grouped(seed, 8, 2, largest=5)
    shares = {"val": 0.25, "test": 0.25, "train": 0.5}
    counts = np.stack([[((of == g) & (labels == c)).sum() for c in range(2)] for g in range(8)])
    counts = np.concatenate([counts, counts.sum(1, keepdims=True)], 1)

    def cost(ways: Numbers) -> Any:
        """Of ways (W, 8), the part of each group: the sum of (count - wanted)^2 / wanted of classes and of all."""
        held = np.einsum("wgp,gc->wpc", np.eye(3)[ways], counts)
        wanted = np.outer(list(shares.values()), counts.sum(0))
        return ((held - wanted) ** 2 / wanted).sum((1, 2))

    ways = np.array([way for way in itertools.product(range(3), repeat=8) if set(way) == {0, 1, 2}])
    found = by_groups(labels, ranks(seed, range(len(labels))), shares, of)
    ours = np.array([[next(p for p, part in enumerate(found.values()) if g in of[part]) for g in range(8)]])
    assert cost(ways).min() <= cost(ours)[0] + 1e-9
    assert (cost(ways) < cost(ours)[0] - 1e-9).mean() < 0.01


def test_the_cut_follows_the_seed_and_not_the_order_or_the_names_of_groups() -> None:
    labels, of = grouped(5, 60, 3)
    numbers = np.arange(len(labels))
    first, again, other = (
        cut(numbers, labels, ranks(seed, numbers.tolist()), {"val": 0.2}, groups)["val"].tolist()
        for seed, groups in ((1, of), (1, 1000 - of), (2, of))
    )
    assert first == again
    assert first != other


def test_one_group_of_all_but_two_samples_leaves_no_part_empty() -> None:
    of = np.array([0] * 30 + [1, 2])
    parts = cut(np.arange(32), np.zeros(32, np.int64), ranks(0, range(32)), {"val": 0.4, "test": 0.4}, of)
    assert sorted(map(len, parts.values())) == [1, 1, 30]


def test_values_and_no_targets_are_cut_by_share_alone() -> None:
    for targets in (np.zeros((50, 2), np.float32), np.zeros((50, 0), np.float32)):
        parts = cut(np.arange(50), targets, ranks(0, range(50)), {"val": 0.1, "test": 0.2})
        assert {name: len(part) for name, part in parts.items()} == {"val": 5, "test": 10, "train": 35}
        with pytest.raises(Mistake, match=r"too few images to split in all images \(2\)"):
            refuse_small("here", targets[:2], [], {"val": 0.1, "test": 0.2})


def test_too_few_groups_are_a_mistake() -> None:
    with pytest.raises(Mistake, match="2 groups cannot be cut into 3 parts"):
        refuse_small(
            "here", np.zeros(9, np.int64), ["a"], {"val": 0.1, "test": 0.2}, np.array([1, 1, 1, 4, 4, 4, 4, 4, 4])
        )


def test_what_a_set_lacks_is_completed_and_what_it_has_is_kept() -> None:
    settings_ = data.Cut(val_share=0.1, test_share=0.2)
    targets = np.arange(60) % 2
    some = {"train": np.arange(40), "val": np.arange(40, 60)}
    for found, counts, says in (
        ({"train": np.arange(60)}, {"train": 42, "val": 6, "test": 12}, "val and test cut from the images"),
        (
            {"train": np.arange(40), "test": np.arange(40, 60)},
            {"train": 36, "val": 4, "test": 20},
            "val cut from train",
        ),
        (some, {"train": 40, "val": 20}, "no test"),
    ):
        splits, notes = complete(settings_, found, targets, ["a", "b"], range(60), 0)
        assert {name: len(numbers) for name, numbers in splits.items()} == counts
        assert says in notes[0]
    for key, groups in (("seed and class", None), ("seed and group", np.arange(60) // 3)):
        assert key in complete(settings_, {"train": np.arange(60)}, targets, ["a", "b"], range(60), 0, groups)[1][0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 4))
def test_folds_differ_by_one_image_at_most_in_all_and_in_each_class(seed: int, folds: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, draw.integers(folds, 80))
    fold = fold_of(labels, ranks(seed, range(len(labels))), folds)
    for of in (labels >= 0, *(labels == label for label in range(classes))):
        sizes = np.bincount(fold[of], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_folds_by_group_part_none() -> None:
    labels, of = grouped(1, 50, 3)
    fold = fold_of(labels, ranks(0, range(len(labels))), 5, of)
    assert all(len(np.unique(fold[of == group])) == 1 for group in np.unique(of))
    sizes = np.bincount(fold)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 4
