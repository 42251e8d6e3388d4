"""A class for each pixel: cross-entropy, soft Dice, or their sum; images of any size in tiles."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from dltrain.config.segmentation import SegmentationLoss
from dltrain.config.spec import IGNORED
from dltrain.models.blocks import at_least_float32
from dltrain.tasks import Batch, Evaluation, Picture, Prediction, Scalars, Update
from dltrain.tasks.evaluating import evaluating
from dltrain.tasks.overlap import PixelTally
from dltrain.tasks.pictures import to_pixels
from dltrain.tasks.pixel_loss import mask_loss, pixel_weights
from dltrain.tasks.tiles import WHOLE, Part, in_parts
from dltrain.tasks.views import Views, windows_picture


class Segmentation(nn.Module):
    """A network that answers with one of K classes for each pixel; its `sides` say which images it takes (see `tiles`).

    `class_weights` (K,) weigh the classes in the loss, and `w0` the borders of batches that have them; `tile` is that
    of `in_parts`; `mean` and `std` undo the normalization for pictures. Without `can_learn` there are no updates: the
    weights are not known.
    """

    monitor = "val/mean_iou"
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
        loss: SegmentationLoss = SegmentationLoss.cross_entropy,
        class_weights: Tensor | None = None,
        weight_map: bool = False,
        w0: float = 10.0,
        tile: int | None = None,
        can_learn: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.class_names = class_names
        self.kind = loss
        self.weight_map = weight_map
        self.w0 = w0
        self.tile = tile
        self.can_learn = can_learn
        # not persistent: they follow from config and data, and a state dict holds what is learned
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def updates(self) -> list[Update]:
        """One update: the network's."""
        if not self.can_learn:
            raise ValueError("balanced classes were asked for, and the task was built without the pixels of each class")
        return [Update("", self.model, self.loss, count=self.weight_of, counts={"pixel_accuracy": self.pixels_of})]

    def weight_of(self, batch: Batch) -> Tensor:
        """Sum of the weights of a batch's pixels: what the loss is a mean over."""
        return self._weights(batch)[1].sum()

    def pixels_of(self, batch: Batch) -> Tensor:
        """Number of a batch's pixels that are not ignored: what `pixel_accuracy` is a mean over."""
        return (self._cut(_masks(batch)) != IGNORED).sum()

    def _weights(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, h, w) the masks where the network has outputs, and the weights of their pixels."""
        y = self._cut(_masks(batch))
        if self.weight_map and batch.borders is None:
            raise ValueError("a weight map needs the borders of each batch")
        borders = self._cut(batch.borders) if self.weight_map and batch.borders is not None else None
        return y, pixel_weights(y, self.class_weights, borders, self.w0)

    def _cut(self, values: Tensor) -> Tensor:
        """The middle of (B, H, W), as large as the network's outputs are."""
        lost: int = self.model.sides.lost  # type: ignore[assignment, union-attr]
        height, width = values.shape[1:]
        return values[:, lost : height - lost, lost : width - lost]

    def loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        """Mean loss of a micro-batch, and its scalars on the device; `pixel_accuracy` is over pixels, not weighted."""
        y, weights = self._weights(batch)
        z = at_least_float32(self.model(batch.images))
        loss = mask_loss(z, y, weights, self.kind, self.class_weights)
        right = (z.detach().argmax(1) == y).sum() / (y != IGNORED).sum().clamp(min=1)
        return loss, {"loss": loss.detach(), "pixel_accuracy": right}

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """`loss mean_iou pixel_accuracy mean_dice`, `iou/<class>` and `dice/<class>`: see `PixelTally`.

        Pictures: `confusion` (of pixels), `worst` (the images of lowest mean IoU), `predictions` (images spread over
        the split). Leaves no trace: no statistics, modes, gradients or random numbers are touched.
        """
        tally, views = PixelTally(len(self.class_names), self.mean.device), Views(self.class_names)
        with evaluating(self):
            for whole in batches:  # the loader's own work stays outside of inference mode: it may keep what it makes
                for batch in _portions(whole):
                    with torch.inference_mode():
                        truth = _masks(batch)
                        answers, counts = tally.add(truth, self._parts(batch.images))
                        views.add(batch, answers, counts, self._pixels)
            metrics, pictures = tally.read(self.class_names), views.pictures(tally.confusion)
        return Evaluation(metrics, pictures)

    def _parts(self, images: Tensor) -> Iterator[Part]:
        return in_parts(self.model, images, self.tile)

    def _pixels(self, images: Tensor) -> Tensor:
        return to_pixels(images, self.mean, self.std)

    def answer(self, outputs: Tensor) -> Tensor:
        """(B, K, h, w) probabilities of the classes, of (B, K, h, w) outputs of the network."""
        return outputs.softmax(1)

    def predict(self, images: Tensor) -> Prediction:
        """Probabilities (B, K, H, W) of the classes for images (B, C, H, W) of any size, normalized as in training."""
        values = images.new_empty(len(images), len(self.class_names), *images.shape[2:], dtype=torch.float32)
        with evaluating(self), torch.inference_mode():
            for rows, columns, logits in self._parts(images):
                values[:, :, rows, columns] = self.answer(at_least_float32(logits))
        return Prediction(values)

    def pictures(self, batch: Batch) -> dict[str, Picture]:
        """`batch`: its first windows as the network sees them, under the colours of their masks."""
        return {"batch": windows_picture(batch, self.class_names, self._pixels)}


def _portions(batch: Batch) -> Iterator[Batch]:
    """A batch in parts of no more pixels than one image has that goes whole: networks at full resolution are large."""
    rows = max(1, WHOLE * WHOLE // batch.images[0, 0].numel())
    for at in range(0, len(batch.ids), rows):
        yield batch.part(slice(at, at + rows))


def _masks(batch: Batch) -> Tensor:
    if batch.targets is None or batch.targets.dtype != torch.uint8 or batch.targets.dim() != 3:
        raise ValueError("a segmentation needs masks, (B, H, W) uint8")
    return batch.targets
