"""The average of weights against torch's AveragedModel and the written-out float64 formula."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dltrain.engine.ema import Ema
from tests.engine.reading import NoReading, ValueReadError

GOOD, SKIPPED = torch.tensor(False), torch.tensor(True)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 2))


def move(module: nn.Module, step: int) -> None:
    """What a training step does: a forward pass that moves the running statistics, then weights move."""
    torch.manual_seed(100 + step)
    module.train()
    module(torch.randn(4, 1, 5, 5))
    with torch.no_grad():
        for p in module.parameters():
            p += 0.1 * torch.randn(p.shape)


def follow(decay: float = 0.8, steps: int = 6, skip: Tensor | None = None) -> tuple[Ema, nn.Module]:
    module = network()
    ema = Ema(module, decay)
    for step in range(steps):
        move(module, step)
        ema.update(module, skip)
    return ema, module


def copies(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def same_bits(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal to the last bit: -0.0 is not 0.0, and nan is nan."""
    assert a.keys() == b.keys()
    return all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_equals_torchs_averaged_model_bit_for_bit(decay: float) -> None:
    module = network()
    theirs = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
    theirs.update_parameters(module)  # its first call copies: the first weights
    for step in range(6):
        move(module, step)
        theirs.update_parameters(module)
    ours, _ = follow(decay)
    assert same_bits(ours.module.state_dict(), theirs.module.state_dict())


def farthest_from_formula(ema: Ema, decay: float) -> float:
    module = network()
    expected = [p.detach().double() for p in module.parameters()]
    for step in range(6):
        move(module, step)
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, module.parameters(), strict=True)]
    return max(float((a - b).abs().max()) for a, b in zip(ema.module.parameters(), expected, strict=True))


def test_equals_the_formula() -> None:
    assert farthest_from_formula(follow(0.8)[0], 0.8) < 1e-6


@pytest.mark.parametrize(("decay", "steps"), [(0.81, 6), (0.8, 5)])
def test_the_formula_notices_another_decay_or_a_missing_step(decay: float, steps: int) -> None:
    assert farthest_from_formula(follow(decay, steps)[0], 0.8) > 1e-3


def test_buffers_are_the_modules_own() -> None:
    ema, module = follow()
    for ours, theirs in zip(ema.module.buffers(), module.buffers(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours is not theirs
    assert int(dict(ema.module.named_buffers())["1.num_batches_tracked"]) == 6


def spoil(module: nn.Module) -> None:
    """What an overflow may leave behind."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.view(-1)[0], tensor.view(-1)[1] = float("nan"), float("inf")


@pytest.mark.parametrize("skip", [SKIPPED, torch.tensor(1.0), torch.tensor(2.0)])
def test_a_skipped_step_changes_no_bit(skip: Tensor) -> None:
    ema, module = follow()
    with torch.no_grad():
        ema.module[0].bias[0] = -0.0
    before = copies(ema.state_dict())
    move(module, 7)
    spoil(module)
    ema.update(module, skip)
    assert same_bits(ema.state_dict(), before)


@pytest.mark.parametrize("skip", [GOOD, torch.tensor(0.0)])
def test_a_step_that_is_not_skipped_is_the_same_with_and_without_the_question(skip: Tensor) -> None:
    assert same_bits(follow(skip=skip)[0].state_dict(), follow(skip=None)[0].state_dict())


def test_a_step_that_is_not_skipped_changes_weights_buffers_and_count() -> None:
    ema, module = follow()
    before = copies(ema.state_dict())
    move(module, 7)
    ema.update(module, GOOD)
    assert not any(torch.equal(value, before[name]) for name, value in ema.state_dict().items())


def test_the_count_leaves_out_skipped_steps() -> None:
    ema, module = follow(steps=3)
    for skip in (SKIPPED, GOOD, SKIPPED, None):
        ema.update(module, skip)
    assert int(ema.state_dict()["n_averaged"]) == 5


@pytest.mark.parametrize("skip", [None, GOOD, SKIPPED])
def test_an_update_reads_no_value(skip: Tensor | None) -> None:
    ema, module = follow()
    with NoReading():
        ema.update(module, skip)


def test_torchs_own_update_reads_values() -> None:
    module = network()
    with pytest.raises(ValueReadError), NoReading():
        AveragedModel(module).update_parameters(module)


def test_a_resumed_average_goes_on_bit_for_bit() -> None:
    whole, module = follow(steps=6)
    half, moved = follow(steps=3)
    saved, weights = copies(half.state_dict()), copies(moved.state_dict())

    resumed_module = network(9)
    resumed = Ema(resumed_module, 0.8)
    resumed_module.load_state_dict(weights)
    resumed.load_state_dict(saved)
    assert same_bits(resumed.state_dict(), saved)
    for step in range(3, 6):
        move(resumed_module, step)
        resumed.update(resumed_module, None)
    assert same_bits(resumed_module.state_dict(), module.state_dict())
    assert same_bits(resumed.state_dict(), whole.state_dict())


def test_without_its_state_an_average_ends_elsewhere() -> None:
    whole, _ = follow(steps=6)
    _, module = follow(steps=3)
    resumed = Ema(module, 0.8)
    for step in range(3, 6):
        move(module, step)
        resumed.update(module, None)
    assert not same_bits(resumed.module.state_dict(), whole.module.state_dict())


def test_a_state_of_another_network_is_refused() -> None:
    ema, _ = follow()
    for wrong in (nn.Sequential(nn.Linear(3, 3)), nn.Sequential(*network(), nn.Linear(2, 2))):
        with pytest.raises(RuntimeError):
            ema.load_state_dict(Ema(wrong, 0.8).state_dict())


def test_weights_of_a_saved_state_load_into_the_network() -> None:
    ema, _ = follow()
    module = network(9)
    module.load_state_dict(Ema.weights(ema.state_dict()))
    assert same_bits(module.state_dict(), ema.module.state_dict())


def test_the_copy_is_for_evaluation_and_leaves_the_network_alone() -> None:
    module = network()
    module.train()
    state = copy.deepcopy(module.state_dict())
    ema = Ema(module, 0.5)
    assert type(ema.module) is type(module)
    assert not ema.module.training
    assert module.training
    assert all(not p.requires_grad for p in ema.module.parameters())
    assert all(p.requires_grad for p in module.parameters())
    with torch.no_grad():
        for p in ema.module.parameters():
            p.zero_()
    ema.update(module, None)
    assert same_bits(module.state_dict(), state)


def test_memory_format_is_kept() -> None:
    module = network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = Ema(module, 0.8)
    ema.update(module, GOOD)
    ema.load_state_dict(ema.state_dict())
    for ours, theirs in zip(ema.module.parameters(), module.parameters(), strict=True):
        assert ours.stride() == theirs.stride()


def test_a_module_without_weights_has_an_average_too() -> None:
    ema = Ema(nn.ReLU(), 0.5)
    for skip in (None, GOOD):
        ema.update(nn.ReLU(), skip)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("skip", [None, GOOD, SKIPPED])
def test_on_a_gpu_an_update_does_not_wait_for_the_device(skip: Tensor | None) -> None:
    module = network().cuda()
    ema = Ema(module, 0.8)
    skip = None if skip is None else skip.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        ema.update(module, skip)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_part_is_followed_alone() -> None:
    """Two networks of a task that move at different steps: each average is that of its own steps."""
    task, twin = nn.ModuleDict({"a": network(0), "b": network(1)}), nn.ModuleDict({"a": network(0), "b": network(1)})
    ema, alone = Ema(task, 0.8), Ema(twin["b"], 0.8)
    before = copies(ema.module["a"].state_dict())
    for step, skip in enumerate((None, GOOD, SKIPPED, GOOD)):
        move(task["b"], step)
        move(twin["b"], step)
        ema.update(task, skip, task["b"])
        alone.update(twin["b"], skip)
    assert same_bits(ema.module["a"].state_dict(), before)
    assert same_bits(ema.module["b"].state_dict(), alone.module.state_dict())
    assert not torch.equal(ema.module["b"][0].weight, ema.module["a"][0].weight)


def test_a_part_of_another_network_is_refused() -> None:
    ema, module = follow(steps=1)
    with pytest.raises(ValueError, match="no part"):
        ema.update(module, None, nn.Linear(1, 1))
