"""data.sampling=balanced: each class as often as any other, images again only after all others of their class."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dltrain.config import data
from dltrain.config.mode import Train
from dltrain.data import describe, open_data
from dltrain.data.imageset import open_set
from dltrain.data.loaders import Data
from dltrain.data.sampling import balanced
from dltrain.data.streaming import StreamingData
from dltrain.tasks import Batch
from tests.data.conftest import config, quiet
from tests.faults.compare import differences, run_differences, the_run
from tests.faults.killing import Bomb, dltrain

CPU = torch.device("cpu")
COUNTS = {"a": 40, "b": 11, "c": 5, "d": 1}


def made(counts: list[int]) -> tuple[Tensor, Tensor]:
    """Sample numbers with gaps, mixed, and their classes."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    mixed = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    return mixed * 2 + 1, labels[mixed]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**62), st.integers(0, 50))
def test_every_epoch_holds_each_class_equally_often(counts: list[int], seed: int, epoch: int) -> None:
    numbers, labels = made(counts)
    every = 2 * len(numbers) + 1
    order = balanced(numbers, labels, seed, epoch, every)
    assert len(order) == len(numbers)
    assert len(torch.unique(order)) == len(order)  # an image that comes again has another id
    label_of = dict(zip(numbers.tolist(), labels.tolist(), strict=True))
    often = np.bincount([label_of[number] for number in (order % every).tolist()], minlength=len(counts))
    assert often.max() - often.min() <= 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=5), st.integers(0, 1000))
def test_no_image_comes_again_before_all_others_of_its_class(counts: list[int], seed: int) -> None:
    """Over the epochs too: after each, images of one class have come equally often, give or take one."""
    numbers, labels = made(counts)
    every = 2 * len(numbers) + 1
    came = dict.fromkeys(numbers.tolist(), 0)
    of_class = [0] * len(counts)
    label_of = dict(zip(numbers.tolist(), labels.tolist(), strict=True))
    for epoch in range(7):
        for number in (balanced(numbers, labels, seed, epoch, every) % every).tolist():
            came[number] += 1
            of_class[label_of[number]] += 1
        for label in range(len(counts)):
            often = [count for number, count in came.items() if label_of[number] == label]
            assert max(often) - min(often) <= 1
        assert max(of_class) - min(of_class) <= 1  # what does not divide evenly goes round


def take(loader: Data, count: int, step: int = 0) -> list[Batch]:
    batches = loader.batches(step)
    found = list(itertools.islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return found


@pytest.fixture
def uneven(make_folder: Callable[..., Path]) -> Train:
    """Few images of some classes, in files, augmented."""
    root = make_folder({f"train/{name}": count for name, count in COUNTS.items()} | {"val/a": 2}, size=(14, 13))
    augment = data.Augment(flip=0.5, rotate=20)
    return config(
        data.Folder(root=str(root), size="12x10", sampling=data.Sampling.balanced, augment=augment), batch_size=7
    )


def test_both_loaders_and_any_workers_agree_from_any_step(uneven: Train) -> None:
    resident = open_data(uneven, describe(uneven, quiet), CPU, "resident", 0, quiet)
    whole = take(resident, 20)
    for workers in (0, 2):
        streaming = open_data(uneven, describe(uneven, quiet), CPU, "streaming", workers, quiet)
        for step in (0, 11):
            assert differences(take(streaming, 20 - step, step), whole[step:]) == []
        streaming.close()
    assert differences(take(resident, 9, 11), whole[11:]) == []


def test_an_image_that_comes_again_is_changed_anew_and_has_its_own_target(uneven: Train) -> None:
    images = open_set(uneven, quiet)
    loader = StreamingData(
        images, CPU, len(images.splits["train"]), 0, uneven.data.augment, 0, sampling=data.Sampling.balanced
    )
    (batch,) = take(loader, 1)
    samples = loader.samples(batch.ids)
    assert batch.targets is not None
    assert batch.targets.tolist() == images.targets[samples.numpy()].tolist()
    only = samples[batch.targets == 3]
    assert len(torch.unique(only)) == 1  # the one image of d
    changed = {tensor.numpy().tobytes() for tensor in batch.images[batch.targets == 3]}
    assert len(changed) == len(only) >= sum(COUNTS.values()) // 4


def test_shuffled_is_not_balanced(uneven: Train) -> None:
    """The negative control; the length of an epoch is the same."""
    images = open_set(uneven, quiet)
    plain, even = (StreamingData(images, CPU, 7, 0, data.Augment(), 0, sampling=sampling) for sampling in data.Sampling)
    assert plain.steps_per_epoch == even.steps_per_epoch
    often = [
        torch.bincount(torch.from_numpy(images.targets)[loader.samples(loader.order(0))]) for loader in (plain, even)
    ]
    assert often[0].tolist() == list(COUNTS.values())
    assert sorted(often[1].tolist()) == [14, 14, 14, 15]


def test_a_killed_run_on_folds_of_some_classes_balanced_resumes_bit_exact(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """And what is read by workers ends in the bits of what lay in memory."""
    root = make_folder({"a": 50, "b": 20, "c": 8, "left out": 9}, size=(10, 10))
    words = [
        *["data=folder", f"data.root={root}", "data.size=8", "data.classes=[c,a,b]", "data.folds=3", "data.fold=1"],
        *["data.sampling=balanced", "data.train_per_class=25", "model=mlp", "model.widths=[8]", "model.dropout=0.2"],
        *["trainer.epochs=3", "trainer.batch_size=8", "trainer.threads=1", "log=quiet", "device=cpu"],
    ]
    runs = []
    for name, loader, bombs in (
        ("whole", "data.loader=resident", []),
        ("killed", "data.loader=streaming", [Bomb("dltrain.engine.loop:train_step", 7)]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        argv = [*words, loader, "data.workers=1", "trainer.save_every=5"]
        for bomb in bombs:
            assert dltrain(argv, folder, bomb) == -9, (folder / "screen.txt").read_text()
            argv = ["resume=last"]
        assert dltrain(argv, folder) == 0, (folder / "screen.txt").read_text()
        runs.append(the_run(folder))
    assert run_differences(*runs) == []
