"""Pictures of what a task sees."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from dltrain.report.sheet import sheet
from dltrain.tasks import Batch, Picture

SMALL = 128 * 128  # pixels of images of which a batch's picture has 64; of larger ones it has 24
MANY, FEW = 64, 24


def to_pixels(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) uint8 of images normalized as (x/255 - mean) / std; mean and std are (C,)."""
    shares = images.float() * std[:, None, None]
    return shares.add_(mean[:, None, None]).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Grey or RGB images of (B, C, H, W) uint8; with another number of channels, their mean as grey."""
    if pixels.shape[1] not in (1, 3):
        pixels = pixels.float().mean(1, keepdim=True).round().to(torch.uint8)
    arrays = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]


def batch_picture(
    batch: Batch, mean: Tensor, std: Tensor, captions: Callable[[Tensor], list[str]] | None = None
) -> Picture:
    """A sheet of the first images of a training batch, as the networks see them.

    `captions` says in words what (R, …) targets on the CPU are.
    """
    shown = MANY if batch.images[0, 0].numel() <= SMALL else FEW
    images = batch.images[:shown]
    targets = None if batch.targets is None else batch.targets[:shown]

    def draw() -> Image.Image:
        said = [""] * len(images) if captions is None or targets is None else captions(targets.cpu())
        return sheet(to_images(to_pixels(images, mean, std)), said)

    return draw
