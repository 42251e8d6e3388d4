"""U-Net (Ronneberger, Fischer, Brox 2015, figure 1)."""

import torch
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Activation, Norm, Padding, Up
from dltrain.models.blocks import ConvUnit, dropout, initialize


class DoubleConv(nn.Module):
    """Two 3x3 convolutions with ReLUs, dropout: (B, inputs, H, W) -> (B, outputs, H, W); without padding H-4, W-4.

    Weights are drawn from N(0, sqrt(2/N)), N inputs of a neuron, as section 3 has it after He et al. 2015.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, padding: Padding, drop: float = 0.0) -> None:
        super().__init__()
        pad = 1 if padding is Padding.same else 0
        self.conv1 = ConvUnit(inputs, outputs, 3, Activation.relu, norm, padding=pad)
        self.conv2 = ConvUnit(outputs, outputs, 3, Activation.relu, norm, padding=pad)
        self.dropout = dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.conv2(self.conv1(x)))
        return out


def up_convolution(inputs: int, outputs: int, up: Up, padding: Padding) -> nn.Module:
    """(B, inputs, H, W) -> (B, outputs, 2H, 2W); repetition and an unpadded 3x3 convolution: 2H-2, 2W-2.

    No ReLU follows, so weights keep the mean square: N(0, sqrt(1/N)).
    """
    layer: nn.ConvTranspose2d | nn.Conv2d
    if up is Up.transpose:
        layer, seen = nn.ConvTranspose2d(inputs, outputs, 2, stride=2), inputs
    else:
        layer, seen = nn.Conv2d(inputs, outputs, 3, padding=1 if padding is Padding.same else 0), 9 * inputs
    nn.init.normal_(layer.weight, std=seen**-0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer if up is Up.transpose else nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), layer)


class Expand(nn.Module):
    """A level of the expanding path: up-convolution, the copy beside it, two 3x3 convolutions.

    (B, inputs, H, W) and a copy (B, copied, 2H, 2W) -> (B, outputs, 2H, 2W). Without padding the copy is larger, its
    centre is taken, and 4 pixels a side are lost. With `copied` 0 there is no copy.
    """

    def __init__(self, inputs: int, copied: int, outputs: int, norm: Norm, up: Up, padding: Padding) -> None:
        super().__init__()
        self.crops = padding is Padding.valid
        self.up = up_convolution(inputs, outputs, up, padding)
        self.convs = DoubleConv(copied + outputs, outputs, norm, padding)

    def forward(self, x: Tensor, copy: Tensor | None) -> Tensor:
        x = self.up(x)
        if copy is not None:
            x = torch.cat([centre(copy, x) if self.crops else copy, x], 1)
        out: Tensor = self.convs(x)
        return out


def centre(x: Tensor, like: Tensor) -> Tensor:
    """The middle of (B, C, H, W), as high and as wide as `like`."""
    height, width = like.shape[2:]
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def pixel_output(inputs: int, num_outputs: int) -> nn.Conv2d:
    """The last, 1x1 convolution: (B, inputs, H, W) -> (B, num_outputs, H, W) logits."""
    layer = nn.Conv2d(inputs, num_outputs, 1)
    initialize(layer, None)
    return layer


class UNet(nn.Module):
    """(B, C, H, W) -> (B, num_outputs, H, W) logits, of 572x572 without padding 388x388.

    31,030,658 parameters for one channel, two outputs and no norm. `sides` says which images it takes.
    """

    def __init__(self, cfg: settings.UNet, shape: tuple[int, int, int], num_outputs: int) -> None:
        super().__init__()
        self.sides = cfg.geometry(shape[1:])
        self.skips = cfg.skips
        widths = [cfg.base_channels * 2**level for level in range(cfg.depth)]  # 64, 128, 256, 512, 1024
        self.contracting = nn.ModuleList()
        self.pools = nn.ModuleList()
        inputs = shape[0]
        for level, width in enumerate(widths[:-1]):
            drop = cfg.dropout if level == cfg.depth - 2 else 0.0
            self.contracting.append(DoubleConv(inputs, width, cfg.norm, cfg.padding, drop))
            self.pools.append(nn.MaxPool2d(2))
            inputs = width
        self.bottom = DoubleConv(inputs, widths[-1], cfg.norm, cfg.padding, cfg.dropout)
        self.expanding = nn.ModuleList(
            Expand(2 * width, width if cfg.skips else 0, width, cfg.norm, cfg.up, cfg.padding)
            for width in reversed(widths[:-1])
        )
        self.output = pixel_output(cfg.base_channels, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        x, copies = images, list[Tensor]()
        for level, pool in zip(self.contracting, self.pools, strict=True):
            copies.append(level(x))
            x = pool(copies[-1])  # half the size, and then twice the channels
        x = self.bottom(x)  # (B, 1024, H/16, W/16)
        for expand in self.expanding:
            copy = copies.pop()
            x = expand(x, copy if self.skips else None)  # twice the size and half the channels
        logits: Tensor = self.output(x)
        return logits
