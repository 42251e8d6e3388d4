"""One optimizer a module: torch's own, fused, so that what the gradient scaler skips is skipped on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from dltrain.config import groups
from dltrain.tasks import Update

OptimCfg = groups.Sgd | groups.Adam | groups.AdamW


def build_optimizers(cfg: OptimCfg, updates: Sequence[Update], device: torch.device) -> dict[str, Optimizer]:
    """The optimizer of each module, under the name of the first update that moves it ("" becomes "model").

    Updates of the same module share its optimizer. Parameters that need no gradient stay out of it. The modules
    are already on the device, in their memory format.
    """
    optimizers: dict[str, Optimizer] = {}
    seen: list[nn.Module] = []
    for update in updates:
        if any(update.module is module for module in seen):
            continue
        seen.append(update.module)
        name = update.name or "model"
        if name in optimizers:
            raise ValueError(f"two modules are moved by updates named {name!r}")
        optimizers[name] = _build(cfg, update.module, device)
        optimizers[name].register_load_state_dict_post_hook(_lay_out_as_parameters)
    return optimizers


def _build(cfg: OptimCfg, module: nn.Module, device: torch.device) -> Optimizer:
    params = [p for p in module.parameters() if p.requires_grad]
    fused = device.type in ("cpu", "cuda")
    if isinstance(cfg, groups.Sgd):
        sgd = SGD(
            params,
            lr=cfg.lr,
            momentum=cfg.momentum,
            nesterov=cfg.nesterov and cfg.momentum > 0,
            weight_decay=cfg.weight_decay,
            fused=fused,
        )
        if cfg.momentum > 0:
            # torch makes the buffers with `empty` and fills them in the first step; if that one is skipped they
            # hold garbage. From zeros the first step gives the same: momentum * 0 + grad.
            for p in params:
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return sgd
    kind = AdamW if isinstance(cfg, groups.AdamW) else Adam
    beta1, beta2 = cfg.betas
    return kind(params, lr=cfg.lr, betas=(beta1, beta2), eps=cfg.eps, weight_decay=cfg.weight_decay, fused=fused)


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Give loaded state the strides of its parameters: fused kernels on the CPU walk memory and trust them to agree."""
    for param, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == param.shape:
                state[name] = torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)
