"""Multilayer perceptron (Rumelhart, Hinton, Williams 1986)."""

import math
from itertools import pairwise

from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.models.blocks import LinearUnit, output_layer


class MLP(nn.Module):
    """Hidden layers, then a linear output: (B, C, H, W) -> (B, num_outputs) logits.

    784-300-100-10 is the network of LeCun et al. 1998, section III.C.4, with 266,610 parameters. Without a hidden
    layer it is softmax regression.
    """

    def __init__(self, cfg: settings.MLP, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        widths = [math.prod(shape), *hidden_widths(cfg.widths, cfg.depth)]
        self.hidden = nn.Sequential(
            *(LinearUnit(n, m, cfg.activation, cfg.norm, cfg.dropout) for n, m in pairwise(widths))
        )
        self.output = output_layer(widths[-1], num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)  # (B, C*H*W)
        logits: Tensor = self.output(self.hidden(x))
        return logits


def hidden_widths(widths: list[int], depth: int | None) -> list[int]:
    """Width of each of `depth` hidden layers: the first of `widths`, the last one repeated; null: all of them."""
    if depth is None:
        return widths
    if depth > 0 and not widths:
        raise ValueError(f"{depth} hidden layers need a width")
    return [widths[min(layer, len(widths) - 1)] for layer in range(depth)]
