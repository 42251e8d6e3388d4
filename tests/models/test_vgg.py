"""VGG-11, 13, 16 and 19, with and without batch norm, against torchvision's."""

import pytest
import torch
import torchvision
from torch import nn

from dltrain.config import model as settings
from dltrain.config.compose import compose
from dltrain.config.model import Attention, Norm, Scale
from dltrain.models import attention, build_model, outline, vgg
from dltrain.models.torchvision_names import from_torchvision
from tests.models.torchvision_twins import CLASSES, assert_twins

PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}
LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}  # columns of the paper's table 1
HIDDEN = 24
all_eight = pytest.mark.parametrize("name", PARAMETERS)


def settings_of(name: str, *words: str) -> settings.VGG:
    network, _, norm = name.partition("_")
    cfg, _ = compose([f"model={network}", f"model.norm={'batch' if norm else 'none'}", *words])
    found: settings.VGG = cfg.model
    return found


def thin(name: str) -> nn.Module:
    """torchvision's, made by its own code out of its own table, with an eighth of the channels and a narrow head."""
    network, _, norm = name.partition("_")
    table = torchvision.models.vgg.cfgs[LETTERS[network]]
    channels = [width if width == "M" else width // 8 for width in table]
    with torch.device("meta"):  # so that no time is spent on 4,096 hidden units
        theirs = torchvision.models.VGG(nn.Identity(), CLASSES, init_weights=False)
    theirs.features = torchvision.models.vgg.make_layers(channels, bool(norm))
    for layer in theirs.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, 0, 0.1)
    theirs.classifier[0] = nn.Linear(512 // 8 * 7 * 7, HIDDEN)
    theirs.classifier[3] = nn.Linear(HIDDEN, HIDDEN)
    theirs.classifier[6] = nn.Linear(HIDDEN, CLASSES)
    return theirs


@all_eight
def test_parameters_and_names_are_those_of_torchvision(name: str) -> None:
    cfg = settings_of(name)
    ours = outline(cfg, (3, 224, 224), 1000)
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    assert sum(p.numel() for p in ours.parameters()) == PARAMETERS[name]
    renamed = from_torchvision(theirs.state_dict(), vgg.torchvision_names(cfg))
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in renamed.items()}


@all_eight
def test_vgg_matches_torchvision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channel counts apart, which the names and shapes above compare: an eighth of them here."""
    monkeypatch.setattr(vgg, "HIDDEN", HIDDEN)
    cfg = settings_of(name, "model.base_channels=8", "model.head=large")
    ours = build_model(cfg, (3, 65, 97), CLASSES)  # 2x3 is left, averaged to 7x7
    assert_twins(ours, thin(name), vgg.torchvision_names(cfg), (65, 97))


def test_large_images_match_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "HIDDEN", HIDDEN)
    cfg = settings_of("vgg11", "model.base_channels=8")
    ours = build_model(cfg, (3, 224, 260), CLASSES)  # 7x8 is left, averaged to 7x7
    assert_twins(ours, thin("vgg11"), vgg.torchvision_names(cfg), (224, 260), batch=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg19_bn"])
def test_whole_vgg_matches_torchvision(name: str) -> None:
    """All channels and all hidden units: 1.1 GB of weights for each of the two networks."""
    cfg = settings_of(name, "model.head=large")
    theirs = getattr(torchvision.models, name)(num_classes=CLASSES)
    assert_twins(build_model(cfg, (3, 33, 65), CLASSES), theirs, vgg.torchvision_names(cfg), (33, 65))


def test_dropout_is_where_torchvision_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "HIDDEN", HIDDEN)
    cfg = settings_of("vgg11", "model.base_channels=8", "model.head=large")
    ours, theirs = build_model(cfg, (3, 32, 32), CLASSES), thin("vgg11")
    ours.load_state_dict(from_torchvision(theirs.state_dict(), vgg.torchvision_names(cfg)))
    images, outputs = torch.randn(4, 3, 32, 32), []
    for network in (ours.train(), theirs.train()):
        torch.manual_seed(3)
        outputs.append(network(images))
    torch.testing.assert_close(*outputs)
    assert not torch.allclose(outputs[0], ours.eval()(images))


@pytest.mark.parametrize("kind", [kind for kind in Attention if kind is not Attention.none])
def test_attention_stands_behind_each_convolutions_activation(kind: Attention) -> None:
    """Hu et al. 2018, section 3: after the non-linearity following each convolution."""
    net = build_model(settings.VGG(attention=kind, base_channels=8, norm=Norm.batch), (3, 32, 32), CLASSES)
    units = [unit for unit in net.modules() if isinstance(unit, vgg.Conv)]
    assert len(units) == 8
    expected = {
        Attention.se: attention.SqueezeExcitation,
        Attention.cbam: attention.Cbam,
        Attention.spatial_softmax: attention.SpatialSoftmax,
    }[kind]
    for unit in units:
        x = torch.randn(2, unit.conv.in_channels, 4, 4)
        assert isinstance(unit.attention, expected)
        torch.testing.assert_close(unit(x), unit.attention(activated(unit, x)))


def activated(unit: vgg.Conv, x: torch.Tensor) -> torch.Tensor:
    return unit.norm(unit.conv(x)).clamp(min=0)  # type: ignore[no-any-return]


def test_channels_double_up_to_eight_times() -> None:
    net = outline(settings.VGG(convs=[1, 2, 1, 2, 1, 1], base_channels=16), (2, 64, 64), 3)
    widths = [unit.conv.out_channels for unit in net.modules() if isinstance(unit, vgg.Conv)]
    assert widths == [16, 32, 32, 64, 128, 128, 128, 128]


def test_head_follows_the_size() -> None:
    for size, head, kind in (
        ((64, 300), Scale.auto, vgg.SmallHead),
        ((65, 65), Scale.auto, vgg.LargeHead),
        ((32, 32), Scale.large, vgg.LargeHead),
        ((224, 224), Scale.small, vgg.SmallHead),
    ):
        cfg = settings.VGG(head=head)
        assert isinstance(outline(cfg, (3, *size), 10).head, kind)
        assert bool(cfg.notes(size)) == (kind is vgg.SmallHead)


def test_signal_keeps_its_size_through_nineteen_layers() -> None:
    """Drawn as the paper has it, N(0, 0.01), the features of VGG-19 would be nothing but noise in the last digits."""
    torch.manual_seed(0)
    net = build_model(settings_of("vgg19", "model.base_channels=16"), (3, 32, 32), 10).eval()
    seen: list[torch.Tensor] = []
    net.head.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    images = torch.randn(16, 3, 32, 32)
    assert net(images).std().item() < 1  # so that the loss begins near that of guessing
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.01)
    net(images)
    assert 0.1 < seen[0].std().item() < 30
    assert seen[1].std().item() < 1e-6
