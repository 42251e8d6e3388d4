"""Small DCGANs for their tests."""

from typing import Any

import torch
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.models import build_model
from dltrain.models.dcgan import DCGAN


def built(side: int = 28, channels: int = 2, seed: int = 0, **changes: Any) -> DCGAN:
    """Of 10 numbers and 4 channels beside the image, if `changes` of the settings do not say otherwise."""
    torch.manual_seed(seed)
    net = build_model(settings.DCGAN(**{"base_channels": 4, "latent_dim": 10} | changes), (channels, side, side), 1)
    assert isinstance(net, DCGAN)
    return net


def drawn(net: DCGAN) -> DCGAN:
    """In float64, with weights, shifts and gains that are large enough to be seen."""
    net = net.double()
    for p in net.parameters():
        nn.init.uniform_(p, -0.3, 0.3) if p.ndim > 1 else nn.init.uniform_(p, 0.3, 0.9)
    return net


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def doublings(side: int) -> tuple[int, int]:
    """Side of the smallest map, and how often it doubles: 28 = 7 * 2 * 2."""
    return {28: (7, 2), 32: (4, 3), 64: (4, 4), 128: (4, 5)}[side]
