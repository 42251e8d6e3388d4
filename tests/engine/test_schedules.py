"""Schedules at every step against torch's schedulers, in float64."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as peers
from torch.optim.lr_scheduler import LRScheduler

from dltrain.config.groups import Constant, Cosine, OneCycle, Step
from dltrain.config.overlay import OPEN_ENDED
from dltrain.engine.schedules import ScheduleCfg, factor, to_steps

TOTAL, EPOCH = 60, 5  # steps in all, steps an epoch
Peer = Callable[[Optimizer], LRScheduler]


def rise(steps: int) -> Peer:
    """A line from 1/(steps+1) at step 0 to 1 at step `steps`."""
    return lambda o: peers.LinearLR(o, start_factor=1 / (steps + 1), end_factor=1.0, total_iters=steps)


def one_after_the_other(steps: int, then: Peer) -> Peer:
    return lambda o: peers.SequentialLR(o, [rise(steps)(o), then(o)], milestones=[steps])


CASES: dict[str, tuple[ScheduleCfg, Peer]] = {
    "constant": (Constant(), lambda o: peers.ConstantLR(o, factor=1.0)),
    "constant-warmup": (Constant(warmup=1.4), rise(7)),
    "step": (
        Step(milestones=[4.0, 7.0, 7.4], gamma=0.3),
        lambda o: peers.MultiStepLR(o, milestones=[20, 35, 37], gamma=0.3),
    ),
    "step-warmup": (
        Step(warmup=2, milestones=[6, 4.0], gamma=0.5),
        lambda o: peers.ChainedScheduler([rise(10)(o), peers.MultiStepLR(o, [20, 30], 0.5)]),
    ),
    "step-falls-in-warmup": (
        Step(warmup=2, milestones=[1.0], gamma=0.5),
        lambda o: peers.ChainedScheduler([rise(10)(o), peers.MultiStepLR(o, [5], 0.5)]),
    ),
    "cosine": (Cosine(), lambda o: peers.CosineAnnealingLR(o, T_max=TOTAL)),
    "cosine-warmup": (
        Cosine(warmup=2),
        one_after_the_other(10, lambda o: peers.CosineAnnealingLR(o, T_max=TOTAL - 10)),
    ),
    "onecycle": (OneCycle(), lambda o: peers.OneCycleLR(o, max_lr=1.0, total_steps=TOTAL, cycle_momentum=False)),
    "onecycle-warmup": (
        OneCycle(warmup=3.0),
        lambda o: peers.OneCycleLR(o, max_lr=1.0, total_steps=TOTAL, pct_start=15 / TOTAL, cycle_momentum=False),
    ),
}


def of_torch(peer: Peer, steps: int = TOTAL) -> list[float]:
    """Rates that torch's scheduler gives an optimizer with lr=1, at each step."""
    optimizer = SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls step() in a way that it warns of
        scheduler = peer(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if len(rates) < steps:
                scheduler.step()
    return rates


def ours(cfg: ScheduleCfg, total: int = TOTAL) -> list[float]:
    return [factor(cfg, step, total, EPOCH) for step in range(total)]


@pytest.mark.parametrize("name", CASES)
def test_every_step_equals_torch(name: str) -> None:
    cfg, peer = CASES[name]
    assert ours(cfg) == pytest.approx(of_torch(peer), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(
    ("name", "closed"),
    [
        ("step", lambda s: 0.3 ** ((s >= 20) + (s >= 35) + (s >= 37))),
        ("constant-warmup", lambda s: min(1.0, (s + 1) / 8)),
    ],
)
def test_every_step_equals_the_closed_form_to_the_bit(name: str, closed: Callable[[int], float]) -> None:
    assert ours(CASES[name][0]) == [closed(s) for s in range(TOTAL)]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("constant", Constant(warmup=0.2)),
        ("constant-warmup", Constant(warmup=1.6)),
        ("step", Step(milestones=[4.0, 7.0, 7.6], gamma=0.3)),
        ("step", Step(milestones=[4.0, 7.0, 7.4], gamma=0.3001)),
        ("step-warmup", Step(warmup=2.2, milestones=[6, 4.0], gamma=0.5)),
        ("cosine", Cosine(warmup=0.2)),
        ("cosine-warmup", Cosine(warmup=2.2)),
        ("onecycle", OneCycle(warmup=3.4)),
        ("onecycle-warmup", OneCycle(warmup=3.2)),
    ],
)
def test_torch_notices_a_setting_one_step_off(name: str, other: ScheduleCfg) -> None:
    assert ours(other) != pytest.approx(of_torch(CASES[name][1]), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_run_may_be_made_longer_where_the_steps_so_far_would_be_the_same(name: str) -> None:
    cfg, _ = CASES[name]
    assert (cfg.name in OPEN_ENDED) == (ours(cfg, TOTAL + 1)[:TOTAL] == ours(cfg, TOTAL))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("total", [1, 2, 3, 4, 7])
def test_short_runs_have_a_rate_at_every_step(name: str, total: int) -> None:
    rates = ours(CASES[name][0], total)
    assert all(0 < rate <= 1 for rate in rates)


def test_onecycle_reaches_its_three_rates() -> None:
    rates = ours(OneCycle(warmup=3.0))
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[14] == max(rates) == 1.0
    assert rates[-1] == pytest.approx(1 / 250_000)


def test_a_rise_of_one_step_starts_at_the_top() -> None:
    rates = ours(OneCycle(warmup=0.2))
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(1 / 250_000)
    assert rates == sorted(rates, reverse=True)


def test_epochs_become_the_nearest_step() -> None:
    assert [to_steps(epochs, 27) for epochs in (0, 0.01, 0.1, 1, 2.5)] == [0, 0, 3, 27, 68]
