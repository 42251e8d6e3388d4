"""Settings of the attention CNN."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Model, Norm, Size


class Compatibility(StrEnum):
    parametrized = "parametrized"
    dot = "dot"


@dataclass
class AttentionCNN(Model):
    """Learn to pay attention (Jetley et al. 2018): a VGG trunk, classified by what its inner layers attend to."""

    builds: ClassVar[str] = "attention_cnn:AttentionCNN"
    name: str = "attention_cnn"
    layers: int = knob(3, "inner layers that attend: 2 or 3, the deepest ones", ge=2, le=3)
    compatibility: Compatibility = knob(
        Compatibility.parametrized, "score of a position. parametrized: u . (l + g), u learned; dot: l . g"
    )
    base_channels: int = knob(64, "channels of the first stage; they double up to 8 times", ge=1, le=4096)
    norm: Norm = knob(Norm.batch, "normalization before each activation")
    dropout: float = knob(0.0, "share of the last layer's inputs dropped in training", ge=0, lt=1)

    @property
    def min_size(self) -> Size:
        return 32, 32  # five poolings by 2
