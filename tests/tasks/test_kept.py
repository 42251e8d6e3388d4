"""Samples that an evaluation keeps: the highest scores whatever the portions, a spread that leaves no class out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dltrain.tasks.kept import Kept, spread


def keep(scores: Tensor, k: int, portion: int) -> tuple[list[float], list[int]]:
    kept, ids = Kept(k), torch.arange(len(scores))
    for part in range(0, len(scores), portion):
        rows_of = ids[part : part + portion]
        kept.add(scores[part : part + portion], lambda rows, ids=rows_of: {"ids": ids[rows]})
    found, fields = kept.read()
    return found.tolist(), fields["ids"].tolist()


@pytest.mark.parametrize("portion", [1, 7, 24, 25, 1000])
@pytest.mark.parametrize("k", [1, 24, 300])
def test_the_highest_are_kept_in_any_portions_of_equal_ones_the_earlier(k: int, portion: int) -> None:
    scores = torch.randint(40, (200,), generator=torch.Generator().manual_seed(k)).float()  # many are equal
    order = np.argsort(-scores.numpy(), kind="stable")[:k]
    assert keep(scores, k, portion) == (scores[order].tolist(), order.tolist())


def test_what_is_not_a_number_is_the_highest_and_nothing_is_lost_behind_infinities() -> None:
    scores = torch.tensor([1.0, -torch.inf, torch.nan, torch.inf, 2.0, -torch.inf])
    assert keep(scores, 6, 2)[1] == [2, 3, 4, 0, 1, 5]


def test_fields_are_taken_for_the_rows_that_stay_alone() -> None:
    kept, taken = Kept(3), []

    def take(rows: Tensor) -> dict[str, Tensor]:
        taken.append(len(rows))
        return {"rows": rows}

    for _ in range(4):
        kept.add(torch.rand(100, generator=torch.Generator().manual_seed(0)), take)
    assert taken == [3, 3, 3, 3]


def test_nothing_seen_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Kept(3).read()


@pytest.mark.parametrize(("first", "last"), [(0, 24), (0, 100), (4000, 5000), (10**6, 10**6 + 10_000)])
def test_the_samples_shown_lie_evenly_over_a_split(first: int, last: int) -> None:
    """By the three-distance theorem: of a range in the order of its classes, every class of ten is there."""
    ids = torch.arange(first, last)
    chosen = sorted(ids[index].item() for index in spread(ids).argsort(descending=True)[:24].tolist())
    gaps = np.diff([first - 1, *chosen, last])
    assert gaps.max() <= 4 * (last - first) / 24
    if last - first >= 100:
        assert chosen != list(range(first, first + 24))
        assert len({(n - first) * 10 // (last - first) for n in chosen}) == 10


def test_looking_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    kept, ids = Kept(3), torch.arange(10, device="meta")
    for _ in range(2):
        kept.add(spread(ids), lambda rows: {"ids": ids.index_select(0, rows)})
