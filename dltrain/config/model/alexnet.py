"""Settings of AlexNet."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import SMALL, Model, Norm, Scale, Size


class AlexNetForm(StrEnum):
    single = "single"
    paper = "paper"


@dataclass
class AlexNet(Model):
    """AlexNet: in the form of one tower (Krizhevsky 2014, as torchvision has it) or of the paper (Krizhevsky 2012)."""

    builds: ClassVar[str] = "alexnet:AlexNet"
    name: str = "alexnet"
    form: AlexNetForm = knob(
        AlexNetForm.single,
        "single: one tower, made for 224x224; paper: two groups, response normalization, made for 227x227",
    )
    stem: Scale = knob(
        Scale.auto,
        "small: 5x5 first convolution of stride 1, 1,024 hidden units; auto: up to 64 pixels, form=paper up to 66",
    )
    norm: Norm = knob(
        Norm.none, "normalization before each activation; batch: in place of response normalization (Ioffe 2015, 4.2.1)"
    )
    dropout: float = knob(
        0.5,
        "share dropped in training of what goes into both hidden layers; in the paper's form: of what they give",
        ge=0,
        lt=1,
    )

    def is_small(self, size: Size) -> bool:
        # the paper's own stem has no padding, and its network ends in an empty map below 67 pixels
        return self.stem.is_small(size, 66 if self.form is AlexNetForm.paper else SMALL)

    @property
    def min_size(self) -> Size:
        if self.stem is not Scale.large:
            return 15, 15
        return (67, 67) if self.form is AlexNetForm.paper else (63, 63)

    def notes(self, size: Size) -> tuple[str, ...]:
        small = "small images: 5x5 first convolution of stride 1, 1,024 hidden units (model.stem=large: the paper's)"
        return (small,) if self.is_small(size) else ()
