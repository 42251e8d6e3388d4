"""How every task looks at images without learning from them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(task: nn.Module) -> Iterator[None]:
    """Every module of `task` in evaluation mode; afterwards each one's own mode again, frozen ones included."""
    modes = [(module, module.training) for module in task.modules()]
    task.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def at_least_float32(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, so that losses and metrics are not computed in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
