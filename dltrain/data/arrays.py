"""Arrays in one .npz file. Needs no torch."""

from dataclasses import replace

import numpy as np

from dltrain.config.data import Array, TargetArray
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target
from dltrain.data.array_file import HOW, held_in
from dltrain.data.columns import told_of
from dltrain.data.cut import complete, refuse_empty
from dltrain.data.files import root_of
from dltrain.data.imageset import (
    Images,
    ImageSet,
    Numbers,
    Part,
    Say,
    Statistics,
    measured,
    spread,
    value_statistics,
    with_statistics,
)
from dltrain.data.npz import Npz, NpzError
from dltrain.data.sizes import ArrayReader, SizeRule, final_size, fit, to_image
from dltrain.text import safe_text

MOST_MEASURED = 10_000  # training images that mean and standard deviation are computed from, at most
PORTION = 256  # of these at a time


class OwnReader(ArrayReader):
    """The user's images of one size in memory, (N, C, H, W); resized where another size is wanted, never padded."""

    def __call__(self, number: int, part: Part | None = None) -> Images:
        if part is not None or self.images.shape[-2:] == self.size:
            return super().__call__(number, part)
        return fit(to_image(self.images[number]), self.size)

    def everything(self, say: Say) -> Images:
        """(N, C, H, W)."""
        if self.images.shape[-2:] == self.size:
            return self.images
        return np.stack([self(number) for number in range(len(self.images))])


def open_array(settings: Array, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers are positions; where each split has arrays of its own, train's come first, then val's, test's.

    Raises Mistake, naming the array.
    """
    path = root_of(settings)
    where = f"data.root={safe_text(str(path))}"
    of_classes = settings.targets == TargetArray.labels
    try:
        with told_of(where), Npz(path) as file:
            held = held_in(file, of_classes)
    except (NpzError, OSError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise Mistake(f"{where}: {what}", allowed=f"a .npz file {HOW}") from None
    images, targets, names = held.images, held.targets, held.class_names
    splits, how = complete(settings, held.splits, targets, names, range(len(images)), seed, held.groups, where)
    refuse_empty(where, splits, targets, names, "")
    native = (images.shape[2], images.shape[3])
    size = final_size(settings.size, suits, native)
    resized = f"images resized from {native[0]}x{native[1]} to {size[0]}x{size[1]} (largest centred part, antialias)"
    given = settings.mean is not None and settings.std is not None
    statistics, note = _statistics(images, splits["train"])
    spec = DataSpec(
        name=settings.name,
        shape=(images.shape[1], *size),
        target=Target.classes if of_classes else Target.values,
        class_names=tuple(safe_text(name, 1000) for name in names),
        counts={name: len(numbers) for name, numbers in splits.items()},
        mean=statistics.mean,
        std=statistics.std,
        where=safe_text(str(path)),
        notes=(*how, *held.notes, *([resized] if size != native else []), *([] if given else [note])),
        value_names=tuple(safe_text(name, 1000) for name in held.value_names),
    )
    if not of_classes:
        of_values = value_statistics(targets[splits["train"]])
        spec = replace(spec, value_mean=of_values.mean, value_std=of_values.std)
    return ImageSet(with_statistics(spec, settings), targets, splits, OwnReader(images, size), groups=held.groups)


def _statistics(images: Images, train: Numbers) -> tuple[Statistics, str]:
    """Mean and standard deviation of training images spread evenly over the split, before they are resized."""
    chosen = spread(train, MOST_MEASURED)
    portions = (images[chosen[start : start + PORTION]] for start in range(0, len(chosen), PORTION))
    statistics = Statistics.of(portion.transpose(1, 0, 2, 3) for portion in portions)
    return statistics, measured(len(chosen))
