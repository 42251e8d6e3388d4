"""Losses of masks: cross-entropy whose pixels weigh something, soft Dice, and their sum, as pure functions.

Whatever is a mean is one over the weights of all pixels, so that the parts of a batch add up to it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.config.segmentation import SegmentationLoss
from dltrain.config.spec import IGNORED


def pixel_losses(z: Tensor, y: Tensor) -> Tensor:
    """(B, H, W) -log p_y(x)(x) of each pixel x, p = softmax(z) over the K classes; 0 where it is ignored.

    z is (B, K, H, W) and y (B, H, W) uint8. The logarithms are taken before pixels become rows, whose cross-entropy has
    a backward that is exact on CUDA: over the last of few classes a CPU takes ten times as long.
    """
    rows = z.log_softmax(1).permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    return F.nll_loss(rows, y.flatten().long(), reduction="none", ignore_index=IGNORED).view(y.shape)


def pixel_weights(y: Tensor, w: Tensor | None = None, borders: Tensor | None = None, w0: float = 0.0) -> Tensor:
    """w(x) = w_c(x) + w0 e(x) of each pixel x of (B, H, W) uint8 masks (Ronneberger et al. 2015, equation 2).

    w_c is `w` (K,) of the pixel's class, 1 without; e are `borders` (B, H, W), 0 without. Ignored pixels weigh 0.
    """
    valid = y != IGNORED
    if w is None:
        weights = valid.to(torch.get_default_dtype() if borders is None else borders.dtype)
    else:
        weights = F.pad(w, (0, IGNORED + 1 - len(w)))[y.long()]
    return weights if borders is None else weights + w0 * borders * valid


def cross_entropies(z: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """(B,) sums over the pixels x of each image of -w(x) log p_y(x)(x); weights are w, (B, H, W)."""
    return (pixel_losses(z, y) * weights).flatten(1).sum(1)


def soft_dice(z: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(B,) mean over the classes k of each image of D_k = 2 sum_x p_k q_k / sum_x (p_k + q_k) (Drozdzal et al. 2016).

    p = softmax(z) and q_k(x) = [k = y(x)], x over pixels that are not ignored; the classes are those that y holds,
    weighted by w (K,) where it is given. An image without any of weight has 1: there is nothing to be had.
    """
    y = y[:, None]
    p = z.softmax(1) * (y != IGNORED)
    q = y == torch.arange(z.shape[1], device=z.device)[:, None, None]
    own, all_p, all_q = (values.flatten(2).sum(2) for values in (p * q, p, q))  # (B, K)
    weight = (all_q > 0).to(z.dtype) if w is None else (all_q > 0) * w
    of_classes = 2 * own / (all_p + all_q).clamp(min=torch.finfo(z.dtype).tiny)
    total = weight.sum(1)
    return torch.where(total > 0, (weight * of_classes).sum(1) / torch.where(total > 0, total, 1), 1)


def mask_loss(z: Tensor, y: Tensor, weights: Tensor, kind: SegmentationLoss, w: Tensor | None = None) -> Tensor:
    """L = sum_i [CE_i + W_i (1 - D_i)] / sum_i W_i over the images i of a batch; for one of the two, that term alone.

    W_i is the sum of the pixels' weights, CE_i is `cross_entropies`, D_i `soft_dice` under class weights `w`. A batch
    whose pixels weigh nothing has loss 0.
    """
    each = weights.flatten(1).sum(1)
    terms = []
    if kind is not SegmentationLoss.dice:
        terms.append(cross_entropies(z, y, weights))
    if kind is not SegmentationLoss.cross_entropy:
        terms.append(each * (1 - soft_dice(z, y, w)))
    total = each.sum()
    return torch.stack(terms).sum() / torch.where(total > 0, total, 1)
