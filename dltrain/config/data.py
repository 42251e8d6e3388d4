"""Data settings: one dataclass a kind of data set."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob


class LoaderKind(StrEnum):
    auto = "auto"
    resident = "resident"
    streaming = "streaming"


@dataclass
class Augment:
    """Random changes to each training image, drawn by (seed, epoch, sample) and made in batches on the device."""

    flip: float = knob(0.0, "probability of a horizontal flip", ge=0, le=1)
    crop: int = knob(0, "zero padding on each side before a random crop back to size", ge=0, unit="pixels")
    rotate: float = knob(0.0, "largest rotation either way", ge=0, le=180, unit="degrees")
    translate: float = knob(0.0, "largest shift either way, as a share of height and width", ge=0, lt=1)
    scale: float = knob(0.0, "largest change of size either way: factor from 1-scale to 1+scale", ge=0, lt=1)
    shear: float = knob(0.0, "largest horizontal shear either way", ge=0, lt=90, unit="degrees")
    cutout: int = knob(0, "side of the square set to zero", ge=0, unit="pixels", source="DeVries and Taylor 2017")


@dataclass
class Data:
    """What every data set's settings have. `kind` says what its targets are: `class`, `value`, `mask` or none.

    `opens` is `file:function` below `data/` of the package that declares the settings: it makes the ImageSet.
    """

    opens: ClassVar[str] = ""
    kind: ClassVar[str] = "class"
    native: ClassVar[tuple[int, int, int] | None] = None  # (C, H, W) of a known set's images as they are stored
    name: str = knob("", "the kind of data set; read back from a saved config to find its settings")
    size: str = knob("auto", "image size the model sees: auto, 96 or 180x240 (height x width)", unit="pixels")
    loader: LoaderKind = knob(LoaderKind.auto, "resident: decoded once, kept on the device; streaming: read as it goes")
    workers: int | None = knob(
        None, "processes that read for the streaming loader; null: cores less one, at most 8", ge=0
    )
    mean: list[float] | None = knob(None, "mean of each channel, of images in 0 to 1; null: the set's own", ge=0, le=1)
    std: list[float] | None = knob(None, "standard deviation of each channel; null: the set's own", gt=0, le=1)
    augment: Augment = field(default_factory=Augment)


@dataclass
class Digits(Data):
    """5,000 real MNIST digits that come with dltrain: 350 a class to train, 50 val, 100 test. No download."""

    opens: ClassVar[str] = "embedded:open_digits"
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "digits"


@dataclass
class Fetched(Data):
    """What sets that are fetched on first use have."""

    root: str | None = knob(
        None, "folder of the files; null: $DLTRAIN_DATA, else the user's cache folder", free_text=True
    )
    val_share: float = knob(0.1, "share of the training images kept for validation, by seed and class", gt=0, lt=1)


@dataclass
class Mnist(Fetched):
    """MNIST (LeCun, Cortes, Burges): 60,000 training and 10,000 test digits, 1x28x28."""

    opens: ClassVar[str] = "mnist:open_mnist"
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "mnist"


@dataclass
class FashionMnist(Fetched):
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 training and 10,000 test articles, 1x28x28."""

    opens: ClassVar[str] = "mnist:open_fashion_mnist"
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "fashion_mnist"


@dataclass
class Folder(Data):
    """The user's own images: one folder a class, or train/val/test folders of them."""

    opens: ClassVar[str] = "folder:open_folder"
    name: str = "folder"
    root: str | None = knob(None, "the folder that holds them", free_text=True)
    val_share: float = knob(
        0.1, "share kept for validation, by seed and class, where there is no val folder", gt=0, lt=1
    )
    test_share: float = knob(0.2, "share kept for the test, where there is neither a val nor a test folder", ge=0, lt=1)
    max_pixels: int = knob(
        89_478_485, "largest image that is decoded, by its header", ge=1, unit="pixels", source="Pillow"
    )
