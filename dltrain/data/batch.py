"""What both loaders end in and every task learns from."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images as the model sees them (float, normalized), with their targets and sample numbers."""

    images: Tensor  # (B, C, H, W)
    targets: Tensor | None  # (B,) classes | (B, K) shares of classes, or values | (B, H, W)
    ids: Tensor  # (B,) int64: what is random about a sample is drawn by it; see `Data.samples` for its number
