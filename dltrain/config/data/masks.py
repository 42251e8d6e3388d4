"""Sets of images with masks: a class for each pixel."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from dltrain.config.data.base import Data, Fetched, Files, Unreadable
from dltrain.config.knob import knob


class UnknownValues(StrEnum):
    stop = "stop"
    ignore = "ignore"


@dataclass
class MaskAugment:
    """Random changes to each training window, drawn by (seed, epoch, sample); image and mask move together."""

    flip: float = knob(0.0, "probability of a horizontal flip", ge=0, le=1)
    vertical_flip: float = knob(0.0, "probability of a vertical flip", ge=0, le=1)
    rotate: float = knob(0.0, "largest rotation either way", ge=0, le=180, unit="degrees")
    scale: float = knob(0.0, "largest change of size either way: factor from 1-scale to 1+scale", ge=0, lt=1)
    elastic: float = knob(
        0.0,
        "standard deviation of the displacements on a 3x3 grid over the window, bicubic in between; the paper has 10",
        ge=0,
        unit="pixels",
        source="Ronneberger 2015, section 3.1",
    )
    brightness: float = knob(0.0, "largest change of brightness: factor from 1-brightness to 1+brightness", ge=0, le=1)
    contrast: float = knob(0.0, "largest change of contrast: factor from 1-contrast to 1+contrast", ge=0, le=1)
    saturation: float = knob(0.0, "largest change of saturation: factor from 1-saturation to 1+saturation", ge=0, le=1)
    hue: float = knob(0.0, "largest shift of hue either way, as a share of the circle", ge=0, le=0.5)


@dataclass
class Masks(Data):
    """What all of them have. `size` auto: each image as it is; else image and mask are resized to it."""

    kind: ClassVar[str] = "mask"
    crop: str = knob(
        "auto",
        "window that training takes from each image: auto, 256 or 192x256 (height x width); auto: the sides of the "
        "smallest training image, at most 256, made to suit the model",
        unit="pixels",
    )
    augment: MaskAugment = field(default_factory=MaskAugment)  # type: ignore[assignment]


@dataclass
class DigitScenes(Masks):
    """One to four embedded digits, scaled and turned, on textured ground; masks say which, or ground. No download."""

    opens: ClassVar[str] = "digit_scenes:open_digit_scenes"
    name: str = "digit_scenes"
    size: str = knob("64", "height and width of the scenes: 64 or 96x128, no side below 32", unit="pixels")
    train_scenes: int = knob(4000, "scenes to train on; there are 400 for validation and 1,000 for the test", ge=1)
    overlap: bool = knob(False, "digits lie anywhere, over each other, not one to a quadrant: far harder")
    scene_seed: int = knob(0, "another number makes other scenes", ge=0)


@dataclass
class MaskFolder(Masks, Files):
    """Images and masks of equal names: images/ and masks/, or train, val and test folders of both."""

    opens: ClassVar[str] = "mask_folder:open_mask_folder"
    name: str = "mask_folder"
    root: str | None = knob(
        None, "the folder that holds images/ and masks/, or train/images, train/masks and so on", free_text=True
    )
    unreadable: Unreadable = knob(
        Unreadable.stop,
        "a file that cannot be read: stop ends with its name; skip leaves the pair out, counted and named",
    )
    mask_values: list[int] | None = knob(
        None, "the value of each class in grey and palette masks, in class order; null: 0, 1, 2, …", ge=0, le=65535
    )
    mask_colors: list[list[int]] | None = knob(
        None, "the colour of each class in masks of colours, in class order: [[0,0,0],[255,0,0]]", ge=0, le=255
    )
    class_names: list[str] | None = knob(
        None, "names of the classes, in class order; null: their values in the masks", free_text=True
    )
    ignore_index: int | None = knob(
        None, "value of the masks that counts for nothing; null: there is none", ge=0, le=65535
    )
    unknown_mask_values: UnknownValues = knob(
        UnknownValues.stop, "values that are none of the classes: stop names them; ignore makes them count for nothing"
    )


@dataclass
class Pets(Masks, Fetched):
    """Oxford-IIIT Pet (Parkhi 2012): 3,680 and 3,669 photos; each pixel is pet, background or border."""

    opens: ClassVar[str] = "fetched_masks:open_pets"
    name: str = "pets"


@dataclass
class Voc2012(Masks):
    """PASCAL VOC 2012 segmentation (Everingham 2012): 1,464 and 1,449 photos, 20 classes and background; no test."""

    opens: ClassVar[str] = "fetched_masks:open_voc2012"
    name: str = "voc2012"
    root: str | None = knob(
        None, "folder of the files; null: $DLTRAIN_DATA, else the user's cache folder", free_text=True
    )
