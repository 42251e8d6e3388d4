"""Training windows of images with masks: both, and what lies beside them, move by one map of coordinates a sample.

What is drawn for a sample is a function of (seed, epoch, id), by Philox. The map says for each pixel of the window from
where in the image it comes: a window's place, mirrored or not, turned and scaled about its centre, and deformed. Images
are interpolated between the four pixels around, masks take the nearest, so that no label is made up. Outside an image
lies its mirror image: -1 is 1. Where no more is done than moving and mirroring, pixels are copied. Only additions,
multiplications, divisions, floors, minima and gathers, each rounded once, so a sample has the same bits alone, in any
batch, with any number of threads, and on a GPU.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dltrain.config.data import MaskAugment
from dltrain.data import elastic
from dltrain.data.augment import sin_cos
from dltrain.data.color import jitter
from dltrain.data.imageset import Size
from dltrain.data.ragged import Ragged
from dltrain.engine import random

# Columns of what is drawn: each change has its own, so switching one on does not move the others.
PLACE, FLIP, VERTICAL_FLIP, ANGLE, SCALE, BRIGHTNESS, CONTRAST, SATURATION, HUE = 0, 2, 3, 4, 5, 6, 7, 8, 9  # PLACE: 2
ELASTIC = 10
DRAWS = ELASTIC + elastic.DRAWS
LONG = 2**31  # values from which on positions need 64 bits
PORTION = 2**16  # pixels of windows made at a time on a CPU, so that what is computed stays in its cache


class Windows(NamedTuple):
    """One window of each image."""

    images: Tensor  # (B, C, h, w) float32, 0 to 255
    masks: Tensor  # (B, h, w) uint8
    borders: Tensor | None  # (B, h, w) uint8


def windows(
    pixels: Ragged,
    ids: Tensor,
    epoch: int,
    seed: int,
    cfg: MaskAugment,
    size: Size,
    borders: bool = False,
    lost: int = 0,
) -> Windows:
    """A window (h, w) of each image: moved, mirrored, turned, scaled, deformed; then its colours are changed.

    The mask is the last channel, or the last but one, before the borders. A window lies anywhere within the image;
    where it is larger than that, anywhere so that it holds the image. So does what is answered: of a network whose
    outputs lack `lost` pixels on each side, the window without these, so that an image's rim is learned like the rest.
    """
    u = random.uniform(random.key(seed, "windows", epoch), ids, DRAWS)  # (B, DRAWS) in [0, 1)
    s = 2 * u - 1  # in [-1, 1)
    corners = places(u[:, PLACE : PLACE + 2], pixels.sizes, (size[0] - 2 * lost, size[1] - 2 * lost)) - lost
    rows = line(size[0], u[:, VERTICAL_FLIP] < cfg.vertical_flip)
    columns = line(size[1], u[:, FLIP] < cfg.flip)
    flat = pixels.channels - (2 if borders else 1)  # channels to interpolate
    batch, rest = len(ids), pixels.channels - flat
    images = torch.empty(batch, flat, *size, device=ids.device)
    labels = torch.empty(batch, rest, *size, dtype=torch.uint8, device=ids.device)
    bent = max(cfg.rotate, cfg.scale, cfg.elastic) > 0
    step = batch if ids.device.type != "cpu" else max(1, PORTION // (size[0] * size[1]))
    for start in range(0, batch, step):
        some = slice(start, start + step)
        part = pixels._replace(starts=pixels.starts[some], sizes=pixels.sizes[some])
        if bent:
            angle, factor = s[some, ANGLE] * math.radians(cfg.rotate), 1 + s[some, SCALE] * cfg.scale
            down, right = turned(rows[some], columns[some], angle, factor)
            if cfg.elastic > 0:
                moved = elastic.displacements(u[some, ELASTIC:], cfg.elastic, size)
                down, right = down.add_(moved[0]), right.add_(moved[1])
            interpolate(part, corners[some], down, right, images[some], labels[some])
        else:
            copy(part, corners[some], rows[some], columns[some], images[some], labels[some])
    if max(cfg.brightness, cfg.contrast, cfg.saturation, cfg.hue) > 0:
        images = jitter(
            images,
            brightness=1 + s[:, BRIGHTNESS] * cfg.brightness if cfg.brightness > 0 else None,
            contrast=1 + s[:, CONTRAST] * cfg.contrast if cfg.contrast > 0 else None,
            saturation=1 + s[:, SATURATION] * cfg.saturation if cfg.saturation > 0 else None,
            hue=s[:, HUE] * cfg.hue if cfg.hue > 0 else None,
        )
    return Windows(images, labels[:, 0], labels[:, 1] if borders else None)


def places(u: Tensor, sizes: Tensor, size: Size) -> Tensor:
    """(B, 2) int64 row and column of the upper left corner of each window: any place is as likely as any other.

    `u`: (B, 2) in [0, 1); `sizes`: (B, 2) of the images.
    """
    room = torch.stack([sizes[:, 0] - size[0], sizes[:, 1] - size[1]], dim=1)  # below 0 where the window is larger
    steps = (u.to(torch.float64) * (room.abs() + 1)).to(torch.int64)
    return torch.minimum(room, torch.zeros_like(room)) + steps


def line(length: int, mirrored: Tensor) -> Tensor:
    """(B, length) int64: 0, 1, 2, …, or from the end where it is mirrored. `mirrored`: (B,)."""
    forward = torch.arange(length, device=mirrored.device)
    return torch.where(mirrored[:, None], length - 1 - forward, forward)


def turned(rows: Tensor, columns: Tensor, angle: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """(B, h, w) float32 rows and columns, from the window's corner, that its pixels come from.

    The content is made larger by the factor and turned clockwise, both about the centre. `rows`: (B, h), `columns`:
    (B, w), which of its own pixels each would be otherwise; `angle` (radians), `factor`: (B,).
    """
    sin, cos = sin_cos(angle)
    along, aside = (cos / factor)[:, None], (sin / factor)[:, None]
    middle_row, middle_column = (rows.shape[1] - 1) / 2, (columns.shape[1] - 1) / 2
    y, x = rows.to(torch.float32) - middle_row, columns.to(torch.float32) - middle_column
    down = (along * y + middle_row)[:, :, None] - (aside * x)[:, None, :]
    right = (aside * y + middle_column)[:, :, None] + (along * x)[:, None, :]
    return down, right


def copy(pixels: Ragged, corners: Tensor, rows: Tensor, columns: Tensor, images: Tensor, labels: Tensor) -> None:
    """Copy whole pixels to `images` and `labels`. `rows`: (B, h), `columns`: (B, w), from the window's corner."""
    height, width = pixels.sizes.unbind(1)
    row, column = mirror(rows + corners[:, :1], height), mirror(columns + corners[:, 1:], width)
    row, column, plane = as_positions(pixels, row * width[:, None] + pixels.starts[:, None], column, height * width)
    at, plane = row[:, :, None] + column[:, None, :], plane[:, None, None]
    for out in (*images.unbind(1), *labels.unbind(1)):
        out.copy_(gather(pixels.values, at))
        at.add_(plane)


def interpolate(pixels: Ragged, corners: Tensor, rows: Tensor, columns: Tensor, images: Tensor, labels: Tensor) -> None:
    """Fill `images` by the four pixels around each place, `labels` by the nearest. Places: (B, h, w) float32."""
    height, width = pixels.sizes.unbind(1)
    plane, across, start = as_positions(
        pixels, *(part[:, None, None] for part in (height * width, width, pixels.starts))
    )
    *between, lower = cell(rows, corners[:, 0], height)
    above, below, nearest_row = (row.mul_(across).add_(start) for row in as_positions(pixels, *between))
    *between, later = cell(columns, corners[:, 1], width)
    before, after, nearest_column = as_positions(pixels, *between)
    around = above + before, above + after, below + before, below + after
    for out in images.unbind(1):
        a, b, c, d = (gather(pixels.values, at).to(torch.float32) for at in around)
        a.add_(b.sub_(a).mul_(later))
        c.add_(d.sub_(c).mul_(later))
        torch.add(a, c.sub_(a).mul_(lower), out=out)
        for at in around:
            at.add_(plane)
    nearest = nearest_row.add_(nearest_column).add_(plane * images.shape[1])
    for out in labels.unbind(1):
        out.copy_(gather(pixels.values, nearest))
        nearest.add_(plane)


def as_positions(pixels: Ragged, *numbers: Tensor) -> list[Tensor]:
    """Whole numbers as positions in the values: in 32 bits, which are computed with in half the time, where they do."""
    kind = torch.int32 if len(pixels.values) < LONG else torch.int64
    return [part.to(kind) for part in numbers]


def gather(values: Tensor, at: Tensor) -> Tensor:
    """Values at these positions. On a CPU index_select of a row takes a third of the time of `take`."""
    return values.index_select(0, at.reshape(-1)).reshape(at.shape)


def cell(places: Tensor, origin: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixels before and after each place, mirrored into a line, and the nearer of both; the share of the one after.

    `places`: (B, h, w) float32, counted from the `origin` (B,) of the window, in lines of this `length` (B,); so are
    the results. Half-way it is the one after that is nearer.
    """
    before = places.floor()
    share = places - before
    period = (2 * length - 2).clamp_min(1).to(torch.float32)[:, None, None]
    before.add_(origin.to(torch.float32)[:, None, None])
    before.sub_((before / period).floor_().mul_(period))  # 0 to period - 1
    after = torch.minimum(before + 1, (period - 1).sub(before))
    before = torch.minimum(before, period - before)
    nearest = (share + 0.5).floor_().mul_(after - before).add_(before)
    return before, after, nearest, share


def mirror(places: Tensor, length: Tensor) -> Tensor:
    """Where in lines of this length (B,) places (B, n), int64, lie once they are mirrored at the ends: -1 is 1."""
    period = (2 * length - 2).clamp_min(1)[:, None]
    places = places % period
    return torch.minimum(places, period - places)
