"""Samples that an evaluation keeps to show: those with the highest scores, on the device and without waiting for it."""

from collections.abc import Callable

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as int64


class Kept:
    """The `k` samples with the highest scores so far. Of equal ones the earlier; NaN is the highest."""

    def __init__(self, k: int) -> None:
        self.k = k
        self._scores: Tensor | None = None
        self._fields: dict[str, Tensor] = {}

    def add(self, scores: Tensor, take: Callable[[Tensor], dict[str, Tensor]]) -> None:
        """Look at a batch of (B,) scores; `take(rows)` gives the fields, (R, …) each, of the (R,) rows that may stay.

        So nothing is copied, or computed, for samples that are not kept.
        """
        rows = highest(scores, self.k)
        fields, scores = take(rows), scores.index_select(0, rows)
        if self._scores is not None:
            scores = torch.cat([self._scores, scores])
            fields = {name: torch.cat([self._fields[name], values]) for name, values in fields.items()}
            rows = highest(scores, self.k)
            fields = {name: values.index_select(0, rows) for name, values in fields.items()}
            scores = scores.index_select(0, rows)
        self._scores, self._fields = scores, fields

    def read(self) -> tuple[Tensor, dict[str, Tensor]]:
        """(R,) scores and their fields on the CPU, the highest first: the one place that waits for the device."""
        if self._scores is None:
            raise ValueError("no samples were looked at")
        return self._scores.cpu(), {name: values.cpu() for name, values in self._fields.items()}


def highest(scores: Tensor, k: int) -> Tensor:
    """Numbers of the `k` highest of (N,) scores, the highest first: those of any other portions, device or order of N.

    `topk` leaves open which of equal scores it takes.
    """
    return torch.sort(scores, descending=True, stable=True).indices[:k]


def spread(ids: Tensor) -> Tensor:
    """(B,) int64 scores of sample numbers, the highest of which lie evenly over any range of numbers.

    Fibonacci hashing (Knuth, The Art of Computer Programming 3, section 6.4): the same samples in each evaluation, of
    each run; and of each class some, where the numbers go class by class.
    """
    return ids * GOLDEN
