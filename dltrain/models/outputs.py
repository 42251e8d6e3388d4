"""What a network gives beside its logits while it trains."""

from typing import NamedTuple

from torch import Tensor


class Outputs(NamedTuple):
    """Of a network with auxiliary heads, in training only; in evaluation it gives the logits alone."""

    logits: Tensor  # (B, num_outputs)
    auxiliary: tuple[Tensor, ...]  # (B, num_outputs) each, learned from the same targets
    weight: float  # of each auxiliary loss beside the main one


def split(outputs: Tensor | Outputs) -> tuple[Tensor, tuple[Tensor, ...], float]:
    """Logits, those of the auxiliary heads if there are any, and the weight of their losses."""
    return (outputs, (), 0.0) if isinstance(outputs, Tensor) else outputs
