"""LeNet-5 against a form written out in NumPy, forward and backward."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from dltrain.config import model as settings
from dltrain.models import build_model

Array = np.ndarray[Any, np.dtype[np.float64]]


def test_61706_parameters_layer_by_layer() -> None:
    net = build_model(settings.LeNet5(), (1, 32, 32), 10)
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in net.named_children()}
    assert counts == {"c1": 156, "s2": 0, "c3": 2416, "s4": 0, "c5": 48120, "f6": 10164, "output": 850}
    assert sum(p.numel() for p in net.parameters()) == 61_706


def test_maps_have_the_papers_sizes() -> None:
    net = build_model(settings.LeNet5(), (1, 32, 32), 10)
    sizes = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda m, args, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    net(torch.randn(2, 1, 32, 32))
    assert sizes == {
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
        "c5": (120,),
        "f6": (84,),
        "output": (10,),
    }


def test_channels_follow_the_data() -> None:
    net = build_model(settings.LeNet5(), (3, 32, 32), 7)
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="28x28"):
        build_model(settings.LeNet5(), (1, 28, 28), 10)


def conv(x: Array, w: Array, b: Array) -> Array:
    windows = sliding_window_view(x, (5, 5), axis=(2, 3))  # (B, C, H', W', 5, 5)
    return np.einsum("bchwij,ocij->bohw", windows, w, optimize=True) + b[:, None, None]


def conv_back(x: Array, w: Array, dy: Array) -> tuple[Array, Array, Array]:
    windows = sliding_window_view(x, (5, 5), axis=(2, 3))
    dw = np.einsum("bchwij,bohw->ocij", windows, dy, optimize=True)
    dx = np.zeros_like(x)
    for i in range(5):
        for j in range(5):
            dx[:, :, i : i + dy.shape[2], j : j + dy.shape[3]] += np.einsum("bohw,oc->bchw", dy, w[:, :, i, j])
    return dx, dw, dy.sum((0, 2, 3))


def quarters(x: Array) -> Array:
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(b, c, h // 2, w // 2, 4)


def pool(x: Array, kind: str) -> Array:
    return quarters(x).max(-1) if kind == "max" else quarters(x).mean(-1)


def pool_back(x: Array, dy: Array, kind: str) -> Array:
    share = np.eye(4)[quarters(x).argmax(-1)] if kind == "max" else np.full((*dy.shape, 4), 0.25)
    b, c, h, w = x.shape
    split = (dy[..., None] * share).reshape(b, c, h // 2, w // 2, 2, 2)
    return split.transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)


ACT = {"relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0) * 1.0), "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2)}


def c5_kernels(p: dict[str, Array]) -> Array:
    return p["c5.linear.weight"].reshape(120, 16, 5, 5)


def written_out(x: Array, y: Array, p: dict[str, Array], act: str, kind: str) -> tuple[Array, dict[str, Array]]:
    """Logits, and gradients of the mean cross-entropy for every parameter."""
    f, df = ACT[act]
    a1 = conv(x, p["c1.conv.weight"], p["c1.conv.bias"])
    s2 = pool(f(a1), kind)
    a3 = conv(s2, p["c3.conv.weight"], p["c3.conv.bias"])
    s4 = pool(f(a3), kind)
    a5 = conv(s4, c5_kernels(p), p["c5.linear.bias"])  # as in the paper: 120@1x1
    c5 = f(a5)[:, :, 0, 0]
    a6 = c5 @ p["f6.linear.weight"].T + p["f6.linear.bias"]
    f6 = f(a6)
    z = f6 @ p["output.weight"].T + p["output.bias"]

    e = np.exp(z - z.max(1, keepdims=True))
    dz = (e / e.sum(1, keepdims=True) - np.eye(10)[y]) / len(x)
    g = {"output.weight": dz.T @ f6, "output.bias": dz.sum(0)}
    d6 = dz @ p["output.weight"] * df(a6)
    g |= {"f6.linear.weight": d6.T @ c5, "f6.linear.bias": d6.sum(0)}
    d5 = (d6 @ p["f6.linear.weight"])[:, :, None, None] * df(a5)
    ds4, dw5, g["c5.linear.bias"] = conv_back(s4, c5_kernels(p), d5)
    g["c5.linear.weight"] = dw5.reshape(120, -1)
    d3 = pool_back(f(a3), ds4, kind) * df(a3)
    ds2, g["c3.conv.weight"], g["c3.conv.bias"] = conv_back(s2, p["c3.conv.weight"], d3)
    d1 = pool_back(f(a1), ds2, kind) * df(a1)
    _, g["c1.conv.weight"], g["c1.conv.bias"] = conv_back(x, p["c1.conv.weight"], d1)
    return z, g


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("act", ["relu", "tanh"])
def test_lenet5_matches_its_form_written_out_in_float64(act: str, kind: str) -> None:
    torch.manual_seed(0)
    cfg = settings.LeNet5(activation=settings.Activation(act), pool=settings.Pool(kind))
    net = build_model(cfg, (2, 32, 32), 10).double()
    for param in net.parameters():
        if param.ndim == 1:
            torch.nn.init.normal_(param, std=0.1)
    x = torch.randn(6, 2, 32, 32, dtype=torch.float64)
    y = torch.arange(6)
    z = net(x)
    torch.nn.functional.cross_entropy(z, y).backward()
    params = {name: param.detach().numpy() for name, param in net.named_parameters()}
    logits, grads = written_out(x.numpy(), y.numpy(), params, act, kind)
    np.testing.assert_allclose(z.detach().numpy(), logits, rtol=0, atol=1e-12)
    assert grads.keys() == params.keys()
    for name, param in net.named_parameters():
        assert param.grad is not None
        assert np.abs(grads[name]).max() > 1e-4
        np.testing.assert_allclose(param.grad.numpy(), grads[name], rtol=0, atol=1e-12, err_msg=name)
