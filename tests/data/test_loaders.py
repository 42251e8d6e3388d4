"""Resident or streaming, any number of workers, read ahead or not, resumed or not: the same bits."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from dltrain.config import data, model
from dltrain.config.messages import Failure
from dltrain.config.mode import Train
from dltrain.data import describe, loader_for, open_data, streaming
from dltrain.data.imageset import ImageSet, open_set
from dltrain.data.loaders import Data, ResidentData
from dltrain.data.preprocess import Preprocess
from dltrain.data.streaming import StreamingData
from dltrain.tasks import Batch
from tests.data.conftest import config, quiet

CPU = torch.device("cpu")
AUGMENT = data.Augment(flip=0.5, crop=2, rotate=10, translate=0.1, scale=0.1, shear=5, cutout=4)
AUGMENT = replace(AUGMENT, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, erase=0.5)


def take(loader: Data, count: int, step: int = 0) -> list[Batch]:
    """The first batches from a step on."""
    batches = loader.batches(step)
    found = list(itertools.islice(batches, count))
    batches.close()  # type: ignore[attr-defined]
    return found


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.images, b.images) and torch.equal(a.ids, b.ids) and torch.equal(a.targets, b.targets)  # type: ignore[arg-type]
        for a, b in zip(first, second, strict=True)
    )


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Train:
    """32 training images of three classes, in files, augmented: four steps of eight an epoch."""
    root = make_folder({"a": 16, "b": 16, "c": 16}, size=(18, 15))
    return config(
        data.Folder(root=str(root), size="12x10", val_share=0.1, test_share=0.2, augment=AUGMENT), batch_size=8
    )


def opened(cfg: Train) -> ImageSet:
    return open_set(cfg, quiet)


@pytest.fixture
def resident(folder: Train) -> Data:
    return open_data(folder, describe(folder, quiet), CPU, "resident", 0, quiet)


def test_every_change_is_on_in_these_tests() -> None:
    """A new one is tested here from its first day."""
    elsewhere = {"resized_crop", "mixup", "cutmix"}  # test_resized_crop.py, test_mix.py
    on = {field.name for field in fields(data.Augment) if getattr(AUGMENT, field.name) != field.default}
    assert on | elsewhere == {field.name for field in fields(data.Augment)}


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 2), (1, 1), (1, 4), (3, 1), (3, 4)])
def test_streaming_equals_resident_bit_for_bit(folder: Train, resident: Data, workers: int, prefetch: int) -> None:
    loader = StreamingData(opened(folder), CPU, 8, folder.seed, AUGMENT, workers, prefetch)
    count = 2 * loader.steps_per_epoch + 2  # over two borders of epochs
    assert equal(take(loader, count), take(resident, count))
    for name in ("train", "val", "test"):
        assert equal(list(loader.split(name)), list(resident.split(name)))
    loader.close()


@pytest.mark.parametrize("loader", ["resident", "streaming"])
def test_batches_from_any_step_are_those_of_the_uninterrupted_run(folder: Train, loader: str) -> None:
    loaders = open_data(folder, describe(folder, quiet), CPU, loader, 2 if loader == "streaming" else 0, quiet)  # type: ignore[arg-type]
    whole = take(loaders, 11)
    for step in (1, loaders.steps_per_epoch - 1, loaders.steps_per_epoch, 7):
        assert equal(take(loaders, 11 - step, step), whole[step:])
    loaders.close()


def test_evaluation_between_batches_leaves_no_trace(resident: Data) -> None:
    whole = take(resident, 6)
    batches = resident.batches(0)
    found = []
    for _ in range(6):
        found.append(next(batches))
        list(resident.split("val"))
        torch.rand(3)
    assert equal(found, whole)


def test_an_image_is_the_same_in_a_batch_of_any_size(folder: Train, resident: Data) -> None:
    """An image of epoch 0 among eight, and alone."""
    alone = StreamingData(opened(folder), CPU, 1, folder.seed, AUGMENT, 0)
    singles = {int(batch.ids): batch.images[0] for batch in take(alone, alone.steps_per_epoch)}
    for batch in take(resident, resident.steps_per_epoch):
        for number, image in zip(batch.ids.tolist(), batch.images, strict=True):
            assert torch.equal(singles[number], image)


def test_seed_changes_order_and_pixels_and_epochs_differ(folder: Train) -> None:
    """The negative control of the tests above."""
    images = opened(folder)
    pixels = torch.from_numpy(images.read.everything(quiet))
    first, second = (take(ResidentData(images, pixels, CPU, 8, seed, AUGMENT), 8) for seed in (0, 1))
    assert not equal(first, second)
    per_epoch = len(images.splits["train"]) // 8
    assert not torch.equal(first[0].ids, first[per_epoch].ids)


def test_every_training_image_comes_once_an_epoch(folder: Train) -> None:
    images = opened(folder)
    loader = StreamingData(images, CPU, 1, 0, AUGMENT, 0)
    ids = torch.cat([batch.ids for batch in take(loader, loader.steps_per_epoch)])
    assert sorted(ids.tolist()) == images.splits["train"].tolist()


def test_an_incomplete_batch_is_left_out_and_fewer_images_than_a_batch_are_one_batch(folder: Train) -> None:
    images = opened(folder)
    pixels = torch.from_numpy(images.read.everything(quiet))
    train = len(images.splits["train"])
    for batch_size, steps, size in ((8, train // 8, 8), (train, 1, train), (1000, 1, train), (train - 1, 1, train - 1)):
        loader = ResidentData(images, pixels, CPU, batch_size, 0, AUGMENT)
        assert (loader.steps_per_epoch, loader.batch_size) == (steps, size)
        assert [len(batch.ids) for batch in take(loader, 3)] == [size] * 3


def test_splits_come_in_order_in_chunks_of_one_size_without_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(data.Digits(augment=AUGMENT), model.LeNet5())
    loader = open_data(cfg, describe(cfg, quiet), CPU, "resident", 0, quiet)
    images = opened(cfg)
    chunks = list(loader.split("test"))
    assert [len(batch.ids) for batch in chunks] == [256, 256, 256, 232]
    assert torch.cat([batch.ids for batch in chunks]).tolist() == images.splits["test"].tolist()
    assert torch.cat([batch.targets for batch in chunks]).tolist() == loader.targets("test").tolist()  # type: ignore[union-attr,misc]
    pixels = torch.from_numpy(images.read.everything(quiet)[images.splits["test"]]).double()
    expected = (pixels / 255 - images.spec.mean[0]) / images.spec.std[0]
    ours = torch.cat([batch.images for batch in chunks])
    assert ours.dtype == torch.float32
    assert (ours - expected).abs().max() < 1e-6


def test_one_image_prepared_by_hand_has_the_bits_of_its_chunk(resident: Data, folder: Train) -> None:
    images = opened(folder)
    prepare = Preprocess(images.spec, CPU)
    batch = next(iter(resident.split("val")))
    raw = torch.from_numpy(images.read(int(batch.ids[1])))[None]
    assert torch.equal(prepare.normalize(raw)[0], batch.images[1])
    assert raw.dtype == torch.uint8


def test_auto_follows_the_share_of_memory_and_says_so() -> None:
    cfg = config(data.Digits())
    spec = describe(cfg, quiet)
    needed = 5000 * 28 * 28
    assert loader_for(cfg, spec, "cpu", 4 * needed) == (
        "resident",
        "3.7 MiB decoded, within a quarter of 15.0 MiB free (cpu)",
    )
    assert loader_for(cfg, spec, "cuda", 4 * needed - 1)[0] == "streaming"
    cfg.data.loader = data.LoaderKind.streaming
    assert loader_for(cfg, spec, "cpu", 2**40) == ("streaming", "given")


def test_what_was_described_is_not_read_again_and_what_changed_is_refused(
    folder: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = describe(folder, quiet)
    monkeypatch.setattr("dltrain.data.open_set", lambda *_: pytest.fail("opened again"))
    open_data(folder, spec, CPU, "streaming", 0, quiet)
    monkeypatch.undo()
    victim = next((Path(folder.data.root) / "a").iterdir())
    victim.unlink()
    with pytest.raises(Failure, match="have changed"):
        open_data(folder, spec, CPU, "streaming", 0, quiet)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_while_training_is_named(folder: Train, workers: int) -> None:
    images, spec = opened(folder), describe(folder, quiet)
    loader = StreamingData(images, CPU, 8, 0, AUGMENT, workers)
    (Path(folder.data.root) / images.read.files[int(images.splits["train"][0])]).write_bytes(b"gone")  # type: ignore[attr-defined]
    with pytest.raises(Failure, match=r"cannot be read any more: .*00\d.png is not an image"):
        take(loader, loader.steps_per_epoch)
    with pytest.raises(Failure, match=r"00\d.png is not an image"):
        open_data(folder, spec, CPU, "resident", 0, quiet)


def worker_pids(loader: StreamingData) -> list[int]:
    return [process.pid for stream in loader._open for process in stream._iterator._workers]


def running(pids: list[int]) -> list[str]:
    """What the system says of those that have not ended."""
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/stat").read_text())
    return [line for line in found if line.rsplit(")", 1)[1].split()[0] != "Z"]


def left_running(pids: list[int]) -> list[str]:
    """Those that have not ended within seconds."""
    until = time.monotonic() + 5
    while running(pids) and time.monotonic() < until:
        time.sleep(0.01)
    return running(pids)


@pytest.fixture
def busy(folder: Train) -> Iterator[tuple[StreamingData, Iterator[Batch]]]:
    """A streaming loader with two workers that has begun."""
    loader = StreamingData(opened(folder), CPU, 8, 0, AUGMENT, 2, prefetch=1)
    batches = loader.batches(0)
    next(batches)
    yield loader, batches
    loader.close()


def test_a_killed_worker_is_told_with_the_cause(
    busy: tuple[StreamingData, Iterator[Batch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, batches = busy
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    pids = worker_pids(loader)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(
        Failure, match=r"was killed \(SIGKILL\), most often because memory ran out.*data.workers \(now 2\)"
    ):
        for _ in range(50):
            next(batches)
    loader.close()
    assert left_running(pids) == []


def test_workers_leave_signals_to_the_main_process_and_end_with_it(
    busy: tuple[StreamingData, Iterator[Batch]],
) -> None:
    loader, batches = busy
    pids = worker_pids(loader)
    assert len(pids) == 2
    for pid, number in itertools.product(pids, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)):
        os.kill(pid, number)
    for _ in range(8):
        next(batches)
    assert len(running(pids)) == 2
    batches.close()  # type: ignore[attr-defined]
    assert left_running(pids) == []


def test_a_worker_does_not_take_the_place_of_the_main_processs_signal_handler(folder: Train) -> None:
    """DataLoader's own handler would raise in the middle of a save when a worker dies."""
    before = signal.getsignal(signal.SIGCHLD)
    loader = StreamingData(opened(folder), CPU, 8, 0, AUGMENT, 1)
    take(loader, 1)
    assert signal.getsignal(signal.SIGCHLD) == before


def test_workers_decode_in_one_thread_and_the_main_process_keeps_its_own(
    folder: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    images = opened(folder)
    monkeypatch.setattr(
        streaming._Files,
        "__getitems__",
        lambda self, numbers: (
            torch.full((len(numbers), 3, 12, 10), torch.get_num_threads(), dtype=torch.uint8),
            torch.tensor(numbers),
            "",
        ),
    )
    loader = StreamingData(images, CPU, 8, 0, data.Augment(), 1)
    pixels, _ = next(loader._stream([[0, 1]]))
    loader.close()
    assert pixels.unique().tolist() == [1]
    assert torch.get_num_threads() == 2


def test_reading_draws_nothing_from_the_runs_generators(folder: Train) -> None:
    loader = StreamingData(opened(folder), CPU, 8, 0, AUGMENT, 0)
    before = torch.get_rng_state()
    take(loader, 3)
    list(loader.split("val"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("code", "says"),
    [(-9, "SIGKILL.*memory ran out"), (-7, "SIGBUS: shared memory is full"), (-11, "SIGSEGV"), (1, "code 1")],
)
def test_each_death_has_its_words(code: int, says: str) -> None:
    import re

    text = streaming.death(code, 3)
    assert re.search(says, text)
    assert "data.workers" in text


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_both_loaders_agree_and_resident_never_waits(folder: Train) -> None:
    device = torch.device("cuda")
    spec = describe(folder, quiet)
    resident = open_data(folder, spec, device, "resident", 0, quiet)
    loader = open_data(folder, spec, device, "streaming", 2, quiet)
    assert equal(take(resident, 10), take(loader, 10))
    loader.close()
    torch.cuda.set_sync_debug_mode("error")
    try:
        take(resident, 10)
    finally:
        torch.cuda.set_sync_debug_mode("default")
