"""From uint8 pixels to what a model sees: the one place, on the device."""

import torch
from torch import Tensor

from dltrain.config.data import Augment
from dltrain.config.spec import DataSpec
from dltrain.data.augment import augment


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
        return self._normalize_(augment(images, ids, epoch, self._seed, self._changes))

    def normalize(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to float32 (x/255 - mean) / std."""
        return self._normalize_(images.to(torch.float32, copy=True))

    def _normalize_(self, pixels: Tensor) -> Tensor:
        return pixels.sub_(self._shift).div_(self._scale)
