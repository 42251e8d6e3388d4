"""Autocast, and the gradient scaler: on the CPU, where fp16 runs too, so that its resume is tested everywhere."""

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, Optimizer

from dltrain.config import groups
from dltrain.config.groups import Fp16, Precision
from dltrain.engine.clip import clip
from dltrain.engine.optimizers import OptimCfg, build_optimizers
from dltrain.engine.penalty import add_penalty
from dltrain.engine.precision import autocast, found_inf, make_scaler
from dltrain.tasks import Batch, Scalars, Update
from tests.engine.reading import NoReading, ValueReadError

CPU = torch.device("cpu")
OPTIMIZERS = [groups.Sgd(lr=0.1), groups.Sgd(lr=0.1, momentum=0.0), groups.Adam(), groups.AdamW()]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def no_loss(batch: Batch) -> tuple[Tensor, Scalars]:
    raise AssertionError("not used")


def optimizer_of(module: nn.Module, cfg: OptimCfg) -> Optimizer:
    return build_optimizers(cfg, [Update("", module, no_loss)], CPU)["model"]


def scaler_of(init_scale: float = 2.0**16, growth_interval: int = 2000) -> GradScaler:
    scaler = make_scaler(Fp16(init_scale=init_scale, growth_interval=growth_interval), "fp16", CPU)
    assert scaler is not None
    return scaler


def turn(module: nn.Module, optimizer: Optimizer, scaler: GradScaler, step: int, gain: float = 1.0) -> Tensor:
    """One update as the loop makes it, in fp16; `gain` on the loss brings overflows about. Whether it was skipped."""
    torch.manual_seed(500 + step)
    images, targets = torch.randn(8, 1, 5, 5), torch.randint(3, (8,))
    optimizer.zero_grad(set_to_none=True)
    with autocast("fp16", CPU):
        loss = nn.functional.cross_entropy(module(images), targets)
    torch.autograd.backward(scaler.scale(loss * gain))
    named = list(module.named_parameters())
    scaler.unscale_(optimizer)
    skipped = found_inf(scaler, optimizer)
    add_penalty(named, groups.Reg(l2=1e-3))
    clip(named, groups.ClipNorm(max_norm=1.0))
    scaler.step(optimizer)
    scaler.update()
    return skipped


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


# ---- autocast


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_matrix_products_compute_in_the_precision_and_weights_stay_float32(precision: str, dtype: torch.dtype) -> None:
    module = network()
    with autocast(precision, CPU):
        out = module(torch.randn(2, 1, 5, 5))
        loss = out.float().square().mean()
    assert out.dtype == dtype
    torch.autograd.backward(loss)
    assert not torch.is_autocast_enabled("cpu")
    for p in module.parameters():
        assert p.grad is not None
        assert p.dtype == p.grad.dtype == torch.float32


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(KeyError):
        autocast("fp61", CPU)


# ---- scaler


def test_only_fp16_has_a_scaler() -> None:
    assert make_scaler(Precision(name="fp32"), "fp32", CPU) is None
    assert make_scaler(Precision(name="auto"), "bf16", CPU) is None
    scaler = scaler_of(init_scale=128.0, growth_interval=7)
    assert (scaler.get_scale(), scaler.get_growth_interval(), scaler.is_enabled()) == (128.0, 7, True)


@pytest.mark.parametrize("cfg", OPTIMIZERS)
def test_an_overflow_skips_the_step_and_halves_the_scale(cfg: OptimCfg) -> None:
    module = network()
    optimizer, scaler = optimizer_of(module, cfg), scaler_of()
    for step, gain in enumerate([1.0, 1e9, 1.0]):
        before, scale = weights(module), scaler.get_scale()
        states = [value.clone() for state in optimizer.state.values() for value in state.values()]
        skipped = turn(module, optimizer, scaler, step, gain)
        assert skipped.shape == ()
        assert skipped.dtype == torch.bool
        assert bool(skipped) is (gain > 1)
        assert scaler.get_scale() == (scale / 2 if gain > 1 else scale)
        same = [torch.equal(a, b) for a, b in zip(weights(module), before, strict=True)]
        assert all(same) if gain > 1 else not any(same)
        if gain > 1:
            after = [value for state in optimizer.state.values() for value in state.values()]
            assert all(torch.equal(a, b) for a, b in zip(after, states, strict=True))


def test_the_scale_doubles_after_the_interval() -> None:
    module = network()
    optimizer, scaler = optimizer_of(module, groups.Sgd()), scaler_of(init_scale=64.0, growth_interval=3)
    scales = []
    for step in range(7):
        turn(module, optimizer, scaler, step)
        scales.append(scaler.get_scale())
    assert scales == [64.0, 64.0, 128.0, 128.0, 128.0, 256.0, 256.0]


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("place", [0, 3])
def test_found_inf_sees_one_bad_element_and_clipping_does_not_hide_it(bad: float, place: int) -> None:
    module = network()
    optimizer, scaler = optimizer_of(module, groups.Sgd()), scaler_of()
    scaler.scale(torch.zeros(()))
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    gradient = list(module.parameters())[place].grad
    assert gradient is not None
    gradient.view(-1)[-1] = bad
    before = weights(module)
    scaler.unscale_(optimizer)
    assert found_inf(scaler, optimizer)
    clip(list(module.named_parameters()), groups.ClipValue(max_value=0.1))
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))


def test_found_inf_is_the_scalers_finding_not_the_norms() -> None:
    """Every element is finite, their norm is not: the optimizer steps."""
    module = network()
    optimizer, scaler = optimizer_of(module, groups.Sgd(momentum=0.0)), scaler_of(init_scale=1.0)
    scaler.scale(torch.zeros(()))
    for p in module.parameters():
        p.grad = torch.full_like(p, 1e30)
    before = weights(module)
    scaler.unscale_(optimizer)
    assert not torch.isfinite(clip(list(module.named_parameters()), groups.NoClip()).norm)
    assert not found_inf(scaler, optimizer)
    scaler.step(optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))


def test_found_inf_belongs_to_one_optimizer_and_outlives_the_update() -> None:
    bad, good = network(0), network(1)
    optimizers = [optimizer_of(module, groups.Sgd()) for module in (bad, good)]
    scaler = scaler_of()
    scaler.scale(torch.zeros(()))
    for module, value in ((bad, float("inf")), (good, 1.0)):
        for p in module.parameters():
            p.grad = torch.full_like(p, value)
    found = []
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
        found.append(found_inf(scaler, optimizer))
        scaler.step(optimizer)
    scaler.update()
    assert [bool(value) for value in found] == [True, False]


def test_found_inf_before_unscaling_is_an_error() -> None:
    module = network()
    optimizer, scaler = optimizer_of(module, groups.Sgd()), scaler_of()
    with pytest.raises(ValueError, match="unscale_"):
        found_inf(scaler, optimizer)
    turn(module, optimizer, scaler, 0)
    with pytest.raises(ValueError, match="unscale_"):
        found_inf(scaler, optimizer)


@pytest.mark.parametrize("cfg", OPTIMIZERS)
@pytest.mark.parametrize("gain", [1.0, 1e9])
def test_a_turn_reads_no_value(cfg: OptimCfg, gain: float) -> None:
    module = network()
    optimizer, scaler = optimizer_of(module, cfg), scaler_of()
    with NoReading():
        skipped = turn(module, optimizer, scaler, 0, gain)
    assert bool(skipped) is (gain > 1)


def test_an_optimizer_that_is_not_fused_makes_the_scaler_read() -> None:
    module = network()
    with pytest.raises(ValueReadError), NoReading():
        turn(module, SGD(module.parameters(), lr=0.1, fused=False), scaler_of(), 0)


# ---- resume

GAINS = [1e9, 1.0, 1.0, 1e9, 1.0, 1.0, 1.0, 1e9, 1.0, 1.0]  # overflows before and after the kill, and first of all


def trained(cfg: OptimCfg, kill_at: int | None, forget: str = "") -> tuple[list[Tensor], dict[str, float], list[bool]]:
    """Weights, scaler and skipped steps after all steps, carried over a kill by state dicts unless forgotten."""
    module = network()
    optimizer, scaler = optimizer_of(module, cfg), scaler_of(growth_interval=2)
    skipped = []
    for step, gain in enumerate(GAINS):
        if step == kill_at:
            module_state, optimizer_state, scaler_state = (
                module.state_dict(),
                optimizer.state_dict(),
                scaler.state_dict(),
            )
            module = network(7)
            module.load_state_dict(module_state)
            optimizer, scaler = optimizer_of(module, cfg), scaler_of(growth_interval=2)
            if forget != "optimizer":
                optimizer.load_state_dict(optimizer_state)
            if forget != "scaler":
                scaler.load_state_dict(scaler_state)
        skipped.append(bool(turn(module, optimizer, scaler, step, gain)))
    return weights(module), scaler.state_dict(), skipped


@pytest.mark.parametrize("cfg", OPTIMIZERS)
@pytest.mark.parametrize("kill_at", [1, 2, 4, 8])
def test_fp16_resumes_bit_exact_over_skipped_steps(cfg: OptimCfg, kill_at: int) -> None:
    whole, scaler, skipped = trained(cfg, None)
    resumed, resumed_scaler, resumed_skipped = trained(cfg, kill_at)
    assert skipped == [gain > 1 for gain in GAINS]
    assert resumed_skipped == skipped
    assert resumed_scaler == scaler
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True))


@pytest.mark.parametrize(("cfg", "forget"), [(OPTIMIZERS[0], "optimizer"), (OPTIMIZERS[2], "optimizer")])
def test_without_the_optimizers_state_the_weights_differ(cfg: OptimCfg, forget: str) -> None:
    assert not any(torch.equal(a, b) for a, b in zip(trained(cfg, 5, forget)[0], trained(cfg, None)[0], strict=True))


def test_without_the_scalers_state_the_scale_differs() -> None:
    assert trained(OPTIMIZERS[0], 5, "scaler")[1] != trained(OPTIMIZERS[0], None)[1]
