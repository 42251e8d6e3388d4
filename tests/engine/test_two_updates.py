"""Two updates on two networks in the loop: what an average follows, what is named when one fails."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.config.compose import compose
from dltrain.config.messages import Failure
from dltrain.engine import loop
from dltrain.engine.ema import Ema
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.state import State
from dltrain.engine.step import Turn
from dltrain.tasks import Batch
from tests.faults.pair import Pair


def two_updates() -> tuple[Any, State, list[Turn], Batch]:
    """`tests.faults.pair`: `first` has a turn at each step, `second` at each second one."""
    cfg = compose(["model=mlp", "optim=adam", "optim.lr=0.01"])[0]
    torch.manual_seed(0)
    task = Pair(16, 3)
    updates, cpu = task.updates(), torch.device("cpu")
    optimizers = build_optimizers(cfg.optim, updates, cpu)
    turns = [
        Turn(u, i, list(u.module.named_parameters()), optimizers[u.name], cpu, "fp32", None, True)
        for i, u in enumerate(updates)
    ]
    batch = Batch(torch.randn(12, 1, 4, 4), torch.arange(12) % 3, torch.arange(12))
    return cfg, State(task, optimizers, Ema(task, 0.5), None), turns, batch


def weights_of(module: Any) -> Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().double().clone()


def test_the_average_follows_each_network_at_the_steps_that_move_it() -> None:
    cfg, state, turns, batch = two_updates()
    env, unread = SimpleNamespace(memory_format=torch.contiguous_format), loop.Unread(["first", "second"])
    expected = {name: weights_of(getattr(state.task, name)) for name in ("first", "second")}
    for step in range(5):
        loop.train_step(cfg, state, turns, batch, loop.Horizon(5, 5), unread, env)  # type: ignore[arg-type]
        state.step += 1
        for name in expected:
            if name == "first" or step % 2 == 0:
                expected[name] = 0.5 * expected[name] + 0.5 * weights_of(getattr(state.task, name))
    assert state.ema is not None
    for name, average in expected.items():
        torch.testing.assert_close(weights_of(getattr(state.ema.module, name)), average, rtol=0, atol=1e-6)


def test_an_overflow_of_one_update_holds_up_the_average_of_its_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, state, turns, batch = two_updates()
    env, unread = SimpleNamespace(memory_format=torch.contiguous_format), loop.Unread(["first", "second"])
    real = loop.apply_update

    def update(cfg: Any, turn: Turn, *rest: Any) -> Any:
        return real(cfg, turn, *rest) | {"skipped": torch.tensor(turn.update.name == "first")}

    monkeypatch.setattr(loop, "apply_update", update)
    assert state.ema is not None
    before = {name: weights_of(getattr(state.ema.module, name)) for name in ("first", "second")}
    loop.train_step(cfg, state, turns, batch, loop.Horizon(5, 5), unread, env)  # type: ignore[arg-type]
    assert torch.equal(weights_of(state.ema.module.first), before["first"])
    assert not torch.equal(weights_of(state.ema.module.second), before["second"])


def test_of_two_turns_of_one_network_one_that_moves_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lazy penalty that overflows takes nothing back of the update before it."""
    cfg, state, turns, batch = two_updates()
    again = replace(turns[0], update=replace(turns[0].update, name="again"))
    env, unread = SimpleNamespace(memory_format=torch.contiguous_format), loop.Unread(["first", "again"])
    real, skips = loop.apply_update, ["first"]

    def update(cfg: Any, turn: Turn, *rest: Any) -> Any:
        return real(cfg, turn, *rest) | {"skipped": torch.tensor(turn.update.name == skips[0])}

    monkeypatch.setattr(loop, "apply_update", update)
    for skips[0] in ("first", "again"):
        assert state.ema is not None
        before = weights_of(state.ema.module.first)
        loop.train_step(cfg, state, [turns[0], again], batch, loop.Horizon(5, 5), unread, env)  # type: ignore[arg-type]
        assert not torch.equal(weights_of(state.ema.module.first), before)
    assert int(state.ema.averaged.n_averaged) == 2


def read(turns: dict[str, list[tuple[int, dict[str, float]]]], precision: str = "fp32") -> str:
    """What the loop says of these scalars, by update and step; empty if nothing."""
    unread = loop.Unread(["discriminator", "r1", "generator"])
    for name, steps in turns.items():
        for step, values in steps:
            unread.add(name, step, list(values), torch.tensor(list(values.values()), dtype=torch.float64))
    try:
        unread.check(SimpleNamespace(overflows={}), precision)  # type: ignore[arg-type]
    except Failure as failure:
        return str(failure)
    return ""


NAN = float("nan")
FINE = {"loss": 0.5, "grad_norm": 1.0}


def test_of_updates_that_fail_the_first_is_named() -> None:
    bad = {"loss": NAN, "grad_norm": NAN}
    assert read({"discriminator": [(3, FINE)], "generator": [(3, FINE)]}) == ""
    said = read({"discriminator": [(3, FINE), (4, bad)], "generator": [(3, bad)]})
    assert said.startswith("the generator loss is nan and the gradient's norm nan at step 3.\n")
    # in one step the one that has its turn first, in whatever order they were first heard of
    said = read({"generator": [(3, bad)], "r1": [(3, bad)], "discriminator": [(3, FINE)]})
    assert said.startswith("the r1 loss is nan")
    said = read({"discriminator": [(2, FINE | {"gradient_penalty": float("inf")})]})
    assert said.startswith("the discriminator loss is 0.5, gradient_penalty inf and the gradient's norm 1 at step 2.")
    assert "clip=norm" in said


def test_overflows_are_counted_and_told_by_update() -> None:
    skipped = [(2 * step, FINE | {"skipped": 1.0}) for step in range(loop.MOST_OVERFLOWS)]
    moved = [(step, FINE | {"skipped": 0.0}) for step in range(400)]
    said = read({"discriminator": moved, "generator": skipped}, "fp16")
    assert said.startswith("the last 200 generator updates overflowed in fp16, up to step 398.")
    assert read({"discriminator": moved, "generator": skipped[1:]}, "fp16") == ""
