"""From uint8 pixels to what a model sees: the one place, on the device."""

import torch
from torch import Tensor

from dltrain.config.data import Augment, MaskAugment
from dltrain.config.spec import DataSpec
from dltrain.data.augment import augment
from dltrain.data.batch import Batch
from dltrain.data.imageset import Size
from dltrain.data.joint import windows
from dltrain.data.ragged import Ragged


class Preprocess:
    """Normalization of a data spec, and augmentation where it is training."""

    def __init__(self, spec: DataSpec, device: torch.device, seed: int = 0, changes: Augment | None = None) -> None:
        self._shift = torch.tensor(spec.mean, dtype=torch.float64).mul(255).float()[:, None, None].to(device)
        self._scale = torch.tensor(spec.std, dtype=torch.float64).mul(255).float()[:, None, None].to(device)
        self._seed = seed
        self._changes = changes or Augment()

    def __call__(self, images: Tensor, ids: Tensor, epoch: int | None) -> Tensor:
        """(B, C, H, W) uint8 to float32 normalized; changed at random by (seed, epoch, id) if there is an epoch."""
        if epoch is None:
            return self.normalize(images)
        return self.normalize_(augment(images, ids, epoch, self._seed, self._changes))

    def normalize(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to float32 (x/255 - mean) / std."""
        return self.normalize_(images.to(torch.float32, copy=True))

    def normalize_(self, pixels: Tensor) -> Tensor:
        """The same of float32 in 0 to 255, in place."""
        return pixels.sub_(self._shift).div_(self._scale)


class PreprocessMasks:
    """The same for images with masks: windows where it is training, whole images where it is not."""

    def __init__(self, spec: DataSpec, device: torch.device, seed: int, changes: MaskAugment, lost: int) -> None:
        self._normalize = Preprocess(spec, device)
        self._channels, *size = spec.shape
        self._size: Size = (size[0], size[1])
        self._seed = seed
        self._changes = changes
        self._lost = lost

    def windows(self, pixels: Ragged, ids: Tensor, epoch: int) -> Batch:
        """A window of each image, changed at random by (seed, epoch, id)."""
        bordered = pixels.channels > self._channels + 1
        images, masks, borders = windows(
            pixels, ids, epoch, self._seed, self._changes, self._size, bordered, self._lost
        )
        return Batch(self._normalize.normalize_(images), masks, ids, _shares(borders))

    def whole(self, pixels: Ragged, ids: Tensor, size: Size) -> Batch:
        """The images as they are, all of this size."""
        planes = pixels.alike(size)
        bordered = pixels.channels > self._channels + 1
        images, masks = planes[:, : self._channels], planes[:, self._channels].contiguous()
        return Batch(self._normalize.normalize(images), masks, ids, _shares(planes[:, -1] if bordered else None))


def _shares(borders: Tensor | None) -> Tensor | None:
    return None if borders is None else borders.to(torch.float32).div_(255)
