"""AlexNet: one tower against torchvision's, the paper's form against its figures and a form by torch's functions."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.model import AlexNetForm, Norm, Scale
from dltrain.models import alexnet, build_model, outline
from dltrain.models.torchvision_names import from_torchvision
from tests.models.torchvision_twins import CLASSES, assert_twins

FORMS = pytest.mark.parametrize("form", AlexNetForm)


def count(network: nn.Module) -> dict[str, int]:
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in network.named_children()}
    return {name: n for name, n in counts.items() if n}


def few_hidden(monkeypatch: pytest.MonkeyPatch, units: int = 24) -> None:
    """Narrow fc6 and fc7, where nearly all weights are: 61 million would be 0.5 GB in float64."""
    monkeypatch.setattr(alexnet, "HIDDEN", units)
    monkeypatch.setattr(alexnet, "HIDDEN_SMALL", units)


def torchvisions(units: int = 24) -> nn.Module:
    """torchvision's with narrow hidden layers."""
    with torch.device("meta"):  # so that no time is spent on the wide ones
        theirs = torchvision.models.alexnet(num_classes=CLASSES)
    theirs.classifier[1] = nn.Linear(256 * 6 * 6, units)
    theirs.classifier[4] = nn.Linear(units, units)
    theirs.classifier[6] = nn.Linear(units, CLASSES)
    theirs.features.to_empty(device="cpu")
    for layer in theirs.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, 0, 0.1)
    return theirs


def test_parameters_and_names_are_those_of_torchvision() -> None:
    ours = outline(settings.AlexNet(), (3, 224, 224), 1000)
    with torch.device("meta"):
        theirs = torchvision.models.alexnet()
    assert sum(p.numel() for p in ours.parameters()) == 61_100_840
    renamed = from_torchvision(theirs.state_dict(), alexnet.TORCHVISION)
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in renamed.items()}


@pytest.mark.parametrize("size", [(67, 130), (223, 255)])  # 1x3 and 6x7 are left, averaged to 6x6
def test_single_form_matches_torchvision(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    few_hidden(monkeypatch)
    ours = build_model(settings.AlexNet(), (3, *size), CLASSES)
    assert_twins(ours, torchvisions(), alexnet.TORCHVISION, size)


def test_single_form_drops_what_torchvision_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    few_hidden(monkeypatch)
    ours, theirs = build_model(settings.AlexNet(), (3, 67, 67), CLASSES), torchvisions()
    ours.load_state_dict(from_torchvision(theirs.state_dict(), alexnet.TORCHVISION))
    images, outputs = torch.randn(4, 3, 67, 67), []
    for network in (ours.train(), theirs.train()):
        torch.manual_seed(3)
        outputs.append(network(images))
    torch.testing.assert_close(*outputs)
    assert not torch.allclose(outputs[0], ours.eval()(images))


def test_paper_form_has_the_papers_parameters_layer_by_layer() -> None:
    """Its figure 2 and section 3.5; a kernel of conv2, conv4 and conv5 sees the maps of one GPU only."""
    net = outline(settings.AlexNet(form=AlexNetForm.paper), (3, 227, 227), 1000)
    assert count(net) == {
        "conv1": 96 * 11 * 11 * 3 + 96,
        "conv2": 256 * 5 * 5 * 48 + 256,
        "conv3": 384 * 3 * 3 * 256 + 384,
        "conv4": 384 * 3 * 3 * 192 + 384,
        "conv5": 256 * 3 * 3 * 192 + 256,
        "fc6": 4096 * 256 * 6 * 6 + 4096,
        "fc7": 4096 * 4096 + 4096,
        "fc8": 1000 * 4096 + 1000,
    }
    assert sum(p.numel() for p in net.parameters()) == 60_965_224


def test_paper_form_has_the_papers_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    few_hidden(monkeypatch)
    net = build_model(settings.AlexNet(form=AlexNetForm.paper), (3, 227, 227), 10).eval()
    sizes = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda m, args, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    net(torch.randn(1, 3, 227, 227))
    maps = {"conv1": (96, 55, 55), "conv2": (256, 27, 27), "conv3": (384, 13, 13), "conv4": (384, 13, 13)}
    maps |= {"conv5": (256, 13, 13), "pool5": (256, 6, 6), "lrn1": (96, 55, 55), "lrn2": (256, 27, 27)}
    assert {name: sizes[name] for name in maps} == maps


def by_functions(images: Tensor, p: dict[str, Tensor], small: bool = False) -> Tensor:
    """The paper's form. torch's response normalization divides alpha by n = 5."""

    def conv(x: Tensor, name: str, groups: int = 1, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, p[f"{name}.conv.weight"], p[f"{name}.conv.bias"], stride, padding, 1, groups).relu()

    def halves(x: Tensor, name: str, padding: int) -> Tensor:
        """Two GPUs: each has half of the maps and half of the kernels."""
        weights, biases = p[f"{name}.conv.weight"].chunk(2), p[f"{name}.conv.bias"].chunk(2)
        parts = zip(x.chunk(2, 1), weights, biases, strict=True)
        return torch.cat([F.conv2d(part, w, b, padding=padding).relu() for part, w, b in parts], 1)

    def respond(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)

    x = conv(images, "conv1", stride=1, padding=2) if small else conv(images, "conv1", stride=4, padding=0)
    x = F.max_pool2d(respond(x), 3, 2)
    x = F.max_pool2d(respond(halves(x, "conv2", 2)), 3, 2)
    x = F.max_pool2d(halves(halves(conv(x, "conv3"), "conv4", 1), "conv5", 1), 3, 2)
    x = F.linear(x.flatten(1), p["fc6.linear.weight"], p["fc6.linear.bias"]).relu()
    x = F.linear(x, p["fc7.linear.weight"], p["fc7.linear.bias"]).relu()
    return F.linear(x, p["fc8.weight"], p["fc8.bias"])


@pytest.mark.parametrize("size", [(28, 15), (67, 100)])
def test_paper_form_is_the_paper_written_by_functions(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    few_hidden(monkeypatch)
    torch.manual_seed(0)
    cfg = settings.AlexNet(form=AlexNetForm.paper)
    net = build_model(cfg, (3, *size), CLASSES).double().eval()
    for p in net.parameters():
        if p.ndim == 1:
            nn.init.normal_(p, 0, 0.1)
    images = 20 * torch.randn(2, 3, *size, dtype=torch.float64)  # large enough for the normalization to matter
    expected = by_functions(images, dict(net.named_parameters()), cfg.is_small(size))
    assert (net(images) - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_paper_form_drops_outputs_of_hidden_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    few_hidden(monkeypatch, 400)
    net = build_model(settings.AlexNet(form=AlexNetForm.paper, stem=Scale.large), (3, 67, 67), 10).train()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name in ("fc6", "fc7", "fc8"):
        layer = net.get_submodule(name)
        layer.register_forward_hook(lambda m, args, out, name=name: seen.update({name: (args[0], out)}))
    net(torch.rand(8, 3, 67, 67))
    zeros = {name: (into == 0).float().mean().item() for name, (into, _) in seen.items()}
    assert zeros["fc7"] == pytest.approx(0.75, abs=0.1)  # half by ReLU, of the rest half
    assert zeros["fc8"] == pytest.approx(0.75, abs=0.1)
    assert net.fc6.dropout.p == net.fc7.dropout.p == 0.5
    assert not any(isinstance(module, nn.Dropout) for module in net.drop5.modules())


@FORMS
@pytest.mark.parametrize("side", range(63, 69))
def test_sizes_between_the_stems_work(form: AlexNetForm, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    few_hidden(monkeypatch)
    cfg = settings.AlexNet(form=form)
    small = side <= (64 if form is AlexNetForm.single else 66)
    for size in ((side, side), (side, 150), (150, side)):
        net = build_model(cfg, (1, *size), 3)
        assert net(torch.randn(2, 1, *size)).shape == (2, 3)
        assert net.conv1.conv.kernel_size == ((5, 5) if small else (11, 11))
        assert bool(cfg.notes(size)) == small


@FORMS
def test_batch_norm_stands_before_each_activation_in_place_of_response_norm(form: AlexNetForm) -> None:
    net = outline(settings.AlexNet(form=form, norm=Norm.batch), (3, 32, 32), 10)
    norms = {name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}
    assert norms == {*(f"conv{i}.norm" for i in range(1, 6)), "fc6.norm", "fc7.norm"}
    assert not any(isinstance(m, alexnet.LocalResponseNorm) for m in net.modules())
    assert [name for name, _ in net.named_parameters() if name.endswith(("conv.bias", "linear.bias"))] == []
