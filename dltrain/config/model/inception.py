"""Settings of Inception v1."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Model, Norm, Scale, Size


class InceptionForm(StrEnum):
    torchvision = "torchvision"
    paper = "paper"


@dataclass
class InceptionV1(Model):
    """Inception v1, GoogLeNet (Szegedy et al. 2014, table 1), with two auxiliary classifiers while it trains."""

    builds: ClassVar[str] = "inception:InceptionV1"
    name: str = "inception_v1"
    form: InceptionForm = knob(
        InceptionForm.torchvision,
        "torchvision: batch norm, 3x3 in place of 5x5, as in its googlenet; paper: 5x5, response normalization",
    )
    auxiliary_weight: float | None = knob(
        0.3,
        "weight of the loss of each of two further classifiers on inner layers, in training only; null: without them",
        gt=0,
        source="section 5",
    )
    stem: Scale = knob(
        Scale.auto, "large: 7x7 convolution of stride 2, pooling; small: 3x3 of stride 1; auto: small up to 64 pixels"
    )
    norm: Norm | None = knob(
        None, "before each activation; null: batch in torchvision's form; in the paper's none, with response norm"
    )
    dropout: float = knob(0.4, "share of the last layer's inputs dropped in training", ge=0, lt=1, source="table 1")

    @property
    def norms_batches(self) -> bool:
        return self.norm is Norm.batch or (self.norm is None and self.form is InceptionForm.torchvision)

    @property
    def min_size(self) -> Size:
        # each 3x3 pooling of stride 2 needs two positions a side to give one
        large, paper = self.stem is Scale.large, self.form is InceptionForm.paper
        side = (31 if paper else 15) if large else (8 if paper else 4)
        return side, side

    def notes(self, size: Size) -> tuple[str, ...]:
        small = "small images: 3x3 first convolution of stride 1, no pooling behind it (model.stem=large: the paper's)"
        return (small,) if self.stem.is_small(size) else ()
