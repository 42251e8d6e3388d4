"""Generated images beside the training images that are nearest to them."""

from PIL import Image
from torch import Tensor

from dltrain.report.sheet import sheet
from dltrain.tasks.pictures import to_images

SHOWN = 24  # pairs
GAP = 1  # pixels between the two of a pair


def pairs(generated: Tensor, training: Tensor, distances: Tensor, among: int) -> Image.Image:
    """(N, C, H, W) uint8, each left of its nearest training image, in this order; `distances` (N,) are captions."""
    both = [_beside(a, b) for a, b in zip(to_images(generated), to_images(training), strict=True)]
    captions = [f"{distance:.3f} apart" for distance in distances.tolist()]
    title = f"generated, and the nearest of {among:,} training images: the closest pairs"
    return sheet(both, captions, title=title)


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    page = Image.new(left.mode, (left.width + right.width + GAP, left.height), 255 if left.mode == "L" else "white")
    page.paste(left, (0, 0))
    page.paste(right, (left.width + GAP, 0))
    return page
