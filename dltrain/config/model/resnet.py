"""Settings of the residual networks."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Attention, Model, Norm, Scale, Size


@dataclass
class ResNet(Model):
    """ResNet for photographs (He et al. 2015, table 1), with the stride on the 3x3 convolution as in torchvision."""

    builds: ClassVar[str] = "resnet:ResNet"
    name: str = "resnet"
    blocks: list[int] = knob(
        lambda: [2, 2, 2, 2],
        "residual blocks of each stage; [2,2,2,2] makes ResNet-18",
        ge=1,
        le=100,
        fewest=1,
        most=8,
    )
    bottleneck: bool = knob(False, "blocks of 1x1, 3x3, 1x1 convolutions, four times as wide outside: ResNet-50 and up")
    base_channels: int = knob(64, "channels of the first stage; they double from stage to stage", ge=1, le=4096)
    stem: Scale = knob(
        Scale.auto, "large: 7x7 convolution of stride 2, pooling; small: 3x3 of stride 1; auto: small up to 64 pixels"
    )
    norm: Norm = knob(Norm.batch, "normalization behind each convolution; without, add clip=norm")
    dropout: float = knob(0.0, "share of the last layer's inputs dropped in training", ge=0, lt=1)
    attention: Attention = knob(Attention.none, "in each block, before the addition (Hu 2018, Woo 2018)")

    @property
    def title(self) -> str:
        return f"resnet{(3 if self.bottleneck else 2) * sum(self.blocks) + 2}"

    def notes(self, size: Size) -> tuple[str, ...]:
        small = "small images: 3x3 first convolution of stride 1, no pooling behind it (model.stem=large: the paper's)"
        return (small,) if self.stem.is_small(size) else ()


class Shortcut(StrEnum):
    A = "A"
    B = "B"


@dataclass
class CifarResNet(Model):
    """ResNet for CIFAR (He et al. 2015, section 4.2): 6n+2 layers, three stages of n blocks; ResNet-20 is n = 3."""

    builds: ClassVar[str] = "cifar_resnet:CifarResNet"
    name: str = "cifar_resnet"
    n: int = knob(3, "blocks a stage: 3, 5, 7, 9, 18 make ResNet-20, 32, 44, 56, 110", ge=1, le=200)  # 200: ResNet-1202
    base_channels: int = knob(16, "channels of the first stage; they double from stage to stage", ge=1, le=4096)
    shortcut: Shortcut = knob(
        Shortcut.A, "where channels double. A: every second position, zero channels; B: a 1x1 convolution of stride 2"
    )
    residual: bool = knob(True, "false: the plain network, without shortcuts")
    norm: Norm = knob(Norm.batch, "normalization behind each convolution; without, add clip=norm")
    dropout: float = knob(0.0, "share of the last layer's inputs dropped in training", ge=0, lt=1)
    attention: Attention = knob(Attention.none, "in each block, before the addition (Hu 2018, Woo 2018)")

    @property
    def title(self) -> str:
        return f"{'resnet' if self.residual else 'plain'}{6 * self.n + 2}"
