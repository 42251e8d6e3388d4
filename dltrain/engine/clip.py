"""Gradient clipping: one call whatever the precision, on unscaled gradients that hold the penalty's share.

Nothing is read back to the host, and no branch depends on a tensor's value.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from dltrain.config.groups import ClipAgc, ClipNorm, ClipValue, NoClip

ClipCfg = NoClip | ClipNorm | ClipValue | ClipAgc
Named = tuple[str, Parameter]

AGC_EPS = 1e-3  # least norm of a unit's weights, so that zero weights can move (Brock 2021, section 4.1)


class ClipResult(NamedTuple):
    """What was measured; scalars on the device of the gradients."""

    norm: Tensor  # () of the whole gradient, before clipping
    clipped: Tensor  # () 1.0 if clipping changed something, else 0.0
    layer_norms: dict[str, Tensor] | None  # () of each layer's gradient, before clipping


def clip(named_params: Sequence[Named], cfg: ClipCfg, want_layer_norms: bool = False) -> ClipResult:
    """Clip the `.grad` of the parameters in place; those without a gradient are left out."""
    with torch.no_grad():
        named = [(name, p) for name, p in named_params if p.grad is not None]
        grads = [p.grad for _, p in named if p.grad is not None]
        if not grads:
            zero = torch.zeros((), device=named_params[0][1].device if named_params else None)
            return ClipResult(zero, zero.clone(), {} if want_layer_norms else None)
        norms = torch._foreach_norm(grads, 2)
        norm = torch.linalg.vector_norm(torch.stack(norms))
        layers = _layer_norms([name for name, _ in named], norms) if want_layer_norms else None
        if isinstance(cfg, ClipNorm):
            clipped = _clip_norm(grads, norm, cfg.max_norm)
        elif isinstance(cfg, ClipValue):
            clipped = _clip_value(grads, cfg.max_value)
        elif isinstance(cfg, ClipAgc):
            clipped = _clip_agc(_without_head(named_params), cfg.factor, norm)
        else:
            clipped = torch.zeros_like(norm)
        return ClipResult(norm, clipped, layers)


def _layer_norms(names: list[str], norms: Sequence[Tensor]) -> dict[str, Tensor]:
    """Norm over the parameters of each layer: those whose names differ in the last part only."""
    layers: dict[str, list[Tensor]] = {}
    for name, norm in zip(names, norms, strict=True):
        layers.setdefault(name.rpartition(".")[0] or name, []).append(norm)
    return {layer: torch.linalg.vector_norm(torch.stack(parts)) for layer, parts in layers.items()}


def _clip_norm(grads: list[Tensor], norm: Tensor, max_norm: float) -> Tensor:
    """g if ||g|| < T else T g / ||g|| (Pascanu 2013)."""
    inside = norm < max_norm
    torch._foreach_mul_(grads, torch.where(inside, 1.0, max_norm / norm))
    return 1.0 - inside.to(norm.dtype)


def _clip_value(grads: list[Tensor], max_value: float) -> Tensor:
    largest = torch.stack(torch._foreach_max(torch._foreach_abs(grads))).amax()
    torch._foreach_clamp_min_(grads, -max_value)
    torch._foreach_clamp_max_(grads, max_value)
    return (largest > max_value).to(largest.dtype)


def _clip_agc(params: list[Parameter], factor: float, norm: Tensor) -> Tensor:
    """Brock 2021, equation 3: G_i <- factor max(||W_i||, eps) / ||G_i|| G_i where ||G_i|| is larger than that allows.

    Unit i is what belongs to one output: a row of a matrix, a filter of a convolution (of a transposed convolution,
    whose first dimension is its input, what belongs to one input). Biases and gains are one unit each, as in the
    authors' code.
    """
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        return torch.zeros_like(norm)
    weight_norms = torch.cat([_unit_norms(p) for p in params if p.grad is not None])
    grad_norms = torch.cat([_unit_norms(g) for g in grads])
    largest = factor * weight_norms.clamp(min=AGC_EPS)
    too_large = grad_norms > largest
    share = torch.where(too_large, largest / grad_norms, 1.0)
    parts = torch.split(share, [len(g) if g.ndim > 1 else 1 for g in grads])
    torch._foreach_mul_(grads, [_one_a_unit(part, g) for part, g in zip(parts, grads, strict=True)])
    return too_large.any().to(norm.dtype)


def _unit_norms(x: Tensor) -> Tensor:
    """(units,) the norm of each unit of a weight or of its gradient."""
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1) if x.ndim > 1 else x.reshape(1, -1), dim=1)
    return norms


def _one_a_unit(values: Tensor, x: Tensor) -> Tensor:
    """(units,) -> a shape that multiplies x: (units, 1, 1, 1) for a convolution's filters."""
    return values.reshape(-1, *[1] * (x.ndim - 1)) if x.ndim > 1 else values.reshape([1] * x.ndim)


def _without_head(named_params: Sequence[Named]) -> list[Parameter]:
    """All parameters but those of a final linear layer, which the paper does not clip.

    It is the layer of the last weight, if that weight is a matrix; a network that ends in a convolution has none.
    """
    weights = [(name, p) for name, p in named_params if p.ndim >= 2]
    if not weights or weights[-1][1].ndim != 2:
        return [p for _, p in named_params]
    head = weights[-1][0].rpartition(".")[0]
    return [p for name, p in named_params if name.rpartition(".")[0] != head]
