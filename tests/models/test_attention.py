"""Attention modules against timm's, against their papers' formulas in NumPy, and at their places in the networks."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import timm.layers
import torch
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Attention, Norm
from dltrain.models import build_model
from dltrain.models.attention import AttentionMap, Cbam, SpatialSoftmax, SqueezeExcitation, attention

Array = np.ndarray[Any, np.dtype[np.float64]]
MODULES = [name for name in Attention if name is not Attention.none]
HIDDEN = {1: 4, 3: 4, 16: 4, 64: 4, 80: 5, 90: 5, 512: 32}  # channels: units of the bottleneck


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def drawn(module: nn.Module) -> nn.Module:
    """In float64, every weight, scale and shift drawn."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def arrays(module: nn.Module) -> dict[str, Array]:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def close(ours: Tensor, expected: Array) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# ---- timm


def assert_same(ours: nn.Module, theirs: nn.Module, names: dict[str, str], x: Tensor) -> None:
    """Outputs, and gradients of images and weights, of `ours` and of timm's module with the same weights, in training.

    timm has 1x1 convolutions where we have linear layers, and `names` that differ.
    """
    theirs = theirs.double()
    expected_shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    state = {_renamed(name, names): value for name, value in ours.state_dict().items()}
    assert state.keys() == expected_shapes.keys()
    theirs.load_state_dict({name: value.view(expected_shapes[name]) for name, value in state.items()})
    found = []
    for module in (ours.train(), theirs.train()):
        leaf = x.clone().requires_grad_()
        out = module(leaf)
        (out * torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)).sum().backward()
        found.append((out, leaf.grad))
    for mine, other in zip(*found, strict=True):
        close(mine, other.detach().numpy())
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        other = gradients[_renamed(name, names)]
        assert p.grad is not None
        assert other is not None
        assert other.any()
        close(p.grad, other.view_as(p).numpy())


def _renamed(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


@pytest.mark.parametrize("channels", [3, 64, 90])
def test_squeeze_excitation_matches_timm(channels: int) -> None:
    ours = drawn(SqueezeExcitation(channels))
    theirs = timm.layers.SEModule(channels, rd_channels=HIDDEN[channels])  # its own would be rounded up to 8
    assert_same(ours, theirs, {"reduce": "fc1", "expand": "fc2"}, images(4, channels, 5, 6))


@pytest.mark.parametrize("channels", [64, 90])
def test_cbam_matches_timm(channels: int) -> None:
    ours = drawn(Cbam(channels, Norm.batch))
    theirs = CbamModule(channels, rd_ratio=HIDDEN[channels] / channels)
    names = {
        "channel.mlp.0": "channel.fc1",
        "channel.mlp.2": "channel.fc2",
        "spatial.conv": "spatial.conv.conv",
        "spatial.norm": "spatial.conv.bn",
    }
    assert_same(ours, theirs, names, images(4, channels, 9, 8))


# ---- the papers' formulas


@pytest.mark.parametrize("channels", HIDDEN)
def test_bottleneck_has_a_16th_of_the_channels_and_at_least_4_units(channels: int) -> None:
    assert SqueezeExcitation(channels).reduce.out_features == HIDDEN[channels]
    assert Cbam(channels, Norm.none).channel.mlp[0].out_features == HIDDEN[channels]


def bottleneck(z: Array, first: Array, second: Array, b1: Array | float = 0.0, b2: Array | float = 0.0) -> Array:
    return np.maximum(z @ first.T + b1, 0) @ second.T + b2


def test_squeeze_excitation_is_equations_2_to_4() -> None:
    module, x = drawn(SqueezeExcitation(80)), images(3, 80, 4, 5)
    p = arrays(module)
    z = x.numpy().sum((2, 3)) / 20
    s = sigmoid(bottleneck(z, p["reduce.weight"], p["expand.weight"], p["reduce.bias"], p["expand.bias"]))
    close(module(x), s[:, :, None, None] * x.numpy())


@pytest.mark.parametrize("norm", Norm)
def test_cbam_is_equations_1_to_3(norm: Norm) -> None:
    module, x = drawn(Cbam(20, norm)).eval(), images(3, 20, 6, 9)
    if norm is Norm.batch:
        module.spatial.norm.running_mean.fill_(0.3)
        module.spatial.norm.running_var.fill_(2.0)
    p, f = arrays(module), x.numpy()
    first, second = p["channel.mlp.0.weight"], p["channel.mlp.2.weight"]
    channels = sigmoid(bottleneck(f.mean((2, 3)), first, second) + bottleneck(f.max((2, 3)), first, second))
    f = channels[:, :, None, None] * f
    pooled = np.pad(np.stack([f.mean(1), f.max(1)], 1), ((0, 0), (0, 0), (3, 3), (3, 3)))
    scores = np.zeros((3, 6, 9))
    for row in range(7):
        for column in range(7):
            weights = p["spatial.conv.weight"][0, :, row, column]
            scores += np.einsum("bchw,c->bhw", pooled[:, :, row : row + 6, column : column + 9], weights)
    if norm is Norm.batch:
        scores = (scores - 0.3) / np.sqrt(2 + 1e-5) * p["spatial.norm.weight"] + p["spatial.norm.bias"]
    close(module(x), sigmoid(scores)[:, None] * f)


def test_spatial_softmax_and_its_gradients_are_the_formula() -> None:
    module, x, g = drawn(SpatialSoftmax(7)), images(3, 7, 4, 5).requires_grad_(), images(3, 7, 4, 5)
    with torch.no_grad():
        x *= 3
    out = module(x)
    out.backward(g)
    f, dout, w = x.detach().numpy(), g.numpy(), arrays(module)["score.weight"][0, :, 0, 0]
    r = np.sqrt((f**2).sum(1) / 7)
    wf = np.einsum("bchw,c->bhw", f, w)
    exponentials = np.exp(wf / (1 + r))
    a = exponentials / exponentials.sum((1, 2), keepdims=True)
    close(out, 20 * a[:, None] * f)
    da = 20 * (dout * f).sum(1)
    ds = a * (da - (a * da).sum((1, 2), keepdims=True))
    dr = -ds * wf / (1 + r) ** 2
    assert x.grad is not None
    df = 20 * a[:, None] * dout + w[:, None, None] * (ds / (1 + r))[:, None] + f * (dr / (7 * r))[:, None]
    close(x.grad, df)
    close(module.score.weight.grad[0, :, 0, 0], np.einsum("bchw,bhw->c", f, ds / (1 + r)))


def test_scores_stay_bounded_however_large_the_features_are() -> None:
    module, x = drawn(SpatialSoftmax(9)), images(2, 9, 5, 5)
    largest = module.score.weight.norm().item() * 3  # of w x / r, by Cauchy and Schwarz, r being |x| / 3
    for factor in (1.0, 1e3, 1e6):
        a = weights(module, factor * x).flatten(1)
        assert (a.amax(1) / a.amin(1)).log().max() < 2 * largest


def test_positions_without_features_have_finite_gradients() -> None:
    module, x = drawn(SpatialSoftmax(4)), torch.zeros(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.ones_like(x), rtol=0, atol=1e-12)  # x * 1: no score moves with x = 0


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_those_of_finite_differences(name: Attention, norm: Norm) -> None:
    module = drawn(attention(name, 3, norm))
    parameters = tuple(module.parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        named = {key: value for (key, _), value in zip(module.named_parameters(), values, strict=True)}
        out: Tensor = torch.func.functional_call(module, named, (x,))
        return out

    assert torch.autograd.gradcheck(run, (images(2, 3, 3, 2).requires_grad_(), *parameters))


# ---- what attention weights are


def weights(module: nn.Module, x: Tensor) -> Tensor:
    maps = [child for child in module.modules() if isinstance(child, AttentionMap)]
    assert len(maps) == 1
    found: list[Tensor] = []
    handle = maps[0].register_forward_hook(lambda module, args, out: found.append(out))
    module(x)
    handle.remove()
    return found[0]


def test_spatial_softmax_shares_out_as_much_as_it_takes() -> None:
    module, x = drawn(SpatialSoftmax(6)), images(3, 6, 5, 4)
    a = weights(module, x)
    assert a.shape == (3, 1, 5, 4)
    assert a.std() > 0.01
    torch.testing.assert_close(a.sum((1, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-14)
    factors = module(x) / x
    torch.testing.assert_close(factors.sum((2, 3)), torch.full((3, 6), 20.0, dtype=torch.float64), rtol=0, atol=1e-9)


def test_equal_scores_change_nothing() -> None:
    module, x = drawn(SpatialSoftmax(6)), images(3, 6, 1, 1).expand(3, 6, 5, 3)
    torch.testing.assert_close(module(x), x, rtol=0, atol=1e-14)
    shifted = drawn(SpatialSoftmax(6))
    x = images(3, 6, 5, 3)
    nn.init.zeros_(shifted.score.weight)
    torch.testing.assert_close(shifted(x), x, rtol=0, atol=1e-14)


def test_spatial_softmax_begins_as_no_attention_and_learns() -> None:
    torch.manual_seed(0)
    cfg = settings.CifarResNet(n=1, base_channels=2)
    plain = build_model(cfg, (1, 8, 8), 3).double()
    cfg.attention = Attention.spatial_softmax
    attending = build_model(cfg, (1, 8, 8), 3).double()
    left_out = attending.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert left_out == [f"stages.{stage}.0.attention.score.weight" for stage in range(3)]
    x = images(4, 1, 8, 8)
    out = attending(x)
    torch.testing.assert_close(out, plain(x), rtol=0, atol=1e-12)
    out.square().sum().backward()
    assert all(stage[0].attention.score.weight.grad.any() for stage in attending.stages)


@pytest.mark.parametrize("name", [Attention.se, Attention.cbam])
def test_weights_of_channels_and_positions_only_make_smaller(name: Attention) -> None:
    x = images(3, 20, 6, 5)
    factors = drawn(attention(name, 20, Norm.batch))(x) / x
    assert 0 < factors.min() < factors.max() < 1


@pytest.mark.parametrize("name", MODULES)
def test_autocast_keeps_the_precision_of_the_features(name: Attention) -> None:
    torch.manual_seed(0)
    module = attention(name, 8, Norm.batch)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert module(torch.randn(2, 8, 4, 4).to(dtype)).dtype == dtype


@pytest.mark.parametrize("name", [Attention.se, Attention.cbam])
@pytest.mark.parametrize(
    "cfg",
    [settings.VGG(convs=[2, 2, 3, 3, 3], base_channels=16, norm=Norm.batch), settings.CifarResNet(residual=False)],
    ids=["vgg16", "plain20"],
)
def test_batch_norm_keeps_the_signal_that_gates_make_smaller(cfg: settings.Model, name: Attention) -> None:
    """Without shortcuts and without a norm each layer's gates halve it: the command line refuses such networks."""
    found = {}
    for norm in Norm:
        torch.manual_seed(0)
        net = build_model(dataclasses.replace(cfg, norm=norm, attention=name), (3, 32, 32), 10)  # type: ignore[call-arg]
        seen: list[Tensor] = []
        head = net.head if isinstance(cfg, settings.VGG) else net.fc
        head.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0]))
        net(torch.randn(16, 3, 32, 32))
        found[norm] = seen[0].std(0).mean().item()  # how much the features differ from image to image
    assert 0.01 < found[Norm.batch] < 1
    assert found[Norm.none] < 1e-4


# ---- the place


class Times(nn.Module):
    """In the place of attention."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.mark.parametrize(
    ("cfg", "norm"),
    [
        (settings.ResNet(blocks=[1, 1], base_channels=4, attention=Attention.se), "bn2"),
        (settings.ResNet(blocks=[1, 1], base_channels=4, attention=Attention.se, bottleneck=True), "bn3"),
        (settings.CifarResNet(n=1, base_channels=4, attention=Attention.se), "bn2"),
        (settings.CifarResNet(n=1, base_channels=4, attention=Attention.se, residual=False), "bn2"),
    ],
)
def test_residual_networks_attend_between_the_last_norm_and_the_addition(cfg: settings.Model, norm: str) -> None:
    """There, and nowhere else, a factor in its place is a factor on scale and shift of the last norm."""
    torch.manual_seed(0)
    net = build_model(cfg, (2, 9, 9), 3).double()
    blocks = [block for stage in net.stages for block in stage]
    for block in blocks:
        assert isinstance(block.attention, SqueezeExcitation)
        nn.init.uniform_(getattr(block, norm).bias)
        block.attention = Times(-3.0)
    x = images(4, 2, 9, 9)
    expected = net(x)
    for block in blocks:
        block.attention = nn.Identity()
    assert not torch.allclose(net(x), expected, rtol=0, atol=1e-3)
    for block in blocks:
        with torch.no_grad():
            getattr(block, norm).weight *= -3
            getattr(block, norm).bias *= -3
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-12)


def test_vgg_attends_behind_the_activation_of_each_convolution() -> None:
    torch.manual_seed(0)
    cfg = settings.VGG(convs=[1, 2], base_channels=4, attention=Attention.se)
    net = build_model(cfg, (2, 8, 8), 3).double().eval()
    units = [unit for unit in net.modules() if hasattr(unit, "attention")]
    assert len(units) == 3
    for unit in units:
        unit.attention = Times(-3.0)
    seen: list[Tensor] = []
    for stage in net.stages:
        stage.register_forward_hook(lambda module, args, out: seen.append(out))
    net(images(4, 2, 8, 8))
    for out in seen:  # of a pooling
        assert (out <= 0).all()
        assert out.any()
