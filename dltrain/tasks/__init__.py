"""What is learned: updates over batches, evaluation and prediction. One file a task."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

Scalars = dict[str, Tensor]


class Batch(NamedTuple):
    """Images as the model sees them (float, normalized), with their targets and sample numbers."""

    images: Tensor  # (B, C, H, W)
    targets: Tensor | None  # (B,) | (B, K) | (B, H, W)
    ids: Tensor  # (B,) sample numbers, int64: what is random about a sample is drawn by its number


@dataclass(frozen=True)
class Update:
    """A named loss and the one module that it moves."""

    name: str  # prefix of its scalars
    module: nn.Module  # what this turn moves, and nothing else
    loss: Callable[[Batch], tuple[Tensor, Scalars]]  # mean over the micro-batch; never calls backward
    every: int = 1  # on steps where step % every == 0
    lr_scale: float = 1.0  # factor on optim.lr
    count: Callable[[Batch], Tensor] | None = None  # number of targets the mean is over; None: rows


class Prediction(NamedTuple):
    """What a task says of a batch of images."""

    values: Tensor  # (B, K) probabilities of the classes, or real values


class Task(Protocol):
    """An nn.Module that holds its networks: one state_dict, one `.to()`, one EMA copy."""

    monitor: str  # "val/accuracy", "-val/loss" (smaller is better): what `best` means; "step": the last is the best

    def updates(self) -> list[Update]: ...
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]: ...  # names without the split: "accuracy"
    def predict(self, images: Tensor) -> Prediction: ...
    def pictures(self, batch: Batch) -> dict[str, Tensor]: ...
    def state_dict(self) -> dict[str, Any]: ...
