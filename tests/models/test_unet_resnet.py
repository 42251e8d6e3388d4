"""The U-Net over a ResNet: its contracting path is the classifier's, with its weights; and the rest by hand."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.compose import compose
from dltrain.config.model import Norm, Up
from dltrain.config.sides import Sides
from dltrain.models import build_model, outline
from tests.models.looks import reach, round_up
from tests.models.test_unet import EXACT, drawn, noise, two, up_by_hand

both_sizes = pytest.mark.parametrize("side", [32, 96])  # the stem for small images, and the paper's
CLASSIFIER_ONLY, SEGMENTER_ONLY = ("fc.",), ("expanding.", "output.")


@functools.cache
def model(*words: str) -> Any:
    return compose(list(words))[0].model


def features(net: Any, images: Tensor) -> list[Tensor]:
    """Behind the stem and behind each stage."""
    found: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, args, out: found.append(out))
        for layer in (net.relu, net.maxpool, *net.stages)
    ]
    net(images)
    for handle in handles:
        handle.remove()
    return found


# ---- the classifier's weights


@both_sizes
@pytest.mark.parametrize("layers", [18, 34])
def test_a_classifiers_parameters_have_the_same_names_and_shapes(layers: int, side: int) -> None:
    """All of them but the last layer's; what is left over is the expanding path."""
    ours = outline(model(f"model=unet_resnet{layers}"), (3, side, side), 5).state_dict()
    theirs = outline(model(f"model=resnet{layers}"), (3, side, side), 10).state_dict()
    assert {name for name in theirs if not name.startswith(CLASSIFIER_ONLY)} == theirs.keys() & ours.keys()
    assert all(name.startswith(SEGMENTER_ONLY) for name in ours.keys() - theirs.keys())
    assert all(ours[name].shape == theirs[name].shape for name in ours.keys() & theirs.keys())


@both_sizes
@pytest.mark.parametrize("layers", [18, 34])
def test_a_classifiers_weights_give_the_same_features(layers: int, side: int) -> None:
    """Bit for bit, in evaluation and in training, with statistics of batch norm that have moved."""
    torch.manual_seed(0)
    narrow = "model.base_channels=4"
    classifier = build_model(model(f"model=resnet{layers}", narrow), (3, side, side), 10)
    classifier.train()(torch.randn(4, 3, side, side) * 2 + 1)
    net = build_model(model(f"model=unet_resnet{layers}", narrow), (3, side, side), 5)
    x = torch.randn(2, 3, side, side)
    before = features(net.eval(), x)
    missing, unexpected = net.load_state_dict(classifier.state_dict(), strict=False)
    assert all(name.startswith(SEGMENTER_ONLY) for name in missing)
    assert unexpected == ["fc.weight", "fc.bias"]
    for mode in (False, True):
        ours, theirs = features(net.train(mode), x), features(classifier.train(mode), x)
        assert len(ours) == len(theirs) == 6
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(before, ours, strict=True))


# ---- shapes, parameters, formulas


@pytest.mark.parametrize(
    ("side", "channels", "maps", "ups"),
    [
        (64, (64, 64, 64, 128, 256, 512), (64, 64, 64, 32, 16, 8), [(256, 16), (128, 32), (64, 64)]),
        (
            224,
            (64, 64, 64, 128, 256, 512),
            (112, 56, 56, 28, 14, 7),
            [(256, 14), (128, 28), (64, 56), (64, 112), (32, 224)],
        ),
    ],
)
def test_shapes_at_every_stage(
    side: int, channels: tuple[int, ...], maps: tuple[int, ...], ups: list[tuple[int, int]]
) -> None:
    net: Any = outline(model("model=unet_resnet18"), (3, side, side), 5)
    raised: list[tuple[int, ...]] = []
    for level in net.expanding:
        level.register_forward_hook(lambda module, args, out: raised.append(tuple(out.shape[1:])))
    images = torch.zeros(1, 3, side, side, device="meta")
    assert [tuple(x.shape[1:]) for x in features(net, images)] == [
        (c, s, s) for c, s in zip(channels, maps, strict=True)
    ]
    assert raised == [(c, s, s) for c, s in ups]
    assert net(images).shape == (1, 5, side, side)


@both_sizes
@pytest.mark.parametrize("up", Up)
@pytest.mark.parametrize(("layers", "trunk"), [(18, 11_689_512), (34, 21_797_672)])
def test_parameters(layers: int, trunk: int, up: Up, side: int) -> None:
    """Those of the classifier (torchvision's count) without its last layer, and of the expanding path by hand."""
    window = 4 if up is Up.transpose else 9
    levels = [(512, 256, 256), (256, 128, 128), (128, 64, 64)]  # inputs, copied, outputs
    levels += [] if side <= 64 else [(64, 64, 64), (64, 0, 32)]
    expected = trunk - 1000 * 513 - (3 * 64 * (49 - 9) if side <= 64 else 0)
    for inputs, copied, outputs in levels:
        expected += window * inputs * outputs + outputs
        expected += 9 * (copied + outputs) * outputs + 2 * outputs + 9 * outputs**2 + 2 * outputs
    expected += (64 if side <= 64 else 32) * 7 + 7
    net = outline(model(f"model=unet_resnet{layers}", f"model.up={up}"), (3, side, side), 7)
    assert sum(p.numel() for p in net.parameters()) == expected


@both_sizes
@pytest.mark.parametrize("up", Up)
def test_the_expanding_path(up: Up, side: int) -> None:
    """From the trunk's own features on, by hand."""
    net: Any = drawn(build_model(settings.UNetResNet(blocks=[1, 2, 1], base_channels=2, up=up), (3, side, side), 3))
    images = noise(2, 3, side, side)
    stem, _, *stages = features(net, images)
    copies = stages[:2] if side <= 64 else [None, stem, *stages[:2]]
    x = stages[-1]
    for level, copied in zip(net.expanding, reversed(copies), strict=True):
        x = up_by_hand(x, level.up, 1)
        x = two(x if copied is None else torch.cat([copied, x], 1), level.convs, 1)
    expected = torch.einsum("bchw,kc->bkhw", x, net.output.weight[:, :, 0, 0]) + net.output.bias[:, None, None]
    torch.testing.assert_close(net(images), expected, **EXACT)


def test_dropout_is_at_the_end_of_the_contracting_path() -> None:
    net = outline(settings.UNetResNet(dropout=0.3), (1, 64, 64), 2)
    found = {name: layer.p for name, layer in net.named_modules() if isinstance(layer, nn.Dropout)}
    assert found == {"dropout": 0.3}


# ---- sides and parts


def test_sides_that_it_takes() -> None:
    """Multiples of 8 behind the stem for small images, of 32 behind the paper's, which auto has above 64 pixels."""
    cfg = settings.UNetResNet()
    for side in range(1, 200):
        assert cfg.takes((side, side)) == (side % (8 if side <= 64 else 32) == 0)
        best = cfg.size_for((side, side))
        assert cfg.takes(best)
        assert best == (max(8, side // 8 * 8),) * 2 if side <= 64 else (side // 32 * 32,) * 2
    assert (cfg.takes((64, 72)), cfg.takes((96, 72)), cfg.takes((96, 128))) == (True, False, True)
    assert settings.UNetResNet(stem=settings.Scale.large).size_for((20, 20)) == (32, 32)
    assert settings.UNetResNet(stem=settings.Scale.small).size_for((108, 300)) == (104, 296)
    assert cfg.sizes((100, 100)) == "sides that are multiples of 32"


@pytest.mark.parametrize("stem", [settings.Scale.small, settings.Scale.large])
@pytest.mark.parametrize("up", Up)
@pytest.mark.parametrize("blocks", [[1, 1], [2, 1, 2], [1, 1, 1, 1]])
def test_outputs_look_as_far_as_the_margin(blocks: list[int], up: Up, stem: settings.Scale) -> None:
    cfg = settings.UNetResNet(blocks=blocks, base_channels=1, up=up, stem=stem, norm=Norm.none)
    stride, _ = cfg.grid((64, 64))
    size = (2 * cfg.margin((64, 64)) + 4 * stride, stride)
    net = build_model(cfg, (1, *size), 1)
    above, below = reach(net, size)
    assert below <= above  # a convolution of stride 2 looks at the pixel above, and not below
    assert round_up(above, stride) == cfg.margin((64, 64))
    assert net.sides == Sides(stride, 0, cfg.margin((64, 64)), 0)
