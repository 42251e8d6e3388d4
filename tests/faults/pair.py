"""A toy task that needs all that the loop promises: two updates on two modules, one every second step, with a count.

`first` is a classifier with dropout; `second` learns to repeat `first`'s features from noisy ones, over the bright
pixels only, so its mean is over a number of targets that differs between batches.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dltrain.engine import random
from dltrain.tasks import Batch, Evaluation, Picture, Prediction, Scalars, Update


class Pair(nn.Module):
    monitor = "-val/first_loss"

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, 24), nn.Tanh(), nn.Dropout(0.3), nn.Linear(24, classes)
        )
        self.second = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 16), nn.ReLU(), nn.Linear(16, pixels))

    def first_loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        assert batch.targets is not None
        loss = F.cross_entropy(self.first(batch.images).float(), batch.targets)
        return loss, {"loss": loss.detach()}

    def bright(self, batch: Batch) -> Tensor:
        return (batch.images > 0).flatten(1)

    def second_loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        noise = random.draw_normal("noise", batch.ids, tuple(batch.images.shape[1:]))
        out = self.second(batch.images + 0.1 * noise).float()
        error = (out - batch.images.flatten(1)).square() * self.bright(batch)
        loss = error.sum() / self.bright(batch).sum().clamp(min=1)
        return loss, {"loss": loss.detach()}

    def updates(self) -> list[Update]:
        return [
            Update("first", self.first, self.first_loss),
            Update(
                "second",
                self.second,
                self.second_loss,
                every=2,
                lr_scale=0.5,
                count=lambda batch: self.bright(batch).sum().float(),
            ),
        ]

    @torch.inference_mode()
    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        was_training = self.training
        self.eval()
        total, rows = 0.0, 0
        for batch in batches:
            loss, _ = self.first_loss(batch)
            total += float(loss) * len(batch.ids)
            rows += len(batch.ids)
        self.train(was_training)
        return Evaluation({"first_loss": total / rows, "draw": float(torch.rand(()))})

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.first(images).softmax(1))

    def pictures(self, batch: Batch) -> dict[str, Picture]:
        return {}


def use_pair() -> None:
    """Let `mode=train` learn this task, whatever the config says."""
    from dltrain.modes import train

    def build(
        cfg: Any, spec: Any, train_targets: Tensor | None, class_pixels: Tensor | None = None, measures: Any = None
    ) -> Pair:
        c, h, w = spec.shape
        return Pair(c * h * w, spec.num_outputs)

    train.build_task = build  # type: ignore[assignment]
