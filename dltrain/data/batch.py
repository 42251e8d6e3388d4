"""What both loaders end in and every task learns from."""

from typing import NamedTuple, Self

from torch import Tensor


class Batch(NamedTuple):
    """Images as the model sees them (float, normalized), with their targets and sample numbers."""

    images: Tensor  # (B, C, H, W)
    targets: Tensor | None  # (B,) classes | (B, K) shares of classes, or values | (B, H, W) uint8 masks
    ids: Tensor  # (B,) int64: what is random about a sample is drawn by it; see `Data.samples` for its number
    borders: Tensor | None = (
        None  # (B, H, W) float32, of a task that weighs borders: 1 where two cells touch, 0 far off
    )

    def part(self, rows: slice) -> Self:
        """Some of the samples."""
        images, targets, ids, borders = self
        return self._replace(
            images=images[rows],
            targets=None if targets is None else targets[rows],
            ids=ids[rows],
            borders=None if borders is None else borders[rows],
        )
