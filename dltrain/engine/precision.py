"""Mixed precision: where operations compute in 16 bits, and the scaler that keeps fp16 gradients from vanishing."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from dltrain.config.groups import Fp16, Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context of a forward pass and its loss. `precision` is fp32, bf16 or fp16; weights stay float32."""
    dtype = DTYPES[precision]
    if dtype is torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def make_scaler(cfg: Precision, resolved: str, device: torch.device) -> GradScaler | None:
    """The gradient scaler of fp16, on the CPU too; None for fp32 and bf16, whose range needs none."""
    if DTYPES[resolved] is not torch.float16:
        return None
    if not isinstance(cfg, Fp16):
        return GradScaler(device.type)
    return GradScaler(device.type, init_scale=cfg.init_scale, growth_interval=cfg.growth_interval)


def found_inf(scaler: GradScaler, optimizer: Optimizer) -> Tensor:
    """() bool on the device: whether `scaler.step(optimizer)` skips this step.

    To be asked between `scaler.unscale_(optimizer)` and `scaler.update()`. It is the scaler's own finding, not the
    gradient norm's: a norm can overflow where each element is finite, and then the optimizer does step.
    """
    found = list(scaler._found_inf_per_device(optimizer).values())
    if not found:
        raise ValueError("unscale_ has not been called for this optimizer, or it has no gradients")
    return torch.stack([value.to(found[0].device) for value in found]).sum() > 0
