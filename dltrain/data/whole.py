"""Images as a network with an output for each pixel is given them: none of them cut off. Needs no torch."""

from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec
from dltrain.data.decode import MAX_PIXELS, Channels, Source, UnreadableError, decode, name_of
from dltrain.data.imageset import Images, Size
from dltrain.data.sizes import parse_size, to_array


class Whole(NamedTuple):
    """(C, h, w) uint8, and the height and width that the upright image has of its own."""

    pixels: Images
    size: Size


def whole_for(cfg: Config, spec: DataSpec) -> Callable[[Source], Whole]:
    """A function from a file or a Pillow image to all of its pixels: as they are, or resized as data.size says.

    It raises UnreadableError.
    """
    channels: Channels = 1 if spec.shape[0] == 1 else 3
    size = parse_size(cfg.data.size)
    most: int = cfg.data.max_pixels if hasattr(cfg.data, "max_pixels") else MAX_PIXELS

    def read(source: Source) -> Whole:
        image = decode(source, channels, most)
        own = image.height, image.width
        if size is not None and own != covering(own, size):
            height, width = covering(own, size)
            if height * width > most:
                reason = f"is {own[1]} x {own[0]}: at data.size={cfg.data.size} it would have {height * width:,} pixels"
                raise UnreadableError(name_of(source), f"{reason}; data.max_pixels is {most:,}")
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return Whole(to_array(image), own)

    return read


def covering(own: Size, size: Size) -> Size:
    """The smallest size of the same shape as `own` that is no smaller than `size` on either side.

    Its centred part of `size` is what evaluation sees of such an image; of one of the shape of `size` that is all.
    """
    factor = min(own[0] / size[0], own[1] / size[1])
    return max(size[0], round(own[0] / factor)), max(size[1], round(own[1] / factor))
