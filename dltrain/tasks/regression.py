"""Any number of real values an image: squared, absolute or Huber's error, in standard deviations of each output."""

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config.groups import RegressionLoss
from dltrain.models.blocks import at_least_float32
from dltrain.models.outputs import split
from dltrain.tasks import Batch, Evaluation, Picture, Prediction, Scalars, Update
from dltrain.tasks.attention import Attended
from dltrain.tasks.errors import Errors
from dltrain.tasks.evaluating import evaluating
from dltrain.tasks.fits import Fits, answered, in_words, said
from dltrain.tasks.pictures import batch_picture, to_pixels


def error(z: Tensor, t: Tensor, kind: RegressionLoss, delta: float = 1.0) -> Tensor:
    """Mean over the N K entries e = z - t of two (N, K) tensors of e^2 (mse), |e| (mae) or Huber's (1964) h(e).

    h(e) = e^2 / 2 for |e| <= delta, else delta (|e| - delta / 2).
    """
    if z.shape != t.shape:  # (N, 1) and (N,) would be spread to (N, N)
        raise ValueError(f"{tuple(z.shape)} outputs for {tuple(t.shape)} targets")
    match kind:
        case RegressionLoss.mse:
            return F.mse_loss(z, t)
        case RegressionLoss.mae:
            return F.l1_loss(z, t)
        case RegressionLoss.huber:
            return F.huber_loss(z, t, delta=delta)


class Regression(nn.Module):
    """A network that answers with K real values.

    It works in standardized units, (value - value_mean) / value_std of the training set, so that no output counts for
    more because its unit is small; `answer` gives real ones. `mean` and `std` undo the normalization for pictures.
    """

    # Not the loss: R² has no unit, and compares between losses, outputs and data sets.
    monitor = "val/r2"
    mean: Tensor
    std: Tensor
    value_mean: Tensor
    value_std: Tensor

    def __init__(
        self,
        model: nn.Module,
        value_names: tuple[str, ...],
        *,
        value_mean: tuple[float, ...],
        value_std: tuple[float, ...],
        value_units: tuple[str, ...] = (),
        mean: tuple[float, ...],
        std: tuple[float, ...],
        loss: RegressionLoss = RegressionLoss.mse,
        delta: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.value_names = value_names
        self.value_units = value_units
        self.kind = loss
        self.delta = delta
        # not persistent: they follow from the data, and a state dict holds what is learned
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        # float64, so that values far from 0 (a year, a position) lose nothing
        self.register_buffer("value_mean", torch.tensor(value_mean, dtype=torch.float64), persistent=False)
        self.register_buffer("value_std", torch.tensor(value_std, dtype=torch.float64), persistent=False)

    def updates(self) -> list[Update]:
        """One update: the network's."""
        return [Update("", self.model, self.loss)]

    def standardized(self, values: Tensor) -> Tensor:
        """(B, K) real values in standard deviations from the training set's mean, float64."""
        return (values - self.value_mean) / self.value_std

    def answer(self, outputs: Tensor) -> Tensor:
        """(B, K) real values of (B, K) outputs of the network, float64."""
        return outputs * self.value_std + self.value_mean

    def loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        """Mean loss of a micro-batch in standardized units; `mae` of an only output is in its own unit.

        `loss` is that of the network's answers; what auxiliary heads add to it is `auxiliary_loss`.
        """
        outputs, auxiliary, weight = split(self.model(batch.images))
        z = at_least_float32(outputs)
        t = self.standardized(_targets(batch)).to(z.dtype)
        loss = error(z, t, self.kind, self.delta)
        scalars = {"loss": loss.detach()}
        if len(self.value_names) == 1:
            scalars["mae"] = ((z.detach() - t).abs() * self.value_std).mean()
        if auxiliary:
            heads = [error(at_least_float32(a), t, self.kind, self.delta) for a in auxiliary]
            added = weight * torch.stack(heads).sum()
            loss, scalars["auxiliary_loss"] = loss + added, added.detach()
        return loss, scalars

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """`loss r2`, `mae` of an only output, `r2/<name> mae/<name>` of each: see `Errors`. `loss` is what is learned.

        Pictures: `scatter` (answers against true values), `worst` (the largest errors, in standard deviations),
        `predictions` (images spread over the split), and `attention` of a network that has attention maps. Leaves no
        trace: no statistics, modes, gradients or random numbers are touched.
        """
        errors = Errors(len(self.value_names), self.mean.device)
        std = self.value_std.tolist()
        fits, attended = Fits(self.value_names, self.value_units, std), Attended(self.model)
        with evaluating(self):
            for batch in batches:  # the loader's own work stays outside of inference mode: it may keep what it makes
                with torch.inference_mode():
                    z, values = at_least_float32(self.model(batch.images)).double(), _targets(batch)
                    t, answers = self.standardized(values), self.answer(z)
                    errors.add(answers, values, error(z, t, self.kind, self.delta))
                    fits.add(batch, answers, z - t, self._pixels)
                    attended.add(batch, partial(answered, batch, answers))
            metrics, pictures = errors.read(self.value_names), fits.pictures()
            pictures |= attended.pictures(self._pixels, lambda fields: (said(fields, self.value_names, std), None))
        return Evaluation(metrics, pictures)

    def _pixels(self, images: Tensor) -> Tensor:
        return to_pixels(images, self.mean, self.std)

    def predict(self, images: Tensor) -> Prediction:
        """Real values (B, K) for images (B, C, H, W), normalized as in training."""
        with evaluating(self), torch.inference_mode():
            return Prediction(self.answer(at_least_float32(self.model(images))))

    def pictures(self, batch: Batch) -> dict[str, Picture]:
        """`batch`: its first images as the network sees them, with their values."""
        std = self.value_std.tolist()
        return {"batch": batch_picture(batch, self.mean, self.std, lambda y: in_words(y, self.value_names, std))}


def _targets(batch: Batch) -> Tensor:
    if batch.targets is None or not batch.targets.is_floating_point():
        raise ValueError("a regression needs real targets, (B, K)")
    return batch.targets
