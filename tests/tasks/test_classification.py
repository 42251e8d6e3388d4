"""Cross-entropy against float64 written out; the task's update, evaluation, prediction and pictures."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.compose import compose
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.random import Position
from dltrain.engine.step import Turn, apply_update
from dltrain.models import build_model
from dltrain.tasks import Batch
from dltrain.tasks.classification import Classification, cross_entropy

SHAPE, K = (1, 6, 7), 6
NAMES = tuple("abcdef")
WEIGHTS = [0.5, 1.0, 2.0, 0.25, 3.0, 1.5]


def written_out(z: Tensor, y: Tensor, epsilon: float, w: list[float]) -> float:
    """The formula, one image and one class at a time."""
    total, weight = 0.0, 0.0
    for scores, target in zip(z.double().numpy(), y.tolist(), strict=True):
        log_p = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
        q = [(1 - epsilon) * (k == target) + epsilon / len(w) for k in range(len(w))]
        total += -sum(w[k] * q[k] * log_p[k] for k in range(len(w)))
        weight += w[target]
    return float(total / weight)


def make_batch(n: int = 24, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    images = torch.randn(n, *SHAPE, generator=g, dtype=torch.float64)
    return Batch(images, torch.randint(K, (n,), generator=g), torch.arange(n))


def make_task(*, epsilon: float = 0.0, weights: list[float] | None = None, **model: object) -> Classification:
    torch.manual_seed(0)
    return Classification(
        build_model(settings.MLP(widths=[9], **model), SHAPE, K),
        NAMES,
        mean=(0.25,),
        std=(0.5,),
        label_smoothing=epsilon,
        class_weights=None if weights is None else torch.tensor(weights),
    ).double()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_cross_entropy_is_its_formula_in_float64(epsilon: float, weights: list[float] | None) -> None:
    z = torch.randn(50, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5
    y = torch.arange(50) % K
    w = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = written_out(z, y, epsilon, weights or [1.0] * K)
    assert cross_entropy(z, y, epsilon, w).item() == pytest.approx(expected, rel=1e-13)
    single = cross_entropy(z.float(), y, epsilon, None if w is None else w.float()).item()
    assert single == pytest.approx(expected, rel=1e-6)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, y, epsilon, w), z.requires_grad_())


def test_targets_without_weight_have_loss_0_and_no_nan_in_the_gradient() -> None:
    z = torch.randn(3, 2, requires_grad=True)
    loss = cross_entropy(z, torch.zeros(3, dtype=torch.int64), 0.1, torch.tensor([0.0, 1.0]))
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_accumulated_gradient_is_that_of_the_large_batch(weights: list[float] | None) -> None:
    task, batch = make_task(epsilon=0.1, weights=weights), make_batch()
    (update,) = task.updates()

    def gradient(parts: list[slice], by_rows: bool = False) -> Tensor:
        task.zero_grad()
        micros = [batch.part(part) for part in parts]
        counts = [
            torch.tensor(float(len(m.ids))) if by_rows or update.count is None else update.count(m) for m in micros
        ]
        for micro, count in zip(micros, counts, strict=True):
            (update.loss(micro)[0] * count / torch.stack(counts).sum()).backward()
        return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])

    parts = [slice(0, 10), slice(10, 20), slice(20, 24)]
    large = gradient([slice(0, 24)])
    torch.testing.assert_close(gradient(parts), large, rtol=0, atol=1e-14)
    if weights is not None:  # weighing by rows is wrong then
        assert (gradient(parts, by_rows=True) - large).abs().max() > 1e-4


def test_update_moves_the_model_and_reports_its_scalars() -> None:
    task, batch = make_task(epsilon=0.1), make_batch()
    (update,) = task.updates()
    assert (update.name, update.module, update.count) == ("", task.model, None)
    loss, scalars = update.loss(batch)
    assert loss.requires_grad
    assert not any(value.requires_grad for value in scalars.values())
    assert scalars.keys() == {"loss", "accuracy"}
    assert scalars["loss"].item() == loss.item()
    right = (task.model(batch.images).argmax(1) == batch.targets).double().mean().item()
    assert scalars["accuracy"].item() == pytest.approx(right, abs=1e-7)


def test_updates_of_a_copy_move_the_copy() -> None:
    task = make_task()
    other = copy.deepcopy(task)
    (update,) = other.updates()
    update.loss(make_batch())[0].backward()
    assert all(p.grad is not None for p in other.parameters())
    assert all(p.grad is None for p in task.parameters())


def test_loss_is_float32_under_autocast_and_float64_stays() -> None:
    batch = make_batch()
    assert make_task().loss(batch)[0].dtype == torch.float64
    task = make_task().float()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = task.loss(batch._replace(images=batch.images.float()))
    assert loss.dtype == torch.float32


def test_state_dict_holds_what_is_learned_and_nothing_else() -> None:
    task = make_task(weights=WEIGHTS)
    assert set(task.state_dict()) == {f"model.{name}" for name in task.model.state_dict()}


def test_evaluation_leaves_no_trace() -> None:
    task, batch = make_task(norm=settings.Norm.batch, dropout=0.5), make_batch()
    task.train()
    frozen = next(m for m in task.modules() if isinstance(m, nn.BatchNorm1d)).eval()
    (update,) = task.updates()
    update.loss(batch)[0].backward()

    def trace() -> list[Tensor]:
        grads = [p.grad for p in task.parameters() if p.grad is not None]
        return [torch.get_rng_state(), *(v.clone() for v in (*task.state_dict().values(), *grads))]

    before, modes = trace(), [m.training for m in task.modules()]
    task.evaluate([batch])
    task.predict(batch.images)
    for draw in (*task.evaluate([batch]).pictures.values(), *task.pictures(batch).values()):
        draw()
    assert all(torch.equal(a, b) for a, b in zip(before, trace(), strict=True))
    assert modes == [m.training for m in task.modules()]
    assert not frozen.training
    assert task.training


def test_looking_records_no_graph() -> None:
    task, batch = make_task(), make_batch()
    seen = []
    task.model.register_forward_hook(lambda m, i, o: seen.append(torch.is_inference_mode_enabled()))
    task.evaluate([batch, batch])
    task.predict(batch.images)
    assert seen == [True, True, True]


def test_modes_come_back_after_an_error() -> None:
    task = make_task().train()
    with pytest.raises(ValueError, match="targets"):
        task.evaluate([make_batch()._replace(targets=None)])
    assert all(m.training for m in task.modules())


def test_what_a_loader_keeps_during_evaluation_can_be_trained_on() -> None:
    task = make_task().train()
    kept: list[Batch] = []

    def batches():
        kept.append(make_batch())
        yield kept[0]

    task.evaluate(batches())
    task.loss(kept[0])[0].backward()  # an inference tensor would raise here


def test_evaluation_is_the_same_in_any_portions_and_neither_smoothed_nor_weighted() -> None:
    task, batch = make_task(epsilon=0.3, weights=WEIGHTS), make_batch()
    assert batch.targets is not None
    whole = task.evaluate([batch]).metrics
    parts = task.evaluate(batch.part(slice(i, i + 5)) for i in range(0, 24, 5)).metrics
    assert whole == pytest.approx(parts, rel=1e-12)
    z = task.model(batch.images).detach()
    assert whole["loss"] == pytest.approx(written_out(z, batch.targets, 0.0, [1.0] * K), rel=1e-12)
    assert whole["accuracy"] == (z.argmax(1) == batch.targets).double().mean().item()
    assert all(isinstance(value, float) for value in whole.values())


def test_prediction_is_softmax_in_evaluation_mode() -> None:
    task, batch = make_task(dropout=0.5).train(), make_batch()
    values = task.predict(batch.images).values
    torch.testing.assert_close(values.sum(1), torch.ones(24, dtype=torch.float64))
    task.eval()
    torch.testing.assert_close(values, task.model(batch.images).softmax(1))
    assert torch.equal(values, task.predict(batch.images).values)


def test_picture_shows_the_pixels_that_were_read() -> None:
    task = make_task()
    pixels = torch.arange(10 * 42, dtype=torch.float64).remainder(256).view(10, 1, 6, 7)
    batch = Batch((pixels / 255 - 0.25) / 0.5, torch.arange(10) % K, torch.arange(10))
    sheet = np.asarray(task.pictures(batch)["batch"]())
    shown = [sheet[y : y + 84, x : x + 98] for y, x in corners(sheet)]
    assert len(shown) == 10
    for image, enlarged in zip(pixels[:, 0].numpy().astype(np.uint8), shown, strict=True):
        assert np.array_equal(enlarged, np.kron(image[:, :, None], np.ones((14, 14, 3), dtype=np.uint8)))
    one = task.pictures(batch._replace(images=batch.images[:1], targets=None))["batch"]()
    assert one.size == (98 + 2 + 24, 84 + 2 + 2 + 24)


def corners(sheet: np.ndarray) -> list[tuple[int, int]]:
    """Where the images of a sheet are: inside of their thin frames, row by row."""
    frame = (sheet == 224).all(axis=2)
    sides = (
        (y, x) for y, x in np.argwhere(frame) if frame[y, x : x + 100].sum() == 100 and frame[y : y + 86, x].sum() == 86
    )
    return [(int(y) + 1, int(x) + 1) for y, x in sides]


def test_larger_images_are_fewer_and_other_channels_are_grey() -> None:
    task = make_task()
    small, large = (task.pictures(make_images(40, side))["batch"]() for side in (128, 129))
    assert small.width * small.height > large.width * large.height
    two = Classification(nn.Identity(), NAMES, mean=(0.0, 0.0), std=(1.0, 1.0))
    picture = np.asarray(two.pictures(Batch(torch.rand(3, 2, 8, 8), None, torch.arange(3)))["batch"]())
    assert (picture[:, :, 0] == picture[:, :, 2]).all()


def make_images(n: int, side: int) -> Batch:
    return Batch(torch.zeros(n, 1, side, side), torch.zeros(n, dtype=torch.int64), torch.arange(n))


# ---- shares of classes, as mixup and cutmix make them


def soft(n: int = 50) -> Tensor:
    g = torch.Generator().manual_seed(1)
    share = torch.rand(n, 1, generator=g, dtype=torch.float64)
    one, other = (F.one_hot(torch.randint(K, (n,), generator=g), K).double() for _ in range(2))
    return share * one + (1 - share) * other


def written_out_shares(z: Tensor, q: Tensor, epsilon: float, w: list[float]) -> float:
    total, weight = 0.0, 0.0
    for scores, shares in zip(z.double().numpy(), q.numpy(), strict=True):
        log_p = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
        smooth = [(1 - epsilon) * share + epsilon / len(w) for share in shares]
        total += -sum(w[k] * smooth[k] * log_p[k] for k in range(len(w)))
        weight += sum(w[k] * shares[k] for k in range(len(w)))
    return float(total / weight)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_cross_entropy_of_shares_is_its_formula_and_torchs(epsilon: float, weights: list[float] | None) -> None:
    z = torch.randn(50, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5
    q, w = soft(), None if weights is None else torch.tensor(weights, dtype=torch.float64)
    found = cross_entropy(z, q, epsilon, w)
    assert found.item() == pytest.approx(written_out_shares(z, q, epsilon, weights or [1.0] * K), rel=1e-13)
    if w is None:
        assert found.item() == pytest.approx(F.cross_entropy(z, q, label_smoothing=epsilon).item(), rel=1e-14)
    single = cross_entropy(z.float(), q.float(), epsilon, None if w is None else w.float()).item()
    assert single == pytest.approx(found.item(), rel=1e-6)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, q, epsilon, w), z.requires_grad_())


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_shares_of_one_class_are_that_class(epsilon: float, weights: list[float] | None) -> None:
    task, batch = make_task(epsilon=epsilon, weights=weights), make_batch()
    assert batch.targets is not None
    same = batch._replace(targets=F.one_hot(batch.targets, K).double())
    (update,) = task.updates()
    (loss, scalars), (other, other_scalars) = update.loss(batch), update.loss(same)
    assert loss.item() == pytest.approx(other.item(), rel=1e-14)
    assert scalars["accuracy"] == other_scalars["accuracy"]
    if update.count is not None:
        assert update.count(batch).item() == pytest.approx(update.count(same).item(), rel=1e-14)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_accumulated_gradient_of_shares_is_that_of_the_large_batch(weights: list[float] | None) -> None:
    task, batch = make_task(epsilon=0.1, weights=weights), make_batch()._replace(targets=soft(24))
    (update,) = task.updates()

    def gradient(parts: list[slice]) -> Tensor:
        task.zero_grad()
        micros = [batch.part(part) for part in parts]
        counts = torch.stack([update.count(m) if update.count else torch.tensor(float(len(m.ids))) for m in micros])
        for micro, count in zip(micros, counts, strict=True):
            (update.loss(micro)[0] * count / counts.sum()).backward()
        return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])

    torch.testing.assert_close(gradient([slice(0, 10), slice(10, 24)]), gradient([slice(0, 24)]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [1, 7])
def test_accuracy_in_micro_batches_is_that_of_the_whole_batch(size: int) -> None:
    """Over rows: the weights of the classes are the loss's."""
    found = []
    for micro in (None, size):
        cfg = compose(["model=mlp", "optim=sgd"])[0]
        cfg.trainer.micro_batch_size = micro
        task, cpu = make_task(weights=WEIGHTS), torch.device("cpu")
        (update,) = task.updates()
        optimizer = build_optimizers(cfg.optim, [update], cpu)["model"]
        turn = Turn(update, 0, list(task.model.named_parameters()), optimizer, cpu, "fp32", None, True)
        scalars = apply_update(cfg, turn, make_batch(), Position(), lr=1.0)
        found.append([scalars[name].item() for name in ("accuracy", "loss")])
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[0][0] > 0


def test_accuracy_of_a_blended_image_is_by_its_largest_share_and_half_precision_stays_out() -> None:
    task = make_task().float()
    images = make_batch(4).images.float()
    z = task.model(images)
    targets = torch.full((4, K), 0.1).scatter(1, z.argmax(1, keepdim=True), 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        loss, scalars = task.loss(Batch(images, targets, torch.arange(4)))
    assert loss.dtype == torch.float32
    assert scalars["accuracy"].item() == 1.0


def test_answer_is_what_predict_gives() -> None:
    task, batch = make_task().eval(), make_batch()
    assert torch.equal(task.answer(task.model(batch.images)), task.predict(batch.images).values)


def test_a_step_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    task = make_task(epsilon=0.1, weights=WEIGHTS, norm=settings.Norm.batch).to("meta")
    batch = Batch(*(field.to("meta") for field in make_batch() if field is not None))
    (update,) = task.updates()
    update.loss(batch)[0].backward()
    assert update.count is not None
    update.count(batch)
    shares = batch._replace(targets=torch.ones(24, K, device="meta") / K)
    update.loss(shares)[0].backward()
    update.count(shares)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_and_its_evaluation_never_wait_for_the_gpu() -> None:
    from dltrain.tasks.answers import Answers
    from dltrain.tasks.metrics import Tally
    from dltrain.tasks.pictures import to_pixels

    task = make_task(epsilon=0.1, weights=WEIGHTS, norm=settings.Norm.batch).float().cuda()
    batch = Batch(*(field.cuda() for field in make_batch() if field is not None))
    batch = batch._replace(images=batch.images.float())
    assert batch.targets is not None
    tally, answers = Tally(K, torch.device("cuda")), Answers(NAMES)
    torch.use_deterministic_algorithms(True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        task.loss(batch)[0].backward()
        task.loss(batch._replace(targets=F.one_hot(batch.targets, K).float()))[0].backward()
        z = task.model(batch.images).detach()
        answers.add(batch, z, tally.add(z, batch.targets), lambda images: to_pixels(images, task.mean, task.std))
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert tally.read(NAMES)["accuracy"] >= 0
