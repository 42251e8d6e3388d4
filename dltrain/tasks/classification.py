"""One class an image: softmax cross-entropy."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.tasks import Batch, Prediction, Scalars, Update
from dltrain.tasks.evaluating import at_least_float32, evaluating
from dltrain.tasks.metrics import Tally
from dltrain.tasks.pictures import grid, to_pixels


def cross_entropy(z: Tensor, y: Tensor, epsilon: float = 0.0, w: Tensor | None = None) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016, section 7) and class weights.

    H_n = -sum_k w_k q'_n(k) log p_n(k) with p_n = softmax(z_n) and q'_n(k) = (1 - epsilon) [k = y_n] + epsilon / K;
    the mean is sum_n H_n / sum_n w_(y_n), as torch's. z is (N, K), y (N,) and w (K,), at least 0. A batch whose targets
    weigh nothing has loss 0.
    """
    if w is None:
        return F.cross_entropy(z, y, label_smoothing=epsilon)
    weight = w[y].sum()
    total = F.cross_entropy(z, y, w, label_smoothing=epsilon, reduction="sum")
    return total * torch.where(weight > 0, 1 / weight, 0.0)


class Classification(nn.Module):
    """A network that answers with one of K classes.

    `class_weights` (K,) weigh the classes in the loss; `mean` and `std` undo the normalization for pictures. Without
    `can_learn` there are no updates: the weights are not known.
    """

    monitor = "val/accuracy"
    class_weights: Tensor | None
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        class_names: tuple[str, ...],
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        can_learn: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.class_names = class_names
        self.label_smoothing = label_smoothing
        self.can_learn = can_learn
        # not persistent: they follow from config and data, and a state dict holds what is learned
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def updates(self) -> list[Update]:
        """One update: the network's."""
        if not self.can_learn:
            raise ValueError("balanced classes were asked for, and the task was built without training targets")
        return [Update("", self.model, self.loss, count=None if self.class_weights is None else self.weight_of)]

    def weight_of(self, batch: Batch) -> Tensor:
        """Sum of the weights of a batch's targets: what the loss is a mean over."""
        assert self.class_weights is not None
        return self.class_weights[_targets(batch)].sum()

    def loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        """Mean loss of a micro-batch, and its scalars on the device; `accuracy` is over rows, not weighted."""
        y = _targets(batch)
        z = at_least_float32(self.model(batch.images))
        loss = cross_entropy(z, y, self.label_smoothing, self.class_weights)
        right = (z.detach().argmax(1) == y).float().mean()
        return loss, {"loss": loss.detach(), "accuracy": right}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """`loss accuracy macro_f1`, `top5` with six classes or more, and `class_accuracy/<name>`: see `Tally`.

        Leaves no trace: no statistics, modes, gradients or random numbers are touched.
        """
        tally = Tally(len(self.class_names), self.mean.device)
        with evaluating(self):
            for batch in batches:  # the loader's own work stays outside of inference mode: it may keep what it makes
                with torch.inference_mode():
                    tally.add(at_least_float32(self.model(batch.images)), _targets(batch))
        return tally.read(self.class_names)

    def predict(self, images: Tensor) -> Prediction:
        """Probabilities (B, K) of the classes for images (B, C, H, W), normalized as in training."""
        with evaluating(self), torch.inference_mode():
            return Prediction(at_least_float32(self.model(images)).softmax(1))

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """`batch`: up to 64 images as the network sees them, on one uint8 sheet (C, H', W')."""
        return {"batch": grid(to_pixels(batch.images[:64], self.mean, self.std))}


def _targets(batch: Batch) -> Tensor:
    if batch.targets is None:
        raise ValueError("a classifier needs targets")
    return batch.targets
