"""Images of different sizes in one piece of memory, so that a batch of them is a few tensors on the device."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dltrain.data.imageset import Images, Size


class Ragged(NamedTuple):
    """N uint8 images, one behind another: each is (channels, H, W) with a height and a width of its own."""

    values: Tensor  # (M,) uint8
    starts: Tensor  # (N,) int64: where in `values` each begins
    sizes: Tensor  # (N, 2) int64: height and width
    channels: int

    @staticmethod
    def of(images: Sequence[Images] | Images) -> "Ragged":
        """Of (channels, H, W) arrays, at least one, on the CPU; one array (N, channels, H, W) is not copied."""
        sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.int64)
        channels = int(images[0].shape[0])
        lengths = sizes[:, 0] * sizes[:, 1] * channels
        values = images.reshape(-1) if isinstance(images, np.ndarray) else np.concatenate([i.ravel() for i in images])
        return Ragged(torch.from_numpy(values), lengths.cumsum(0) - lengths, sizes, channels)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Ragged":
        """The same on a device."""
        values, starts, sizes = (part.to(device, non_blocking=non_blocking) for part in self[:3])
        return Ragged(values, starts, sizes, self.channels)

    def select(self, rows: Tensor) -> "Ragged":
        """Those images in this order; no pixel is copied. `rows`: (B,) int64 on the same device."""
        return self._replace(starts=self.starts.index_select(0, rows), sizes=self.sizes.index_select(0, rows))

    def packed(self, channels: int | None = None) -> Tensor:
        """(M,) uint8 of these images alone, or of their first channels, in their order; waits for the device."""
        lengths = self.sizes[:, 0] * self.sizes[:, 1] * (self.channels if channels is None else channels)
        return torch.cat(
            [self.values[at : at + n] for at, n in zip(self.starts.tolist(), lengths.tolist(), strict=True)]
        )

    def alike(self, size: Size) -> Tensor:
        """(N, channels, H, W) of images all of which are known to have this size."""
        length = self.channels * size[0] * size[1]
        return self.values.unfold(0, length, 1).index_select(0, self.starts).reshape(-1, self.channels, *size)
