"""Optimizers against a few written-out float64 lines, and the first step, which may be skipped."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from dltrain.config import groups
from dltrain.engine.optimizers import OptimCfg, build_optimizers
from dltrain.engine.schedules import set_lr
from dltrain.tasks import Batch, Scalars, Update

CPU = torch.device("cpu")


def no_loss(batch: Batch) -> tuple[Tensor, Scalars]:
    raise AssertionError("not used")


def update(module: nn.Module, name: str = "", **settings: int) -> Update:
    return Update(name, module, no_loss, **settings)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3))


def only(cfg: OptimCfg, module: nn.Module) -> Optimizer:
    return build_optimizers(cfg, [update(module)], CPU)["model"]


def gradients(module: nn.Module, step: int) -> None:
    """The same gradients for the same step, in the layout of the parameters, as autograd makes them."""
    torch.manual_seed(1000 + step)
    for p in module.parameters():
        p.grad = torch.empty_like(p).copy_(torch.randn(p.shape))


Step = Callable[[int, Tensor, Tensor, dict[str, Tensor]], Tensor]


def sgd(cfg: groups.Sgd) -> Step:
    def step(t: int, w: Tensor, g: Tensor, state: dict[str, Tensor]) -> Tensor:
        g = g + cfg.weight_decay * w
        state["b"] = cfg.momentum * state["b"] + g if t > 1 else g
        return w - cfg.lr * (g + cfg.momentum * state["b"] if cfg.nesterov else state["b"])

    return step


def adam(cfg: groups.Adam | groups.AdamW) -> Step:
    def step(t: int, w: Tensor, g: Tensor, state: dict[str, Tensor]) -> Tensor:
        if isinstance(cfg, groups.AdamW):
            w = w - cfg.lr * cfg.weight_decay * w
        else:
            g = g + cfg.weight_decay * w
        b1, b2 = cfg.betas
        state["m"] = b1 * state.get("m", torch.zeros_like(w)) + (1 - b1) * g
        state["v"] = b2 * state.get("v", torch.zeros_like(w)) + (1 - b2) * g**2
        return w - cfg.lr * (state["m"] / (1 - b1**t)) / ((state["v"] / (1 - b2**t)).sqrt() + cfg.eps)

    return step


ORACLES = {
    "sgd": (groups.Sgd(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.01), sgd),
    "nesterov": (groups.Sgd(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.0), sgd),
    "plain": (groups.Sgd(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.1), sgd),
    "adam": (groups.Adam(lr=0.01, betas=[0.5, 0.99], weight_decay=0.1), adam),
    "adamw": (groups.AdamW(lr=0.01, weight_decay=0.5), adam),
}


def farthest_from_formula(cfg: OptimCfg, step: Step, steps: int = 6) -> float:
    module = network()
    optimizer = only(cfg, module)
    expected = [p.detach().double() for p in module.parameters()]
    states: list[dict[str, Tensor]] = [{} for _ in expected]
    for t in range(1, steps + 1):
        gradients(module, t)
        expected = [
            step(t, w, p.grad.double(), state)
            for w, p, state in zip(expected, module.parameters(), states, strict=True)
            if p.grad is not None
        ]
        optimizer.step()
    return max(float((p.detach() - w).abs().max()) for p, w in zip(module.parameters(), expected, strict=True))


@pytest.mark.parametrize("name", ORACLES)
def test_optimizer_equals_the_written_out_steps(name: str) -> None:
    cfg, formula = ORACLES[name]
    assert farthest_from_formula(cfg, formula(cfg)) < 1e-6


@pytest.mark.parametrize(
    ("name", "knob", "value"),
    [
        ("sgd", "momentum", 0.91),
        ("sgd", "weight_decay", 0.02),
        ("sgd", "nesterov", True),
        ("sgd", "lr", 0.101),
        ("adam", "betas", [0.51, 0.99]),
        ("adam", "betas", [0.5, 0.98]),
        ("adam", "weight_decay", 0.2),
        ("adamw", "weight_decay", 0.4),
        ("adamw", "eps", 1e-2),
    ],
)
def test_the_formula_notices_another_setting(name: str, knob: str, value: float) -> None:
    cfg, formula = ORACLES[name]
    other = type(cfg)(**{**vars(cfg), knob: value})
    assert farthest_from_formula(cfg, formula(other)) > 1e-5


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("fused", [False, True])
def test_first_step_from_zero_buffers_equals_torchs_own_bit_for_bit(
    nesterov: bool, weight_decay: float, fused: bool
) -> None:
    ours, theirs = network(), network()
    mine = only(groups.Sgd(lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=weight_decay), ours)
    own = SGD(theirs.parameters(), lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=weight_decay, fused=fused)
    for step in range(3 if fused else 1):
        for module, optimizer in ((ours, mine), (theirs, own)):
            gradients(module, step)
            optimizer.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            if fused:
                assert torch.equal(a, b)
                assert torch.equal(mine.state[a]["momentum_buffer"], own.state[b]["momentum_buffer"])
            else:
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.fixture
def empty_is_nan() -> Iterator[None]:
    """Memory that nobody has written reads as nan."""
    was = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.utils.deterministic.fill_uninitialized_memory = was
    torch.use_deterministic_algorithms(False)


def skip_first_step(module: nn.Module, optimizer: Optimizer) -> None:
    """A first step with infinite gradients under a gradient scaler, which halves its factor to 1; then a good one."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for step in range(2):
        gradients(module, step)
        for p in module.parameters():
            assert p.grad is not None
            p.grad *= 1.0 if step else float("inf")
        scaler.scale(torch.zeros(()))
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("name", ORACLES)
def test_a_skipped_first_step_leaves_no_trace(name: str, empty_is_nan: None) -> None:
    cfg, _ = ORACLES[name]
    skipped, straight = network(), network()
    skip_first_step(skipped, only(cfg, skipped))
    gradients(straight, 1)
    only(cfg, straight).step()
    for a, b in zip(skipped.parameters(), straight.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_zero_buffers_a_skipped_first_step_leaves_garbage(empty_is_nan: None) -> None:
    module = network()
    skip_first_step(module, SGD(module.parameters(), lr=0.1, momentum=0.9, fused=True))
    assert all(torch.isnan(p).all() for p in module.parameters())


def test_one_optimizer_a_module() -> None:
    first, second = network(0), network(1)
    updates = [
        update(first, "discriminator"),
        update(second, "generator"),
        update(first, "penalty", every=2),
    ]
    optimizers = build_optimizers(groups.Adam(), updates, CPU)
    assert list(optimizers) == ["discriminator", "generator"]
    for name, module in (("discriminator", first), ("generator", second)):
        held = optimizers[name].param_groups[0]["params"]
        assert [id(p) for p in held] == [id(p) for p in module.parameters()]


def test_two_modules_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="two modules"):
        build_optimizers(groups.Sgd(), [update(network(0)), update(network(1), "model")], CPU)


def test_frozen_parameters_stay_out() -> None:
    module = network()
    frozen = next(module.parameters())
    frozen.requires_grad_(False)
    optimizer = only(groups.Sgd(), module)
    assert all(p is not frozen for p in optimizer.param_groups[0]["params"])
    assert frozen not in optimizer.state


@pytest.mark.parametrize("cfg", [groups.Sgd(), groups.Adam(), groups.AdamW()])
def test_optimizers_are_fused_and_skip_on_the_device(cfg: OptimCfg) -> None:
    optimizer = only(cfg, network())
    assert optimizer.param_groups[0]["fused"] is True
    assert optimizer._step_supports_amp_scaling is True  # type: ignore[attr-defined]


def test_set_lr_is_the_rate_of_the_next_step() -> None:
    module = network()
    optimizer = only(groups.Sgd(lr=0.1, momentum=0.0, nesterov=False), module)
    before = [p.detach().clone() for p in module.parameters()]
    gradients(module, 0)
    set_lr(optimizer, 0.5)
    optimizer.step()
    for p, old in zip(module.parameters(), before, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.detach(), old - 0.5 * p.grad)


def train(module: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        gradients(module, step)
        set_lr(optimizer, 0.1 / (step + 1))
        optimizer.step()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ORACLES)
def test_state_comes_back_bit_for_bit(name: str, memory_format: torch.memory_format) -> None:
    cfg, _ = ORACLES[name]
    whole = network().to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = only(cfg, whole)
    train(whole, optimizer, range(4))
    weights = {key: value.clone() for key, value in whole.state_dict().items()}
    # a file may hold the same numbers in another layout
    saved = optimizer.state_dict()
    saved["state"] = {
        at: {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}
        for at, state in saved["state"].items()
    }
    train(whole, optimizer, range(4, 8))

    resumed = network(5).to(memory_format=memory_format)  # type: ignore[call-overload]
    resumed.load_state_dict(weights)
    other = only(cfg, resumed)
    other.load_state_dict(saved)
    train(resumed, other, range(4, 8))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "adamw"])
def test_without_its_state_an_optimizer_goes_another_way(name: str) -> None:
    cfg, _ = ORACLES[name]
    whole, resumed = network(), network(5)
    optimizer = only(cfg, whole)
    train(whole, optimizer, range(4))
    resumed.load_state_dict(whole.state_dict())
    train(whole, optimizer, range(4, 8))
    train(resumed, only(cfg, resumed), range(4, 8))
    assert not any(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
