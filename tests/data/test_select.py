"""Folds, classes, fewer images, one batch: what the settings choose from any set, exact and stable."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltrain.config import data, groups
from dltrain.config.messages import Mistake
from dltrain.config.mode import Train
from dltrain.data import describe, identity
from dltrain.data.imageset import ImageSet, Numbers, open_set
from dltrain.data.select import select, take_fold
from tests.data.conftest import config, picture, quiet

MakeFolder = Callable[..., Path]


def digits(seed: int = 0, trainer: dict[str, Any] | None = None, **keys: Any) -> ImageSet:
    cfg = config(data.Digits(**keys), seed=seed, batch_size=16)
    cfg.trainer = groups.Trainer(**{"batch_size": 16, **(trainer or {})})
    return open_set(cfg, quiet)


def names(images: ImageSet, split: str) -> set[str]:
    """What identifies the images of a split: their files, or their numbers before anything was left out."""
    numbers = images.splits[split].tolist()
    return {str(number) if images.names is None else images.names[number] for number in numbers}


WHOLE = digits()


# ---- folds


def test_each_image_is_in_val_of_one_fold_and_the_test_is_untouched() -> None:
    seen: list[str] = []
    for fold in range(5):
        images = digits(folds=5, fold=fold)
        assert images.spec.counts == {"train": 3200, "val": 800, "test": 1000}
        assert names(images, "test") == names(WHOLE, "test")
        assert names(images, "train") | names(images, "val") == names(WHOLE, "train") | names(WHOLE, "val")
        assert np.bincount(images.targets[images.splits["val"]]).tolist() == [80] * 10
        seen += names(images, "val")
    assert len(seen) == len(set(seen)) == 4000
    assert set(seen) == names(WHOLE, "train") | names(WHOLE, "val")
    assert "val is fold 4 of 0 to 4" in images.spec.notes[-1]


def test_folds_follow_the_seed() -> None:
    first, again, other = (names(digits(seed, folds=5), "val") for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("keys", [{"folds": 4, "fold": 1}, {"train_per_class": 3}, {"classes": ["a", "c"]}])
def test_mean_and_deviation_are_of_the_images_that_are_trained_on(
    make_folder: MakeFolder, keys: dict[str, Any]
) -> None:
    root = make_folder({"a": 12, "b": 15, "c": 10}, size=(16, 16))
    whole, images = (open_set(config(data.Folder(root=str(root), size="16", **one)), quiet) for one in ({}, keys))
    pixels = np.stack([images.read(number) for number in images.splits["train"].tolist()]) / 255
    assert images.spec.mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-4)
    assert images.spec.std == pytest.approx(pixels.std((0, 2, 3)), abs=1e-4)
    assert images.spec.mean != whole.spec.mean  # the control
    assert f"mean and std measured on {len(pixels)} training images" in images.spec.notes
    assert len([note for note in images.spec.notes if note.startswith("mean and std")]) == 1
    if "folds" in keys:  # val is no longer what was cut off
        assert "test cut from the images by seed and class" in images.spec.notes


def test_typed_mean_and_deviation_stay_in_every_fold(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 12, "b": 15})
    settings = data.Folder(root=str(root), mean=[0.25], std=[0.5], folds=3)
    spec = open_set(config(settings), quiet).spec
    assert spec.mean == (0.25,) * 3 and spec.std == (0.5,) * 3
    assert not any(note.startswith("mean and std") for note in spec.notes)


def test_folds_part_no_group() -> None:
    parts = np.arange(len(WHOLE.targets)) // 7
    grouped = replace(WHOLE, groups=parts)
    seen: list[int] = []
    for fold in range(4):
        images = take_fold(grouped, 4, fold, seed=0)
        train, val = (set(parts[images.splits[split]].tolist()) for split in ("train", "val"))
        assert not train & val
        assert abs(len(images.splits["val"]) - 1000) < 15
        seen += images.splits["val"].tolist()
    assert sorted(seen) == sorted([*WHOLE.splits["train"], *WHOLE.splits["val"]])


def test_folds_of_values_are_cut_without_regard_to_them() -> None:
    values = np.random.default_rng(0).normal(size=(len(WHOLE.targets), 2)).astype(np.float32)
    spec = open_set(config(data.DigitsPose()), quiet).spec
    images = take_fold(replace(WHOLE, targets=values, spec=spec), 3, 0, seed=0)
    assert abs(len(images.splits["val"]) - 4000 / 3) < 1
    train = values[images.splits["train"]].astype(np.float64)
    assert images.spec.value_mean == pytest.approx(train.mean(0).tolist())
    assert images.spec.value_std == pytest.approx(train.std(0).tolist())


def test_more_folds_than_images_of_a_class_or_than_groups_are_a_mistake(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 30, "b": 6})
    cfg = config(data.Folder(root=str(root), size="8", folds=9, test_share=0.0))
    with pytest.raises(Mistake, match=r"data.folds=9: too few images in train and val together of b \(6\)") as caught:
        open_set(cfg, quiet)
    assert (caught.value.allowed, caught.value.type_this) == ("2 to 6 folds", "data.folds=6 data.fold=0")
    with pytest.raises(Mistake, match="too few groups in train and val together: 3"):
        take_fold(replace(WHOLE, groups=np.arange(len(WHOLE.targets)) % 3), 4, 0, seed=0)


# ---- classes


def test_classes_are_kept_in_the_order_of_the_set_and_numbered_anew() -> None:
    images = digits(classes=["8", "3", "5"])
    assert images.spec.class_names == ("3", "5", "8")
    assert images.spec.counts == {"train": 1050, "val": 150, "test": 300}
    assert len(images.targets) == 1500
    pixels = images.read.everything(quiet)
    whole = WHOLE.read.everything(quiet)
    for new, old in enumerate((3, 5, 8)):
        numbers = np.flatnonzero(images.targets == new)
        of_old = [int(images.names[number]) for number in numbers]  # type: ignore[index]
        assert of_old == np.flatnonzero(WHOLE.targets == old).tolist()
        assert np.array_equal(pixels[numbers], whole[of_old])
        assert np.array_equal(images.read(int(numbers[7])), whole[of_old[7]])
    for split in images.splits:
        assert names(images, split) == {str(n) for n in WHOLE.splits[split].tolist() if WHOLE.targets[n] in (3, 5, 8)}


@pytest.mark.parametrize(
    ("wanted", "says", "nearest", "type_this"),
    [
        (["cats", "dog"], "has no class cats", "cat", "'data.classes=[cat,dog]'"),
        (["zebra", "dog"], "has no class zebra", "", "'data.classes=[dog,cat]'"),
        (["dog", "dog"], "keeps 1 of 3 classes", "", "'data.classes=[dog,cat]'"),
        (["dog", "x, y"], "", "", ""),
        (["dog", "x,y"], "has no class x,y", "x, y", "'data.classes=[dog,'\"'\"'x, y'\"'\"']'"),
    ],
)
def test_a_class_that_is_not_there_is_a_mistake_with_the_nearest(
    make_folder: MakeFolder, wanted: list[str], says: str, nearest: str, type_this: str
) -> None:
    root = make_folder({"cat": 5, "dog": 5, "x, y": 5})
    cfg = config(data.Folder(root=str(root), size="8", classes=wanted))
    if not says:
        assert open_set(cfg, quiet).spec.class_names == ("dog", "x, y")
        return
    with pytest.raises(Mistake, match=says) as caught:
        open_set(cfg, quiet)
    assert (caught.value.nearest, caught.value.type_this) == (nearest, type_this)


def test_only_what_is_chosen_is_ever_read(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 10, "b": 10, "c": 10})
    cfg = config(data.Folder(root=str(root), size="8", classes=["a", "c"]))
    images = open_set(cfg, quiet)
    assert images.sizes is not None
    assert len(images.sizes) == 20
    for path in (root / "b").iterdir():
        path.unlink()
    assert images.read.everything(quiet).shape == (20, 3, 8, 8)
    assert images.names is not None
    assert all(name.startswith(("a/", "c/")) for name in images.names)


# ---- fewer training images


def test_fewer_training_images_are_chosen_by_seed_and_stay_when_more_are_taken() -> None:
    few, more, other = (digits(seed, train_per_class=n) for seed, n in ((0, 5), (0, 20), (1, 5)))
    assert np.bincount(few.targets[few.splits["train"]]).tolist() == [5] * 10
    assert names(few, "train") < names(more, "train") < names(WHOLE, "train")
    assert names(few, "train") != names(other, "train")
    for split in ("val", "test"):
        assert names(few, split) == names(WHOLE, split)


def test_chosen_images_stay_when_other_files_come(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 20, "train/b": 20, "val/a": 2, "val/b": 2})
    cfg = config(data.Folder(root=str(root), size="8", train_per_class=6))
    before = names(open_set(cfg, quiet), "train")
    for number in range(3):
        picture(20, 24, 900 + number).save(root / "train" / "a" / f"0005{number}.png")
    after = names(open_set(cfg, quiet), "train")
    assert len(after) == 12
    assert {name for name in before if "/b/" in name} < after
    assert len(before - after) <= 3


def test_a_class_with_fewer_gives_all_and_is_named(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 30, "b": 5})
    images = open_set(config(data.Folder(root=str(root), size="8", train_per_class=10)), quiet)
    assert np.bincount(images.targets[images.splits["train"]]).tolist() == [10, 3]
    assert "at most 10 training images of each class; fewer of b (3)" in images.spec.notes


# ---- the trainer's short ways


def test_overfitting_trains_and_validates_on_the_same_few_batches() -> None:
    images = digits(trainer={"overfit_batches": 2})
    assert images.spec.counts == {"train": 32, "val": 32}
    assert names(images, "train") == names(images, "val") < names(WHOLE, "train")
    assert len(images.targets) == 32
    assert names(digits(trainer={"overfit_batches": 1}), "train") < names(images, "train")
    assert digits(trainer={"overfit_batches": 10**6}).spec.counts["train"] == 3488  # whole batches
    assert digits(trainer={"overfit_batches": 3, "batch_size": 10**6}).spec.counts["train"] == 3500
    assert digits(1, trainer={"overfit_batches": 2}).splits["train"].tolist() == list(range(32))
    assert names(digits(1, trainer={"overfit_batches": 2}), "train") != names(images, "train")


def test_a_dry_run_has_one_batch_of_val_and_test_and_all_of_train() -> None:
    images = digits(trainer={"dry_run": True})
    assert images.spec.counts == {"train": 3500, "val": 16, "test": 16}
    for split in ("val", "test"):
        assert names(images, split) < names(WHOLE, split)
        assert len(np.unique(images.targets[images.splits[split]])) > 4


def test_what_is_found_is_kept_for_the_settings_it_depends_on() -> None:
    """Else a sweep over folds or over `trainer.overfit_batches` would train on another job's images."""
    plain = config(data.Digits())
    changes: list[Callable[[Train], object]] = [
        lambda cfg: setattr(cfg.data, "folds", 3),
        lambda cfg: setattr(cfg.data, "classes", ["1", "2"]),
        lambda cfg: setattr(cfg.data, "train_per_class", 3),
        lambda cfg: setattr(cfg.trainer, "overfit_batches", 1),
        lambda cfg: setattr(cfg.trainer, "dry_run", True),
        lambda cfg: setattr(cfg, "seed", 1),
    ]
    found = {identity(plain)}
    for change in changes:
        cfg = config(data.Digits())
        change(cfg)
        found.add(identity(cfg))
    assert len(found) == 1 + len(changes)
    sizes = [config(data.Digits(), batch_size=size) for size in (16, 32)]
    assert identity(sizes[0]) == identity(sizes[1])
    for cfg in sizes:
        cfg.trainer.overfit_batches = 1
    assert identity(sizes[0]) != identity(sizes[1])
    assert [describe(cfg, quiet).counts["train"] for cfg in sizes] == [16, 32]


def test_all_at_once() -> None:
    images = digits(folds=4, fold=3, classes=["0", "1", "2"], train_per_class=9, trainer={"overfit_batches": 1})
    assert images.spec.counts == {"train": 16, "val": 16}
    assert len(images.spec.notes) == 5
    fold = names(digits(folds=4, fold=3), "train")
    assert names(images, "train") < fold
    untouched: Numbers = WHOLE.splits["test"]
    assert select(WHOLE, config(data.Digits())) is WHOLE
    assert len(untouched) == 1000
