"""What is learned: updates over batches, evaluation and prediction. One file a task."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from PIL.Image import Image
from torch import Tensor, nn

from dltrain.data.batch import Batch as Batch

Scalars = dict[str, Tensor]


@dataclass(frozen=True)
class Update:
    """A named loss and the one module that it moves."""

    name: str  # prefix of its scalars
    module: nn.Module  # what this turn moves, and nothing else
    loss: Callable[[Batch], tuple[Tensor, Scalars]]  # mean over the micro-batch; never calls backward
    every: int = 1  # on steps where step % every == 0
    lr_scale: float = 1.0  # factor on optim.lr
    count: Callable[[Batch], Tensor] | None = None  # number of targets the mean is over; None: rows
    counts: Mapping[str, Callable[[Batch], Tensor]] = field(default_factory=dict)  # of scalars with means over others


class Prediction(NamedTuple):
    """What a task says of a batch of images."""

    values: Tensor  # (B, K) probabilities of the classes, or real values; (B, K, H, W) for each pixel


Picture = Callable[[], Image]  # draws when it is called: what needs matplotlib or waits for the device is done then


class Evaluation(NamedTuple):
    """What a task finds out about itself on a split."""

    metrics: dict[str, float]  # names without the split: "accuracy"
    pictures: dict[str, Picture] = {}  # noqa: RUF012 - "confusion", "worst", …: names of files below pictures/
    frames: dict[str, Picture] = {}  # noqa: RUF012 - drawn at every evaluation and kept: an animated picture each
    notes: tuple[str, ...] = ()  # lines for people, each told once for as long as it holds


class Task(Protocol):
    """An nn.Module that holds its networks: one state_dict, one `.to()`, one EMA copy."""

    monitor: str  # "val/accuracy", "-val/loss" (smaller is better): what `best` means; "step": the last is the best

    def updates(self) -> list[Update]: ...
    def evaluate(self, batches: Iterable[Batch]) -> Evaluation: ...
    def predict(self, images: Tensor) -> Prediction: ...
    def answer(self, outputs: Tensor) -> Tensor: ...  # what predict says, from the network's outputs, of their shape
    def pictures(self, batch: Batch) -> dict[str, Picture]: ...  # of a training batch, as the networks see it
    def state_dict(self) -> dict[str, Any]: ...
