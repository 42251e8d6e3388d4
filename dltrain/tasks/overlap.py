"""What answered masks are worth, all of it from tables of counts that stay on the device until the end."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dltrain.config.spec import IGNORED
from dltrain.models.blocks import at_least_float32
from dltrain.tasks.metrics import count_pairs
from dltrain.tasks.pixel_loss import pixel_losses
from dltrain.tasks.tiles import Part


def iou(confusion: Tensor) -> Tensor:
    """(…, K) float64 intersection over union TP / (TP + FP + FN) of (…, K, K) counts; NaN for a class never seen."""
    hits, answered, true = _of_classes(confusion)
    return hits / (answered + true - hits)


def dice(confusion: Tensor) -> Tensor:
    """(…, K) float64 Dice 2 TP / (2 TP + FP + FN), the F1 of each class; NaN for a class never seen."""
    hits, answered, true = _of_classes(confusion)
    return 2 * hits / (answered + true)


def _of_classes(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(…, K) float64 right, answered and true pixels of each class."""
    hits = confusion.diagonal(dim1=-2, dim2=-1)
    return hits.double(), confusion.sum(-2).double(), confusion.sum(-1).double()


class PixelTally:
    """Running counts of an evaluation: `add` never waits for the device, `read` does, once.

    The loss is the plain cross-entropy of a pixel in nats, not weighted, so that it compares between runs. Pixels that
    are ignored count for nothing.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        self.nats = torch.zeros((), dtype=torch.float64, device=device)
        self.images = 0

    def add(self, truth: Tensor, parts: Iterable[Part]) -> tuple[Tensor, Tensor]:
        """Count the parts of the logits for B images against their (B, H, W) uint8 masks.

        Returns (B, H, W) uint8 answers and the (B, K, K) counts of each image.
        """
        images, k = len(truth), len(self.confusion)
        counts = truth.new_zeros(images, k + 1, k, dtype=torch.int64)  # the last row: ignored pixels
        first = torch.arange(images, device=truth.device)[:, None, None] * (k + 1)
        answers = torch.empty_like(truth)
        for rows, columns, logits in parts:
            z, y = at_least_float32(logits), truth[:, rows, columns]
            answered = z.argmax(1)
            answers[:, rows, columns] = answered
            true = torch.where(y == IGNORED, k, y.long())
            count_pairs(counts.view(-1, k), (first + true).flatten(), answered.flatten())
            self.nats += pixel_losses(z, y).sum(dtype=torch.float64)
        self.images += images
        self.confusion += counts[:, :k].sum(0)
        return answers, counts[:, :k]

    def read(self, class_names: tuple[str, ...]) -> dict[str, float]:
        """`loss mean_iou pixel_accuracy mean_dice`, and `iou/<class>` and `dice/<class>` of each class that is there.

        Means are over the classes that are true or answered somewhere, as in torchmetrics. All is NaN where every pixel
        is ignored.
        """
        if not self.images:
            raise ValueError("no images to evaluate")
        confusion = self.confusion.cpu()
        total = confusion.sum().double()
        shares = {"iou": iou(confusion), "dice": dice(confusion)}
        values = {
            "loss": (self.nats.cpu() / total).item(),
            "mean_iou": shares["iou"].nanmean().item(),
            "pixel_accuracy": (confusion.diagonal().sum() / total).item(),
            "mean_dice": shares["dice"].nanmean().item(),
        }
        present = confusion.sum(1) > 0
        for what, of_classes in shares.items():
            for name, share, is_there in zip(class_names, of_classes.tolist(), present.tolist(), strict=True):
                if is_there:
                    values[f"{what}/{name}"] = share
        return values
