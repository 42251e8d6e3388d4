"""Mixup and CutMix against their definitions and torchvision, their shares against scipy, and exactly again."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from dltrain import checkpoint, keys
from dltrain.cli import main
from dltrain.config import data
from dltrain.config.check_settings import check_data_settings
from dltrain.config.data import Augment
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target
from dltrain.data.imageset import ImageSet, open_set
from dltrain.data.loaders import ResidentData
from dltrain.data.mix import Mix, blend, draw_box, one_hot, paste, symmetric_beta
from dltrain.data.streaming import StreamingData
from dltrain.engine import random
from dltrain.run import Run
from dltrain.tasks import Batch
from tests.data.conftest import config, quiet
from tests.data.test_loaders import CPU, equal, take
from tests.faults.compare import run_differences
from tests.test_every_option import fail_in_step

K = 5
BOTH = Augment(mixup=0.4, cutmix=1.0)


def some_batch(count: int = 9, height: int = 12, width: int = 10) -> Batch:
    values = random.uniform(random.key(1, "test"), torch.arange(count), 3 * height * width)
    return Batch(values.reshape(count, 3, height, width), torch.arange(count) % K, torch.arange(count) * 7)


def spec(target: Target = Target.classes) -> DataSpec:
    names = tuple("abcde")
    classes, values = (names, ()) if target is Target.classes else ((), names)
    return DataSpec("made", (3, 12, 10), target, classes, {"train": 9}, (0.5,) * 3, (0.5,) * 3, value_names=values)


def mixed(batch: Batch, step: int, changes: Augment, seed: int = 0, target: Target = Target.classes) -> Batch:
    return Mix(spec(target), seed, changes)(batch, step)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 1.7, 8.0, 100.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha: float) -> None:
    n = 20_000
    u, v = (np.array([keys.uniform(0, "mix", step, draw) for step in range(n)]) for draw in (1, 2))
    shares = np.array([symmetric_beta(alpha, *pair) for pair in zip(u, v, strict=True)])
    lower = shares[shares < 0.5]  # where float64 still tells small numbers from each other
    assert abs(len(lower) / n - 0.5) < 2 / math.sqrt(n)
    assert stats.kstest(lower, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > 1e-3
    other = stats.beta(alpha * 1.3, alpha * 1.3)  # the control
    assert stats.kstest(lower, lambda x: 2 * other.cdf(x)).pvalue < 1e-6
    assert abs(np.corrcoef(shares[1:], shares[:-1])[0, 1]) < 4 / math.sqrt(n)
    mirrored = np.array([1 - symmetric_beta(alpha, *pair) for pair in zip(u, (v + 0.5) % 1, strict=True)])
    np.testing.assert_allclose(mirrored, shares, atol=1e-12)


def test_shares_stay_within_0_and_1_at_every_corner() -> None:
    edge = [0.0, 2.0**-53, 0.25, 0.5, 0.75, 1 - 2.0**-53]
    for alpha in (1e-300, 1e-3, 0.2, 1.0, 100.0):
        for u in edge:
            for v in edge:
                assert 0 <= symmetric_beta(alpha, u, v) <= 1
    assert symmetric_beta(1e-300, 0.5, 0.1) == 1  # as alpha falls to 0: one image or the other
    assert symmetric_beta(1e-300, 0.5, 0.4) < 1e-300


def test_mixup_is_torchvisions_and_the_papers_formula() -> None:
    batch = some_batch()
    assert batch.targets is not None
    found = mixed(batch, 4, Augment(mixup=0.7))
    share = symmetric_beta(0.7, keys.uniform(0, "mix", 4, 1), keys.uniform(0, "mix", 4, 2))
    theirs = v2.MixUp(num_classes=K)
    labels = batch.targets
    params = {"labels": labels, "batch_size": 9, "lam": share}
    assert torch.equal(found.images, theirs.transform(batch.images, params))
    assert torch.equal(found.targets, theirs.transform(labels, params))  # type: ignore[arg-type]
    assert torch.equal(found.ids, batch.ids)
    x, y = batch.images.numpy().astype(np.float64), np.eye(K)[labels]
    for i in range(9):
        np.testing.assert_allclose(found.images[i], share * x[i] + (1 - share) * x[i - 1], atol=1e-6)
        np.testing.assert_allclose(found.targets[i], share * y[i] + (1 - share) * y[i - 1], atol=1e-6)  # type: ignore[index]


def test_cutmix_is_torchvisions_and_the_papers_formula() -> None:
    batch = some_batch()
    assert batch.targets is not None
    labels, theirs = batch.targets, v2.CutMix(num_classes=K)
    x, y = batch.images.numpy(), np.eye(K)[labels]
    for step in range(20):
        found = mixed(batch, step, Augment(cutmix=1.0))
        u = [keys.uniform(0, "mix", step, draw) for draw in range(5)]
        (left, top, right, bottom), share = draw_box(12, 10, symmetric_beta(1.0, u[1], u[2]), u[3], u[4])
        params = {"labels": labels, "batch_size": 9, "box": (left, top, right, bottom), "lam_adjusted": share}
        assert torch.equal(found.images, theirs.transform(batch.images, params))
        assert torch.equal(found.targets, theirs.transform(labels, params))  # type: ignore[arg-type]
        mask = np.ones((12, 10))
        mask[top:bottom, left:right] = 0
        for i in range(9):
            assert np.array_equal(found.images[i], np.where(mask == 1, x[i], x[i - 1]))
            expected = mask.mean() * y[i] + (1 - mask.mean()) * y[i - 1]
            np.testing.assert_allclose(found.targets[i], expected, atol=1e-6)  # type: ignore[index]


def test_boxes_are_torchvisions_from_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = v2.CutMix(num_classes=K)
    for n in range(300):
        share, u, v = (keys.uniform(0, "test", n, draw) for draw in range(3))
        places = [int(u * 10), int(v * 12)]
        monkeypatch.setattr(theirs, "_dist", type("Fixed", (), {"sample": lambda _, __, s=share: s})())
        monkeypatch.setattr(torch, "randint", lambda high, size, p=places: torch.full(size, p.pop(0)))
        params = theirs.make_params([torch.empty(2, 3, 12, 10)])
        assert draw_box(12, 10, share, u, v) == (params["box"], params["lam_adjusted"])


def test_a_box_may_be_nothing_or_everything() -> None:
    batch = some_batch()
    nothing, share = draw_box(12, 10, 1.0, 0.5, 0.5)
    assert share == 1
    assert torch.equal(paste(batch.images, nothing), batch.images)
    everything, share = draw_box(12, 10, 0.0, 0.5, 0.5)
    assert share == 0
    assert torch.equal(paste(batch.images, everything), batch.images.roll(1, 0))


def test_the_coin_chooses_between_both_about_evenly_and_each_is_its_own() -> None:
    """A batch under both is bit for bit the batch under one of them."""
    batch, mixups = some_batch(), 0
    for step in range(200):
        both = mixed(batch, step, BOTH)
        one = mixed(batch, step, Augment(mixup=0.4))
        other = mixed(batch, step, Augment(cutmix=1.0))
        is_mixup = torch.equal(both.images, one.images)
        assert is_mixup != torch.equal(both.images, other.images)
        assert torch.equal(both.targets, (one if is_mixup else other).targets)  # type: ignore[arg-type]
        mixups += is_mixup
    assert 75 < mixups < 125


def test_seed_and_step_decide_and_inputs_are_left_alone() -> None:
    batch = some_batch()
    kept = batch.images.clone()
    for changes in (Augment(mixup=1.0), Augment(cutmix=1.0)):
        first = mixed(batch, 3, changes)
        assert torch.equal(first.images, mixed(batch, 3, changes).images)
        assert not torch.equal(first.images, mixed(batch, 4, changes).images)
        assert not torch.equal(first.images, mixed(batch, 3, changes, seed=1).images)
    assert torch.equal(batch.images, kept)
    assert mixed(batch, 3, Augment()) is batch


def test_shares_of_classes_sum_to_1_and_values_are_blended() -> None:
    batch = some_batch()
    for step in range(30):
        targets = mixed(batch, step, BOTH).targets
        assert targets is not None
        assert (targets.dtype, targets.shape) == (torch.float32, (9, K))
        assert (targets.sum(1) - 1).abs().max() < 1e-6
        assert (targets > 0).sum(1).max() <= 2
    values = Batch(batch.images, torch.arange(9.0)[:, None] * torch.tensor([1.0, 10.0]), batch.ids)
    found = mixed(values, 2, Augment(mixup=1.0), target=Target.values)
    share = symmetric_beta(1.0, keys.uniform(0, "mix", 2, 1), keys.uniform(0, "mix", 2, 2))
    assert torch.equal(found.targets, blend(values.targets, share))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no targets"):
        mixed(Batch(batch.images, None, batch.ids), 0, Augment(mixup=1.0))
    assert torch.equal(one_hot(torch.tensor([2, 0]), 3), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))


def test_a_batch_of_one_is_blended_with_itself() -> None:
    found = mixed(some_batch(1), 0, BOTH)
    assert (found.images - some_batch(1).images).abs().max() < 1e-6
    assert found.targets is not None
    assert (found.targets - one_hot(torch.tensor([0]), K)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "alpha", "refused"),
    [
        (data.Digits(), {"mixup": 0.2, "cutmix": 1.0}, None),
        (data.DigitsPose(), {"mixup": 0.2}, None),
        (data.DigitsPose(), {"cutmix": 1.0}, "cutmix=1 shares targets out.*kind value"),
        (data.ImagesOnly(root="x"), {"mixup": 0.2}, r"mixup=0\.2 blends targets.*kind none"),
        (data.ImagesOnly(root="x"), {"cutmix": 0.2}, r"cutmix=0\.2 shares targets.*kind none"),
    ],
)
def test_targets_that_cannot_be_mixed_are_refused_before_torch(
    settings: data.Data, alpha: dict[str, float], refused: str | None
) -> None:
    cfg = config(replace(settings, augment=Augment(**alpha)))  # type: ignore[arg-type]
    if refused is None:
        check_data_settings(cfg)
        return
    with pytest.raises(Mistake, match=refused) as told:
        check_data_settings(cfg)
    assert told.value.type_this == f"data.augment.{next(iter(alpha))}=0"


# ---- in the loaders and in a run


@pytest.fixture
def digits() -> ImageSet:
    """600 training digits, as far as the loaders are concerned."""
    images = open_set(config(data.Digits()), quiet)
    return replace(images, splits=images.splits | {"train": images.splits["train"][::6]})


@pytest.mark.parametrize("changes", [Augment(mixup=0.4), Augment(cutmix=1.0), replace(BOTH, flip=0.5, erase=0.5)])
def test_both_loaders_any_workers_and_any_first_step_give_the_same_bits(digits: ImageSet, changes: Augment) -> None:
    pixels = torch.from_numpy(digits.read.everything(quiet))
    resident = ResidentData(digits, pixels, CPU, 100, 0, changes)
    count = 2 * resident.steps_per_epoch + 2
    whole = take(resident, count)
    for step in (1, resident.steps_per_epoch, resident.steps_per_epoch + 2):
        assert equal(take(resident, count - step, step), whole[step:])
    for workers in (0, 1, 3):
        loader = StreamingData(digits, CPU, 100, 0, changes, workers)
        assert equal(take(loader, count), whole)
        loader.close()
    assert not equal(take(ResidentData(digits, pixels, CPU, 100, 0, Augment()), count), whole)
    for batch in resident.split("val"):
        assert batch.targets is not None
        assert batch.targets.dtype == torch.int64


WORDS = ["model=mlp", "model.widths=[16]", "trainer.threads=1", "trainer.batch_size=875"]
WORDS += ["log=quiet", "trainer.save_every=2", "trainer.ema=0.5"]
EVERYTHING = ["brightness=0.3", "contrast=0.3", "erase=0.5", "mixup=0.4", "cutmix=1", "resized_crop=0.5", "cutout=4"]


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(run: str) -> dict[str, Tensor]:
    saved = checkpoint.load(Path(run), "last", print)
    assert saved is not None
    return saved["task"]  # type: ignore[no-any-return]


@pytest.mark.usefixtures("empty_folder")
def test_a_run_with_every_change_goes_on_bit_exact_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*WORDS, "trainer.epochs=2", *(f"data.augment.{change}" for change in EVERYTHING)]
    assert main([*words, "data.workers=0", "output=whole"]) == 0
    with monkeypatch.context() as patch:
        fail_in_step(patch, 7)
        assert main([*words, "data.workers=1", "output=cut"]) == 1
    assert main(["resume=cut", "data.workers=0"]) == 0
    assert run_differences(Path("whole"), Path("cut")) == []
    other = [word for word in words if "mixup" not in word]
    assert main([*other, "data.workers=0", "output=other"]) == 0
    assert Run(Path("other")).results()["weights_sha256"] != Run(Path("whole")).results()["weights_sha256"]


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("more", [[], ["task.class_weights=[1,2,3,4,5,6,7,8,9,10]", "task.label_smoothing=0.1"]])
def test_accumulation_is_the_whole_batch_with_shares_of_classes(more: list[str]) -> None:
    """Mixed before it is cut into micro-batches, of which the last is smaller; partners may lie in another one."""
    words = [*WORDS, *more, "data.augment.mixup=1", "data.augment.cutmix=1", "optim=sgd", "trainer.steps=3"]
    words += ["precision=fp32"]
    assert main([*words, "output=whole"]) == 0
    assert main([*words, "trainer.micro_batch_size=200", "output=parts"]) == 0
    assert main([*words, "seed=1", "output=other"]) == 0

    def distance(run: str) -> float:
        return max(float((value - weights(run)[name]).abs().max()) for name, value in weights("whole").items())

    assert distance("parts") < 1e-5
    assert distance("other") > 1e-3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_mixes_to_the_same_bits_and_is_not_waited_for() -> None:
    batch = some_batch()
    assert batch.targets is not None
    there = Batch(batch.images.cuda(), batch.targets.cuda(), batch.ids.cuda())
    for step in range(6):
        here = mixed(batch, step, BOTH)
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = mixed(there, step, BOTH)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(found.images.cpu(), here.images)
        assert torch.equal(found.targets.cpu(), here.targets)  # type: ignore[union-attr,arg-type]
