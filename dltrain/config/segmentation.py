"""Settings of the task that learns masks."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob


class SegmentationLoss(StrEnum):
    cross_entropy = "cross_entropy"
    dice = "dice"
    both = "both"


@dataclass
class Segmentation:
    """A class for each pixel: cross-entropy, soft Dice, or their sum, over pixels that are not ignored."""

    kinds: ClassVar[tuple[str, ...]] = ("mask",)
    name: str = "segmentation"
    loss: SegmentationLoss = knob(SegmentationLoss.cross_entropy, "cross_entropy, dice, or both: their sum")
    class_weights: list[float] | None = knob(None, "weight of each class in the loss, in class order", ge=0)
    balanced: bool = knob(False, "weight classes by N / (K * count) over the pixels of the training masks")
    weight_map: bool = knob(
        False,
        "ground between two cells weighs more, by w0 and sigma, and classes as balanced or class_weights say; ground "
        "is the first class, a cell a part of another class that hangs together by the sides of its pixels",
        source="Ronneberger 2015, equation 2",
    )
    w0: float = knob(10.0, "weight of ground as narrow as can be, with weight_map=true", ge=0)
    sigma: float = knob(
        5.0,
        "how wide ground may be to weigh more, with weight_map=true: exp(-(d1 + d2)^2 / (2 sigma^2))",
        ge=0.1,
        unit="pixels",
    )
    tile: int | None = knob(
        None,
        "side of the tiles that large images are answered in; null: 512, more for networks that look far "
        "(unet_resnet18: 992, unet_resnet34: 1504), and images up to 1024x1024, or of one tile, whole",
        ge=32,
        unit="pixels",
    )
