"""Images with masks, each in its own size: both loaders end in the same windows, and evaluation sees whole images."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dltrain.config import data, groups, model, segmentation
from dltrain.config.messages import Failure, Mistake
from dltrain.config.mode import Train
from dltrain.config.spec import IGNORED, DataSpec, Target, spec_from_json, spec_to_json
from dltrain.data import changes_for, decode_for, describe, identity, loader_for, open_data
from dltrain.data.decode import UnreadableError
from dltrain.data.imageset import Images, ImageSet, Part, Say, Statistics, measured, open_set, with_statistics
from dltrain.data.loaders import Data, ResidentData
from dltrain.data.ragged import Ragged
from dltrain.data.sizes import SizeRule
from dltrain.data.streaming import StreamingData
from dltrain.data.windows import window
from tests.data.conftest import config, picture, quiet
from tests.data.test_loaders import equal, take

CPU = torch.device("cpu")
NAMES = ("ground", "cell", "edge")
SIZES = [(20, 24), (20, 24), (32, 16), (17, 40)]  # of images, in turn
CHANGES = data.MaskAugment(flip=0.5, vertical_flip=0.5, rotate=20, scale=0.2, elastic=2, brightness=0.3, contrast=0.3)
COLOURED = replace(CHANGES, saturation=0.3, hue=0.1)
COUNTS = {"train": 22, "val": 6, "test": 5}


def sample(number: int, channels: int = 3) -> Images:
    """(C + 1, H, W): smooth content, and a mask of a few areas with some ignored pixels; a function of the number."""
    height, width = SIZES[number % len(SIZES)]
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [(np.sin(rows / 5 + number) * np.cos(columns / (4 + k)) + 1) * 127 for k in range(channels)]
    mask = (rows // 7 + columns // 5 + number) % 3
    mask[(rows + 2 * columns + number) % 41 == 0] = IGNORED
    return np.stack([*planes, mask]).astype(np.uint8)


class MemoryReader:
    """Says when an image is asked for that must not be read."""

    def __init__(self, numbers: NDArray[np.int64], channels: int, broken: int | None = None) -> None:
        self.numbers = numbers
        self.channels = channels
        self.broken = broken

    def __call__(self, number: int, part: Part | None = None) -> Images:
        if number == self.broken:
            raise UnreadableError("mask_7.png", "is not an image")
        return sample(int(self.numbers[number]), self.channels)

    def everything(self, say: Say) -> list[Images]:
        return [self(number) for number in range(len(self.numbers))]


@dataclass
class InMemory(data.Masks):
    opens: ClassVar[str] = "test_mask_loading:open_memory"
    name: str = "in_memory"
    channels: int = 3


def open_memory(settings: InMemory, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    total = sum(COUNTS.values())
    ends = np.cumsum(list(COUNTS.values()))
    splits = dict(zip(COUNTS, np.split(np.arange(total), ends[:-1]), strict=True))
    sizes = np.array([SIZES[number % len(SIZES)] for number in range(total)])
    smallest = sizes[splits["train"]].min(axis=0)
    read = MemoryReader(np.arange(total), settings.channels)
    found = Statistics.of(read(number)[:-1] for number in splits["train"].tolist())
    spec = DataSpec(
        name=settings.name,
        shape=(settings.channels, *window(settings.crop, suits, (int(smallest[0]), int(smallest[1])))),
        target=Target.mask,
        class_names=NAMES,
        counts=COUNTS,
        mean=found.mean,
        std=found.std,
        ignore_index=IGNORED,
        notes=(measured(len(splits["train"])),),
    )
    return ImageSet(with_statistics(spec, settings), np.zeros((total, 0), np.int64), splits, read, sizes=sizes)


def settings(**changed: Any) -> Train:
    """A config of the set above, whose module is loaded by name as those of users are."""
    values = {"augment": COLOURED, "crop": "14x18"} | changed
    return config(InMemory(**values), model.UNet(depth=2, base_channels=2), batch_size=4)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dltrain.data.imageset._opener", lambda _: open_memory)


def resident(cfg: Train) -> Data:
    return open_data(cfg, describe(cfg, quiet), CPU, "resident", 0, quiet)


def streaming(cfg: Train, workers: int) -> Data:
    return open_data(cfg, describe(cfg, quiet), CPU, "streaming", workers, quiet)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("changes", [COLOURED, data.MaskAugment()])
def test_streaming_equals_resident_bit_for_bit(workers: int, changes: data.MaskAugment) -> None:
    cfg = settings(augment=changes)
    first, second = resident(cfg), streaming(cfg, workers)
    count = 2 * first.steps_per_epoch + 2  # over two borders of epochs
    assert equal(take(first, count), take(second, count))
    for name in COUNTS:
        assert equal(list(first.split(name)), list(second.split(name)))
        assert torch.equal(first.class_pixels(name), second.class_pixels(name))
    second.close()


def test_a_batch_is_windows_with_their_masks() -> None:
    loader = resident(settings())
    batch = next(loader.batches(0))
    assert batch.images.shape == (4, 3, 14, 18)
    assert batch.images.dtype == torch.float32
    assert batch.targets is not None
    assert batch.targets.shape == (4, 14, 18)
    assert batch.targets.dtype == torch.uint8
    assert batch.borders is None
    assert loader.targets("train") is None


def test_without_changes_a_window_is_a_piece_of_its_image() -> None:
    cfg = settings(augment=data.MaskAugment())
    loader = resident(cfg)
    mean, std = (np.array(values)[:, None, None] for values in (loader.spec.mean, loader.spec.std))
    for batch in take(loader, loader.steps_per_epoch):
        for image, mask, number in zip(batch.images, batch.targets, batch.ids.tolist(), strict=True):  # type: ignore[arg-type]
            whole = sample(number)
            pixels = np.rint((image.double().numpy() * std + mean) * 255).astype(np.uint8)
            held = np.concatenate([pixels, mask[None].numpy()])
            rows, columns = whole.shape[1] - 14, whole.shape[2] - 18
            pieces = [
                np.pad(whole, [(0, 0), (0, 0), (18, 18)], mode="reflect")[:, top : top + 14, left : left + 18]
                for top in range(rows + 1)
                for left in range(18 + min(0, columns), 18 + max(0, columns) + 1)
            ]
            assert any(np.array_equal(held, piece) for piece in pieces)


@pytest.mark.parametrize("workers", [None, 2])
def test_batches_from_any_step_are_those_of_the_uninterrupted_run(workers: int | None) -> None:
    cfg = settings()
    loader = resident(cfg) if workers is None else streaming(cfg, workers)
    whole = take(loader, 11)
    for step in (1, loader.steps_per_epoch - 1, loader.steps_per_epoch, 7):
        assert equal(take(loader, 11 - step, step), whole[step:])
    loader.close()


def test_an_image_is_the_same_in_a_batch_of_any_size() -> None:
    cfg, other = settings(), settings()
    other.trainer.batch_size = 1
    loader, alone = resident(cfg), streaming(other, 0)
    singles = {int(batch.ids): batch for batch in take(alone, alone.steps_per_epoch)}
    for batch in take(loader, loader.steps_per_epoch):
        for row, number in enumerate(batch.ids.tolist()):
            assert torch.equal(singles[number].images[0], batch.images[row])
            assert torch.equal(singles[number].targets[0], batch.targets[row])  # type: ignore[index]


def test_seeds_and_epochs_differ_and_every_image_comes_once_an_epoch() -> None:
    first, second = resident(settings()), resident(replace(settings(), seed=1))
    assert not equal(take(first, 4), take(second, 4))
    single = settings()
    single.trainer.batch_size = 1
    loader = resident(single)
    steps = loader.steps_per_epoch
    ids = torch.cat([batch.ids for batch in take(loader, steps)])
    assert sorted(ids.tolist()) == list(range(COUNTS["train"]))


def test_evaluation_sees_whole_images_in_order_neighbours_of_one_size_together(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = resident(settings())
    chunks = list(loader.split("train"))
    assert torch.cat([batch.ids for batch in chunks]).tolist() == list(range(COUNTS["train"]))
    assert [len(batch.ids) for batch in chunks[:4]] == [2, 1, 1, 2]  # sizes change: 20x24 twice, 32x16, 17x40
    mean, std = (np.array(values)[:, None, None] for values in (loader.spec.mean, loader.spec.std))
    for batch in chunks:
        for image, mask, number in zip(batch.images, batch.targets, batch.ids.tolist(), strict=True):  # type: ignore[arg-type]
            whole = sample(number)
            assert abs(image.double().numpy() - (whole[:3] / 255 - mean) / std).max() < 1e-5
            assert np.array_equal(mask.numpy(), whole[3])
    monkeypatch.setattr("dltrain.data.loaders.CHUNK_VALUES", 3 * 20 * 24)
    assert [len(batch.ids) for batch in loader.split("train")][:4] == [1, 1, 1, 1]


def test_pixels_of_each_class_are_those_that_numpy_counts() -> None:
    loader = resident(settings())
    for name, numbers in loader._splits.items():
        masks = np.concatenate([sample(number)[-1].ravel() for number in numbers.tolist()])
        expected = [int((masks == label).sum()) for label in range(len(NAMES))]
        assert loader.class_pixels(name).tolist() == expected
        assert sum(expected) < len(masks)  # some are ignored


def test_digests_tell_each_split_and_follow_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = resident(settings())
    before = loader.digests()
    assert set(before) == set(COUNTS)
    assert len(set(before.values())) == 3
    assert resident(settings(crop="16x16", augment=data.MaskAugment())).digests() == before
    assert streaming(settings(), 0).digests() == {}
    original = sample

    def changed(number: int, channels: int = 3) -> Images:
        pixels = original(number, channels)
        if number == COUNTS["train"]:
            pixels[-1, 0, 0] = (pixels[-1, 0, 0] + 1) % 3
        return pixels

    monkeypatch.setattr("tests.data.test_mask_loading.sample", changed)
    after = resident(settings()).digests()
    assert {name for name in before if before[name] != after[name]} == {"val"}


def test_a_mask_sets_changes_are_its_own() -> None:
    with pytest.raises(TypeError, match="not for targets of kind mask"):
        images = open_set(settings(), quiet)
        ResidentData(images, Ragged.of(images.read.everything(quiet)), CPU, 4, 0, data.Augment())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_while_training_is_named(workers: int) -> None:
    cfg = settings()
    images = open_set(cfg, quiet)
    images.read.broken = 3  # type: ignore[attr-defined]
    loader = StreamingData(images, CPU, 4, 0, COLOURED, workers)
    with pytest.raises(Failure, match=r"cannot be read any more: mask_7.png is not an image"):
        take(loader, loader.steps_per_epoch)
    loader.close()


def test_auto_counts_the_pixels_of_every_image_with_its_mask() -> None:
    cfg = settings()
    spec = describe(cfg, quiet)
    total = sum(SIZES[number % 4][0] * SIZES[number % 4][1] for number in range(sum(COUNTS.values())))
    assert spec.pixels == total
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec
    assert loader_for(cfg, spec, "cpu", 4 * 4 * total)[0] == "resident"
    assert loader_for(cfg, spec, "cpu", 4 * 4 * total - 1)[0] == "streaming"
    cfg.task = segmentation.Segmentation(weight_map=True)
    assert loader_for(cfg, spec, "cpu", 4 * 5 * total - 1)[0] == "streaming"
    assert loader_for(cfg, spec, "cpu", 4 * 5 * total)[0] == "resident"


def test_overfitting_takes_its_batches_whole_and_changes_nothing_but_the_windows_places() -> None:
    cfg = settings()
    cfg.trainer.overfit_batches = 2
    assert changes_for(cfg) == data.MaskAugment()
    loader = resident(cfg)
    assert loader.spec.counts == {"train": 8, "val": 8}
    assert loader.steps_per_epoch == 2
    seen = [sorted(torch.cat([b.ids for b in take(loader, 2, 2 * epoch)]).tolist()) for epoch in range(3)]
    assert seen == [list(range(8))] * 3
    for batch in loader.split("val"):
        assert tuple(batch.images.shape[2:]) in SIZES
    assert equal(take(loader, 4), take(streaming(cfg, 0), 4))


def test_a_dry_run_has_one_batch_of_each_other_split() -> None:
    cfg = settings()
    cfg.trainer.dry_run = True
    loader = resident(cfg)
    assert loader.spec.counts == {"train": 22, "val": 4, "test": 4}
    assert sum(len(batch.ids) for batch in loader.split("val")) == 4


def test_folds_cut_images_by_seed_and_measure_the_images_alone() -> None:
    whole = describe(settings(), quiet)
    folds = []
    for fold in range(4):
        cfg = settings(folds=4, fold=fold)
        loader = resident(cfg)
        assert loader.spec.counts == {"train": 21, "val": 7, "test": 5}
        folds += loader._splits["val"].tolist()
        read = [sample(number)[:3] for number in loader._splits["train"].tolist()]
        assert loader.spec.mean == Statistics.of(read).mean
        assert loader.spec.mean != whole.mean
    assert sorted(folds) == list(range(COUNTS["train"] + COUNTS["val"]))
    with pytest.raises(Mistake, match=r"too few images in train and val together of all images \(28\)"):
        describe(settings(folds=40), quiet)


def test_a_window_depends_on_all_of_the_model_and_so_does_what_is_described() -> None:
    first, second = settings(), settings()
    second.model = replace(first.model, padding=model.Padding.valid)
    assert identity(first) != identity(second)


def test_what_a_valid_network_answers_reaches_the_rim_of_the_images() -> None:
    cfg = settings(crop="28", augment=data.MaskAugment())
    cfg.model = model.UNet(depth=2, base_channels=2, padding=model.Padding.valid)
    assert cfg.model.lost == 8
    loader = resident(cfg)
    ids = torch.arange(2000)
    image = torch.from_numpy(sample(0)[-1])  # 20x24
    masks = loader._prepare_masks.windows(Ragged.of([sample(0)]).select(ids * 0), ids, 0).targets
    assert masks is not None
    masks = masks[:, 8:-8, 8:-8]  # 12x12
    seen = {(tuple(mask[0].tolist()), tuple(mask[:, 0].tolist())) for mask in masks}
    assert (tuple(image[0, :12].tolist()), tuple(image[:12, 0].tolist())) in seen
    assert (tuple(image[-12, -12:].tolist()), tuple(image[-12:, -12].tolist())) in seen


def test_the_window_is_given_or_suits_the_smallest_training_image() -> None:
    unet = model.UNet(depth=5)
    assert window("auto", None, (300, 100)) == (256, 100)
    assert window("auto", unet.size_for, (300, 100)) == (256, 96)
    assert window("auto", unet.size_for, (1000, 1000)) == (256, 256)
    assert window("192x256", unet.size_for, (20, 20)) == (192, 256)
    assert window("64", None, (20, 20)) == (64, 64)
    with pytest.raises(Mistake, match=r"data\.crop=wide"):
        window("wide", None, (20, 20))


def test_images_to_be_answered_keep_their_size_unless_one_is_given() -> None:
    cfg = settings()
    image = picture(37, 53, seed=1)
    read = decode_for(cfg, describe(cfg, quiet))
    assert np.array_equal(read(image), np.asarray(image).transpose(2, 0, 1))
    cfg.data.size = "20x30"
    assert decode_for(cfg, describe(cfg, quiet))(image).shape == (3, 21, 30)  # whole, as 37x53 is a little less wide
    grey = settings(channels=1, augment=CHANGES)
    assert decode_for(grey, describe(grey, quiet))(image).shape == (1, 37, 53)


@pytest.fixture
def bordered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """A run that weighs borders; the border term of a pixel is made of its mask, so that both can be compared."""

    class Borders:
        def __init__(self, read: Any) -> None:
            self.read = read

        def __call__(self, number: int, part: Part | None = None) -> Images:
            pixels = self.read(number, part)
            return np.concatenate([pixels, 255 - pixels[-1:]])

        def everything(self, say: Say) -> list[Images]:
            return [self(number) for number in range(sum(COUNTS.values()))]

    monkeypatch.setattr(
        "dltrain.data.borders.with_borders", lambda images, task: replace(images, read=Borders(images.read))
    )
    cfg = settings()
    cfg.task = segmentation.Segmentation(weight_map=True)
    cfg.trainer = groups.Trainer(batch_size=4)
    yield cfg


def test_borders_move_with_the_mask(bordered: Train) -> None:
    loader = resident(bordered)
    plain = resident(settings())
    for batch, other in zip(take(loader, 7), take(plain, 7), strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.targets, other.targets)  # type: ignore[arg-type]
        assert batch.borders is not None
        assert torch.equal(batch.borders, (255 - batch.targets.float()) / 255)  # type: ignore[union-attr]
    for batch in loader.split("val"):
        assert batch.borders is not None
        assert torch.equal(batch.borders, (255 - batch.targets.float()) / 255)  # type: ignore[union-attr]
    assert torch.equal(loader.class_pixels("train"), plain.class_pixels("train"))
    second = streaming(bordered, 2)
    for batch, other in zip(take(loader, 7), take(second, 7), strict=True):
        assert torch.equal(batch.borders, other.borders)  # type: ignore[arg-type]
    second.close()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_both_loaders_agree_with_the_cpu_and_resident_never_waits() -> None:
    device = torch.device("cuda")
    cfg = settings()
    spec = describe(cfg, quiet)
    here_, there = (open_data(cfg, spec, at, "resident", 0, quiet) for at in (CPU, device))
    streamed = open_data(cfg, spec, device, "streaming", 2, quiet)
    for ours, theirs, others in zip(take(here_, 10), take(there, 10), take(streamed, 10), strict=True):
        assert torch.equal(ours.targets, theirs.targets.cpu())  # type: ignore[arg-type,union-attr]
        assert torch.equal(ours.images, theirs.images.cpu())
        assert torch.equal(theirs.images, others.images)
    streamed.close()
    torch.cuda.set_sync_debug_mode("error")
    try:
        take(there, 10)
    finally:
        torch.cuda.set_sync_debug_mode("default")
