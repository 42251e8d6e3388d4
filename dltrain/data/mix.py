"""Mixup and CutMix: a training batch and its targets, blended with the batch's next samples, on the device.

Like the authors of both papers and torchvision, one share a batch: the batch is already in an order drawn by
(seed, epoch), so each sample's partner is the one before it. It is made of the whole batch, before that is cut into
micro-batches, so that accumulated gradients are those of the batch. What is drawn is a function of (seed, step), in
float64 on the host, so no device is waited for.
"""

import math

import torch
from torch import Tensor

from dltrain.config.data import Augment
from dltrain.config.spec import DataSpec, Target
from dltrain.data.batch import Batch
from dltrain.data.imageset import Box
from dltrain.keys import uniform

COIN, RADIUS, ANGLE, COLUMN, ROW = range(5)  # what is drawn for a batch


class Mix:
    """What a run's settings ask of its training batches: mixup, CutMix, or each by a coin for every batch."""

    def __init__(self, spec: DataSpec, seed: int, changes: Augment) -> None:
        self._classes = len(spec.class_names) if spec.target is Target.classes else None
        self._seed = seed
        self._mixup, self._cutmix = changes.mixup, changes.cutmix

    def __call__(self, batch: Batch, step: int) -> Batch:
        """The batch of this step with (B, K) float32 targets, or as it is if both are off."""
        if self._mixup == 0 and self._cutmix == 0:
            return batch
        if batch.targets is None:
            raise ValueError("there are no targets to mix")
        u = [uniform(self._seed, "mix", step, draw) for draw in range(5)]
        targets = batch.targets if self._classes is None else one_hot(batch.targets, self._classes)
        if self._cutmix > 0 and (self._mixup == 0 or u[COIN] < 0.5):
            height, width = batch.images.shape[-2:]
            box, share = draw_box(height, width, symmetric_beta(self._cutmix, u[RADIUS], u[ANGLE]), u[COLUMN], u[ROW])
            images = paste(batch.images, box)
        else:
            share = symmetric_beta(self._mixup, u[RADIUS], u[ANGLE])
            images = blend(batch.images, share)
        return Batch(images, blend(targets, share), batch.ids)


def symmetric_beta(alpha: float, u: float, v: float) -> float:
    """A draw from Beta(alpha, alpha), exact for every alpha above 0, from two uniform numbers in [0, 1).

    (1 + S sqrt(t / (1 + t))) / 2 with t = (U^(-1/alpha) - 1) cos^2(2 pi V) and S the sign of the cosine (Devroye 1996,
    "Random variate generation in one line of code", by the polar method of Bailey 1994): no rejection.
    """
    cosine = math.cos(2 * math.pi * v)
    t = math.expm1(min(-math.log1p(-u) / alpha, 700.0)) * cosine * cosine  # e^700 is still finite
    smaller = 0.5 / ((1 + t) * (1 + math.sqrt(t / (1 + t))))  # (1 - sqrt(t / (1 + t))) / 2, without cancellation
    return smaller if cosine < 0 else 1 - smaller


def draw_box(height: int, width: int, share: float, u: float, v: float) -> tuple[Box, float]:
    """CutMix's box (Yun et al. 2019, equation 2) and the share of the image, by exact area, that lies outside of it.

    Its sides are sqrt(1 - share) of the image's; its centre is any pixel, what lies outside of the image is lost.
    """
    half = 0.5 * math.sqrt(1 - share)
    column, row, across, down = int(u * width), int(v * height), int(half * width), int(half * height)
    left, right = max(column - across, 0), min(column + across, width)
    top, bottom = max(row - down, 0), min(row + down, height)
    return (left, top, right, bottom), 1 - (right - left) * (bottom - top) / (width * height)


def blend(values: Tensor, share: float) -> Tensor:
    """(B, ...): x share + x' (1 - share), x' the sample before in the batch (Zhang et al. 2018, section 2)."""
    return values.roll(1, 0).mul_(1 - share).add_(values.mul(share))


def paste(images: Tensor, box: Box) -> Tensor:
    """(B, C, H, W) with the box of the sample before in the batch."""
    left, top, right, bottom = box
    out = images.clone()
    out[..., top:bottom, left:right] = images[..., top:bottom, left:right].roll(1, 0)
    return out


def one_hot(targets: Tensor, classes: int) -> Tensor:
    """(B,) class numbers as (B, K) float32, without looking at them on the host."""
    return (targets[:, None] == torch.arange(classes, device=targets.device)).to(torch.float32)
