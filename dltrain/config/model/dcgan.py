"""Settings of DCGAN."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob
from dltrain.config.model.base import Model, Norm, Size


class UpSampling(StrEnum):
    transpose = "transpose"
    resize = "resize"
    pixelshuffle = "pixelshuffle"


class DiscriminatorNorm(StrEnum):
    batch = "batch"
    spectral = "spectral"
    none = "none"


@dataclass
class DCGAN(Model):
    """DCGAN (Radford et al. 2015, figure 1), with the 4x4 kernels of its ports: 12,658,432 parameters at 3x64x64.

    That is the generator's count. The paper's own code has 5x5 kernels.
    """

    builds: ClassVar[str] = "dcgan:DCGAN"
    task: ClassVar[str] = "adversarial"
    all_sizes: ClassVar[tuple[int, ...]] = (28, 32, 64, 128)
    name: str = "dcgan"
    latent_dim: int = knob(100, "numbers of z, standard normal", ge=1, le=4096)
    base_channels: int = knob(
        128, "channels beside the image; they double towards the projection: 1024 there at 64x64", ge=1, le=512
    )
    up: UpSampling = knob(
        UpSampling.transpose,
        "transpose: fractionally-strided 4x4 convolution, as in the paper; resize: repetition, then a 3x3 convolution "
        "(Odena 2016); pixelshuffle: 3x3 sub-pixel convolution (Shi 2016), which begins as a repetition (Aitken 2017)",
    )
    norm: Norm = knob(Norm.batch, "normalization in the generator, but for its last layer")
    discriminator_norm: DiscriminatorNorm = knob(
        DiscriminatorNorm.batch, "batch, but for its first and last layer; spectral (Miyato 2018); none"
    )

    @property
    def min_size(self) -> Size:
        return self.all_sizes[0], self.all_sizes[0]

    def takes(self, size: Size) -> bool:
        """Squares of one of the sides."""
        return size[0] == size[1] and size[0] in self.all_sizes

    def sizes(self, near: Size) -> str:
        return ", ".join(f"{side}x{side}" for side in self.all_sizes)

    def size_for(self, own: Size) -> Size:
        """The largest that asks for no pixels that the images do not have; the smallest for those that are smaller."""
        side = max((side for side in self.all_sizes if side <= min(own)), default=self.all_sizes[0])
        return side, side

    def learns_from_one(self, size: Size) -> bool:
        """One image has as many values a channel as positions, and there are 4x4 or 7x7 at least."""
        return True
