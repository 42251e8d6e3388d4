"""Losses against their formulas and torch, R² and MAE against scikit-learn; update, evaluation, prediction."""

import copy
import math

import numpy as np
import pytest
import sklearn.metrics as theirs
import torch
from torch import Tensor, nn

from dltrain.config import groups, mode
from dltrain.config import model as settings
from dltrain.config.groups import RegressionLoss
from dltrain.config.spec import DataSpec, Target
from dltrain.models import build_model
from dltrain.tasks import Batch
from dltrain.tasks.build import build_task
from dltrain.tasks.errors import Errors, r_squared
from dltrain.tasks.regression import Regression, error

SHAPE, K = (1, 6, 7), 3
NAMES = ("age", "height", "year")
MEAN, STD = (40.0, 1.7, 1e6), (20.0, 0.1, 3.0)
every_loss = pytest.mark.parametrize("kind", list(RegressionLoss))


def written_out(z: Tensor, t: Tensor, kind: RegressionLoss, delta: float) -> float:
    """The formula, one number at a time."""

    def one(e: float) -> float:
        if kind == RegressionLoss.mse:
            return e * e
        if kind == RegressionLoss.mae:
            return abs(e)
        return 0.5 * e * e if abs(e) <= delta else delta * (abs(e) - 0.5 * delta)

    return math.fsum(one(a - b) for a, b in zip(z.flatten().tolist(), t.flatten().tolist(), strict=True)) / z.numel()


def make_batch(n: int = 24, seed: int = 0, outputs: int = K) -> Batch:
    g = torch.Generator().manual_seed(seed)
    images = torch.randn(n, *SHAPE, generator=g, dtype=torch.float64)
    values = torch.randn(n, outputs, generator=g, dtype=torch.float64)
    return Batch(images, values * torch.tensor(STD[:outputs]) + torch.tensor(MEAN[:outputs]), torch.arange(n))


def make_task(
    kind: RegressionLoss = RegressionLoss.mse, delta: float = 1.0, outputs: int = K, **model: object
) -> Regression:
    torch.manual_seed(0)
    return Regression(
        build_model(settings.MLP(widths=[9], **model), SHAPE, outputs),
        NAMES[:outputs],
        value_mean=MEAN[:outputs],
        value_std=STD[:outputs],
        mean=(0.25,),
        std=(0.5,),
        loss=kind,
        delta=delta,
    ).double()


# ---- losses


@every_loss
@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("outputs", [1, 5])
def test_each_loss_is_its_formula_in_float64(kind: RegressionLoss, delta: float, outputs: int) -> None:
    g = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 50, outputs, dtype=torch.float64, generator=g) * 2
    expected = written_out(z, t, kind, delta)
    assert error(z, t, kind, delta).item() == pytest.approx(expected, rel=1e-13)
    assert error(z.float(), t.float(), kind, delta).item() == pytest.approx(expected, rel=1e-5)
    modules = {"mse": nn.MSELoss(), "mae": nn.L1Loss(), "huber": nn.HuberLoss(delta=delta)}
    assert torch.equal(error(z, t, kind, delta), modules[kind](z, t))
    assert torch.autograd.gradcheck(lambda z: error(z, t, kind, delta), z.requires_grad_())


def test_huber_is_squared_near_0_and_absolute_far_away() -> None:
    near, far, t = torch.full((4, 2), 0.1), torch.full((4, 2), 50.0), torch.zeros(4, 2)
    assert error(near, t, RegressionLoss.huber, 1.0).item() == pytest.approx(0.005)
    assert error(far, t, RegressionLoss.huber, 1.0).item() == pytest.approx(49.5)
    assert error(far, t, RegressionLoss.huber, 2.0).item() == pytest.approx(98)


@every_loss
def test_shapes_that_differ_are_refused_not_spread(kind: RegressionLoss) -> None:
    with pytest.raises(ValueError, match="outputs for"):
        error(torch.zeros(4, 1), torch.zeros(4), kind)


# ---- R² and mean absolute error


def in_chunks(answers: Tensor, values: Tensor, size: int) -> dict[str, float]:
    errors = Errors(values.shape[1], torch.device("cpu"))
    for a, v in zip(answers.split(size), values.split(size), strict=True):
        errors.add(a, v, (a - v).square().mean())
    return errors.read(NAMES[: values.shape[1]])


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e12])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 200])
def test_metrics_are_scikit_learns_however_the_split_is_cut(size: int, outputs: int, offset: float) -> None:
    g = torch.Generator().manual_seed(0)
    values = torch.randn(200, outputs, dtype=torch.float64, generator=g) * torch.tensor([1.0, 5.0, 0.5])[:outputs]
    values = values + offset
    answers = values + torch.randn(200, outputs, dtype=torch.float64, generator=g) * 0.4
    found = in_chunks(answers, values, size)
    a, v = (answers - offset).numpy(), (values - offset).numpy()  # exact; scikit-learn's own mean is rounded far from 0
    r2 = theirs.r2_score(v, a, multioutput="raw_values")
    mae = theirs.mean_absolute_error(v, a, multioutput="raw_values")
    only = ["mae"] if outputs == 1 else []  # a mean over several would add degrees to pixels
    assert list(found) == ["loss", "r2", *only, *(f"{m}/{n}" for m in ("r2", "mae") for n in NAMES[:outputs])]
    assert found["r2"] == pytest.approx(r2.mean(), abs=1e-9)
    if only:
        assert found["mae"] == pytest.approx(mae[0], rel=1e-9)
    for i, name in enumerate(NAMES[:outputs]):
        assert found[f"r2/{name}"] == pytest.approx(r2[i], abs=1e-9)
        assert found[f"mae/{name}"] == pytest.approx(mae[i], rel=1e-9)
    assert found["loss"] == pytest.approx(np.square(a - v).mean(), rel=1e-9)


def test_plain_sums_of_squares_would_cancel() -> None:
    """The control for the offsets above: the textbook's formula is wrong there."""
    values = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1e12
    plain = values.square().sum() - values.sum().square() / 200
    assert plain.item() != pytest.approx((values - values.mean()).square().sum().item(), rel=0.5)


@pytest.mark.parametrize("constant", [0.1, 3.0, 1e9 / 7])
@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_target_that_does_not_vary_counts_as_in_scikit_learn(constant: float, size: int) -> None:
    values = torch.full((30, 1), constant, dtype=torch.float64)
    assert in_chunks(values, values, size)["r2"] == 1.0 == theirs.r2_score(np.zeros(30), np.zeros(30))
    found = in_chunks(values + 0.5, values, size)
    assert found["r2"] == 0.0 == theirs.r2_score(np.zeros(30), np.full(30, 0.5))
    assert found["mae"] == pytest.approx(0.5)


def test_answers_that_are_no_number_are_not_hidden() -> None:
    values = torch.arange(6.0, dtype=torch.float64)[:, None]
    answers = values.clone()
    answers[2] = math.nan
    found = in_chunks(answers, values, 2)
    assert math.isnan(found["r2"])
    assert math.isnan(found["mae"])
    assert r_squared(math.inf, 1.0) == -math.inf


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        Errors(2, torch.device("cpu")).read(("a", "b"))


def test_adding_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    meta = torch.device("meta")
    errors = Errors(K, meta)
    for _ in range(2):
        errors.add(torch.empty(7, K, device=meta), torch.empty(7, K, device=meta), torch.empty((), device=meta))
    with pytest.raises((NotImplementedError, RuntimeError)):
        errors.read(NAMES)


# ---- the task


@every_loss
def test_the_loss_is_in_standard_deviations_and_the_error_of_an_only_output_in_its_unit(kind: RegressionLoss) -> None:
    task, batch = make_task(kind, 0.7), make_batch()
    assert batch.targets is not None
    (update,) = task.updates()
    assert (update.name, update.module, update.count) == ("", task.model, None)
    loss, scalars = update.loss(batch)
    assert loss.requires_grad
    assert not any(value.requires_grad for value in scalars.values())
    assert scalars.keys() == {"loss"}
    z = task.model(batch.images).detach()
    standard = (batch.targets - torch.tensor(MEAN)) / torch.tensor(STD)
    assert loss.item() == pytest.approx(written_out(z, standard, kind, 0.7), rel=1e-6)
    alone, batch = make_task(kind, outputs=1), make_batch(outputs=1)
    assert batch.targets is not None
    _, scalars = alone.loss(batch)
    real = alone.model(batch.images).detach() * STD[0] + MEAN[0]
    assert scalars["mae"].item() == pytest.approx((real - batch.targets).abs().mean().item(), rel=1e-6)


@every_loss
@pytest.mark.parametrize("outputs", [1, 3])
def test_accumulated_gradient_is_that_of_the_large_batch(kind: RegressionLoss, outputs: int) -> None:
    task, batch = make_task(kind, outputs=outputs), make_batch(outputs=outputs)
    (update,) = task.updates()

    def gradient(parts: list[slice], by_rows: bool = True) -> Tensor:
        task.zero_grad()
        for part in parts:
            micro = batch.part(part)
            share = len(micro.ids) / len(batch.ids) if by_rows else 1 / len(parts)
            (update.loss(micro)[0] * share).backward()
        return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])

    parts = [slice(0, 10), slice(10, 20), slice(20, 24)]
    large = gradient([slice(0, 24)])
    torch.testing.assert_close(gradient(parts), large, rtol=0, atol=1e-13)
    assert (gradient(parts, by_rows=False) - large).abs().max() > 1e-4


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_values_far_from_0_are_learned_as_well_as_others(offset: float) -> None:
    """Standardized in float64: in float32 the mean alone would be rounded by up to a third of a deviation."""
    values = (torch.arange(16.0)[:, None] / 8 + offset).float()
    exact = values.double().numpy()
    task = make_task(outputs=1).float()
    task.value_mean, task.value_std = torch.tensor([exact.mean()]), torch.tensor([exact.std()])
    batch = make_batch(16, outputs=1)._replace(targets=values)
    batch = batch._replace(images=batch.images.float())
    optimizer = torch.optim.Adam(task.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        task.loss(batch)[0].backward()
        optimizer.step()
    assert task.evaluate([batch]).metrics["r2"] > 0.99


def test_targets_of_another_kind_are_refused() -> None:
    task, batch = make_task(), make_batch()
    for targets in (None, torch.zeros(24, dtype=torch.int64)):
        with pytest.raises(ValueError, match="real targets"):
            task.loss(batch._replace(targets=targets))


def test_blended_targets_have_blended_losses() -> None:
    """Mixup's (B, K) values are values like any other: 0.3 of one sample's and 0.7 of another's."""
    task, batch = make_task(), make_batch()
    assert batch.targets is not None
    mixed = 0.3 * batch.targets + 0.7 * batch.targets.flip(0)
    blended = 0.3 * task.standardized(batch.targets) + 0.7 * task.standardized(batch.targets.flip(0))
    torch.testing.assert_close(task.standardized(mixed), blended)
    assert task.loss(batch._replace(targets=mixed))[0].item() > 0


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
    task = make_task()
    task.model.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = task.loss(batch._replace(images=batch.images.float()))
    assert loss.dtype == torch.float32


def test_state_dict_holds_what_is_learned_and_nothing_else() -> None:
    task = make_task()
    assert set(task.state_dict()) == {f"model.{name}" for name in task.model.state_dict()}


def test_evaluation_leaves_no_trace() -> None:
    task, batch = make_task(norm=settings.Norm.batch, dropout=0.5), make_batch()
    task.train()
    frozen = next(m for m in task.modules() if isinstance(m, nn.BatchNorm1d)).eval()
    task.loss(batch)[0].backward()

    def trace() -> list[Tensor]:
        grads = [p.grad for p in task.parameters() if p.grad is not None]
        return [torch.get_rng_state(), *(v.clone() for v in (*task.state_dict().values(), *grads))]

    before, modes = trace(), [m.training for m in task.modules()]
    for draw in (task.evaluate([batch]).pictures | task.pictures(batch)).values():
        draw()
    task.predict(batch.images)
    assert all(torch.equal(a, b) for a, b in zip(before, trace(), strict=True))
    assert modes == [m.training for m in task.modules()]
    assert not frozen.training
    assert task.training


def test_evaluation_is_that_of_all_rows_at_once_in_real_units() -> None:
    task, batch = make_task(RegressionLoss.huber, 0.5), make_batch()
    assert batch.targets is not None
    whole = task.evaluate([batch]).metrics
    parts = task.evaluate(batch.part(slice(i, i + 5)) for i in range(0, 24, 5)).metrics
    assert whole == pytest.approx(parts, rel=1e-9)
    answers = task.predict(batch.images).values
    torch.testing.assert_close(answers, task.model(batch.images).detach() * task.value_std + task.value_mean)
    assert whole["r2"] == pytest.approx(theirs.r2_score(batch.targets.numpy(), answers.numpy()), rel=1e-9)
    standard = task.standardized(batch.targets)
    assert whole["loss"] == pytest.approx(
        written_out(task.standardized(answers), standard, RegressionLoss.huber, 0.5), rel=1e-9
    )
    assert all(isinstance(value, float) for value in whole.values())


def test_a_step_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    task = make_task(norm=settings.Norm.batch).to("meta")
    batch = Batch(*(field.to("meta") for field in make_batch() if field is not None))
    task.loss(batch)[0].backward()


def test_the_task_is_built_from_config_and_data() -> None:
    spec = DataSpec(
        "csv", SHAPE, Target.values, (), {}, (0.1,), (0.5,), value_names=NAMES, value_mean=MEAN, value_std=STD
    )
    cfg = mode.Train(model=settings.MLP(widths=[5]), task=groups.Regression(loss=RegressionLoss.huber, delta=2.0))
    task = build_task(cfg, spec, None)
    assert isinstance(task, Regression)
    assert (task.value_names, task.kind, task.delta, task.monitor) == (NAMES, "huber", 2.0, "val/r2")
    assert task.model(torch.zeros(2, *SHAPE)).shape == (2, K)
    assert (tuple(task.value_mean.tolist()), tuple(task.value_std.tolist())) == (MEAN, STD)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_and_its_evaluation_never_wait_for_the_gpu() -> None:
    task = make_task(norm=settings.Norm.batch).cuda()
    batch = Batch(*(field.cuda() for field in make_batch() if field is not None))
    assert batch.targets is not None
    errors = Errors(K, torch.device("cuda"))
    torch.use_deterministic_algorithms(True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = task.loss(batch)
        loss.backward()
        errors.add(task.answer(task.model(batch.images).detach()), batch.targets, loss.detach())
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert errors.read(NAMES)["mae/age"] >= 0
