"""Masks: metrics against three other counts; the task's update, evaluation, prediction, settings and pictures."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain.config import groups, mode
from dltrain.config import model as models
from dltrain.config.check import check
from dltrain.config.compose import compose
from dltrain.config.messages import Mistake
from dltrain.config.segmentation import Segmentation as Settings
from dltrain.config.segmentation import SegmentationLoss
from dltrain.config.sides import Sides
from dltrain.config.spec import IGNORED, DataSpec, Target
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.random import Position
from dltrain.engine.step import Turn, apply_update
from dltrain.models import build_model
from dltrain.tasks import Batch, views
from dltrain.tasks.build import build_task, weighs_pixels
from dltrain.tasks.overlap import PixelTally
from dltrain.tasks.segmentation import Segmentation
from dltrain.tasks.tiles import WHOLE
from dltrain.tasks.views import nearest, reduced
from tests.engine.reading import NoReading

NAMES = ("ground", "cell", "a\x1b[31m\nname", "never")
K = len(NAMES)
SPEC = DataSpec("cells", (1, 16, 16), Target.mask, NAMES, {"train": 9, "val": 4}, (0.5,), (0.25,), ignore_index=IGNORED)


class Given(nn.Module):
    """Logits that follow from each pixel alone: nothing that a network does stands between."""

    sides = Sides(stride=1, offset=0, margin=0, lost=0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.sin(9 * x + k) * 3 for k in range(K - 1)] + [x - 99], 1)


def make_batch(images: int = 6, size: tuple[int, int] = (12, 17), seed: int = 0) -> Batch:
    """Masks without class 3, one without class 2, one with nothing but ignored pixels."""
    g = torch.Generator().manual_seed(seed)
    pixels = torch.rand(images, 1, *size, generator=g)
    masks = torch.randint(K - 1, (images, *size), generator=g).to(torch.uint8)
    masks[torch.rand(masks.shape, generator=g) < 0.2] = IGNORED
    masks[0][masks[0] == 2] = 1
    masks[1:2] = IGNORED
    borders = torch.rand(images, *size, generator=g)
    return Batch(pixels, masks, torch.arange(100, 100 + images), borders)


def make_task(model: nn.Module | None = None, **kwargs: Any) -> Segmentation:
    torch.manual_seed(0)
    return Segmentation(model or Given(), NAMES, mean=(0.0,), std=(1.0,), **kwargs)


def unet(padding: models.Padding = models.Padding.same, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    cfg = models.UNet(depth=2, base_channels=4, padding=padding, dropout=kwargs.pop("dropout", 0.0), **kwargs)
    return build_model(cfg, (1, 24, 24), K)


def parts_of(batch: Batch, size: int) -> list[Batch]:
    return [batch.part(slice(at, at + size)) for at in range(0, len(batch.ids), size)]


# ---- metrics


def counted(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and answered classes of the pixels that count, and their losses, one pixel at a time in float64."""
    assert batch.targets is not None
    z = Given()(batch.images).double().numpy()
    truth, answers, losses = [], [], []
    for i, r, c in np.ndindex(*batch.targets.shape):
        k = int(batch.targets[i, r, c])
        if k != IGNORED:
            p = np.exp(z[i, :, r, c]) / np.exp(z[i, :, r, c]).sum()
            truth.append(k)
            answers.append(int(p.argmax()))
            losses.append(-np.log(p[k]))
    return np.array(truth), np.array(answers), np.array(losses)


def test_metrics_are_those_of_a_plain_count() -> None:
    batch = make_batch()
    found = make_task().evaluate([batch]).metrics
    truth, answers, losses = counted(batch)
    expected = {"loss": losses.mean(), "pixel_accuracy": (truth == answers).mean()}
    iou, dice = [], []
    for k, name in enumerate(NAMES[:3]):  # the fourth is neither true nor answered
        both = ((truth == k) & (answers == k)).sum()
        iou.append(both / ((truth == k) | (answers == k)).sum())
        dice.append(2 * both / ((truth == k).sum() + (answers == k).sum()))
        expected |= {f"iou/{name}": iou[k], f"dice/{name}": dice[k]}
    expected |= {"mean_iou": np.mean(iou), "mean_dice": np.mean(dice)}
    assert found == pytest.approx(expected, rel=1e-6)
    assert list(found)[:4] == ["loss", "mean_iou", "pixel_accuracy", "mean_dice"]


def test_metrics_are_torchmetrics_and_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, f1_score, jaccard_score
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex

    batch = make_batch()
    found = make_task().evaluate([batch]).metrics
    truth, answers, _ = counted(batch)
    seen = list(range(K - 1))
    assert found["mean_iou"] == pytest.approx(jaccard_score(truth, answers, average="macro", labels=seen), abs=1e-12)
    assert found["mean_dice"] == pytest.approx(f1_score(truth, answers, average="macro", labels=seen), abs=1e-12)
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(truth, answers), abs=1e-12)
    for what, scores in (
        ("iou", jaccard_score(truth, answers, average=None)),
        ("dice", f1_score(truth, answers, average=None)),
    ):
        assert [found[f"{what}/{name}"] for name in NAMES[:3]] == pytest.approx(scores.tolist(), abs=1e-12)

    assert batch.targets is not None
    z, y = Given()(batch.images), batch.targets.long()
    theirs = {
        "mean_iou": MulticlassJaccardIndex(K, average="macro", ignore_index=IGNORED),
        "mean_dice": MulticlassF1Score(K, average="macro", ignore_index=IGNORED),
        "pixel_accuracy": MulticlassAccuracy(K, average="micro", ignore_index=IGNORED),
    }
    for name, metric in theirs.items():
        assert found[name] == pytest.approx(metric(z, y).item(), abs=1e-6), name


def test_a_class_that_is_answered_but_never_true_counts_as_0() -> None:
    """In the mean alone: of a class without true pixels nothing is told."""
    batch = make_batch()
    assert batch.targets is not None
    masks = torch.where(batch.targets == 2, 1, batch.targets)
    found = make_task().evaluate([batch._replace(targets=masks)]).metrics
    assert f"iou/{NAMES[2]}" not in found
    assert found["mean_iou"] == pytest.approx((found["iou/ground"] + found["iou/cell"] + 0) / 3, abs=1e-12)


def test_portions_and_tiles_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(9)
    whole = make_task().evaluate([batch])
    monkeypatch.setattr("dltrain.tasks.segmentation.WHOLE", 20)  # one image of 12x17 at a time
    for parts, tile in ((parts_of(batch, 2), None), ([batch], 5)):
        found = make_task(tile=tile).evaluate(parts)
        assert found.metrics == pytest.approx(whole.metrics, rel=1e-7)
        for name, picture in whole.pictures.items():
            assert np.array_equal(np.asarray(found.pictures[name]()), np.asarray(picture()))
    assert WHOLE == 1024


def test_images_of_several_sizes_are_one_split() -> None:
    batches = [make_batch(3), make_batch(2, (30, 9), seed=1), make_batch(2, (200, 170), seed=2)]
    evaluation = make_task().evaluate(batches)
    truth, answers, _ = (np.concatenate(parts) for parts in zip(*map(counted, batches), strict=True))
    assert evaluation.metrics["pixel_accuracy"] == pytest.approx((truth == answers).mean(), abs=1e-12)
    for draw in evaluation.pictures.values():
        assert draw().size[0] > 200


def test_nothing_but_ignored_pixels_is_no_number_and_no_images_are_an_error() -> None:
    batch = make_batch(2)
    evaluation = make_task().evaluate([parts_of(batch, 1)[1]])
    assert evaluation.metrics.keys() == {"loss", "mean_iou", "pixel_accuracy", "mean_dice"}
    assert all(np.isnan(value) for value in evaluation.metrics.values())
    for draw in evaluation.pictures.values():
        draw()
    with pytest.raises(ValueError, match="no images"):
        make_task().evaluate([])


# ---- learning


@pytest.mark.parametrize("padding", models.Padding)
@pytest.mark.parametrize("loss", SegmentationLoss)
def test_accumulation_equals_the_whole_batch(loss: SegmentationLoss, padding: models.Padding) -> None:
    """Through the engine's own turn, with ignored pixels, class weights, borders and unequal last parts."""
    batch = make_batch(7, (28, 28))
    batch = batch._replace(images=batch.images.double())
    moved = []
    for micro in (None, 1, 3):
        cfg = compose(["optim=sgd", "optim.lr=1", "optim.momentum=0", "optim.nesterov=false"])[0]
        cfg.trainer.micro_batch_size = micro
        is_dice = loss is SegmentationLoss.dice
        task = make_task(
            unet(padding, norm=models.Norm.none),
            loss=loss,
            class_weights=torch.tensor([0.5, 1.0, 3.0, 1.0]),
            weight_map=not is_dice,
        ).double()
        (update,) = task.updates()
        named = list(task.model.named_parameters())
        optimizer = build_optimizers(cfg.optim, [update], torch.device("cpu"))["model"]
        turn = Turn(update, 0, named, optimizer, torch.device("cpu"), "fp32", None, True)
        scalars = apply_update(cfg, turn, batch, Position(), lr=1.0)
        moved.append((copy.deepcopy(task.state_dict()), scalars))
    for state, scalars in moved[1:]:
        for name in ("loss", "pixel_accuracy"):
            assert scalars[name].item() == pytest.approx(moved[0][1][name].item(), rel=1e-6)
        for name, values in state.items():
            torch.testing.assert_close(values, moved[0][0][name], rtol=1e-6, atol=1e-9)


def test_without_padding_the_middle_of_the_mask_is_learned() -> None:
    model = unet(models.Padding.valid, norm=models.Norm.none)
    lost = model.sides.lost  # type: ignore[union-attr]
    assert isinstance(lost, int)
    assert lost > 0
    batch = make_batch(2, (32, 28))
    task = make_task(model)
    assert batch.targets is not None
    (update,) = task.updates()
    assert update.count is not None
    inside = batch.targets[:, lost : 32 - lost, lost : 28 - lost]
    assert update.count(batch).item() == (inside != IGNORED).sum()
    loss, _ = update.loss(batch)
    z = model(batch.images)
    assert z.shape[2:] == inside.shape[1:]
    expected = torch.nn.functional.cross_entropy(z, inside.long(), ignore_index=IGNORED)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_update_moves_the_model_reports_its_scalars_and_never_waits_for_the_device() -> None:
    batch = make_batch(2, (24, 24))
    task = make_task(unet(), loss=SegmentationLoss.both, weight_map=True, class_weights=torch.ones(K))
    (update,) = task.updates()
    assert (update.name, update.module) == ("", task.model)
    assert update.count is not None
    with NoReading():
        count = update.count(batch)
        loss, scalars = update.loss(batch)
        loss.backward()
    assert count.item() > 0
    assert scalars.keys() == {"loss", "pixel_accuracy"}
    assert not any(value.requires_grad for value in scalars.values())
    assert scalars["loss"].item() == loss.item()
    assert batch.targets is not None
    valid = batch.targets != IGNORED
    right = (task.model(batch.images).argmax(1) == batch.targets)[valid].double().mean().item()
    assert scalars["pixel_accuracy"].item() == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_float32_in_half_precision(dtype: torch.dtype) -> None:
    """65,536 pixels have a sum that float16 does not hold."""
    batch = make_batch(1, (256, 256))
    task = make_task(unet(), loss=SegmentationLoss.both, weight_map=True)
    full, _ = task.loss(batch)
    with torch.autocast("cpu", dtype):
        loss, _ = task.loss(batch)
        assert task.weight_of(batch).dtype == torch.float32
        assert task.evaluate([batch]).metrics["loss"] == pytest.approx(
            make_task(unet()).evaluate([batch]).metrics["loss"], rel=0.02
        )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(full.item(), rel=0.02)


def test_borders_weigh_only_where_they_are_asked_for() -> None:
    batch = make_batch(2, (24, 24))
    plain, mapped = make_task(unet()), make_task(unet(), weight_map=True, w0=10.0)
    assert plain.loss(batch)[0].item() == plain.loss(batch._replace(borders=None))[0].item()
    assert mapped.loss(batch)[0].item() != plain.loss(batch)[0].item()
    with pytest.raises(ValueError, match="borders"):
        mapped.loss(batch._replace(borders=None))
    with pytest.raises(ValueError, match="masks"):
        plain.loss(batch._replace(targets=torch.zeros(2, dtype=torch.int64)))


def test_state_dict_holds_what_is_learned_and_nothing_else() -> None:
    task = make_task(unet(), class_weights=torch.ones(K))
    assert set(task.state_dict()) == {f"model.{name}" for name in task.model.state_dict()}


def test_evaluation_leaves_no_trace() -> None:
    task, batch = make_task(unet(dropout=0.5)), make_batch(3, (24, 24))
    task.train()
    (update,) = task.updates()
    update.loss(batch)[0].backward()

    def trace() -> list[Tensor]:
        grads = [p.grad for p in task.parameters() if p.grad is not None]
        return [torch.get_rng_state(), *(v.clone() for v in (*task.state_dict().values(), *grads))]

    before = trace()
    task.predict(batch.images)
    for draw in (*task.evaluate([batch]).pictures.values(), *task.pictures(batch).values()):
        draw()
    assert all(torch.equal(a, b) for a, b in zip(before, trace(), strict=True))
    assert all(module.training for module in task.modules())


@pytest.mark.parametrize("padding", models.Padding)
def test_predictions_are_shares_of_any_image(padding: models.Padding) -> None:
    task = make_task(unet(padding), tile=36)
    images = torch.randn(2, 1, 45, 31, generator=torch.Generator().manual_seed(0))
    values = task.predict(images).values
    assert values.shape == (2, K, 45, 31)
    torch.testing.assert_close(values.sum(1), torch.ones(2, 45, 31))
    assert task.training


# ---- settings


def built(class_pixels: Tensor | None = None, **task: Any) -> Segmentation:
    cfg = mode.Train(model=models.UNet(depth=2, base_channels=2), task=Settings(**task))
    found = build_task(cfg, SPEC, None, class_pixels)
    assert isinstance(found, Segmentation)
    return found


def test_settings_reach_the_task() -> None:
    plain = built()
    assert (plain.kind, plain.class_weights, plain.weight_map, plain.tile) == ("cross_entropy", None, False, None)
    other = built(loss=SegmentationLoss.both, class_weights=[1.0, 2.0, 3.0, 0.0], weight_map=True, w0=3.0, tile=64)
    assert (other.kind, other.weight_map, other.w0, other.tile) == ("both", True, 3.0, 64)
    assert other.class_weights is not None
    assert other.class_weights.tolist() == [1, 2, 3, 0]
    assert other.model(torch.zeros(1, 1, 16, 16)).shape == (1, K, 16, 16)
    assert plain.monitor == "val/mean_iou"
    torch.testing.assert_close(plain.mean, torch.tensor([0.5]))


@pytest.mark.parametrize("key", ["balanced", "weight_map"])
def test_balanced_classes_weigh_the_same_in_all(key: str) -> None:
    pixels = torch.tensor([700, 200, 60, 40])
    task = built(pixels, **{key: True})
    assert task.class_weights is not None
    assert (task.class_weights * pixels).tolist() == pytest.approx([250] * 4)
    with pytest.raises(Mistake, match="no training pixel of class never") as caught:
        built(torch.tensor([700, 200, 60, 0]), **{key: True})
    assert caught.value.type_this == f"task.{key}=false"
    alone = built(None, **{key: True})
    assert alone.evaluate([make_batch(2, (16, 16))]).metrics["loss"] > 0
    with pytest.raises(ValueError, match="pixels of each class"):
        alone.updates()


def test_pixels_are_counted_only_where_they_are_needed() -> None:
    assert not weighs_pixels(Settings())
    assert not weighs_pixels(groups.Classification(balanced=True))
    assert weighs_pixels(Settings(balanced=True))
    assert weighs_pixels(Settings(weight_map=True))
    assert not weighs_pixels(Settings(weight_map=True, class_weights=[1.0]))


@pytest.mark.parametrize(
    ("task", "said", "type_this"),
    [
        ({"balanced": True, "class_weights": [1.0]}, "both weight", "task.balanced=true task.class_weights=null"),
        ({"class_weights": [0.0, 0.0]}, "no class at all", "task.class_weights=null"),
        ({"w0": 3.0}, "w0=3 does nothing", "task.weight_map=true task.w0=3"),
        ({"sigma": 2.5}, "sigma=2.5 does nothing", "task.weight_map=true task.sigma=2.5"),
        ({"loss": SegmentationLoss.dice, "weight_map": True}, "task.loss=dice", "task.loss=both task.weight_map=true"),
    ],
)
def test_settings_that_do_not_go_together(task: dict[str, Any], said: str, type_this: str) -> None:
    cfg = compose(["model=unet", "data=digit_scenes"])[0]
    check(cfg)
    with pytest.raises(Mistake, match=said) as caught:
        check(dataclasses.replace(cfg, task=Settings(**task)))
    assert caught.value.type_this == type_this


def test_a_weight_map_needs_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose(["model=unet", "data=digit_scenes", "task.weight_map=true"])[0]
    check(cfg)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "scipy" else object())
    with pytest.raises(Mistake, match="needs the package scipy") as caught:
        check(cfg)
    assert caught.value.type_this == 'pip install "dltrain[maps]"'


# ---- pictures


class Shown:
    """What was given to `mask_sheet`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = views.mask_sheet
        monkeypatch.setattr(views, "mask_sheet", self)

    def __call__(self, looks: Any, names: Any, title: str) -> Any:
        self.looks, self.title = looks, title
        return self.real(looks, names, title)


def test_worst_are_the_images_of_lowest_mean_iou(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, batch = Shown(monkeypatch), make_batch(20)
    make_task().evaluate(parts_of(batch, 3)).pictures["worst"]()
    assert shown.title == "12 of 20 images, lowest mean IoU first"
    assert batch.targets is not None
    scores = {}
    for i in range(20):
        if i != 1:  # nothing in it counts
            truth, answers, _ = counted(parts_of(batch, 1)[i])
            iou = [
                ((truth == k) & (answers == k)).sum() / ((truth == k) | (answers == k)).sum()
                for k in range(K)
                if ((truth == k) | (answers == k)).any()
            ]
            scores[i] = float(np.mean(iou))
    worst = sorted(scores, key=lambda i: scores[i])[:12]
    for i, look in zip(worst, shown.looks, strict=True):
        assert np.array_equal(np.asarray(look.image), (batch.images[i, 0] * 255).round().numpy().astype(np.uint8))
        assert np.array_equal(look.truth, batch.targets[i].numpy())
        assert np.array_equal(look.answer, Given()(batch.images[i : i + 1]).argmax(1)[0].numpy())
        assert abs(float(look.caption.split()[2]) - 100 * scores[i]) < 0.06


def test_right_answers_leave_a_note_and_predictions_are_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, batch = Shown(monkeypatch), make_batch(5)
    right = batch._replace(targets=Given()(batch.images).argmax(1).to(torch.uint8))
    pictures = make_task().evaluate([right]).pictures
    assert pictures["worst"]().size[1] < 60, "a note in place of a sheet"
    pictures["predictions"]()
    assert shown.title == "answers to 5 of 5 images"
    images = [(pixels[0] * 255).round().numpy().astype(np.uint8) for pixels in batch.images]
    assert all(np.array_equal(np.asarray(look.image), image) for look, image in zip(shown.looks, images, strict=True))


def test_large_images_are_reduced_and_keep_their_shape() -> None:
    assert reduced(64, 48) == (64, 48)
    assert reduced(160, 160) == (160, 160)
    assert reduced(640, 320) == (160, 80)
    assert reduced(10, 5000) == (1, 160)
    mask = torch.arange(12)[None, :, None].expand(1, 12, 6)
    assert nearest(mask, 4, 6)[0, :, 0].tolist() == [1, 4, 7, 10]
    assert nearest(mask, 12, 3).shape == (1, 12, 3)


def test_looking_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    batch = Batch(*(field.to("meta") for field in make_batch() if field is not None))
    task = make_task().to("meta")
    tally, looking = PixelTally(K, torch.device("meta")), views.Views(NAMES)
    for _ in range(2):
        assert batch.targets is not None
        answers, counts = tally.add(batch.targets, task._parts(batch.images))
        looking.add(batch, answers, counts, task._pixels)
    with pytest.raises((NotImplementedError, RuntimeError)):
        looking.pictures(tally.confusion)["worst"]()


def test_the_batch_picture_shows_windows_under_their_masks() -> None:
    batch = make_batch(3)
    draw = make_task().pictures(batch)["batch"]
    plain = np.asarray(draw())
    other = np.asarray(make_task().pictures(batch._replace(targets=torch.zeros_like(batch.targets)))["batch"]())  # type: ignore[arg-type]
    assert plain.shape[1] == other.shape[1]
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) > len(np.unique(other.reshape(-1, 3), axis=0))
