"""Activations, norms and initialization."""

import math

import pytest
import torch

from dltrain.config.model import Activation, Norm
from dltrain.models.blocks import ConvUnit, LinearUnit, activation, dropout, initialize, output_layer

POINTS = torch.linspace(-4, 4, 81, dtype=torch.float64)
FORMULAS = {
    Activation.sigmoid: lambda x: 1 / (1 + math.exp(-x)),
    Activation.tanh: lambda x: (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1),
    Activation.relu: lambda x: max(x, 0.0),
    Activation.leaky_relu: lambda x: x if x > 0 else 0.01 * x,
    Activation.gelu: lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    Activation.silu: lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", Activation)
def test_activation_is_its_formula(name: Activation) -> None:
    expected = [FORMULAS[name](x) for x in POINTS.tolist()]
    torch.testing.assert_close(
        activation(name)(POINTS), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("name", Activation)
def test_signal_and_gradient_keep_their_size_through_eight_layers(name: Activation) -> None:
    torch.manual_seed(0)
    layers = [LinearUnit(256, 256, name, Norm.none, 0.0) for _ in range(8)]
    x = torch.randn(512, 256, requires_grad=True)
    inside = []
    out = x
    for layer in layers:
        inside.append(layer.linear(out).std().item())
        out = layer(out)
    out.backward(torch.randn_like(out))
    assert x.grad is not None
    assert 0.1 < inside[-1] / inside[0] < 10
    assert 0.01 < x.grad.std().item() < 20  # the gradient put in has size 1


def test_plain_glorot_would_lose_the_sigmoids_gradient() -> None:
    torch.manual_seed(0)
    layers = [LinearUnit(256, 256, Activation.sigmoid, Norm.none, 0.0) for _ in range(8)]
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.linear.weight)
    x = torch.randn(512, 256, requires_grad=True)
    out = torch.nn.Sequential(*layers)(x)
    out.backward(torch.randn_like(out))
    assert x.grad is not None
    assert x.grad.std().item() < 1e-4


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        (Activation.relu, 2 / 300),
        (Activation.gelu, 2 / 300),
        (Activation.silu, 2 / 300),
        (Activation.leaky_relu, 2 / (1 + 0.01**2) / 300),
        (Activation.tanh, (5 / 3) ** 2 * 2 / 1100),
        (Activation.sigmoid, 4**2 * 2 / 1100),
        (None, 2 / 1100),
    ],
)
def test_variance_of_weights_is_the_papers(name: Activation | None, variance: float) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(300, 800)
    conv = torch.nn.Conv2d(12, 32, 5)  # fan in 12 * 25 = 300, fan out 32 * 25 = 800
    for layer in (linear, conv):
        initialize(layer, name)
        assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)
        assert layer.weight.mean().item() == pytest.approx(0, abs=4 * math.sqrt(variance / layer.weight.numel()))
        assert not layer.bias.any()


def test_norm_stands_before_the_activation_and_replaces_the_bias() -> None:
    torch.manual_seed(0)
    for unit, images in (
        (LinearUnit(7, 5, Activation.relu, Norm.batch, 0.5), torch.randn(64, 7)),
        (ConvUnit(3, 5, 3, Activation.relu, Norm.batch), torch.randn(64, 3, 5, 5)),
    ):
        assert not any(name.endswith(("linear.bias", "conv.bias")) for name, _ in unit.named_parameters())
        layer = unit.linear if isinstance(unit, LinearUnit) else unit.conv
        normed = unit.norm(layer(images))
        channels = normed.transpose(0, 1).flatten(1)
        torch.testing.assert_close(channels.mean(1), torch.zeros(5), rtol=0, atol=1e-5)
        torch.testing.assert_close(channels.var(1, unbiased=False), torch.ones(5), rtol=0, atol=1e-3)
        unit.eval()
        assert (unit(images) >= 0).all()  # nothing after the ReLU moves values below zero


def test_dropout_drops_its_share_after_the_activation_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    unit = LinearUnit(4, 1000, Activation.sigmoid, Norm.none, 0.25)
    x = torch.randn(100, 4)
    dropped = unit(x)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    kept = unit.eval()(x)
    assert (kept > 0).all()
    torch.testing.assert_close(dropped[dropped > 0], (kept / 0.75)[dropped > 0])


def test_no_dropout_draws_nothing() -> None:
    state = torch.get_rng_state()
    dropout(0.0)(torch.ones(8))
    assert torch.equal(torch.get_rng_state(), state)


def test_output_layer_is_linear_with_zero_bias() -> None:
    layer = output_layer(84, 10)
    assert (layer.in_features, layer.out_features) == (84, 10)
    assert not layer.bias.any()
