"""The user's own images, with a class, values, or nothing to each."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.data.base import Cut, Files
from dltrain.config.knob import knob


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


class TargetArray(StrEnum):
    labels = "labels"
    values = "values"


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
