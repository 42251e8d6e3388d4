"""Images of any size: whole, or in tiles that overlap, with mirrored borders (Ronneberger et al. 2015, figure 2).

What is answered is what the network says of the whole image. Its `sides` say which it takes: k * `stride` +
`offset`; and how far an output looks, in pixels on each side: `margin`. Where its outputs lose as much as that
(`lost`), the image is mirrored all around; where they lose nothing (the network pads), at the bottom and at the right,
up to the next side that it takes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dltrain.config.sides import Sides
from dltrain.data.joint import mirror

WHOLE = 1024  # longer side of images that go whole, if nobody says more

Part = tuple[slice, slice, Tensor]  # rows and columns of the image, and their logits (B, K, h, w)


class Cut(NamedTuple):
    """One side of a tile: what the network is given, and what of its answer is kept, both as positions in the image."""

    start: int  # may lie outside of the image, as may the end: mirrored there
    side: int
    first: int
    end: int


def cuts(size: int, tile: int | None, sides: Sides) -> list[Cut]:
    """How one side of an image is covered: at once without `tile`, else by tiles of at most so many pixels.

    Each starts at a multiple of the stride, so that all poolings fall as in the whole image. Raises ValueError for
    tiles that are too small for the network.
    """
    lost, most = sides.lost, None if tile is None else sides.down(tile)
    whole = sides.up(size + 2 * lost)
    if most is None or whole <= most:
        return [Cut(-lost, whole, 0, size)]
    if most < sides.least:
        raise ValueError(f"tiles of {tile} pixels for a network that needs {sides.least}")
    if lost:
        step = (most - 2 * lost) // sides.stride * sides.stride
        return [Cut(at - lost, most, at, min(at + step, size)) for at in range(0, size, step)]
    step = most - 2 * sides.overlap
    starts = [*range(0, whole - most, step), whole - most]
    ends = [*(start + most - sides.overlap for start in starts[:-1]), size]
    return [Cut(at, most, first, end) for at, first, end in zip(starts, [0, *ends[:-1]], ends, strict=True)]


def in_parts(model: nn.Module, images: Tensor, tile: int | None = None) -> Iterator[Part]:
    """The network's logits for (B, C, H, W) images, part by part; the parts cover the image and do not overlap.

    `tile`: sides of images that go whole, and of the tiles of larger ones; None: 1,024 and 512, or `sides.tile` for
    networks that look far. Beside the images, memory is that of one part.
    """
    sides: Sides = model.sides  # type: ignore[assignment]
    height, width = images.shape[2:]
    is_whole = max(height, width) <= (max(WHOLE, sides.tile) if tile is None else tile)
    side = None if is_whole else sides.tile if tile is None else tile
    for down in cuts(height, side, sides):
        for across in cuts(width, side, sides):
            logits: Tensor = model(_taken(images, down, across))
            top, left = (cut.first - cut.start - sides.lost for cut in (down, across))
            rows, columns = slice(down.first, down.end), slice(across.first, across.end)
            kept = logits[:, :, top : top + down.end - down.first, left : left + across.end - across.first]
            yield rows, columns, kept


def _taken(images: Tensor, down: Cut, across: Cut) -> Tensor:
    """The input of a tile, mirrored where it reaches beyond the images."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    for dimension, cut in ((2, down), (3, across)):
        size = images.shape[dimension]
        if cut.start >= 0 and cut.start + cut.side <= size:
            images = images.narrow(dimension, cut.start, cut.side)
            continue
        (at,) = mirror(torch.arange(cut.start, cut.start + cut.side)[None], torch.tensor([size]))
        low, high = int(at.min()), int(at.max())
        part = images.narrow(dimension, low, high + 1 - low)  # so that no more than the tile is copied
        images = part.index_select(dimension, (at - low).to(images.device))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.contiguous(memory_format=layout)
