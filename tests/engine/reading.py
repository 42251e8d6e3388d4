"""Notices when a tensor's value is asked for, which on a GPU would wait for the device; works on the CPU too."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class ValueReadError(AssertionError):
    """`.item()`, `bool()`, `.tolist()` of one number, or a branch on a tensor."""


class NoReading(TorchDispatchMode):
    """Inside, no tensor gives its value to Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise ValueReadError(str(func))
        return func(*args, **(kwargs or {}))
