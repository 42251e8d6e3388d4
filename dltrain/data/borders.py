"""What a pixel between two cells counts more: equation 2 of U-Net, computed once for each mask and kept.

Needs no torch; scipy, an optional package, when a term is computed.
"""

import hashlib
import json
import math
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from dltrain import atomic
from dltrain.config.messages import Failure, require_extra
from dltrain.config.segmentation import Segmentation
from dltrain.config.spec import IGNORED
from dltrain.data.fetch import cache_folder
from dltrain.data.imageset import Images, ImageSet, Numbers, Part, Reader, Say
from dltrain.data.scan import Progress

GROUND = 0  # the class between the cells: background, or membrane
FAINTEST = 1 / 510  # a term below this is 0 of 255
FAR = 2**31 - 1  # in place of a squared distance that plays no part
VERSION = 1  # of what is kept


def border_term(mask: Images, sigma: float) -> Images:
    """exp(-(d1 + d2)^2 / (2 sigma^2)) of each pixel of ground, d1 and d2 its distances to the two nearest cells.

    Ronneberger et al. 2015, equation 2, without w0, in 1/255: (H, W) uint8 of an (H, W) mask. Cells are the parts of
    each class but the first that hang together by the sides of their pixels, so that a line of ground one pixel wide
    parts two. Inside of cells, and where pixels are ignored, it is 0.
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label

    reach = math.ceil(sigma * math.sqrt(-2 * math.log(FAINTEST)))
    # squared distances between pixels are whole numbers, so nothing is rounded
    first, second = np.full((2, *mask.shape), FAR, dtype=np.int32)
    for number in np.unique(mask).tolist():
        if number in (GROUND, IGNORED):
            continue
        labels, _ = label(mask == number)
        for cell, place in enumerate(find_objects(labels), start=1):
            window = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in place)
            distance = distance_transform_edt(labels[window] != cell)
            squared = np.rint(distance * distance).astype(np.int32)
            second[window] = np.minimum(second[window], np.maximum(first[window], squared))
            first[window] = np.minimum(first[window], squared)
    term = np.zeros(mask.shape, dtype=np.uint8)
    between = (second < FAR) & (mask == GROUND)
    together = np.sqrt(first[between]) + np.sqrt(second[between])
    term[between] = np.rint(255 * np.exp(-(together * together) / (2 * sigma * sigma)))
    return term


def kept_term(mask: Images, sigma: float) -> Images:
    """`border_term`, from the user's cache where a mask of the same pixels has been there before.

    A cache that cannot be read or written is no reason to stop.
    """
    digest = hashlib.blake2b(json.dumps([VERSION, *mask.shape, float(sigma)]).encode(), digest_size=20)
    digest.update(np.ascontiguousarray(mask).tobytes())
    name = digest.hexdigest()
    path = cache_folder() / "borders" / name[:2] / f"{name[2:]}.z"
    known = _load(path, mask.size)
    if known is not None:
        return known.reshape(mask.shape)
    term = border_term(mask, sigma)
    content = zlib.compress(term.tobytes(), 1)
    with suppress(OSError, Failure):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path, len(content)) as temporary:  # not flushed: what a power cut spoils is made again
            temporary.write_bytes(content)
    return term


def _load(path: Path, size: int) -> Images | None:
    """The bytes of a file of the cache, if it holds as many as there are pixels and is whole."""
    try:
        if path.stat().st_size > size + size // 100 + 64:  # more than zlib makes of so many bytes
            return None
        file = zlib.decompressobj()
        content = file.decompress(path.read_bytes(), size + 1)
    except (OSError, zlib.error):
        return None
    return np.frombuffer(content, dtype=np.uint8) if len(content) == size and file.eof else None


class WithBorders:
    """Reads images with masks as another reader does, with the border term behind the mask: (C + 2, H, W).

    It is that of training images; of others, whose borders nobody weighs, it is 0.
    """

    def __init__(self, read: Reader, sigma: float, train: Numbers) -> None:
        self.read = read
        self.sigma = sigma
        self.train = frozenset(train.tolist())

    def __call__(self, number: int, part: Part | None = None) -> Images:
        """(C + 2, H, W). Raises UnreadableError."""
        return self._with_term(number, self.read(number, part))

    def everything(self, say: Say) -> list[Images]:
        """All of them, in the order of their numbers. Raises UnreadableError."""
        pixels = list(self.read.everything(say))
        progress = Progress(say, "weighing the borders between cells", len(pixels), "masks")
        for number in range(len(pixels)):
            pixels[number] = self._with_term(number, pixels[number])
            progress(number + 1)
        return pixels

    def _with_term(self, number: int, pixels: Images) -> Images:
        mask = pixels[-1]
        term = kept_term(mask, self.sigma) if number in self.train else np.zeros_like(mask)
        return np.concatenate([pixels, term[None]])


def with_borders(images: ImageSet, settings: Segmentation) -> ImageSet:
    """The set as `task.weight_map` needs it: see `WithBorders`. Raises Mistake where scipy is missing."""
    require_extra("scipy", "maps", what="task.weight_map=true")
    return replace(images, read=WithBorders(images.read, settings.sigma, images.splits["train"]))
