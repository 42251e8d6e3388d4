"""Auxiliary classifiers: their losses join the main one in training, and in nothing else."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.cli import main
from dltrain.config.compose import compose
from dltrain.config.groups import RegressionLoss
from dltrain.engine.random import Position
from dltrain.engine.step import Turn, apply_update
from dltrain.models.outputs import Outputs
from dltrain.tasks import Batch
from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression
from tests.faults.compare import run_differences, the_run
from tests.faults.killing import Bomb, dltrain
from tests.faults.told import told

PIXELS, K = 6, 3
WEIGHT = 0.3
CLASS_WEIGHTS = [0.5, 2.0, 1.25]


class TwoHeads(nn.Module):
    """A hidden layer, the logits behind it, and two auxiliary classifiers on it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(PIXELS, 5)
        self.fc, self.first, self.second = (nn.Linear(5, K) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor | Outputs:
        x = self.trunk(images.flatten(1)).tanh()
        logits: Tensor = self.fc(x)
        return Outputs(logits, (self.first(x), self.second(x)), WEIGHT) if self.training else logits


def network() -> TwoHeads:
    torch.manual_seed(0)
    return TwoHeads().double()


def classification(*, epsilon: float = 0.0, weights: list[float] | None = None) -> Classification:
    class_weights = None if weights is None else torch.tensor(weights)
    task = Classification(
        network(), tuple("abc"), mean=(0.0,), std=(1.0,), label_smoothing=epsilon, class_weights=class_weights
    )
    return task.double()


def regression(kind: RegressionLoss) -> Regression:
    task = Regression(
        network(), tuple("abc"), value_mean=(0.0,) * K, value_std=(2.0,) * K, mean=(0.0,), std=(1.0,), loss=kind
    )
    return task.double()


def classes(n: int = 10) -> Batch:
    g = torch.Generator().manual_seed(1)
    images = torch.randn(n, 1, 2, 3, generator=g, dtype=torch.float64)
    return Batch(images, torch.randint(K, (n,), generator=g), torch.arange(n))


def values(n: int = 10) -> Batch:
    g = torch.Generator().manual_seed(2)
    return classes(n)._replace(targets=torch.randn(n, K, generator=g, dtype=torch.float64) * 3)


def smoothed(z: Tensor, y: Tensor, epsilon: float, w: list[float]) -> float:
    """Cross-entropy, one image and one class at a time."""
    total = weight = 0.0
    for scores, target in zip(z.tolist(), y.tolist(), strict=True):
        log_sum = math.log(math.fsum(math.exp(score) for score in scores))
        for k, score in enumerate(scores):
            total -= w[k] * ((1 - epsilon) * (k == target) + epsilon / K) * (score - log_sum)
        weight += w[target]
    return total / weight


def deviation(z: Tensor, t: Tensor, kind: RegressionLoss) -> float:
    errors = [a - b for a, b in zip(z.flatten().tolist(), t.flatten().tolist(), strict=True)]
    return math.fsum(e * e if kind is RegressionLoss.mse else abs(e) for e in errors) / len(errors)


# ---- the sum


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_loss_of_classes_is_the_main_one_and_the_weighted_auxiliary_ones(
    epsilon: float, weights: list[float] | None
) -> None:
    task, batch = classification(epsilon=epsilon, weights=weights).train(), classes()
    assert batch.targets is not None
    out = task.model(batch.images)
    main_loss, *others = (
        smoothed(z.detach(), batch.targets, epsilon, weights or [1.0] * K) for z in (out.logits, *out.auxiliary)
    )
    loss, scalars = task.loss(batch)
    assert loss.item() == pytest.approx(main_loss + WEIGHT * sum(others), rel=1e-13)
    assert scalars["loss"].item() == pytest.approx(main_loss, rel=1e-13)
    assert scalars["auxiliary_loss"].item() == pytest.approx(WEIGHT * sum(others), rel=1e-13)
    assert scalars["accuracy"].item() == pytest.approx((out.logits.argmax(1) == batch.targets).double().mean().item())
    assert not any(value.requires_grad for value in scalars.values())


@pytest.mark.parametrize("kind", [RegressionLoss.mse, RegressionLoss.mae])
def test_loss_of_values_is_the_main_one_and_the_weighted_auxiliary_ones(kind: RegressionLoss) -> None:
    task, batch = regression(kind).train(), values()
    assert batch.targets is not None
    out = task.model(batch.images)
    main_loss, *others = (deviation(z.detach(), batch.targets / 2, kind) for z in (out.logits, *out.auxiliary))
    loss, scalars = task.loss(batch)
    assert loss.item() == pytest.approx(main_loss + WEIGHT * sum(others), rel=1e-13)
    assert scalars.keys() == {"loss", "auxiliary_loss"}
    assert scalars["loss"].item() == pytest.approx(main_loss, rel=1e-13)
    assert scalars["auxiliary_loss"].item() == pytest.approx(WEIGHT * sum(others), rel=1e-13)


def test_gradient_is_that_of_the_sum_and_reaches_the_heads() -> None:
    task, batch = classification().train(), classes()
    x = batch.images.clone().requires_grad_()
    task.loss(batch._replace(images=x))[0].backward()
    assert x.grad is not None
    found = [x.grad, *(p.grad for p in task.parameters())]
    out = task.model(x)
    losses = [nn.functional.cross_entropy(z, batch.targets) for z in (out.logits, *out.auxiliary)]
    expected = torch.autograd.grad(losses[0] + 0.3 * losses[1] + 0.3 * losses[2], [x, *task.parameters()])
    for a, b in zip(found, expected, strict=True):
        assert a is not None
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_shares_of_classes_reach_the_heads_too() -> None:
    task, batch = classification(epsilon=0.1, weights=CLASS_WEIGHTS).train(), classes()
    assert batch.targets is not None
    blended = batch._replace(targets=nn.functional.one_hot(batch.targets, K).double())
    one, other = task.loss(batch), task.loss(blended)
    assert one[0].item() == pytest.approx(other[0].item(), rel=1e-14)
    assert one[1]["auxiliary_loss"].item() == pytest.approx(other[1]["auxiliary_loss"].item(), rel=1e-14)


@pytest.mark.parametrize("task", ["classes", "weighted", "values"])
def test_accumulated_step_is_that_of_the_large_batch(task: str) -> None:
    def step(micro: int | None) -> tuple[list[Tensor], dict[str, float]]:
        words = ["optim=sgd", f"trainer.micro_batch_size={'null' if micro is None else micro}"]
        cfg, _ = compose(words)
        learned: Any = {
            "classes": lambda: classification(epsilon=0.1),
            "weighted": lambda: classification(epsilon=0.1, weights=CLASS_WEIGHTS),
            "values": lambda: regression(RegressionLoss.mse),
        }[task]()
        learned.train()
        named = list(learned.model.named_parameters())
        (update,) = learned.updates()
        optimizer = torch.optim.SGD([p for _, p in named], lr=1.0)
        turn = Turn(update, 0, named, optimizer, torch.device("cpu"), "fp32", None, penalized=True)
        batch = values() if task == "values" else classes()
        scalars = apply_update(cfg, turn, batch, Position(seed=0, epoch=0, step=0), 0.1)
        return [p.detach() for _, p in named], {name: value.item() for name, value in scalars.items()}

    (whole, said), (parts, also) = step(None), step(4)
    for a, b in zip(parts, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
    for name in ("loss", "auxiliary_loss", "grad_norm"):
        assert also[name] == pytest.approx(said[name], rel=1e-12)
    assert said["auxiliary_loss"] > 0


# ---- where they have no say


def test_evaluation_and_prediction_use_the_logits_alone() -> None:
    for task, batch in ((classification(), classes()), (regression(RegressionLoss.mse), values())):
        task.train()
        before = task.evaluate([batch]).metrics, task.predict(batch.images).values
        with torch.no_grad():
            for name in ("first", "second"):
                for p in task.model.get_submodule(name).parameters():
                    p.fill_(torch.nan)
        assert (task.evaluate([batch]).metrics, True) == (
            before[0],
            torch.equal(task.predict(batch.images).values, before[1]),
        )
        assert not any("auxiliary" in name for name in before[0])
        assert task.training


# ---- runs of Inception v1

RUN = ["model=inception_v1", "data.size=8", "data.train_per_class=2", "trainer.epochs=1", "trainer.threads=1"]
RUN += ["device=cpu", "log=quiet", "data.augment.rotate=10"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_tells_its_auxiliary_loss_beside_the_main_one() -> None:
    assert main([*RUN, "trainer.batch_size=10", "log.tensorboard=true", "log.every=1", "output=run"]) == 0
    run = Path("run")
    (row,) = rows(run)
    main_loss, auxiliary = (float(row[f"train/{name}"]) for name in ("loss", "auxiliary_loss"))
    assert 1 < main_loss < 10
    assert 0.3 < auxiliary < 10  # at first 0.6 of about log 10
    assert [name for name in row if "auxiliary" in name] == ["train/auxiliary_loss"]
    found = told(run)
    assert [step for step, _ in found["train loss/loss"]] == [1, 2]
    for name, mean in (("loss", main_loss), ("auxiliary_loss", auxiliary)):
        assert sum(value for _, value in found[f"train loss/{name}"]) / 2 == pytest.approx(mean, rel=1e-6)
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert "test/accuracy" in metrics
    assert not any("auxiliary" in name for name in metrics)


def test_an_infinite_auxiliary_loss_alone_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Classification.loss

    def poisoned(self: Classification, batch: Batch) -> Any:
        loss, scalars = real(self, batch)
        return loss, scalars | {"auxiliary_loss": scalars["auxiliary_loss"] / 0}

    monkeypatch.setattr(Classification, "loss", poisoned)
    assert main(RUN) == 1
    said = capsys.readouterr().err
    assert "auxiliary_loss inf" in said
    assert "step 0" in said


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_killed_run_resumes_bit_exact(precision: str, tmp_path: Path) -> None:
    argv = [*RUN, "trainer.batch_size=5", "trainer.ema=0.5", "trainer.save_every=2", f"precision={precision}"]
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    assert dltrain(argv, folders[0]) == 0, (folders[0] / "screen.txt").read_text()
    assert dltrain(argv, folders[1], Bomb("dltrain.engine.loop:train_step", 4)) == -9
    assert dltrain(["resume=last"], folders[1]) == 0, (folders[1] / "screen.txt").read_text()
    assert run_differences(*map(the_run, folders)) == []
    assert all(math.isfinite(float(row["train/auxiliary_loss"])) for row in rows(the_run(folders[0])))


@pytest.mark.slow
def test_compiled_network_gives_the_same_losses_and_gradients() -> None:
    found = []
    for compiled in (False, True):
        task, batch = classification(epsilon=0.1).train(), classes()
        if compiled:
            task.model.compile()
        loss, scalars = task.loss(batch)
        loss.backward()
        found.append([loss, *scalars.values(), *(p.grad for p in task.parameters())])
        assert "auxiliary_loss" not in task.evaluate([batch]).metrics
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
