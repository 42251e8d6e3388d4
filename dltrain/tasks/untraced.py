"""A network in training that another network's update only passes through."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize


@contextmanager
def untraced(network: nn.Module) -> Iterator[None]:
    """Inside, a forward pass computes as in training and changes no buffer of the network.

    Batch norm takes the batch's statistics and leaves the running ones alone; spectral norm takes its last estimate and
    makes no further step of its power iteration.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    computed = [
        (kind, kind.training)
        for m in network.modules()
        if parametrize.is_parametrized(m)
        for kinds in m.parametrizations.values()  # type: ignore[operator]
        for kind in kinds
    ]
    for norm in norms:
        norm.track_running_stats = False  # in training mode batch norm then takes no running statistics at all
    for kind, _ in computed:
        kind.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for kind, training in computed:
            kind.training = training
