"""Penalties against autograd of the written-out formula in float64."""

import copy
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from dltrain.config.groups import Reg
from dltrain.engine.penalty import add_penalty
from tests.engine.reading import NoReading

Named = list[tuple[str, Parameter]]


def network() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 4))
    nn.init.normal_(module[1].weight)
    nn.init.normal_(module[1].bias)
    with torch.no_grad():
        module[3].weight[1] = 0.0  # |w| has no slope at 0
    return module


def loss(module: nn.Module) -> Tensor:
    torch.manual_seed(1)
    images = torch.randn(6, 2, 5, 5).to(next(module.parameters()).dtype)
    return module(images).square().mean()


def is_weight(name: str) -> bool:
    return name in ("0.weight", "3.weight")


def by_autograd(l1: float, l2: float, everything: bool = False) -> tuple[float, dict[str, Tensor]]:
    """The penalty, and the gradient of loss + penalty, in float64."""
    module = network().double()
    weights = [p for name, p in module.named_parameters() if everything or is_weight(name)]
    penalty = sum(((l2 / 2) * (w**2).sum() + l1 * w.abs().sum() for w in weights), torch.zeros((), dtype=torch.float64))
    torch.autograd.backward(loss(module) + penalty)
    return float(penalty.detach()), {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def ours(l1: float, l2: float) -> tuple[Tensor | None, dict[str, Tensor]]:
    module = network()
    torch.autograd.backward(loss(module))
    named = list(module.named_parameters())
    penalty = add_penalty(named, Reg(l1=l1, l2=l2))
    return penalty, {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.1), (0.1, 0.0), (0.03, 0.2), (1e-5, 1e-4)])
def test_value_and_gradient_equal_autograd(l1: float, l2: float) -> None:
    penalty, gradients = ours(l1, l2)
    value, expected = by_autograd(l1, l2)
    assert penalty is not None
    assert penalty.shape == ()
    assert not penalty.requires_grad
    assert float(penalty) == pytest.approx(value, rel=1e-6)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient.double(), expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("l1", "l2"), [(0.031, 0.2), (0.03, 0.21)])
def test_autograd_notices_another_strength(l1: float, l2: float) -> None:
    penalty, gradients = ours(0.03, 0.2)
    value, expected = by_autograd(l1, l2)
    assert penalty is not None
    assert float(penalty) != pytest.approx(value, rel=1e-4)
    for name in gradients:
        assert torch.allclose(gradients[name].double(), expected[name], atol=1e-5) is not is_weight(name)


def test_biases_and_gains_of_norms_are_not_penalized() -> None:
    _, with_penalty = ours(0.1, 0.1)
    _, without = ours(0.0, 0.0)
    for name, gradient in with_penalty.items():
        assert torch.equal(gradient, without[name]) is not is_weight(name)
    value, _ = by_autograd(0.1, 0.1)
    of_everything, _ = by_autograd(0.1, 0.1, everything=True)
    assert value != pytest.approx(of_everything, rel=1e-2)


def test_zero_strengths_touch_nothing() -> None:
    penalty, gradients = ours(0.0, 0.0)
    assert penalty is None
    module = network()
    torch.autograd.backward(loss(module))
    assert all(torch.equal(gradients[name], p.grad) for name, p in module.named_parameters() if p.grad is not None)


class Untouchable(list[tuple[str, Parameter]]):
    def __iter__(self) -> NoReturn:
        raise AssertionError("the parameters were looked at")


def test_zero_strengths_cost_nothing() -> None:
    assert add_penalty(Untouchable(), Reg()) is None
    with pytest.raises(AssertionError, match="looked at"):
        add_penalty(Untouchable(), Reg(l1=1.0))


def test_a_weight_that_the_loss_does_not_reach_is_still_penalized() -> None:
    module = network()
    named = list(module.named_parameters())
    add_penalty(named, Reg(l1=0.1, l2=0.2))
    for name, p in named:
        if is_weight(name):
            assert p.grad is not None
            torch.testing.assert_close(p.grad, 0.2 * p.detach() + 0.1 * p.detach().sign())
        else:
            assert p.grad is None


def test_frozen_weights_are_left_out() -> None:
    module = network()
    module[3].weight.requires_grad_(False)  # type: ignore[index, union-attr]
    named = list(module.named_parameters())
    penalty = add_penalty(named, Reg(l2=1.0))
    assert penalty is not None
    assert float(penalty) == pytest.approx(
        0.5 * float(dict(named)["0.weight"].detach().double().square().sum()), rel=1e-6
    )
    assert dict(named)["3.weight"].grad is None


def test_without_weights_there_is_no_penalty() -> None:
    assert add_penalty([("bias", Parameter(torch.ones(3)))], Reg(l1=1.0)) is None


def test_a_penalty_reads_no_value() -> None:
    with NoReading():
        ours(0.1, 0.1)


def test_l2_is_torchs_weight_decay_on_the_weights() -> None:
    ours_, theirs = network(), copy.deepcopy(network())
    for module in (ours_, theirs):
        torch.autograd.backward(loss(module))
    add_penalty(list(ours_.named_parameters()), Reg(l2=0.3))
    torch.optim.SGD(ours_.parameters(), lr=0.1).step()
    groups = [
        {"params": [p for name, p in theirs.named_parameters() if is_weight(name)], "weight_decay": 0.3},
        {"params": [p for name, p in theirs.named_parameters() if not is_weight(name)], "weight_decay": 0.0},
    ]
    torch.optim.SGD(groups, lr=0.1).step()
    for a, b in zip(ours_.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
