"""Settings of the VGG networks."""

from dataclasses import dataclass
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Attention, Model, Norm, Scale, Size


@dataclass
class VGG(Model):
    """VGG (Simonyan and Zisserman 2015, table 1): 3x3 convolutions, a pooling by 2 behind each stage."""

    builds: ClassVar[str] = "vgg:VGG"
    name: str = "vgg"
    convs: list[int] = knob(
        lambda: [1, 1, 2, 2, 2],
        "3x3 convolutions of each stage; [1,1,2,2,2] makes network A, VGG-11",
        ge=1,
        le=100,
        fewest=1,
        most=8,
    )
    base_channels: int = knob(
        64, "channels of the first stage; they double from stage to stage, up to 8 times", ge=1, le=4096
    )
    head: Scale = knob(
        Scale.auto,
        "large: two hidden layers of 4,096; small: the average over positions; auto: small up to 64 pixels",
    )
    norm: Norm = knob(Norm.none, "normalization before the activation of each convolution")
    dropout: float = knob(0.5, "share of the head's units dropped in training", ge=0, lt=1)
    attention: Attention = knob(
        Attention.none, "behind each convolution's activation, as Hu 2018 has it in VGG; se and cbam with norm=batch"
    )

    @property
    def title(self) -> str:
        return f"vgg{sum(self.convs) + 3}"

    @property
    def min_size(self) -> Size:
        side: int = 2 ** len(self.convs)
        return side, side

    def notes(self, size: Size) -> tuple[str, ...]:
        small = "small images: a linear layer on the average over positions (model.head=large: three layers)"
        return (small,) if self.head.is_small(size) else ()
