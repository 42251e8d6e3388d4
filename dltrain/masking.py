"""A class for each pixel of an image of any size, in memory that hardly grows with it."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dltrain.config.spec import DataSpec
from dltrain.data.imageset import Images
from dltrain.data.preprocess import Preprocess
from dltrain.engine.precision import autocast
from dltrain.tasks.evaluating import evaluating
from dltrain.tasks.segmentation import Segmentation
from dltrain.tasks.tiles import in_parts

Tell = Callable[[float], None]  # the share of the image that is done
Answer = Callable[[Images, Tell], NDArray[np.uint8]]


def masker(
    task: Segmentation,
    spec: DataSpec,
    device: torch.device,
    precision: str = "fp32",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Answer:
    """A function from all pixels of an image, (C, H, W) uint8, to its mask, (H, W) uint8 class numbers.

    Images are answered one by one, whole or in tiles, so that what one gets depends on no other. Beside the image and
    its mask there is one tile at a time in the device's memory, or in float32.
    """
    network = FromPixels(task.model, spec, device, memory_format)

    def answer(pixels: Images, tell: Tell) -> NDArray[np.uint8]:
        image = torch.tensor(pixels[None]) if not pixels.flags.writeable else torch.from_numpy(pixels[None])
        mask = torch.empty(pixels.shape[1:], dtype=torch.uint8)
        done = 0
        with evaluating(task), torch.inference_mode(), autocast(precision, device):
            for rows, columns, logits in in_parts(network, image, task.tile):
                mask[rows, columns] = logits[0].argmax(0).to(torch.uint8).cpu()
                done += logits[0, 0].numel()
                tell(done / mask.numel())
        return mask.numpy()

    return answer


class FromPixels(nn.Module):
    """The network behind its normalization: (B, C, h, w) uint8 in any memory to logits on the device.

    It takes the sides that the network does, so that tiles are cut before they are normalized.
    """

    def __init__(
        self, network: nn.Module, spec: DataSpec, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        super().__init__()
        self.network = network
        self.sides = network.sides
        self._normalize = Preprocess(spec, device).normalize
        self._device = device
        self._memory_format = memory_format

    def forward(self, pixels: Tensor) -> Tensor:
        images = self._normalize(pixels.to(self._device))
        logits: Tensor = self.network(images.contiguous(memory_format=self._memory_format))
        return logits
