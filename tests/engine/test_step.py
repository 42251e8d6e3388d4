"""One turn: what it computes, what it leaves alone, and that it never waits for the device."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.precision import make_scaler
from dltrain.engine.random import Position
from dltrain.engine.step import Turn, apply_update, micro_batches
from dltrain.tasks import Batch, Scalars, Update
from tests.engine.reading import NoReading
from tests.faults.pair import Pair

CPU = torch.device("cpu")


def config(*words: str) -> Any:
    return compose(["model=mlp", *words])[0]


def turns_of(cfg: Any, updates: list[Update], precision: str = "fp32") -> list[Turn]:
    optimizers = build_optimizers(cfg.optim, updates, CPU)
    scaler = make_scaler(cfg.precision, precision, CPU)
    return [
        Turn(u, i, list(u.module.named_parameters()), optimizers[u.name or "model"], CPU, precision, scaler, True)
        for i, u in enumerate(updates)
    ]


def batch(rows: int = 12, dtype: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(rows, 1, 4, 4, generator=generator).to(dtype)
    return Batch(images, torch.randint(0, 3, (rows,), generator=generator), torch.arange(rows))


def pair(dtype: torch.dtype = torch.float32) -> Pair:
    torch.manual_seed(0)
    task = Pair(16, 3).to(dtype)
    task.first[3].p = 0.0  # type: ignore[union-attr]  # dropout is drawn by micro-batch
    return task


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("size", [1, 5, 6, 12])
def test_accumulation_equals_the_whole_batch(which: str, size: int) -> None:
    """Unequal last micro-batches, and a mean over a number of targets that differs between them."""
    weights = []
    for micro in (None, size):
        cfg = config("optim=sgd", "optim.lr=1", "optim.momentum=0", "optim.nesterov=false")
        cfg.trainer.micro_batch_size = micro
        task = pair()
        updates = {u.name: u for u in task.updates()}
        turn = turns_of(cfg, [updates[which]])[0]
        scalars = apply_update(cfg, turn, batch(), Position(), lr=1.0)
        weights.append((task.state_dict(), scalars))
    for name, whole in weights[0][0].items():
        assert torch.allclose(weights[1][0][name], whole, rtol=0, atol=1e-6), name
    assert torch.allclose(weights[0][1]["loss"], weights[1][1]["loss"], rtol=1e-6)


def test_accumulation_by_rows_alone_would_differ() -> None:
    """The negative control: without `count`, the second update's mean is another one."""
    weights = []
    for count in (True, False):
        cfg = config("optim=sgd", "optim.lr=1", "optim.momentum=0", "optim.nesterov=false")
        cfg.trainer.micro_batch_size = 5
        task = pair()
        second = task.updates()[1]
        if not count:
            second = Update("second", task.second, task.second_loss)
        apply_update(cfg, turns_of(cfg, [second])[0], batch(), Position(), lr=1.0)
        weights.append(task.second[1].weight.detach().clone())
    assert not torch.allclose(weights[0], weights[1], atol=1e-5)


def test_accumulation_with_batch_norm_differs() -> None:
    """Its statistics are those of a micro-batch: documented, not hidden."""
    weights = []
    for size in (None, 4):
        cfg = config("optim=sgd", "optim.lr=1", "optim.momentum=0", "optim.nesterov=false")
        cfg.trainer.micro_batch_size = size
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

        def loss(b: Batch, net: nn.Module = net) -> tuple[Tensor, Scalars]:
            value = nn.functional.cross_entropy(net(b.images), b.targets)  # type: ignore[arg-type]
            return value, {"loss": value.detach()}

        apply_update(cfg, turns_of(cfg, [Update("", net, loss)])[0], batch(), Position(), lr=1.0)
        weights.append(net[1].weight.detach().clone())
    assert not torch.allclose(weights[0], weights[1], atol=1e-4)


def test_an_update_moves_its_module_alone() -> None:
    cfg = config("optim=adam")
    task = pair()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    first, second = turns_of(cfg, task.updates())
    apply_update(cfg, first, batch(), Position(), lr=0.1)
    moved = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("first.")}
    assert all(param.grad is None for param in task.second.parameters())
    apply_update(cfg, second, batch(), Position(), lr=0.1)
    assert all(not torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_no_gradient_reaches_another_network() -> None:
    """A generator's loss goes through the discriminator, whose gradients stay as they are."""
    torch.manual_seed(0)
    g, d = nn.Linear(4, 4), nn.Linear(4, 1)

    def through(b: Batch) -> tuple[Tensor, Scalars]:
        loss = d(g(b.images.flatten(1)[:, :4])).mean()
        return loss, {"loss": loss.detach()}

    cfg = config("optim=sgd")
    apply_update(cfg, turns_of(cfg, [Update("generator", g, through)])[0], batch(), Position(), lr=0.1)
    assert all(param.grad is None for param in d.parameters())
    assert all(param.grad is not None for param in g.parameters())


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        ("fp32", ["clip=norm", "reg=l2"]),
        ("fp32", ["clip=agc", "reg=l1"]),
        ("fp32", ["clip=value", "log.layer_norms=true"]),
        ("bf16", ["clip=norm"]),
        ("fp16", ["clip=norm", "reg=all"]),
    ],
)
def test_a_turn_reads_no_value_from_the_device(precision: str, words: list[str]) -> None:
    cfg = config("optim=sgd", *words)
    cfg.trainer.micro_batch_size = 5
    task = pair()
    for turn in turns_of(cfg, task.updates(), precision):
        apply_update(cfg, turn, batch(), Position(), lr=0.1)  # the first may build state
        with NoReading():
            apply_update(cfg, turn, batch(), Position(step=1), lr=0.1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: no host sync inside a step")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_turn_does_not_wait_for_a_gpu(precision: str) -> None:
    device = torch.device("cuda", 0)
    cfg = config("optim=sgd", "clip=norm", "reg=l2")
    task = pair().to(device)
    on_device = Batch(*(part.to(device) for part in batch() if part is not None))
    updates = task.updates()
    optimizers = build_optimizers(cfg.optim, updates, device)
    scaler = make_scaler(cfg.precision, precision, device)
    for i, u in enumerate(updates):
        turn = Turn(u, i, list(u.module.named_parameters()), optimizers[u.name], device, precision, scaler, True)
        apply_update(cfg, turn, on_device, Position(), lr=0.1)
        torch.cuda.set_sync_debug_mode("error")
        try:
            apply_update(cfg, turn, on_device, Position(step=1), lr=0.1)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_clipping_sees_the_penalty_and_the_norm_is_of_the_whole_gradient() -> None:
    """max_norm T: the step is T long, whatever reg adds (learning rate 1, plain SGD)."""
    cfg = config(
        "optim=sgd", "optim.momentum=0", "optim.nesterov=false", "clip=norm", "clip.max_norm=0.01", "reg.l2=10"
    )
    task = pair()
    before = torch.cat([p.detach().flatten() for p in task.first.parameters()])
    scalars = apply_update(cfg, turns_of(cfg, task.updates())[0], batch(), Position(), lr=1.0)
    after = torch.cat([p.detach().flatten() for p in task.first.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-4)
    assert scalars["clipped"].item() == 1
    assert scalars["grad_norm"].item() > 1
    assert scalars["penalty"].item() > 0


def test_micro_batches_keep_rows_and_order() -> None:
    parts = micro_batches(batch(12), 5)
    assert [len(part.ids) for part in parts] == [5, 5, 2]
    assert torch.equal(torch.cat([part.ids for part in parts]), torch.arange(12))
    assert micro_batches(batch(12), None)[0] is not None


def test_dropout_is_a_function_of_the_position() -> None:
    """The same step gives the same mask whatever was drawn before; another step another one."""
    cfg = config("optim=sgd")
    found = []
    for step, drawn in ((3, 0), (3, 7), (4, 0)):
        torch.manual_seed(drawn)
        torch.rand(drawn)
        task = pair()
        task.first[3].p = 0.5  # type: ignore[union-attr]
        apply_update(cfg, turns_of(cfg, task.updates())[0], batch(), Position(step=step), lr=0.1)
        found.append(task.first[1].weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
