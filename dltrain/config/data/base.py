"""What the settings of data sets have in common."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob


class LoaderKind(StrEnum):
    auto = "auto"
    resident = "resident"
    streaming = "streaming"


class Sampling(StrEnum):
    shuffled = "shuffled"
    balanced = "balanced"


@dataclass
class Augment:
    """Random changes to each training image, drawn by (seed, epoch, sample) and made in batches on the device."""

    resized_crop: float | None = knob(
        None,
        "smallest share of the image's area that a random crop takes, resized to size (3/4 to 4/3 of its shape); "
        "null: off; streams the images",
        gt=0,
        le=1,
        source="Szegedy 2015",
    )
    flip: float = knob(0.0, "probability of a horizontal flip", ge=0, le=1)
    crop: int = knob(0, "zero padding on each side before a random crop back to size", ge=0, unit="pixels")
    rotate: float = knob(0.0, "largest rotation either way", ge=0, le=180, unit="degrees")
    translate: float = knob(0.0, "largest shift either way, as a share of height and width", ge=0, lt=1)
    scale: float = knob(0.0, "largest change of size either way: factor from 1-scale to 1+scale", ge=0, lt=1)
    shear: float = knob(0.0, "largest horizontal shear either way", ge=0, lt=90, unit="degrees")
    cutout: int = knob(0, "side of the square set to zero", ge=0, unit="pixels", source="DeVries and Taylor 2017")
    brightness: float = knob(0.0, "largest change of brightness: factor from 1-brightness to 1+brightness", ge=0, le=1)
    contrast: float = knob(0.0, "largest change of contrast: factor from 1-contrast to 1+contrast", ge=0, le=1)
    saturation: float = knob(0.0, "largest change of saturation: factor from 1-saturation to 1+saturation", ge=0, le=1)
    hue: float = knob(0.0, "largest shift of hue either way, as a share of the circle", ge=0, le=0.5)
    erase: float = knob(
        0.0,
        "probability that a random rectangle (2 to 33 % of the area) is set to zero",
        ge=0,
        le=1,
        source="Zhong 2020",
    )
    mixup: float = knob(
        0.0,
        "alpha: images and targets blended with another sample's, share from Beta(alpha, alpha)",
        ge=0,
        le=100,
        source="Zhang 2018",
    )
    cutmix: float = knob(
        0.0,
        "alpha: a box from another sample, targets by its area, share from Beta(alpha, alpha)",
        ge=0,
        le=100,
        source="Yun 2019",
    )


@dataclass
class Data:
    """What every data set's settings have. `kind` says what its targets are: `class`, `value`, `mask` or none.

    `opens` is `file:function` below `data/` of the package that declares the settings: it makes the ImageSet.
    """

    opens: ClassVar[str] = ""
    kind: ClassVar[str] = "class"
    native: ClassVar[tuple[int, int, int] | None] = None  # (C, H, W) of a known set's images as they are stored
    ending: ClassVar[str] = ""  # of the file that `root` names; empty where it is a folder
    class_count: ClassVar[int | None] = None  # of a known set that may have to be fetched
    name: str = knob("", "the kind of data set; read back from a saved config to find its settings")
    size: str = knob("auto", "image size the model sees: auto, 96 or 180x240 (height x width)", unit="pixels")
    loader: LoaderKind = knob(LoaderKind.auto, "resident: decoded once, kept on the device; streaming: read as it goes")
    workers: int | None = knob(
        None, "processes that read for the streaming loader; null: cores less one, at most 8", ge=0
    )
    mean: list[float] | None = knob(None, "mean of each channel, of images in 0 to 1; null: the set's own", ge=0, le=1)
    std: list[float] | None = knob(None, "standard deviation of each channel; null: the set's own", gt=0, le=1)
    classes: list[str] | None = knob(None, "names of the classes to keep; null: all", free_text=True)
    train_per_class: int | None = knob(None, "training images of each class at most, chosen by seed; null: all", ge=1)
    sampling: Sampling = knob(Sampling.shuffled, "balanced: each class is as frequent in an epoch as any other")
    folds: int | None = knob(
        None, "cross-validation: train and val together are cut into so many parts; null: off", ge=2, le=1000
    )
    fold: int = knob(0, "which of the folds is val: 0 to folds-1", ge=0)
    augment: Augment = field(default_factory=Augment)

    @property
    def target_kind(self) -> str:
        """`kind`, where it does not depend on the settings."""
        return type(self).kind


@dataclass
class Fetched(Data):
    """What sets that are fetched on first use have."""

    root: str | None = knob(
        None, "folder of the files; null: $DLTRAIN_DATA, else the user's cache folder", free_text=True
    )
    val_share: float = knob(0.1, "share of the training images kept for validation, by seed and class", gt=0, lt=1)


@dataclass
class Cut(Data):
    """What the user's own sets have that may come unsplit."""

    val_share: float = knob(0.1, "share kept for validation, by seed and class, where no val is given", gt=0, lt=1)
    test_share: float = knob(0.2, "share kept for the test, where neither val nor test is given", ge=0, lt=1)


class Unreadable(StrEnum):
    skip = "skip"
    stop = "stop"


@dataclass
class Files(Cut):
    """What sets of image files have."""

    max_pixels: int = knob(
        89_478_485, "largest image that is decoded, by its header", ge=1, unit="pixels", source="Pillow"
    )
    unreadable: Unreadable = knob(
        Unreadable.skip, "an image that cannot be read: skip leaves it out, counted and named; stop ends with its name"
    )
