"""What a classifier's answers are worth, all of it from one table of counts that stays on the device until the end."""

import torch
from torch import Tensor


def count_pairs(confusion: Tensor, targets: Tensor, predictions: Tensor) -> None:
    """Add one to `confusion[target, prediction]`, (K, K) int64, for each pair of (N,) class numbers, in place.

    Integers are added, so the order does not matter. `bincount` would do, but on a GPU it waits for the largest entry.
    """
    cells = targets * confusion.shape[1] + predictions
    confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))


def in_top(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """(N,) whether the target is among the k largest of (N, K) logits. Of equal ones the lower class goes first.

    So the answer for k = 1 is that of `argmax`, and NaN is never a hit.
    """
    own = logits.gather(1, targets[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    ahead = ~(logits <= own) | ((logits == own) & (classes < targets[:, None]))
    return ahead.sum(1) < k


def accuracy(confusion: Tensor) -> float:
    """Share of right answers."""
    return int(confusion.diagonal().sum()) / int(confusion.sum())


def class_accuracy(confusion: Tensor) -> list[float | None]:
    """Share of right answers among the images of each class (recall); None for a class without images."""
    right, images = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    return [hits / n if n else None for hits, n in zip(right, images, strict=True)]


def macro_f1(confusion: Tensor) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    Classes that are neither a target nor an answer are left out of the mean, as scikit-learn and torchmetrics do;
    a class that has no image and is answered all the same counts as 0.
    """
    hits = 2 * confusion.diagonal()
    seen = confusion.sum(0) + confusion.sum(1)  # 2 TP + FP + FN
    return (hits[seen > 0].double() / seen[seen > 0]).mean().item()


class Tally:
    """Running counts of an evaluation: `add` never waits for the device, `read` does, once.

    The loss is the plain cross-entropy in nats, neither smoothed nor weighted, so that it compares between runs.
    Top-5 is counted where there are at least six classes.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        self.nats = torch.zeros((), dtype=torch.float64, device=device)
        self.top5 = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count (N, K) logits of at least float32 against (N,) targets. Returns the (N,) losses."""
        count_pairs(self.confusion, targets, logits.argmax(1))
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        self.nats += losses.sum(dtype=torch.float64)
        self.top5 += in_top(logits, targets, 5).sum()
        return losses

    def read(self, class_names: tuple[str, ...]) -> dict[str, float]:
        """`loss accuracy macro_f1`, `top5`, and `class_accuracy/<name>` of each class that has images."""
        confusion = self.confusion.cpu()
        images = int(confusion.sum())
        if images == 0:
            raise ValueError("no images to evaluate")
        values = {
            "loss": self.nats.item() / images,
            "accuracy": accuracy(confusion),
            "macro_f1": macro_f1(confusion),
        }
        if len(class_names) > 5:
            values["top5"] = self.top5.item() / images
        for name, share in zip(class_names, class_accuracy(confusion), strict=True):
            if share is not None:
                values[f"class_accuracy/{name}"] = share
        return values
