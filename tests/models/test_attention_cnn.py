"""The attention CNN: its layout by counts and shapes, its attention against NumPy in float64."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.compose import compose
from dltrain.config.model import Compatibility, Norm
from dltrain.models import build_model, outline
from dltrain.models.attention import AttentionMap
from dltrain.models.attention_cnn import AttentionCNN, AttentionEstimator

K = 5
Array = NDArray[np.float64]
both_kinds = pytest.mark.parametrize("kind", list(Compatibility))


def build(shape: tuple[int, int, int] = (2, 32, 32), **knobs: Any) -> AttentionCNN:
    torch.manual_seed(0)
    net = build_model(settings.AttentionCNN(**({"base_channels": 2} | knobs)), shape, K).double()
    assert isinstance(net, AttentionCNN)
    for module in net.modules():  # so that evaluation differs from the identity
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.running_mean) * 0.1  # type: ignore[arg-type]
            module.running_var = torch.rand_like(module.running_var) + 0.5  # type: ignore[arg-type]
    return net.eval()


def images(net_shape: tuple[int, int, int] = (2, 32, 32), n: int = 3) -> Tensor:
    return torch.randn(n, *net_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def watched(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What each module of a network gives."""
    found: dict[str, Tensor] = {}
    handles = [
        m.register_forward_hook(lambda _m, _i, o, name=name: found.update({name: o})) for name, m in net.named_modules()
    ]
    with torch.no_grad():
        found["logits"] = net(x)
    for handle in handles:
        handle.remove()
    return found


def attended(local: Array, g: Array, u: Array | None, project: Array | None) -> tuple[Array, Array]:
    """Section 3 for one image, one position at a time: (C, h, w) and (D,) -> weights (h, w) and their sum (D,)."""
    _, height, width = local.shape
    l = {  # noqa: E741 - the paper's letter
        (i, j): local[:, i, j] if project is None else project @ local[:, i, j]
        for i in range(height)
        for j in range(width)
    }
    c = {at: float(l[at] @ g) if u is None else float(u @ (l[at] + g)) for at in l}
    largest = max(c.values())
    total = sum(np.exp(value - largest) for value in c.values())
    a = {at: np.exp(c[at] - largest) / total for at in c}
    weights = np.array([[a[i, j] for j in range(width)] for i in range(height)])
    return weights, np.sum([a[at] * l[at] for at in l], axis=0)


def arrays(estimator: nn.Module) -> tuple[Array | None, Array | None]:
    """u (D,) and the projection (D, C) of an estimator, where it has them."""
    assert isinstance(estimator, AttentionEstimator)
    u = None if estimator.u is None else estimator.u.weight.detach().numpy().reshape(-1)
    project = estimator.project
    return u, project.weight.detach().numpy()[:, :, 0, 0] if isinstance(project, nn.Conv2d) else None


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize(("layers", "kind"), [(3, "parametrized"), (2, "parametrized"), (3, "dot")])
def test_parameters_by_closed_form(layers: int, kind: str, norm: Norm) -> None:
    """VGG-16's 13 convolutions, two more, the global feature, and what attends to the layers."""
    b, c = 64, 3
    widths = [c, *[b] * 2, *[2 * b] * 2, *[4 * b] * 3, *[8 * b] * 8]
    convolutions = sum(9 * i * o for i, o in pairwise(widths))
    convolutions += sum(widths[1:]) * (2 if norm is Norm.batch else 1)  # scale and shift, or a bias
    fc = 8 * b * 8 * b + 8 * b
    attention = (4 * b * 8 * b if layers == 3 else 0) + (layers * 8 * b if kind == "parametrized" else 0)
    classifier = layers * 8 * b * 10 + 10
    cfg = settings.AttentionCNN(layers=layers, compatibility=Compatibility(kind), norm=norm)
    found = sum(p.numel() for p in outline(cfg, (c, 32, 32), 10).parameters())
    assert found == convolutions + fc + attention + classifier
    if (layers, kind, norm) == (3, "parametrized", Norm.batch):
        assert found == 19_850_186


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 70)])
def test_the_layers_that_attend_are_pooled_late(height: int, width: int) -> None:
    """conv7, 10 and 13 have the input's size, a half and a quarter of it; the global feature comes 32 times below."""
    found = watched(build((4, height, width)), images((4, height, width), 1))
    assert found["conv5_7"].shape == (1, 8, height, width)
    assert found["conv8_10"].shape == (1, 16, height // 2, width // 2)
    assert found["conv11_13"].shape == (1, 16, height // 4, width // 4)
    assert found["pool15"].shape == (1, 16, height // 32, width // 32)
    assert found["logits"].shape == (1, K)


@both_kinds
@pytest.mark.parametrize("channels", [6, 9])
def test_attention_is_numpys(kind: Compatibility, channels: int) -> None:
    torch.manual_seed(3)
    estimator = AttentionEstimator(channels, 6, kind).double()
    local, g = torch.randn(2, channels, 3, 5).double(), torch.randn(2, 6).double()
    maps: list[Tensor] = []
    estimator.map.register_forward_hook(lambda _m, _i, o: maps.append(o))
    found = estimator(local, g)
    assert (arrays(estimator)[1] is None) == (channels == 6)
    for n in range(2):
        weights, total = attended(local[n].numpy(), g[n].numpy(), *arrays(estimator))
        np.testing.assert_allclose(maps[0][n, 0].detach().numpy(), weights, rtol=1e-12)
        np.testing.assert_allclose(found[n].detach().numpy(), total, rtol=1e-12, atol=1e-14)


@both_kinds
@pytest.mark.parametrize("layers", [2, 3])
def test_the_logits_follow_from_the_local_features(kind: Compatibility, layers: int) -> None:
    net = build(compatibility=kind, layers=layers)
    found = watched(net, images())
    local = {"conv7": "conv5_7", "conv10": "conv8_10", "conv13": "conv11_13"}
    assert list(net.attention) == list(local)[-layers:]
    last = found["pool15"].numpy()
    g = last.mean((2, 3)) @ net.fc.weight.detach().numpy().T + net.fc.bias.detach().numpy()
    for n in range(len(g)):
        parts = []
        for name, estimator in net.attention.items():
            weights, part = attended(found[local[name]][n].numpy(), g[n], *arrays(estimator))
            np.testing.assert_allclose(found[f"attention.{name}.map"][n, 0].numpy(), weights, rtol=1e-10)
            parts.append(part)
        logits = net.output.weight.detach().numpy() @ np.concatenate(parts) + net.output.bias.detach().numpy()
        np.testing.assert_allclose(found["logits"][n].numpy(), logits, rtol=1e-10, atol=1e-12)


@both_kinds
def test_maps_are_weights_of_one_channel_that_sum_to_1(kind: Compatibility) -> None:
    net = build((3, 48, 40), compatibility=kind)
    found = watched(net, images((3, 48, 40)))
    names = [name for name, module in net.named_modules() if isinstance(module, AttentionMap)]
    assert [found[name].shape for name in names] == [(3, 1, 48, 40), (3, 1, 24, 20), (3, 1, 12, 10)]
    for name in names:
        assert found[name].min() >= 0
        torch.testing.assert_close(found[name].sum((1, 2, 3)), torch.ones(3).double(), rtol=0, atol=1e-12)
        assert found[name].flatten(1).std(1).min() > 0, "every position has the same weight"


@both_kinds
def test_gradients_are_finite_differences(kind: Compatibility) -> None:
    """All of the attention's by gradcheck, those of the network along a direction in all of its weights."""
    torch.manual_seed(1)
    estimator = AttentionEstimator(3, 4, kind).double()
    names = [name for name, _ in estimator.named_parameters()]
    weights = [p.detach().requires_grad_() for p in estimator.parameters()]
    local, g = torch.randn(2, 3, 2, 3).double().requires_grad_(), torch.randn(2, 4).double().requires_grad_()

    def run(local: Tensor, g: Tensor, *weights: Tensor) -> Any:
        return torch.func.functional_call(estimator, dict(zip(names, weights, strict=True)), (local, g))

    assert torch.autograd.gradcheck(run, (local, g, *weights))

    net, x, y = build(compatibility=kind, base_channels=1), images(), torch.arange(3)

    def loss() -> Tensor:
        return nn.functional.cross_entropy(net(x), y)

    parameters = list(net.parameters())
    direction = [torch.randn_like(p) for p in parameters]
    slope = sum((d * g).sum() for d, g in zip(direction, torch.autograd.grad(loss(), parameters), strict=True))
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(parameters, direction, strict=True):
                p += sign * step * d
            values.append(loss().item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(slope), rel=1e-5)


def test_the_global_feature_counts_in_the_dot_product_alone() -> None:
    """u . g is the same for all positions, and the softmax drops it: of the paper's formula, not of our code."""
    for kind, counts in ((Compatibility.parametrized, False), (Compatibility.dot, True)):
        net, x = build(compatibility=kind), images()
        before = watched(net, x)
        nn.functional.cross_entropy(net(x), torch.arange(3)).backward()
        assert net.fc.weight.grad is not None
        assert (net.fc.weight.grad.abs().max() > 1e-6) == counts
        with torch.no_grad():
            net.fc.weight.mul_(-2)
        after = watched(net, x)
        change = (after["attention.conv13.map"] - before["attention.conv13.map"]).abs().max()
        assert (change > 1e-6) == counts
        assert change < 1e-12 or counts


def test_equal_local_features_get_equal_weights_and_a_peak_gets_all() -> None:
    estimator = AttentionEstimator(4, 4, Compatibility.dot).double()
    g = torch.tensor([[1.0, -1, 2, 0]]).double()
    even = torch.ones(1, 4, 3, 3).double()
    maps: list[Tensor] = []
    estimator.map.register_forward_hook(lambda _m, _i, o: maps.append(o))
    torch.testing.assert_close(estimator(even, g), torch.ones(1, 4).double())
    torch.testing.assert_close(maps[0], torch.full((1, 1, 3, 3), 1 / 9).double())
    even[0, :, 1, 2] = 50 * g[0]
    torch.testing.assert_close(estimator(even, g)[0], 50 * g[0])
    assert maps[1][0, 0, 1, 2] > 1 - 1e-12


def test_dropout_stands_before_the_classifier() -> None:
    net = build(dropout=0.5)
    found = watched(net.train(), images(n=64))
    dropped = found["dropout"] == 0
    assert 0.4 < dropped.double().mean() < 0.6
    assert isinstance(build().dropout, nn.Identity)


def test_the_yaml_is_the_papers_network() -> None:
    cfg, _ = compose(["model=attention_cnn", "data=cifar10"])
    assert isinstance(cfg.model, settings.AttentionCNN)
    assert (cfg.model.base_channels, cfg.model.layers, cfg.model.compatibility) == (64, 3, Compatibility.parametrized)
    assert cfg.model.size_for((28, 28)) == (32, 32)
    assert cfg.model.norms_batches
