"""How every task looks at images without learning from them."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
