"""Data settings: one dataclass a kind of data set."""

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


class Unreadable(StrEnum):
    skip = "skip"
    stop = "stop"


class TargetArray(StrEnum):
    labels = "labels"
    values = "values"


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
    class_count: ClassVar[int | None] = 10
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "mnist"


@dataclass
class FashionMnist(Fetched):
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 training and 10,000 test articles, 1x28x28."""

    opens: ClassVar[str] = "mnist:open_fashion_mnist"
    class_count: ClassVar[int | None] = 10
    native: ClassVar[tuple[int, int, int] | None] = (1, 28, 28)
    name: str = "fashion_mnist"


@dataclass
class DigitsPose(Data):
    """The embedded digits, each turned, scaled and shifted by the key of its id: what is learned is the pose."""

    opens: ClassVar[str] = "digits_pose:open_digits_pose"
    kind: ClassVar[str] = "value"
    native: ClassVar[tuple[int, int, int] | None] = (1, 32, 32)
    all_values: ClassVar[tuple[str, ...]] = ("rotation", "scale", "shift_x", "shift_y")
    name: str = "digits_pose"
    values: list[str] | None = knob(None, "what is learned: of rotation, scale, shift_x, shift_y; null: all four")


@dataclass
class Cifar10(Fetched):
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test photos, 3x32x32, 10 classes."""

    opens: ClassVar[str] = "cifar:open_cifar10"
    class_count: ClassVar[int | None] = 10
    native: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    name: str = "cifar10"


@dataclass
class Cifar100(Fetched):
    """CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test photos, 3x32x32, 100 classes."""

    opens: ClassVar[str] = "cifar:open_cifar100"
    class_count: ClassVar[int | None] = 100
    native: ClassVar[tuple[int, int, int] | None] = (3, 32, 32)
    name: str = "cifar100"


@dataclass
class Cut(Data):
    """What the user's own sets have that may come unsplit."""

    val_share: float = knob(0.1, "share kept for validation, by seed and class, where no val is given", gt=0, lt=1)
    test_share: float = knob(0.2, "share kept for the test, where neither val nor test is given", ge=0, lt=1)


@dataclass
class Files(Cut):
    """What sets of image files have."""

    max_pixels: int = knob(
        89_478_485, "largest image that is decoded, by its header", ge=1, unit="pixels", source="Pillow"
    )
    unreadable: Unreadable = knob(
        Unreadable.skip, "an image that cannot be read: skip leaves it out, counted and named; stop ends with its name"
    )


@dataclass
class Folder(Files):
    """The user's own images: one folder a class, or train/val/test folders of them."""

    opens: ClassVar[str] = "folder:open_folder"
    name: str = "folder"
    root: str | None = knob(None, "the folder that holds them", free_text=True)


@dataclass
class ImagesOnly(Files):
    """A folder of images without labels, of any sizes: for generators, and to look at."""

    opens: ClassVar[str] = "images:open_images"
    kind: ClassVar[str] = "none"
    name: str = "images"
    root: str | None = knob(None, "the folder that holds them", free_text=True)


@dataclass
class Csv(Files):
    """A table of images: one row a file, with its label or with any number of real values to be learned."""

    opens: ClassVar[str] = "csv_table:open_csv"
    ending: ClassVar[str] = ".csv"
    name: str = "csv"
    root: str | None = knob(None, "the .csv file; the paths in it are relative to its folder", free_text=True)
    file: str = knob("file", "column of the image files", free_text=True)
    label: str = knob("label", "column of the class", free_text=True)
    values: list[str] | None = knob(None, "columns of real numbers to be learned, in place of a label", free_text=True)
    split: str | None = knob(None, "column that says train, val or test; null: split by seed", free_text=True)
    group: str | None = knob(None, "column of what must not be parted by a split (a patient, a scene)", free_text=True)

    @property
    def target_kind(self) -> str:
        """Values if their columns are named, else a class."""
        return "class" if self.values is None else "value"


@dataclass
class Array(Cut):
    """Arrays in one .npz file: `images` uint8 (N,H,W) or (N,H,W,C) with `labels` or `values`; also `train_images`, …"""

    opens: ClassVar[str] = "arrays:open_array"
    ending: ClassVar[str] = ".npz"
    name: str = "array"
    root: str | None = knob(None, "the .npz file", free_text=True)
    targets: TargetArray = knob(TargetArray.labels, "labels: (N,) class numbers; values: (N,) or (N,K) real numbers")

    @property
    def target_kind(self) -> str:
        """As `targets` says."""
        return "class" if self.targets == TargetArray.labels else "value"
