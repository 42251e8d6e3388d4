"""Random resized crop: the box against torchvision's, the pixels against Pillow's, the same bits however it is read."""

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import v2

from dltrain import keys
from dltrain.cli import main
from dltrain.config import data, groups, model
from dltrain.config.check_settings import check_data_settings
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config, Eval, LookAtData, Reproduce, Train
from dltrain.data import describe, loader_for, open_data
from dltrain.data.crop import RandomCrop, random_box
from dltrain.data.imageset import Box, Size, open_set
from dltrain.data.loaders import Data
from dltrain.data.streaming import StreamingData
from tests.data.conftest import config, picture, quiet
from tests.data.test_loaders import CPU, equal, take

CROP = data.Augment(resized_crop=0.2)
CROP_AND_MORE = data.Augment(resized_crop=0.2, flip=0.5, rotate=10, brightness=0.3, erase=0.3, mixup=0.5)


def boxes(image: Size, count: int, smallest: float = 0.08, size: Size = (64, 64)) -> list[Box]:
    return [random_box(image, size=size, smallest=smallest, seed=0, epoch=0, number=n) for n in range(count)]


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Size, float, int], Box]:
    """torchvision's RandomResizedCrop, fed with our numbers."""
    drawn: list[int] = []  # what was drawn so far: area, aspect, area, aspect, … row, column
    position = {"number": 0}

    def ours(draw: int) -> float:
        attempt = (sum(what < 2 for what in drawn) - (draw > 1)) // 2
        drawn.append(draw)
        return keys.uniform(0, "crop box", 0, position["number"], attempt, draw)

    def uniform(self: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return self.fill_(low + (high - low) * ours(len(drawn) % 2))

    def randint(low: int, high: int, size: tuple[int, ...]) -> torch.Tensor:
        return torch.full(size, low + int(ours(2 if 3 in drawn else 3) * (high - low)))

    monkeypatch.setattr(torch.Tensor, "uniform_", uniform)
    monkeypatch.setattr(torch, "randint", randint)
    torch.set_default_dtype(torch.float64)

    def box(image: Size, smallest: float, number: int) -> Box:
        drawn.clear()
        position["number"] = number
        crop = v2.RandomResizedCrop((64, 64), scale=(smallest, 1.0))
        found = crop.make_params([torch.empty(3, *image, device="meta")])
        return found["left"], found["top"], found["left"] + found["width"], found["top"] + found["height"]

    return box


@pytest.mark.parametrize("image", [(64, 64), (120, 160), (333, 100), (30, 400), (1, 1), (3, 5)])
@pytest.mark.parametrize("smallest", [0.08, 0.7, 1.0])
def test_boxes_are_torchvisions_from_the_same_numbers(
    image: Size, smallest: float, theirs: Callable[[Size, float, int], Box]
) -> None:
    """Also where nothing fits and the centre is taken."""
    for number, ours in enumerate(boxes(image, 60, smallest)):
        assert ours == theirs(image, smallest, number)


def test_areas_aspects_and_places_are_distributed_as_torchvisions() -> None:
    """Drawn by each with its own numbers: two samples of one distribution."""
    image, count = (180, 260), 3000
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop((64, 64), scale=(0.08, 1.0))
    params = [crop.make_params([torch.empty(3, *image, device="meta")]) for _ in range(count)]
    others = [(p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]) for p in params]
    mine, peers = np.array(boxes(image, count), dtype=float), np.array(others, dtype=float)

    def described(found: np.ndarray) -> list[np.ndarray]:
        left, top, right, bottom = found.T
        across, down = right - left, bottom - top
        return [across * down, across / down, (left + right) / 2, (top + bottom) / 2]

    for ours, their in zip(described(mine), described(peers), strict=True):
        assert stats.ks_2samp(ours, their).pvalue > 1e-3
    narrower = np.array(boxes(image, count, smallest=0.15), dtype=float)  # the control: another distribution is seen
    assert stats.ks_2samp(described(narrower)[0], described(peers)[0]).pvalue < 1e-6


@pytest.mark.parametrize("size", [(32, 32), (40, 80), (90, 30)])
def test_a_box_lies_within_the_image_and_has_nearly_the_shape_of_the_size(size: Size) -> None:
    for left, top, right, bottom in boxes((200, 200), 300, 0.1, size):
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 200
        stretch = (right - left) / (bottom - top) / (size[1] / size[0])
        assert 0.72 < stretch < 1.39  # 3/4 to 4/3, and whole pixels
        assert (right - left) * (bottom - top) / 200**2 > 0.09


def test_seed_epoch_number_each_draw_another_box_and_nothing_else_does() -> None:
    crop = RandomCrop((64, 64), 0.1, seed=3)
    whole = crop.part(2, 7)((300, 400))
    assert pickle.loads(pickle.dumps(crop)).part(2, 7)((300, 400)) == whole
    for other in (replace(crop, seed=4).part(2, 7), crop.part(3, 7), crop.part(2, 8)):
        assert other((300, 400)) != whole


@pytest.fixture
def folder(tmp_path: Path) -> Train:
    """32 training images of three classes and of many sizes, in files: four steps of eight an epoch."""
    for label in range(3):
        (tmp_path / "set" / f"class{label}").mkdir(parents=True)
        for number in range(16):
            image = picture(20 + 3 * number, 70 - 2 * number, seed=100 * label + number)
            image.save(tmp_path / "set" / f"class{label}" / f"{number:03d}.png")
    settings = data.Folder(root=str(tmp_path / "set"), size="12x10", augment=CROP)
    return config(settings, batch_size=8)


def test_pixels_are_pillows_of_the_original_file(folder: Train) -> None:
    """The box is cut from the full resolution, and evaluation still sees the centre."""
    images = open_set(folder, quiet)
    plain = replace(images.spec, mean=(0.0,) * 3, std=(1.0,) * 3)
    loader = StreamingData(replace(images, spec=plain), CPU, 8, folder.seed, CROP, 0)
    seen = 0
    for step, batch in enumerate(take(loader, loader.steps_per_epoch + 1)):
        epoch = step // loader.steps_per_epoch
        for number, pixels in zip(batch.ids.tolist(), batch.images, strict=True):
            with Image.open(f"{folder.data.root}/{images.read.files[number]}") as image:  # type: ignore[attr-defined]
                own = (image.height, image.width)
                box = random_box(own, size=(12, 10), smallest=0.2, seed=0, epoch=epoch, number=number)
                expected = np.asarray(image.resize((10, 12), Image.Resampling.BILINEAR, box=box))
            assert np.array_equal((pixels * 255).round().byte().permute(1, 2, 0).numpy(), expected)
            seen += 1
    assert seen == 8 * (loader.steps_per_epoch + 1)
    without = StreamingData(images, CPU, 8, folder.seed, data.Augment(), 0)
    for split in ("train", "val", "test"):
        assert equal(
            list(loader.split(split)), list(StreamingData(replace(images, spec=plain), CPU, 8, 0, CROP, 0).split(split))
        )
        assert [b.ids.tolist() for b in loader.split(split)] == [b.ids.tolist() for b in without.split(split)]
    chunk = next(iter(without.split("val")))
    assert torch.equal(
        chunk.images[0], without._prepare.normalize(torch.from_numpy(images.read(int(chunk.ids[0])))[None])[0]
    )


def test_a_known_sets_images_are_cropped_from_their_own_pixels() -> None:
    cfg = config(data.Digits(size="32", augment=CROP))
    images = open_set(cfg, quiet)
    part = RandomCrop((32, 32), 0.2, 0).part(0, 17)
    sheet = open_set(config(data.Digits()), quiet).read(17)[0]
    expected = Image.fromarray(sheet).resize((32, 32), Image.Resampling.BILINEAR, box=part((28, 28)))
    assert np.array_equal(images.read(17, part)[0], np.asarray(expected))
    assert np.array_equal(images.read(17)[0, 2:-2, 2:-2], sheet)


@pytest.mark.parametrize("sampling", [data.Sampling.shuffled, data.Sampling.balanced])
def test_any_workers_any_prefetch_and_any_first_step_give_the_same_bits(folder: Train, sampling: data.Sampling) -> None:
    images = open_set(folder, quiet)

    def opened(workers: int, prefetch: int = 2, seed: int = 0) -> Data:
        return StreamingData(images, CPU, 8, seed, CROP_AND_MORE, workers, prefetch, sampling=sampling)

    plain = opened(0)
    count = 2 * plain.steps_per_epoch + 2
    whole = take(plain, count)
    for workers, prefetch in ((1, 1), (3, 4)):
        loader = opened(workers, prefetch)
        assert equal(take(loader, count), whole)
        loader.close()
    for step in (1, plain.steps_per_epoch, 7):
        assert equal(take(plain, count - step, step), whole[step:])
    assert not equal(take(opened(0, seed=1), count), whole)


def test_a_sample_is_cropped_alike_alone_and_in_a_batch(folder: Train) -> None:
    images = open_set(folder, quiet)
    alone = StreamingData(images, CPU, 1, folder.seed, CROP, 0)
    singles = {int(batch.ids): batch.images[0] for batch in take(alone, alone.steps_per_epoch)}
    together = StreamingData(images, CPU, 8, folder.seed, CROP, 0)
    for batch in take(together, together.steps_per_epoch):
        for number, image in zip(batch.ids.tolist(), batch.images, strict=True):
            assert torch.equal(singles[number], image)


def test_epochs_see_other_parts(folder: Train) -> None:
    loader = StreamingData(open_set(folder, quiet), CPU, 1000, folder.seed, CROP, 0)  # an epoch is one batch
    first, second = ({int(i): x for i, x in zip(b.ids, b.images, strict=True)} for b in take(loader, 2))
    same = [i for i in first if torch.equal(first[i], second[i])]
    assert len(same) <= 2  # a long image, of which no draw fits: its centre


def test_auto_streams_and_says_why_and_resident_is_refused_where_it_would_train(folder: Train) -> None:
    spec = describe(folder, quiet)
    assert loader_for(folder, spec, "cpu", 2**40) == (
        "streaming",
        "data.augment.resized_crop takes parts of the images as they are read",
    )
    overfit = replace(folder, trainer=groups.Trainer(overfit_batches=1))
    assert loader_for(overfit, spec, "cpu", 2**40)[0] == "resident"
    with pytest.raises(ValueError, match="streaming loader"):
        take(open_data(folder, describe(folder, quiet), CPU, "resident", 0, quiet), 1)

    def checked(mode: type[Config], loader: data.LoaderKind, crop: float | None = 0.5, **trainer: int) -> None:
        settings = data.Digits(loader=loader, augment=data.Augment(resized_crop=crop))
        check_data_settings(mode(data=settings, model=model.MLP(), trainer=groups.Trainer(**trainer)))  # type: ignore[arg-type]

    for mode in (Train, Reproduce, LookAtData):
        with pytest.raises(Mistake, match=r"resized_crop=0\.5 takes parts") as told:
            checked(mode, data.LoaderKind.resident)
        assert told.value.type_this == "data.loader=streaming"
        checked(mode, data.LoaderKind.streaming)
        checked(mode, data.LoaderKind.auto)
        checked(mode, data.LoaderKind.resident, crop=None)
    checked(Train, data.LoaderKind.resident, overfit_batches=1)
    checked(Eval, data.LoaderKind.resident)


def test_it_trains_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["model=mlp", "model.widths=[16]", "trainer.threads=1", "trainer.steps=3", "trainer.batch_size=64"]
    words += ["log=quiet", "data.augment.resized_crop=0.4", "data.workers=0"]
    assert main([*words, "data.loader=resident"]) == 2
    assert main([*words, "output=run"]) == 0
    assert main(["mode=eval", "run=run", "data.loader=resident"]) == 0


def test_a_uniform_number_is_its_keys_first_53_bits() -> None:
    values = np.array([keys.uniform(0, "crop box", n) for n in range(2000)])
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert math.ldexp(values[3], 53) == keys.key(0, "crop box", 3) >> 11
