"""One class an image: softmax cross-entropy."""

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.blocks import at_least_float32
from dltrain.models.outputs import split
from dltrain.tasks import Batch, Evaluation, Picture, Prediction, Scalars, Update
from dltrain.tasks.answers import Answers, answered, in_words, said
from dltrain.tasks.attention import Attended
from dltrain.tasks.evaluating import evaluating
from dltrain.tasks.metrics import Tally
from dltrain.tasks.pictures import batch_picture, to_pixels


def cross_entropy(z: Tensor, y: Tensor, epsilon: float = 0.0, w: Tensor | None = None) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016, section 7) and class weights.

    H_n = -sum_k w_k q'_n(k) log p_n(k) with p_n = softmax(z_n) and q'_n(k) = (1 - epsilon) q_n(k) + epsilon / K. z is
    (N, K) and w (K,), at least 0; y is (N,) classes, q_n(k) = [k = y_n], or (N, K) shares q_n(k) of blended images. The
    mean is sum_n H_n / sum_n sum_k w_k q_n(k), for classes torch's. A batch whose targets weigh nothing has loss 0.
    """
    if w is None:
        return F.cross_entropy(z, _shares(y, z), label_smoothing=epsilon)
    weight = weights(y, w).sum()
    total = F.cross_entropy(z, _shares(y, z), w, label_smoothing=epsilon, reduction="sum")
    return total * torch.where(weight > 0, 1 / weight, 0.0)


def weights(y: Tensor, w: Tensor) -> Tensor:
    """(N,) weight of each target under (K,) class weights: w_y, of shares (N, K) sum_k w_k q(k)."""
    return (y.to(w.dtype) * w).sum(1) if y.is_floating_point() else w[y]


def _shares(y: Tensor, z: Tensor) -> Tensor:
    return y.to(z.dtype) if y.is_floating_point() else y


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
        if self.class_weights is None:
            return [Update("", self.model, self.loss)]
        return [Update("", self.model, self.loss, count=self.weight_of, counts={"accuracy": _rows})]

    def weight_of(self, batch: Batch) -> Tensor:
        """Sum of the weights of a batch's targets: what the loss is a mean over."""
        assert self.class_weights is not None
        return weights(_targets(batch), self.class_weights).sum()

    def loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        """Mean loss of a micro-batch, and its scalars on the device; `accuracy` is over rows, not weighted.

        The class of a blended image is the one with the largest share. `loss` is that of the logits; what auxiliary
        heads add to it is `auxiliary_loss`.
        """
        y = _targets(batch)
        logits, auxiliary, weight = split(self.model(batch.images))
        z = at_least_float32(logits)
        loss = cross_entropy(z, y, self.label_smoothing, self.class_weights)
        right = (z.detach().argmax(1) == _classes(y)).float().mean()
        scalars = {"loss": loss.detach(), "accuracy": right}
        if auxiliary:
            heads = [cross_entropy(at_least_float32(a), y, self.label_smoothing, self.class_weights) for a in auxiliary]
            added = weight * torch.stack(heads).sum()
            loss, scalars["auxiliary_loss"] = loss + added, added.detach()
        return loss, scalars

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """`loss accuracy macro_f1`, `top5` with six classes or more, and `class_accuracy/<name>`: see `Tally`.

        Pictures: `confusion`, `worst` (the wrong answers with the highest loss), `predictions` (images spread over the
        split), and `attention` of a network that has attention maps. Leaves no trace: no statistics, modes, gradients
        or random numbers are touched.
        """
        tally, answers = Tally(len(self.class_names), self.mean.device), Answers(self.class_names)
        attended = Attended(self.model)
        with evaluating(self):
            for batch in batches:  # the loader's own work stays outside of inference mode: it may keep what it makes
                with torch.inference_mode():
                    z, y = at_least_float32(self.model(batch.images)), _targets(batch)
                    losses = tally.add(z, y)
                    answers.add(batch, z, losses, self._pixels)
                    attended.add(batch, partial(answered, batch, z))
            metrics, pictures = tally.read(self.class_names), answers.pictures(tally.confusion)
            pictures |= attended.pictures(self._pixels, lambda fields: said(fields, self.class_names))
        return Evaluation(metrics, pictures)

    def _pixels(self, images: Tensor) -> Tensor:
        return to_pixels(images, self.mean, self.std)

    def answer(self, outputs: Tensor) -> Tensor:
        """(B, K) probabilities of the classes, of (B, K) outputs of the network."""
        return outputs.softmax(1)

    def predict(self, images: Tensor) -> Prediction:
        """Probabilities (B, K) of the classes for images (B, C, H, W), normalized as in training."""
        with evaluating(self), torch.inference_mode():
            return Prediction(self.answer(at_least_float32(self.model(images))))

    def pictures(self, batch: Batch) -> dict[str, Picture]:
        """`batch`: its first images as the network sees them, with their classes."""
        return {"batch": batch_picture(batch, self.mean, self.std, lambda y: in_words(y, self.class_names))}


def _targets(batch: Batch) -> Tensor:
    if batch.targets is None:
        raise ValueError("a classifier needs targets")
    return batch.targets


def _rows(batch: Batch) -> Tensor:
    """Number of a batch's images: what `accuracy` is a mean over."""
    return torch.tensor(len(batch.ids))


def _classes(y: Tensor) -> Tensor:
    """(N,) classes; of (N, K) shares the largest."""
    return y.argmax(1) if y.is_floating_point() else y
