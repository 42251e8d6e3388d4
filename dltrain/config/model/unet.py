"""Settings of the U-Nets."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Model, Norm, Scale, Size
from dltrain.config.sides import Sides


class Padding(StrEnum):
    same = "same"
    valid = "valid"


class Up(StrEnum):
    transpose = "transpose"
    nearest = "nearest"

    @property
    def reach(self) -> int:
        """Pixels that it looks at on each side of one: the 3x3 convolution behind the repetition does."""
        return 0 if self is Up.transpose else 1


@dataclass
class PerPixel(Model):
    """What networks with an output for each pixel have. Their images have sides of k * stride + offset."""

    task: ClassVar[str] = "segmentation"

    @property
    def lost(self) -> int:
        """Pixels that outputs lack on each side of an image."""
        return 0

    def grid(self, size: Size) -> Size:
        """Stride and offset of the network that is built for training windows of this size."""
        raise NotImplementedError

    def geometry(self, size: Size) -> Sides:
        """All that the network for windows of this size says of sides of images."""
        raise NotImplementedError

    def takes(self, size: Size) -> bool:
        stride, offset = self.grid(size)
        return super().takes(size) and all((side - offset) % stride == 0 for side in size)

    def size_for(self, own: Size) -> Size:
        """Each side made smaller until it fits, but no smaller than the network needs."""
        (stride, offset), (height, width) = self.grid(own), self.min_size
        return max(height, own[0] - (own[0] - offset) % stride), max(width, own[1] - (own[1] - offset) % stride)

    def sizes(self, near: Size) -> str:
        stride, offset = self.grid(near)
        first = max(self.min_size)
        if offset == 0 and first <= stride:
            return f"sides that are multiples of {stride}"
        return f"sides of {first}, {first + stride}, {first + 2 * stride} and so on by {stride}"

    def learns_from_one(self, size: Size) -> bool:
        """One image has as many values a channel as positions: at the lowest level one is too few for batch norm."""
        stride, _ = self.grid(size)
        return not self.norms_batches or (size[0] // stride) * (size[1] // stride) > 1


@dataclass
class UNet(PerPixel):
    """U-Net (Ronneberger et al. 2015, figure 1)."""

    builds: ClassVar[str] = "unet:UNet"
    name: str = "unet"
    depth: int = knob(5, "levels; 5 means four poolings", ge=2, le=8)
    base_channels: int = knob(64, "channels of the first level; they double from level to level", ge=1, le=1024)
    padding: Padding = knob(Padding.same, "same: outputs as large as inputs; valid: the paper's, 572 in and 388 out")
    norm: Norm = knob(Norm.batch, "normalization behind each 3x3 convolution; the paper has none")
    up: Up = knob(Up.transpose, "transpose: 2x2 up-convolutions; nearest: repetition, then a 3x3 convolution")
    skips: bool = knob(True, "false: no copies from the contracting path, a plain encoder-decoder")
    dropout: float = knob(
        0.5,
        "share dropped in training behind the last two levels of the contracting path",
        ge=0,
        lt=1,
        source="section 3.1; which levels, and the share, as in its authors' network",
    )

    @property
    def stride(self) -> int:
        """Pixels of the image to one of the lowest level."""
        stride: int = 2 ** (self.depth - 1)
        return stride

    @property
    def offset(self) -> int:
        """What a side has beyond multiples of the stride, so that each pooling finds even sides."""
        return -4 % self.stride if self.padding is Padding.valid else 0

    @property
    def margin(self) -> int:
        """How far an output looks, in pixels on each side: as a multiple of the stride, as parts of an image begin.

        valid: what the outputs lack on each side.
        """
        stride, reach = self.stride, self.up.reach
        if self.padding is Padding.valid:
            return 2 * stride + (4 + reach) * (stride - 1)
        at = 0  # the first pixel of a part; then, level by level, the first one that it needs
        for _ in range(self.depth - 1):
            at = (at - 2 - reach) // 2  # up through two convolutions and an up-convolution
        at -= 2
        for _ in range(self.depth - 1):
            at = 2 * at - 2
        return -(at // stride) * stride

    @property
    def lost(self) -> int:
        return self.margin if self.padding is Padding.valid else 0

    @property
    def min_size(self) -> Size:
        if self.padding is Padding.same:
            return self.stride, self.stride
        lost = (4 + 2 * self.up.reach) * (self.stride - 1)  # between the lowest level and the outputs
        side = self.stride * (lost // self.stride + 1 + 4) + 4 * (self.stride - 1)
        return side, side

    def grid(self, size: Size) -> Size:
        return self.stride, self.offset

    def geometry(self, size: Size) -> Sides:
        return Sides(self.stride, self.offset, self.margin, self.lost)


@dataclass
class UNetResNet(PerPixel):
    """A U-Net (Ronneberger et al. 2015) whose contracting path is a ResNet of basic blocks (He et al. 2015)."""

    builds: ClassVar[str] = "unet_resnet:UNetResNet"
    name: str = "unet_resnet"
    blocks: list[int] = knob(
        lambda: [2, 2, 2, 2], "residual blocks of each stage; [2,2,2,2]: those of ResNet-18", ge=1, fewest=2, most=8
    )
    base_channels: int = knob(64, "channels of the first stage; they double from stage to stage", ge=1, le=4096)
    stem: Scale = knob(
        Scale.auto, "large: 7x7 convolution of stride 2, pooling; small: 3x3 of stride 1; auto: small up to 64 pixels"
    )
    norm: Norm = knob(Norm.batch, "normalization behind each 3x3 convolution; without, add clip=norm")
    up: Up = knob(Up.transpose, "transpose: 2x2 up-convolutions; nearest: repetition, then a 3x3 convolution")
    dropout: float = knob(0.0, "share dropped in training at the end of the contracting path", ge=0, lt=1)

    @property
    def title(self) -> str:
        return f"unet_resnet{2 * sum(self.blocks) + 2}"

    @property
    def min_size(self) -> Size:
        large = self.stem is Scale.large
        side: int = 2 ** (len(self.blocks) - 1 + 2 * large)
        return side, side

    def grid(self, size: Size) -> Size:
        stride: int = 2 ** (len(self.blocks) - 1 + 2 * (not self.stem.is_small(size)))
        return stride, 0

    def geometry(self, size: Size) -> Sides:
        return Sides(*self.grid(size), self.margin(size), self.lost)

    def margin(self, size: Size) -> int:
        """How far an output looks, in pixels on each side: as a multiple of the stride, as parts of an image begin.

        Counted to the upper left, where convolutions of stride 2 look further.
        """
        (stride, _), small = self.grid(size), self.stem.is_small(size)
        at = 0  # the first pixel of a part; then, level by level, the first one that it needs
        for _ in range(len(self.blocks) - 1 + 2 * (not small)):
            at = (at - 2 - self.up.reach) // 2  # up through two convolutions and an up-convolution
        for stage in reversed(range(len(self.blocks))):
            at -= 2 * self.blocks[stage] - 1  # all convolutions of the stage but its first
            at = 2 * at - 1 if stage > 0 else at - 1
        at = at - 1 if small else 2 * (2 * at - 1) - 3  # the stem: 3x3; pooling, 7x7
        return -(at // stride) * stride

    def notes(self, size: Size) -> tuple[str, ...]:
        small = "small images: 3x3 first convolution of stride 1, no pooling behind it (model.stem=large: the paper's)"
        return (small,) if self.stem.is_small(size) else ()
