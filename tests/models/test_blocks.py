"""Activations, norms, initialization, averages over parts and response normalization."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain.config.model import Activation, Norm
from dltrain.models.blocks import (
    AdaptiveAveragePool,
    ConvUnit,
    LinearUnit,
    LocalResponseNorm,
    SampledConv2d,
    activation,
    conv2d,
    dropout,
    initialize,
    output_layer,
)

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


def both(ours: nn.Module, theirs: nn.Module, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs and gradients of the same input, ours and theirs."""
    weights = torch.randn_like(theirs(x))
    found = []
    for module in (ours, theirs):
        at = x.clone().requires_grad_()
        out = module(at)
        out.backward(weights)
        assert at.grad is not None
        found.append((out.detach(), at.grad))
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("positions", "parts"),
    [
        ((6, 6), (6, 6)),  # as it is
        ((14, 6), (7, 3)),  # divisible
        ((9, 13), (7, 7)),  # parts overlap
        ((14, 14), (4, 4)),  # what GoogLeNet's auxiliary heads ask for
        ((8, 9), (4, 4)),  # one side divisible
        ((1, 1), (6, 6)),  # more parts than positions
        ((2, 3), (7, 7)),
        ((3, 16), (6, 4)),
    ],
)
def test_means_over_parts_match_torchs(
    positions: tuple[int, int], parts: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, *positions, dtype=torch.float64).to(memory_format=memory_format)
    for ours, theirs in both(AdaptiveAveragePool(parts), nn.AdaptiveAvgPool2d(parts), x):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def paper_norm(a: np.ndarray, n: int, k: float, alpha: float, beta: float) -> np.ndarray:
    """Krizhevsky 2012, section 3.3, as it is printed."""
    channels = a.shape[1]
    b = np.empty_like(a)
    for i in range(channels):
        inside = range(max(0, i - n // 2), min(channels - 1, i + n // 2) + 1)
        b[:, i] = a[:, i] / (k + alpha * sum(a[:, j] ** 2 for j in inside)) ** beta
    return b


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "n"), [(96, 5), (3, 5), (8, 3), (7, 1)])
def test_response_norm_is_the_papers_and_torchs(channels: int, n: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    k, alpha, beta = 2.0, 0.01, 0.75
    a = 10 * torch.randn(2, channels, 4, 3, dtype=torch.float64).to(memory_format=memory_format)
    ours = LocalResponseNorm(n, k, alpha, beta)
    np.testing.assert_allclose(ours(a).numpy(), paper_norm(a.numpy(), n, k, alpha, beta), rtol=1e-13)
    for mine, theirs in both(ours, nn.LocalResponseNorm(n, alpha=alpha * n, beta=beta, k=k), a):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_response_norm_has_the_papers_numbers() -> None:
    a = torch.full((1, 9, 1, 1), 100.0, dtype=torch.float64)
    assert LocalResponseNorm()(a)[0, 4].item() == pytest.approx(100 / (2 + 1e-4 * 5 * 100**2) ** 0.75, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (AdaptiveAveragePool((7, 7)), nn.AdaptiveAvgPool2d((7, 7))),
        (LocalResponseNorm(), nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)),
    ],
    ids=["means", "response"],
)
def test_half_precision_costs_one_rounding(ours: nn.Module, theirs: nn.Module, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (150 * torch.randn(2, 64, 9, 9).relu()).to(dtype)  # up to 600, whose square float16 has not
    exact = theirs(x.double())
    with torch.autocast("cpu", dtype):
        out = ours(x)
    assert out.dtype == dtype
    rounding = torch.finfo(dtype).eps / 2
    assert ((out.double() - exact).abs() <= 1.01 * rounding * exact.abs() + 1e-6).all()


def test_both_are_exported_for_any_batch(tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(0)
    net = nn.Sequential(LocalResponseNorm(), AdaptiveAveragePool((7, 7))).eval()
    batches = {0: torch.export.Dim("batch")}
    program = torch.onnx.export(net, (torch.randn(2, 6, 9, 10),), dynamo=True, dynamic_shapes=(batches,), verbose=False)
    assert program is not None
    program.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for images in (torch.randn(1, 6, 9, 10), torch.randn(5, 6, 9, 10)):
        (out,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        np.testing.assert_allclose(out, net(images).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10)])
def test_a_narrow_strided_1x1_convolution_gives_the_numbers_of_torchs(stride: int, height: int, width: int) -> None:
    """Outputs and gradients, in float64; torch's own is run contiguous, where it does no harm."""
    ours = conv2d(3, 5, 1, stride, Norm.none).double()
    assert isinstance(ours, SampledConv2d)
    theirs = nn.Conv2d(3, 5, 1, stride).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for conv in (ours, theirs):
        images = x.clone().requires_grad_()
        y = conv(images)
        y.square().sum().backward()
        found.append((y, images.grad, conv.weight.grad, conv.bias.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_narrow_strided_1x1_convolution_does_not_end_the_process() -> None:
    """Channels last, 8 channels: with torch's own, this test would be the last."""
    conv = conv2d(8, 16, 1, 2, Norm.batch).to(memory_format=torch.channels_last)
    y = conv(torch.ones(2, 8, 64, 64).to(memory_format=torch.channels_last))
    y.sum().backward()
    assert conv.weight.grad is not None
    torch.testing.assert_close(conv.weight.grad, torch.full((16, 8, 1, 1), 2.0 * 32 * 32))
    assert type(conv2d(16, 32, 1, 2, Norm.batch)) is nn.Conv2d
    assert type(conv2d(8, 8, 1, 1, Norm.batch)) is nn.Conv2d
    assert type(conv2d(8, 8, 3, 2, Norm.batch)) is nn.Conv2d
