"""L1 and L2 penalties: their gradient is added in closed form, in float32, after the loss's own is unscaled."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from dltrain.config.groups import Reg


def add_penalty(named_params: Sequence[tuple[str, Parameter]], cfg: Reg) -> Tensor | None:
    """Add l2 w + l1 sign(w) to the gradients of weights; the penalty (l2/2) sum w^2 + l1 sum |w|, None without one.

    Weights are the trained parameters of at least two dimensions: not biases, not gains of norms. As autograd has
    it, the slope of |w| at 0 is 0, and a weight that the loss does not reach gets the penalty's gradient alone.
    """
    if cfg.l1 == 0 and cfg.l2 == 0:
        return None
    with torch.no_grad():
        weights: list[Tensor] = [p for _, p in named_params if p.ndim >= 2 and p.requires_grad]
        if not weights:
            return None
        grads: list[Tensor] = []
        for w in weights:
            if w.grad is None:
                w.grad = torch.zeros_like(w)
            grads.append(w.grad)
        terms: list[Tensor] = []
        if cfg.l2 != 0:
            torch._foreach_add_(grads, weights, alpha=cfg.l2)
            terms.append(torch.stack(torch._foreach_norm(weights, 2)).square().sum() * (cfg.l2 / 2))
        if cfg.l1 != 0:
            torch._foreach_add_(grads, torch._foreach_sign(weights), alpha=cfg.l1)
            terms.append(torch.stack(torch._foreach_norm(weights, 1)).sum() * cfg.l1)
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]
