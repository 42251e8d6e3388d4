"""What the settings of every model have, and choices that several families share. The paper's numbers are defaults."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob

SMALL = 64  # pixels of the shorter side up to which an image counts as small
Size = tuple[int, int]  # height, width


class Activation(StrEnum):
    sigmoid = "sigmoid"
    tanh = "tanh"
    relu = "relu"
    leaky_relu = "leaky_relu"
    gelu = "gelu"
    silu = "silu"


class Norm(StrEnum):
    none = "none"
    batch = "batch"


class Pool(StrEnum):
    max = "max"
    avg = "avg"


class Scale(StrEnum):
    """For which images a stem or a head is made."""

    auto = "auto"
    small = "small"
    large = "large"

    def is_small(self, size: Size, limit: int = SMALL) -> bool:
        """Whether the form for small images is built; auto: for those of at most `limit` pixels."""
        return self is Scale.small or (self is Scale.auto and min(size) <= limit)


class Attention(StrEnum):
    none = "none"
    se = "se"
    cbam = "cbam"
    spatial_softmax = "spatial_softmax"


@dataclass
class Model:
    """What every model's settings have. `builds` is `file:Class` below `models/` of the package that declares it."""

    builds: ClassVar[str] = ""
    fixed_size: ClassVar[Size | None] = None  # (H, W) if the network takes one size only
    task: ClassVar[str] = "classification"  # the task it is trained for when the data allow it
    name: str = knob("", "the family; read back from a saved config to find its settings")

    @property
    def title(self) -> str:
        """What people call the network: `resnet50` for a ResNet of 50 layers."""
        return self.name

    @property
    def min_size(self) -> Size:
        """The smallest (H, W) that the network can take."""
        return self.fixed_size or (1, 1)

    @property
    def norms_batches(self) -> bool:
        """Whether it has batch normalization, which cannot learn from one image."""
        return getattr(self, "norm", None) is Norm.batch

    def takes(self, size: Size) -> bool:
        """Whether the network can take images of this (H, W)."""
        smallest = self.min_size
        return size[0] >= smallest[0] and size[1] >= smallest[1]

    def sizes(self, near: Size) -> str:
        """Which sizes it can take, in words; `near` is one of those that are asked for."""
        return "{}x{} and above".format(*self.min_size)

    def learns_from_one(self, size: Size) -> bool:
        """Whether it can be trained on one image of this (H, W) at a time."""
        return not self.norms_batches

    def size_for(self, own: Size) -> Size:
        """What data.size=auto means for images of their own size: as they are, made large enough for the network."""
        if self.fixed_size is not None:
            return self.fixed_size
        smallest = self.min_size
        return max(own[0], smallest[0]), max(own[1], smallest[1])

    def notes(self, size: Size) -> tuple[str, ...]:
        """What is built otherwise to suit images of this size, in words for the screen."""
        return ()
