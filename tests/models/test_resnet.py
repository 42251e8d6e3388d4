"""ResNet-18, 34, 50, 101 and 152 against torchvision's, and what torchvision has not: other stems, no norm."""

import functools

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.compose import compose
from dltrain.models import build_model, outline
from dltrain.models.resnet import TORCHVISION
from tests.models.torchvision_twins import CLASSES, assert_twins, drawn

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}


@functools.cache
def model(*words: str) -> settings.Model:
    cfg, _ = compose(list(words))
    found: settings.Model = cfg.model
    return found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_literature(name: str) -> None:
    cfg = model(f"model={name}")
    assert cfg.title == name
    assert sum(p.numel() for p in outline(cfg, (3, 224, 224), 1000).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_resnet_matches_torchvision(name: str) -> None:
    ours = outline(model(f"model={name}", "model.stem=large"), (3, 33, 33), CLASSES)
    assert_twins(ours, drawn(lambda: getattr(torchvision.models, name)(num_classes=CLASSES)), TORCHVISION, (33, 33))


@pytest.mark.parametrize("bottleneck", [False, True])
def test_stem_for_small_images_is_a_3x3_convolution_without_pooling(bottleneck: bool) -> None:
    def theirs() -> nn.Module:
        block = torchvision.models.resnet.Bottleneck if bottleneck else torchvision.models.resnet.BasicBlock
        network = torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=CLASSES)
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
        return network

    ours = outline(settings.ResNet(blocks=[1, 1, 1, 1], bottleneck=bottleneck), (3, 9, 9), CLASSES)
    assert_twins(ours, drawn(theirs), TORCHVISION, (9, 9))


def sizes(cfg: settings.ResNet, shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Of the maps behind the stem and behind each stage."""
    net, found = build_model(cfg, shape, 2), list[tuple[int, ...]]()
    for layer in (net.maxpool, *net.stages):
        layer.register_forward_hook(lambda module, args, out: found.append(tuple(out.shape[1:])))
    net(torch.randn(2, *shape))
    return found


def test_stem_for_small_images_keeps_their_size() -> None:
    cfg = settings.ResNet(blocks=[1, 1, 1, 1], base_channels=4)
    assert sizes(cfg, (1, 28, 30)) == [(4, 28, 30), (4, 28, 30), (8, 14, 15), (16, 7, 8), (32, 4, 4)]
    assert sizes(cfg, (3, 64, 64))[0] == (4, 64, 64)
    assert sizes(cfg, (3, 65, 80)) == [(4, 17, 20), (4, 17, 20), (8, 9, 10), (16, 5, 5), (32, 3, 3)]
    assert cfg.notes((64, 80))
    assert not cfg.notes((65, 80))


def test_stem_can_be_chosen_by_name() -> None:
    small = settings.ResNet(blocks=[1, 1], base_channels=4, stem=settings.Scale.small, bottleneck=True)
    large = settings.ResNet(blocks=[1, 1], base_channels=4, stem=settings.Scale.large, bottleneck=True)
    assert sizes(small, (3, 70, 70)) == [(4, 70, 70), (16, 70, 70), (32, 35, 35)]
    assert sizes(large, (3, 28, 28)) == [(4, 7, 7), (16, 7, 7), (32, 4, 4)]


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("stem", settings.Scale)
def test_any_channels_outputs_and_sizes(stem: settings.Scale, bottleneck: bool) -> None:
    cfg = settings.ResNet(blocks=[1, 2, 1], base_channels=2, stem=stem, bottleneck=bottleneck)
    for channels, outputs, size in ((1, 1, (1, 1)), (2, 7, (5, 3)), (5, 1, (9, 70))):
        net = build_model(cfg, (channels, *size), outputs).eval()
        assert net(torch.randn(2, channels, *size)).shape == (2, outputs)


def squares(net: nn.Module, x: Tensor) -> list[float]:
    """Mean square behind the first layer and behind each block."""
    found: list[float] = []
    for layer in (net.relu, *(block for stage in net.stages for block in stage)):
        layer.register_forward_hook(lambda module, args, out: found.append(out.square().mean().item()))
    net(x)
    return found


@pytest.mark.parametrize("bottleneck", [False, True])
def test_without_a_norm_a_deep_network_keeps_the_size_of_signal_and_gradient(bottleneck: bool) -> None:
    torch.manual_seed(0)
    cfg = settings.ResNet(
        blocks=[3, 8, 36, 3], base_channels=8, bottleneck=bottleneck, norm=settings.Norm.none, stem=settings.Scale.small
    )
    net = build_model(cfg, (3, 8, 8), 10)
    inside = squares(net, torch.randn(16, 3, 8, 8))
    assert len(inside) == 51
    assert max(inside) < 3 * inside[0]
    assert min(inside) > inside[0] / 50


def test_without_smaller_branches_the_signal_would_double_from_block_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dltrain.models.resnet.shrink_branches", lambda last: None)
    torch.manual_seed(0)
    cfg = settings.ResNet(blocks=[20], base_channels=8, norm=settings.Norm.none, stem=settings.Scale.small)
    inside = squares(build_model(cfg, (3, 8, 8), 10), torch.randn(16, 3, 8, 8))
    assert inside[-1] > 1000 * inside[0]
