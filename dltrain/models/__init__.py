"""Networks, one file a family. A model knows nothing of losses, optimizers, data sets or logs."""

import importlib

import torch
from torch import nn

from dltrain.config.model import Model


def build_model(cfg: Model, shape: tuple[int, int, int], num_outputs: int) -> nn.Module:
    """The network that `cfg` describes, for images of `shape` (C, H, W); weights come from torch's default generator.

    `builds` of the settings' class, `file:Class`, is looked up in `models/` of the package that declares that class:
    no value of a config names code.
    """
    settings = type(cfg)
    package = settings.__module__.partition(".")[0]
    file, _, name = settings.builds.partition(":")
    if not file or not name:
        raise ValueError(f"{settings.__qualname__}.builds is {settings.builds!r}; it must be 'file:Class'")
    network = getattr(importlib.import_module(f"{package}.models.{file}"), name)(cfg, shape, num_outputs)
    if not isinstance(network, nn.Module):
        raise TypeError(f"{package}.models.{file}:{name} is no torch.nn.Module")
    return network


def outline(cfg: Model, shape: tuple[int, int, int], num_outputs: int) -> nn.Module:
    """The network without memory, on the meta device: names and shapes of its parameters, however many they are."""
    with torch.device("meta"):
        return build_model(cfg, shape, num_outputs)
