"""The U-Net against the paper's figure 1 and against its formulas written out by torch's functions, in float64."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import Norm, Padding, Up
from dltrain.config.sides import Sides
from dltrain.models import build_model, outline
from dltrain.models.unet import DoubleConv, Expand
from tests.models.looks import reach, round_up

PAPER = settings.UNet(padding=Padding.valid, norm=Norm.none)
EXACT = {"rtol": 0, "atol": 1e-10}
every_form = pytest.mark.parametrize(("padding", "up"), list(itertools.product(Padding, Up)))
every_norm = pytest.mark.parametrize("norm", Norm)


def drawn(network: nn.Module) -> nn.Module:
    """The network in float64, with drawn biases, scales and shifts too."""
    torch.manual_seed(0)
    network = network.double()
    for p in network.parameters():
        if p.ndim == 1:
            nn.init.uniform_(p, 0.1, 0.9)
    return network


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# ---- figure 1


def test_shapes_at_every_level_are_those_of_the_papers_figure() -> None:
    """Channels and sides above and beside each box, from 572x572 to 388x388."""
    net, found = outline(PAPER, (1, 572, 572), 2), dict[str, list[tuple[int, ...]]]()
    for name, layer in net.named_modules():
        layer.register_forward_hook(lambda m, i, out, n=name: found.setdefault(n, []).append(tuple(out.shape[1:])))
    net(torch.zeros(1, 1, 572, 572, device="meta"))
    contracting = [(64, 570, 568), (128, 282, 280), (256, 138, 136), (512, 66, 64)]
    for level, (channels, first, second) in enumerate(contracting):
        assert found[f"contracting.{level}.conv1"] == [(channels, first, first)]
        assert found[f"contracting.{level}.conv2"] == [(channels, second, second)]
        assert found[f"pools.{level}"] == [(channels, second // 2, second // 2)]
    assert (found["bottom.conv1"], found["bottom.conv2"]) == ([(1024, 30, 30)], [(1024, 28, 28)])
    expanding = [(512, 56, 54, 52), (256, 104, 102, 100), (128, 200, 198, 196), (64, 392, 390, 388)]
    for level, (channels, up, first, second) in enumerate(expanding):
        assert found[f"expanding.{level}.up"] == [(channels, up, up)]
        assert found[f"expanding.{level}.convs.conv1"] == [(channels, first, first)]
        assert found[f"expanding.{level}.convs.conv2"] == [(channels, second, second)]
        assert net.expanding[level].convs.conv1.conv.in_channels == 2 * channels  # half of them copied
    assert found["output"] == [(2, 388, 388)]
    assert net.sides == Sides(stride=16, offset=12, margin=92, lost=92)


def closed_form(cfg: settings.UNet, channels: int, outputs: int) -> int:
    """Weights, and a bias each or a scale and a shift each, of 3x3, up- and 1x1 convolutions."""
    c = [cfg.base_channels * 2**level for level in range(cfg.depth)]
    each = 1 if cfg.norm is Norm.none else 2
    first = [channels, *c[:-1]]
    convs = [(a, b) for a, b in zip(first, c, strict=True)] + [(b, b) for b in c]
    convs += [((2 if cfg.skips else 1) * b, b) for b in c[:-1]] + [(b, b) for b in c[:-1]]
    window = 4 if cfg.up is Up.transpose else 9
    ups = sum(2 * b * b * window + b for b in c[:-1])
    return sum(9 * a * b + each * b for a, b in convs) + ups + c[0] * outputs + outputs


@pytest.mark.parametrize(
    ("changes", "channels", "outputs", "published"),
    [
        ({"norm": Norm.none}, 1, 2, 31_030_658),
        ({"norm": Norm.none, "padding": Padding.valid}, 1, 2, 31_030_658),
        ({"norm": Norm.none, "base_channels": 16}, 1, 2, 1_940_834),
        ({}, 3, 2, 31_037_698),  # what the PyTorch port that most use (milesial/Pytorch-UNet) says of itself
        ({"depth": 2, "base_channels": 3}, 4, 5, None),
        ({"depth": 6, "base_channels": 2, "skips": False}, 1, 1, None),
        ({"up": Up.nearest, "base_channels": 5, "norm": Norm.none}, 2, 7, None),
    ],
)
def test_parameters(changes: dict[str, Any], channels: int, outputs: int, published: int | None) -> None:
    cfg = settings.UNet(**changes)
    found = sum(p.numel() for p in outline(cfg, (channels, 256, 256), outputs).parameters())
    assert found == closed_form(cfg, channels, outputs)
    assert found == (found if published is None else published)


# ---- the formulas


def conv_relu(x: Tensor, unit: Any, pad: int) -> Tensor:
    """A 3x3 convolution as a sum over its nine places; batch norm over batch and positions; ReLU."""
    x = F.pad(x, (pad, pad, pad, pad))
    height, width = x.shape[2] - 2, x.shape[3] - 2
    w = unit.conv.weight
    y = sum(
        torch.einsum("bchw,oc->bohw", x[:, :, i : i + height, j : j + width], w[:, :, i, j])
        for i, j in itertools.product(range(3), range(3))
    )
    assert isinstance(y, Tensor)
    if unit.conv.bias is not None:
        y = y + unit.conv.bias[:, None, None]
    if isinstance(unit.norm, nn.BatchNorm2d):
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
        y = (y - mean) / (var + 1e-5).sqrt() * unit.norm.weight[:, None, None] + unit.norm.bias[:, None, None]
    return y.clamp(min=0)


def two(x: Tensor, level: Any, pad: int) -> Tensor:
    return conv_relu(conv_relu(x, level.conv1, pad), level.conv2, pad)


def up_by_hand(x: Tensor, layer: Any, pad: int) -> Tensor:
    """Transposed: pixel (2i+u, 2j+v) is the product of pixel (i, j) and the weights of (u, v). Else 2x2 copies."""
    if isinstance(layer, nn.ConvTranspose2d):
        assert layer.bias is not None
        y = torch.einsum("bchw,couv->bohuwv", x, layer.weight)
        return y.flatten(4, 5).flatten(2, 3) + layer.bias[:, None, None]
    wide = torch.einsum("bchw,uv->bchuwv", x, x.new_ones(2, 2)).flatten(4, 5).flatten(2, 3)
    return F.conv2d(wide, layer[1].weight, layer[1].bias, padding=pad)


def cropped(x: Tensor, like: Tensor) -> Tensor:
    cut = (x.shape[2] - like.shape[2]) // 2
    return x[:, :, cut : x.shape[2] - cut, cut : x.shape[3] - cut]


def unet_by_hand(x: Tensor, net: Any, padding: Padding) -> Tensor:
    """Figure 1, from the left to the right."""
    pad = 1 if padding is Padding.same else 0
    copies = []
    for level in net.contracting:
        x = two(x, level, pad)
        copies.append(x)
        x = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))  # the largest of 2x2
    x = two(x, net.bottom, pad)
    for level, copied in zip(net.expanding, reversed(copies), strict=True):
        x = up_by_hand(x, level.up, pad)
        x = torch.cat([cropped(copied, x), x], 1) if net.skips else x
        x = two(x, level.convs, pad)
    return torch.einsum("bchw,kc->bkhw", x, net.output.weight[:, :, 0, 0]) + net.output.bias[:, None, None]


@every_norm
@pytest.mark.parametrize("padding", Padding)
def test_a_level_of_the_contracting_path(padding: Padding, norm: Norm) -> None:
    level = drawn(DoubleConv(2, 3, norm, padding))
    x = noise(2, 2, 9, 12)
    pad = 1 if padding is Padding.same else 0
    torch.testing.assert_close(level(x), two(x, level, pad), **EXACT)


@every_norm
@every_form
def test_a_level_of_the_expanding_path(padding: Padding, up: Up, norm: Norm) -> None:
    level = drawn(Expand(4, 3, 2, norm, up, padding))
    x, copied = noise(2, 4, 6, 7), noise(2, 3, 12, 14)
    if padding is Padding.valid:
        copied = noise(2, 3, 20, 22)
    pad = 1 if padding is Padding.same else 0
    raised = up_by_hand(x, level.up, pad)
    expected = two(torch.cat([cropped(copied, raised), raised], 1), level.convs, pad)
    torch.testing.assert_close(level(x, copied), expected, **EXACT)


@every_norm
@every_form
@pytest.mark.parametrize("skips", [True, False])
def test_the_whole_network_and_its_gradients(padding: Padding, up: Up, norm: Norm, skips: bool) -> None:
    cfg = settings.UNet(
        depth=3, base_channels=2, padding=padding, up=up, norm=norm, skips=skips, dropout=0.0
    )  # depth 3: each kind of level stands behind another of its kind
    height, width = cfg.size_for((40, 60))
    net = drawn(build_model(cfg, (2, height, width), 3))
    x = noise(2, 2, height, width).requires_grad_()
    ours, by_hand = net(x), unet_by_hand(x, net, padding)
    assert ours.shape == (2, 3, height - 2 * cfg.lost, width - 2 * cfg.lost)
    torch.testing.assert_close(ours, by_hand, **EXACT)
    weights = noise(*ours.shape)
    sources = [x, *net.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), sources),
        torch.autograd.grad((by_hand * weights).sum(), sources),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# ---- sides


def sides_by_hand(cfg: settings.UNet, side: int) -> int | None:
    """Output side, None where a pooling would meet an odd side or nothing would be left."""
    cut, at_up = (0, 0) if cfg.padding is Padding.same else (4, 0 if cfg.up is Up.transpose else 2)
    for _ in range(cfg.depth - 1):
        side -= cut
        if side < 2 or side % 2:
            return None
        side //= 2
    side -= cut
    for _ in range(cfg.depth - 1):
        if side < 1:
            return None
        side = 2 * side - at_up - cut
    return side if side >= 1 else None


@every_form
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_sides_that_it_takes_and_gives(padding: Padding, up: Up, depth: int) -> None:
    """Against counting through the network; and the network itself, with images that need not be square."""
    cfg = settings.UNet(depth=depth, padding=padding, up=up, base_channels=1)
    fits = {side: out for side in range(1, 330) if (out := sides_by_hand(cfg, side)) is not None}
    assert [side for side in range(1, 330) if cfg.takes((side, min(fits)))] == list(fits)
    assert [side for side in range(1, 330) if cfg.takes((min(fits), side))] == list(fits)
    assert cfg.min_size == (min(fits), min(fits))
    assert {side - out for side, out in fits.items()} == {2 * cfg.lost}
    for side in range(1, 330):
        best = max([fit for fit in fits if fit <= side], default=min(fits))
        assert cfg.size_for((side, min(fits))) == (best, min(fits))
        assert cfg.size_for((min(fits), side)) == (min(fits), best)
    first, second = list(fits)[:2]
    net = outline(cfg, (1, first, second), 1)
    out = net(torch.zeros(1, 1, first, second, device="meta"))
    assert out.shape[2:] == (fits[first], fits[second])
    assert net.sides == Sides(cfg.stride, cfg.offset, cfg.margin, cfg.lost)


def test_sides_in_words() -> None:
    assert settings.UNet().sizes((100, 100)) == "sides that are multiples of 16"
    assert PAPER.sizes((100, 100)) == "sides of 188, 204, 220 and so on by 16"


@pytest.mark.parametrize("norm", Norm)
def test_one_image_is_enough_where_it_has_several_positions_at_the_lowest_level(norm: Norm) -> None:
    cfg = settings.UNet(depth=3, base_channels=1, norm=norm)
    for size in ((4, 4), (4, 8)):
        net = build_model(cfg, (1, *size), 2).train()
        if cfg.learns_from_one(size):
            net(torch.randn(1, 1, *size))
        else:
            with pytest.raises(ValueError, match="more than 1 value"):
                net(torch.randn(1, 1, *size))
    assert cfg.learns_from_one((4, 8))
    assert cfg.learns_from_one((4, 4)) == (norm is Norm.none)


# ---- parts of images


@every_form
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_outputs_look_as_far_as_the_margin(padding: Padding, up: Up, depth: int) -> None:
    cfg = settings.UNet(depth=depth, base_channels=1, padding=padding, up=up, norm=Norm.none)
    size = cfg.size_for((4 * cfg.margin + 8 * cfg.stride, 1))
    above, below = reach(build_model(cfg, (1, *size), 1), size)
    assert above == below  # the network is the same upside down
    assert round_up(above, cfg.stride if padding is Padding.same else 1) == cfg.margin


@every_form
@pytest.mark.parametrize("depth", [2, 3])
def test_parts_with_the_margin_around_them_are_what_they_are_in_the_whole(padding: Padding, up: Up, depth: int) -> None:
    cfg = settings.UNet(depth=depth, base_channels=2, padding=padding, up=up, norm=Norm.batch)
    stride, margin, lost = cfg.stride, cfg.margin, cfg.lost
    (height, _), (_, width) = cfg.size_for((5 * margin, 1)), cfg.size_for((1, 7 * stride))
    whole = noise(1, 2, height, width)
    net = drawn(build_model(cfg, (2, height, width), 3)).eval()
    answer = net(whole)
    start, (side, _) = 2 * stride, cfg.size_for((3 * margin, 1))
    part = net(whole[:, :, start : start + side])
    edge = 0 if lost else margin
    kept = part[:, :, edge : part.shape[2] - edge]
    assert kept.shape[2] > 0
    torch.testing.assert_close(kept, answer[:, :, start + edge : start + edge + kept.shape[2]], **EXACT)
    if not lost:  # the control: nearer to the border of the part, the padding is seen
        near = part[:, :, :edge]
        assert not torch.allclose(near, answer[:, :, start : start + edge], rtol=0, atol=1e-10)


@pytest.mark.parametrize("up", Up)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_without_padding_it_answers_as_with_padding_far_from_the_border(up: Up, depth: int) -> None:
    """Where poolings meet the same pixels: at level l, 2 rows are lost before each, so at stride * k + 2."""
    same = settings.UNet(depth=depth, base_channels=2, up=up)
    valid = settings.UNet(depth=depth, base_channels=2, up=up, padding=Padding.valid)
    shift, (side, _) = same.stride + 2, valid.size_for((3 * same.margin, 1))
    size = round_up(shift + side, same.stride)
    image = noise(1, 1, size, size)
    padded, unpadded = (drawn(build_model(cfg, (1, size, size), 2)).eval() for cfg in (same, valid))
    unpadded.load_state_dict(padded.state_dict())
    small = unpadded(image[:, :, shift : shift + side, shift : shift + side])
    first = shift + valid.lost
    large = padded(image)[:, :, first : first + small.shape[2], first : first + small.shape[2]]
    far = max(0, same.margin + same.stride - valid.lost)
    assert small.shape[2] > 2 * far
    inside = slice(far, small.shape[2] - far)
    torch.testing.assert_close(small[:, :, inside, inside], large[:, :, inside, inside], **EXACT)


# ---- weights and dropout


def test_weights_are_drawn_as_the_paper_says() -> None:
    """Section 3: N(0, sqrt(2/N)), N incoming values of a neuron, of 3x3 convolutions; biases are zero."""
    torch.manual_seed(0)
    net = build_model(settings.UNet(base_channels=16, norm=Norm.none), (1, 16, 16), 2)
    seen = 0
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.bias is not None
            assert not layer.bias.any(), name
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.weight.numel() > 2_000:
            std = (2 / (9 * layer.in_channels)) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=0.06), name
            assert layer.weight.mean().item() == pytest.approx(0, abs=0.08 * std), name
            seen += 1
    assert seen == 17


@pytest.mark.parametrize("up", Up)
def test_without_a_norm_signals_keep_their_size_from_level_to_level(up: Up) -> None:
    """What those weights are for (section 3): maps of about unit variance."""
    torch.manual_seed(0)
    cfg = settings.UNet(base_channels=16, norm=Norm.none, up=up)
    net, squares = build_model(cfg, (1, 64, 64), 2).eval(), dict[str, float]()
    for name, layer in net.named_modules():
        if isinstance(layer, DoubleConv | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda m, i, out, n=name: squares.update({n: out.square().mean().item()}))
    net(torch.randn(4, 1, 64, 64))
    assert len(squares) == (13 if up is Up.transpose else 9)
    assert all(0.2 < square < 5 for square in squares.values()), squares


def test_dropout_is_behind_the_last_two_levels_of_the_contracting_path() -> None:
    net = outline(settings.UNet(), (1, 64, 64), 2)
    found = {name: layer.p for name, layer in net.named_modules() if isinstance(layer, nn.Dropout)}
    assert found == {"contracting.3.dropout": 0.5, "bottom.dropout": 0.5}


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    net = build_model(settings.UNet(depth=3, base_channels=4), (1, 16, 16), 2)
    x = torch.randn(2, 1, 16, 16)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
