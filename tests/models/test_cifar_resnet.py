"""ResNet-20 to 110 for CIFAR: counts by hand, and the network written out in torch's functions."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.compose import compose
from dltrain.config.model import Norm, Shortcut
from dltrain.models import build_model, outline

LITERATURE = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
}


@functools.cache
def model(*words: str) -> settings.Model:
    cfg, _ = compose(list(words))
    found: settings.Model = cfg.model
    return found


def count(cfg: settings.Model, channels: int = 3, outputs: int = 10) -> int:
    return sum(p.numel() for p in outline(cfg, (channels, 32, 32), outputs).parameters())


def by_hand(n: int, channels: int = 3, base: int = 16, outputs: int = 10) -> int:
    """Parameters of the network with shortcuts that have none: each convolution of c channels has a norm of 2c."""
    first = 9 * channels * base + 2 * base
    stage = {width: (2 * n - 1) * (9 * width * width + 2 * width) for width in (base, 2 * base, 4 * base)}
    entry = sum(
        9 * before * after + 2 * after for before, after in ((base, base), (base, 2 * base), (2 * base, 4 * base))
    )
    return first + sum(stage.values()) + entry + 4 * base * outputs + outputs


@pytest.mark.parametrize("name", LITERATURE)
def test_parameters_are_those_of_the_literature(name: str) -> None:
    depth = int(name.removeprefix("resnet"))
    cfg = model(f"model={name}")
    assert cfg.title == name
    assert count(cfg) == by_hand((depth - 2) // 6) == LITERATURE[name]


def test_layers_are_6n_plus_2_with_shortcut_a_and_in_the_plain_network() -> None:
    for residual in (True, False):
        net = outline(settings.CifarResNet(n=5, residual=residual), (3, 32, 32), 10)
        assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) == 32


@pytest.mark.parametrize(("n", "channels", "base", "outputs"), [(3, 3, 16, 10), (2, 1, 5, 4)])
def test_parameters_of_shortcut_b_and_of_the_plain_network(n: int, channels: int, base: int, outputs: int) -> None:
    def cfg(**other: object) -> settings.CifarResNet:
        return settings.CifarResNet(n=n, base_channels=base, **other)  # type: ignore[arg-type]

    projections = (base * 2 * base + 2 * 2 * base) + (2 * base * 4 * base + 2 * 4 * base)  # 1x1 and its norm, twice
    expected = by_hand(n, channels, base, outputs)
    assert count(cfg(), channels, outputs) == expected
    assert count(cfg(shortcut=Shortcut.B), channels, outputs) == expected + projections
    assert count(cfg(residual=False), channels, outputs) == expected
    assert cfg(residual=False).title == f"plain{6 * n + 2}"


def test_maps_have_the_papers_sizes() -> None:
    net = build_model(settings.CifarResNet(n=1), (3, 32, 32), 10)
    sizes: list[tuple[int, ...]] = []
    for layer in (net.relu, *net.stages):
        layer.register_forward_hook(lambda module, args, out: sizes.append(tuple(out.shape[1:])))
    net(torch.randn(2, 3, 32, 32))
    assert sizes == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]


# ---- the network written out


def written_out(images: Tensor, p: dict[str, Tensor], cfg: settings.CifarResNet) -> Tensor:
    """Logits in training, from the parameters by name."""

    def layer(name: str, number: int, x: Tensor, stride: int = 1) -> Tensor:
        conv, norm = f"{name}conv{number}", f"{name}bn{number}"
        padding = p[f"{conv}.weight"].shape[-1] // 2
        x = F.conv2d(x, p[f"{conv}.weight"], p.get(f"{conv}.bias"), stride, padding)
        return normed(x, norm) if f"{norm}.weight" in p else x

    def normed(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean((0, 2, 3), keepdim=True)
        unit = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
        return unit * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]

    def shortcut(name: str, x: Tensor, channels: int) -> Tensor:
        if channels == x.shape[1]:
            return x
        if cfg.shortcut is Shortcut.B:
            x = F.conv2d(x, p[f"{name}shortcut.0.weight"], p.get(f"{name}shortcut.0.bias"), stride=2)
            return normed(x, f"{name}shortcut.1") if f"{name}shortcut.1.weight" in p else x
        rows, columns = torch.arange(0, x.shape[2], 2), torch.arange(0, x.shape[3], 2)
        wide = torch.zeros(len(x), channels, len(rows), len(columns), dtype=x.dtype)
        before = (channels - x.shape[1]) // 2
        wide[:, before : before + x.shape[1]] = x[:, :, rows][:, :, :, columns]
        return wide

    x = layer("", 1, images).relu()
    for stage in range(3):
        for number in range(cfg.n):
            name = f"stages.{stage}.{number}."
            y = layer(name, 1, x, 2 if (stage, number) in ((1, 0), (2, 0)) else 1).relu()
            y = layer(name, 2, y)
            x = (y + shortcut(name, x, y.shape[1]) if cfg.residual else y).relu()
    return x.flatten(2).mean(2) @ p["fc.weight"].T + p["fc.bias"]


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize(
    ("shortcut", "residual", "base", "size"),
    [
        (Shortcut.A, True, 2, (8, 8)),
        (Shortcut.A, True, 3, (7, 9)),  # an odd number of new channels: one more of them behind
        (Shortcut.B, True, 2, (8, 8)),
        (Shortcut.B, True, 3, (7, 10)),
        (Shortcut.A, False, 2, (7, 8)),
    ],
)
def test_network_matches_its_form_written_out_in_float64(
    shortcut: Shortcut, residual: bool, base: int, size: tuple[int, int], norm: Norm
) -> None:
    torch.manual_seed(0)
    cfg = settings.CifarResNet(n=2, base_channels=base, shortcut=shortcut, residual=residual, norm=norm)
    net = build_model(cfg, (2, *size), 3).double()
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    images = torch.randn(4, 2, *size, dtype=torch.float64)
    targets = torch.tensor([0, 2, 1, 2])
    copies = {name: parameter.detach().clone().requires_grad_() for name, parameter in net.named_parameters()}

    logits, expected = net(images), written_out(images, copies, cfg)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12 * expected.abs().max().item())
    F.cross_entropy(logits, targets).backward()
    F.cross_entropy(expected, targets).backward()
    for name, parameter in net.named_parameters():
        gradient = copies[name].grad
        assert parameter.grad is not None
        assert gradient is not None
        assert gradient.any(), name
        assert (parameter.grad - gradient).abs().max() <= 1e-9 * gradient.abs().max(), name


def test_new_channels_of_shortcut_a_are_zeros_half_before_and_half_behind() -> None:
    net = build_model(settings.CifarResNet(n=1, base_channels=4), (1, 8, 8), 2)
    x = torch.randn(2, 4, 5, 8)
    out = net.stages[1][0].shortcut(x)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert out.shape == (2, 8, 3, 4)
    assert not out[:, :2].any()
    assert not out[:, 6:].any()


@pytest.mark.parametrize("shortcut", Shortcut)
def test_any_channels_outputs_and_sizes(shortcut: Shortcut) -> None:
    cfg = settings.CifarResNet(n=1, base_channels=1, shortcut=shortcut)
    for channels, outputs, size in ((1, 1, (1, 1)), (2, 7, (5, 3)), (5, 1, (9, 70))):
        net = build_model(cfg, (channels, *size), outputs).eval()
        assert net(torch.randn(2, channels, *size)).shape == (2, outputs)


@pytest.mark.parametrize("shortcut", Shortcut)
def test_without_a_norm_110_layers_keep_the_size_of_the_signal(shortcut: Shortcut) -> None:
    torch.manual_seed(0)
    cfg = settings.CifarResNet(n=18, base_channels=8, norm=Norm.none, shortcut=shortcut)
    net = build_model(cfg, (3, 12, 12), 10)
    squares: list[float] = []
    for layer in (net.relu, *(block for stage in net.stages for block in stage)):
        layer.register_forward_hook(lambda module, args, out: squares.append(out.square().mean().item()))
    net(torch.randn(16, 3, 12, 12))
    assert len(squares) == 55
    assert max(squares) < 3 * squares[0]
    assert min(squares) > squares[0] / 20
