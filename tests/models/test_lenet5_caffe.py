"""Caffe's LeNet against a form written out in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from dltrain.config import model as settings
from dltrain.config.model import Norm
from dltrain.models import build_model

Array = np.ndarray[Any, np.dtype[np.float64]]


def test_431080_parameters_layer_by_layer() -> None:
    net = build_model(settings.LeNet5Caffe(), (1, 28, 28), 10)
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in net.named_children()}
    assert {name: n for name, n in counts.items() if n} == {"conv1": 520, "conv2": 25050, "ip1": 400500, "ip2": 5010}
    assert sum(p.numel() for p in net.parameters()) == 431_080


def conv(x: Array, w: Array, b: Array) -> Array:
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))  # (B, C, H', W', k, k)
    return np.einsum("bchwij,ocij->bohw", windows, w, optimize=True) + b[:, None, None]


def pool(x: Array) -> Array:
    """Caffe's PoolingLayer: ceil((H - 2) / 2) + 1 windows, the last one cut off at the border."""
    height, width = x.shape[2:]
    rows = [
        [x[:, :, top : top + 2, left : left + 2].max((2, 3)) for left in range(0, width, 2)]
        for top in range(0, height, 2)
    ]
    return np.array(rows).transpose(2, 3, 0, 1)


@pytest.mark.parametrize("size", [(28, 28), (13, 13), (14, 31), (17, 20)])
def test_forward_is_the_prototxts(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = build_model(settings.LeNet5Caffe(), (3, *size), 4).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, 0, 0.3)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    x = pool(conv(images.numpy(), p["conv1.weight"], p["conv1.bias"]))
    x = pool(conv(x, p["conv2.weight"], p["conv2.bias"]))
    hidden = np.maximum(x.reshape(2, -1) @ p["ip1.weight"].T + p["ip1.bias"], 0)
    logits = hidden @ p["ip2.weight"].T + p["ip2.bias"]
    np.testing.assert_allclose(net(images).detach().numpy(), logits, rtol=0, atol=1e-12 * np.abs(logits).max())


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_below_the_smallest_size_nothing_is_left() -> None:
    smallest = settings.LeNet5Caffe().min_size
    assert smallest == (13, 13)
    for size in ((12, 13), (13, 12)):
        with pytest.raises(RuntimeError):
            build_model(settings.LeNet5Caffe(), (1, *size), 4)(torch.randn(2, 1, *size))


def test_weights_are_drawn_by_the_xavier_filler() -> None:
    torch.manual_seed(0)
    net = build_model(settings.LeNet5Caffe(), (1, 28, 28), 100)
    for name, fan_in in (("conv1", 25), ("conv2", 500), ("ip1", 800), ("ip2", 500)):
        layer = net.get_submodule(name)
        weight, largest = layer.weight.detach(), (3 / fan_in) ** 0.5  # type: ignore[union-attr]
        assert weight.abs().max().item() == pytest.approx(largest, rel=0.01)
        assert weight.abs().max() <= largest
        assert weight.var().item() == pytest.approx(1 / fan_in, rel=0.1)  # type: ignore[operator]
        assert not layer.bias.any()  # type: ignore[union-attr,operator]


def test_batch_norm_stands_behind_each_layer_but_the_last_and_replaces_its_bias() -> None:
    net = build_model(settings.LeNet5Caffe(norm=Norm.batch), (1, 28, 28), 10)
    assert {name for name, _ in net.named_parameters() if name.endswith("bias")} == {
        "norm1.bias",
        "norm2.bias",
        "norm3.bias",
        "ip2.bias",
    }
    seen = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out}))
    net(torch.randn(16, 1, 28, 28) * 3 + 1)
    for name in ("norm1", "norm2", "norm3"):
        channels = seen[name].transpose(0, 1).flatten(1)
        torch.testing.assert_close(channels.mean(1), torch.zeros(len(channels)), rtol=0, atol=1e-5)
    assert (seen["norm1"] < 0).any()
    assert (seen["pool1"].amin() < 0).item()  # no activation behind a convolution
