"""What the settings choose from a set that has been opened: folds, classes, fewer images. Needs no torch.

Whatever is drawn is drawn by a keyed hash of the seed and of what identifies a sample, so that it stays what it is when
others come.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dltrain.config.data import Data, Sampling
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.nearest import is_near, nearest
from dltrain.config.quote import quote
from dltrain.config.ranges import shown
from dltrain.config.spec import Target
from dltrain.data import arrays as of_arrays
from dltrain.data import files as of_files
from dltrain.data.cut import fold_of, ranks, strata
from dltrain.data.decode import UnreadableError
from dltrain.data.imageset import (
    MEASURED,
    Images,
    ImageSet,
    Numbers,
    Part,
    Reader,
    Say,
    Selective,
    Statistics,
    measured,
    spread,
    value_statistics,
    with_statistics,
)
from dltrain.keys import hash_text
from dltrain.text import some

BALANCED = "every class comes equally often in an epoch: images of small ones are repeated (data.sampling=balanced)"


class Subset:
    """Some samples of another reader, numbered anew."""

    def __init__(self, read: Reader, numbers: Numbers) -> None:
        self.read = read
        self.numbers = numbers

    def __call__(self, number: int, part: Part | None = None) -> Images:
        return self.read(int(self.numbers[number]), part)

    def everything(self, say: Say) -> Images | list[Images]:
        """Those, in their order. Raises UnreadableError."""
        whole = self.read.everything(say)
        return whole[self.numbers] if isinstance(whole, np.ndarray) else [whole[n] for n in self.numbers.tolist()]


def select(images: ImageSet, cfg: Config) -> ImageSet:
    """The set with `data.folds`, `data.classes`, `data.train_per_class` and the trainer's short ways applied.

    Raises Mistake.
    """
    data, trainer, whole = cfg.data, cfg.trainer, images
    if data.folds is not None:
        images = take_fold(images, data.folds, data.fold, cfg.seed)
    if data.classes is not None:
        images = take_classes(images, data.classes)
    if data.train_per_class is not None:
        images = take_per_class(images, data.train_per_class, cfg.seed)
    if images is not whole:
        images = measure_again(images, data)
    if data.sampling == Sampling.balanced:
        images = replace(images, spec=replace(images.spec, notes=(*images.spec.notes, BALANCED)))
    if trainer.overfit_batches is not None:
        images = take_batches(images, trainer.overfit_batches, trainer.batch_size, cfg.seed)
    if trainer.dry_run:
        images = take_little(images, trainer.batch_size, cfg.seed)
    return images


def take_fold(images: ImageSet, folds: int, fold: int, seed: int) -> ImageSet:
    """Train and val together, cut into `folds` parts of which one is val: by class, and groups stay together.

    Raises Mistake where there are too few images, or groups, to give every fold one.
    """
    both = np.sort(np.concatenate([images.splits["train"], images.splits.get("val", np.empty(0, np.int64))]))
    labels = strata(images.targets[both])
    groups = None if images.groups is None else images.groups[both]
    if groups is None:
        names = images.spec.class_names if images.targets.ndim == 1 else ("all images",)
        counts = np.bincount(labels, minlength=len(names)).tolist()
        few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < folds]
        most = min(counts)
        what = "images in train and val together of "
    else:
        most = len(np.unique(groups))
        few = [f"{most}"] if most < folds else []
        what = "groups in train and val together: "
    if few:
        raise Mistake(
            f"data.folds={folds}: too few {what}{some(few)}",
            allowed=f"2 to {most} folds" if most >= 2 else "at least one image a fold of every class",
            type_this=f"data.folds={most} data.fold=0" if most >= 2 else "data.folds=null data.fold=0",
        )
    order = ranks(seed, _identities(images, both), "fold")
    of = fold_of(labels, order, folds, groups)
    splits = {"train": both[of != fold], "val": both[of == fold]}
    by = "seed and group" if groups is not None else "seed and class" if images.targets.ndim == 1 else "seed"
    note = f"val is fold {fold} of 0 to {folds - 1}, cut from train and val together by {by}"
    cut_by_seed = tuple(text for text in images.spec.notes if not text.startswith("val cut from train"))
    kept = tuple(text.replace("val and test cut", "test cut", 1) for text in cut_by_seed)
    splits |= {name: numbers for name, numbers in images.splits.items() if name == "test"}
    return _with_splits(images, splits, note, kept)


def measure_again(images: ImageSet, settings: Data) -> ImageSet:
    """The set with mean and standard deviation of the images that are now trained on, if they were measured at all.

    A fold that is val must have no part in them. Raises Mistake if an image cannot be read any more.
    """
    notes = [note for note in images.spec.notes if not note.startswith(MEASURED)]
    if len(notes) == len(images.spec.notes):
        return images
    train = images.splits["train"]
    chosen = spread(train, of_files.MOST_MEASURED if images.sizes is not None else of_arrays.MOST_MEASURED)
    try:
        found = Statistics.of(images.read(number)[: images.spec.shape[0]] for number in chosen.tolist())
    except UnreadableError as error:
        raise Mistake(str(error), allowed="images that stay as they are while a run begins") from None
    spec = replace(images.spec, mean=found.mean, std=found.std, notes=(*notes, measured(len(chosen))))
    return replace(images, spec=with_statistics(spec, settings))


def take_classes(images: ImageSet, wanted: Sequence[str]) -> ImageSet:
    """Only these classes, in the order of the set, numbered anew. Raises Mistake for a name that there is not."""
    names = images.spec.class_names
    for name in wanted:
        if name not in names:
            close = nearest(name, names)
            near = is_near(name, close)
            right = [other for other in (close if near and one == name else one for one in wanted) if other in names]
            right = list(dict.fromkeys([*right, *names]))[: max(2, len(set(right)))]
            raise Mistake(
                f"data.classes={shown(list(wanted))}: {images.spec.name} has no class {name}",
                allowed=some(names),
                nearest=close if near else "",
                type_this=_typed(right),
            )
    kept = [label for label, name in enumerate(names) if name in wanted]
    if len(kept) < 2:
        others = [name for name in names if name not in wanted]
        raise Mistake(
            f"data.classes={shown(list(wanted))} keeps {len(kept)} of {len(names)} classes",
            allowed="two classes or more",
            type_this=_typed([*(names[label] for label in kept), *others][:2]),
        )
    new = np.full(len(names), -1, np.int64)
    new[kept] = np.arange(len(kept))
    targets = new[images.targets.astype(np.int64)]
    splits = {name: numbers[targets[numbers] >= 0] for name, numbers in images.splits.items()}
    empty = [name for name, numbers in splits.items() if not len(numbers)]
    absent = np.bincount(targets[splits["train"]], minlength=len(kept)) == 0
    lacking = [names[label] for label, none in zip(kept, absent.tolist(), strict=True) if none]
    if empty or lacking:
        what = f"no images in {some(empty)}" if empty else f"no training images of {some(lacking)}"
        raise Mistake(f"data.classes={shown(list(wanted))}: {what}", allowed="classes that have images in every split")
    note = f"{len(kept)} of {len(names)} classes kept"
    spec = replace(images.spec, class_names=tuple(names[label] for label in kept))
    return keep(_with_splits(replace(images, spec=spec, targets=targets), splits, note))


def _typed(names: Sequence[str]) -> str:
    """Classes as one types them in a shell."""
    return shlex.quote(f"data.classes=[{','.join(quote(name) if set(name) & set(',[]') else name for name in names)}]")


def take_per_class(images: ImageSet, count: int, seed: int) -> ImageSet:
    """At most `count` training images of each class."""
    train = images.splits["train"]
    order = train[ranks(seed, _identities(images, train), "train_per_class")]
    labels = strata(images.targets[order])
    names = images.spec.class_names
    chosen = [order[labels == label][:count] for label in range(len(names))]
    fewer = [f"{name} ({len(some_)})" for name, some_ in zip(names, chosen, strict=True) if len(some_) < count]
    note = f"at most {count:,} training images of each class" + (f"; fewer of {some(fewer)}" if fewer else "")
    return keep(_with_splits(images, images.splits | {"train": np.sort(np.concatenate(chosen))}, note))


def take_batches(images: ImageSet, batches: int, batch_size: int, seed: int) -> ImageSet:
    """So many batches of training images, which are train and val at once; no test."""
    train = images.splits["train"]
    order = train[ranks(seed, _identities(images, train), "overfit")]
    size = min(batch_size, len(order))
    there = min(batches, len(order) // size)
    chosen = np.sort(order[: there * size])
    what = f"1 batch of {size:,}" if there == 1 else f"{there:,} batches of {size:,}"
    note = f"overfitting {what} training images, which are train and val; nothing is augmented, nothing tested"
    return keep(_with_splits(images, {"train": chosen, "val": chosen}, note))


def take_little(images: ImageSet, batch_size: int, seed: int) -> ImageSet:
    """One batch of val and of test; of train the loop takes one step."""
    splits = dict(images.splits)
    for name in splits.keys() - {"train"}:
        numbers = splits[name]
        splits[name] = np.sort(numbers[ranks(seed, _identities(images, numbers), "dry run")][:batch_size])
    return _with_splits(images, splits, "dry run: one batch of each split")


def keep(images: ImageSet) -> ImageSet:
    """Only the samples that some split holds, numbered anew in their order, so that no other is ever read."""
    kept = np.unique(np.concatenate(list(images.splits.values())))
    if len(kept) == len(images.targets):
        return images
    names = images.names
    read = images.read.only(kept) if isinstance(images.read, Selective) else Subset(images.read, kept)
    return replace(
        images,
        targets=images.targets[kept],
        splits={name: np.searchsorted(kept, numbers) for name, numbers in images.splits.items()},
        read=read,
        groups=None if images.groups is None else images.groups[kept],
        names=[str(number) if names is None else names[number] for number in kept.tolist()],
        sizes=None if images.sizes is None else images.sizes[kept],
    )


def _identities(images: ImageSet, numbers: Numbers) -> list[int]:
    names = images.names
    return numbers.tolist() if names is None else [hash_text(names[number]) for number in numbers.tolist()]


def _with_splits(
    images: ImageSet, splits: dict[str, Numbers], note: str, notes: tuple[str, ...] | None = None
) -> ImageSet:
    """The set with other splits, and what depends on them."""
    spec = replace(
        images.spec,
        counts={name: len(numbers) for name, numbers in splits.items()},
        notes=(*(images.spec.notes if notes is None else notes), note),
    )
    if spec.target == Target.values:
        learned = value_statistics(images.targets[splits["train"]])
        spec = replace(spec, value_mean=learned.mean, value_std=learned.std)
    return replace(images, spec=spec, splits=splits)
