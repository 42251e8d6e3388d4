"""Random resized crop: which part of an image is read, drawn by key. Needs no torch."""

import math
from dataclasses import dataclass
from functools import partial

from dltrain import keys
from dltrain.data.imageset import Box, Part, Size

ASPECT = math.log(4 / 3)  # the logarithm of width / height, either way, beside that of the size
TRIES = 10


def random_box(image: Size, *, size: Size, smallest: float, seed: int, epoch: int, number: int) -> Box:
    """The part of an image that is resized to `size` (Szegedy et al. 2015), a function of (seed, epoch, number).

    torchvision's RandomResizedCrop.get_params: the part's area is a share from `smallest` to 1 of the image's, its
    width / height is 3/4 to 4/3, even in the logarithm, of the size's; where ten draws do not fit, it is the largest
    centred part of an allowed shape. `image` and `size` are (height, width), all in pixels.
    """
    height, width = image
    own = size[1] / size[0]
    for attempt in range(TRIES):
        u = [keys.uniform(seed, "crop box", epoch, number, attempt, draw) for draw in range(4)]
        area = height * width * (smallest + (1 - smallest) * u[0])
        aspect = own * math.exp(ASPECT * (2 * u[1] - 1))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            return _at(int(u[2] * (width - across + 1)), int(u[3] * (height - down + 1)), across, down)
    least, most = own * math.exp(-ASPECT), own * math.exp(ASPECT)
    across = min(width, max(1, round(height * most)))
    down = min(height, max(1, round(width / least)))
    return _at((width - across) // 2, (height - down) // 2, across, down)


@dataclass(frozen=True)
class RandomCrop:
    """`random_box` of a run, as worker processes can have it."""

    size: Size
    smallest: float
    seed: int

    def part(self, epoch: int, number: int) -> Part:
        """Which part of this image is taken in this epoch, once the image's size is known."""
        return partial(random_box, size=self.size, smallest=self.smallest, seed=self.seed, epoch=epoch, number=number)


def _at(left: int, top: int, across: int, down: int) -> Box:
    return left, top, left + across, top + down
