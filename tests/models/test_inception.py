"""Inception v1: torchvision's form against torchvision, the paper's against its table 1 and a form written out."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dltrain.config import model as settings
from dltrain.config.model import InceptionForm, Norm, Scale
from dltrain.models import build_model, outline
from dltrain.models.blocks import LocalResponseNorm
from dltrain.models.inception import TORCHVISION, PaperAveragePool
from dltrain.models.outputs import Outputs
from dltrain.models.torchvision_names import from_torchvision
from tests.models.torchvision_twins import CLASSES, assert_twins, without_dropout

PAPER = settings.InceptionV1(form=InceptionForm.paper)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# ---- torchvision's form


def googlenet(*, auxiliary: bool = True, **options: Any) -> nn.Module:
    found: nn.Module = torchvision.models.googlenet(
        aux_logits=auxiliary, transform_input=False, init_weights=False, **options
    )
    return found


@pytest.mark.parametrize("size", [(65, 65), (79, 97)])
def test_all_three_outputs_match_torchvision(size: tuple[int, int]) -> None:
    cfg = settings.InceptionV1(stem=Scale.large)
    assert_twins(build_model(cfg, (3, *size), CLASSES), googlenet(num_classes=CLASSES), TORCHVISION, size)


def test_without_auxiliary_classifiers_it_is_torchvisions_without() -> None:
    cfg = settings.InceptionV1(stem=Scale.large, auxiliary_weight=None)
    theirs = googlenet(auxiliary=False, num_classes=CLASSES)
    assert_twins(build_model(cfg, (3, 65, 65), CLASSES), theirs, TORCHVISION, (65, 65))


def test_parameters_are_torchvisions() -> None:
    for weight, count in ((0.3, 13_004_888), (None, 6_624_904)):
        network = outline(settings.InceptionV1(auxiliary_weight=weight), (3, 224, 224), 1000)
        assert parameters(network) == count
        with torch.device("meta"):
            theirs = googlenet(auxiliary=weight is not None)
        shapes = {name: p.shape for name, p in from_torchvision(theirs.state_dict(), TORCHVISION).items()}
        assert {name: p.shape for name, p in network.state_dict().items()} == shapes


# ---- the paper's form

# type; output; then #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj; ops in millions
TABLE_1 = {
    "conv1": ((64, 112, 112), (), None),
    "pool1": ((64, 56, 56), (), None),
    "conv2": ((192, 56, 56), (), None),
    "pool2": ((192, 28, 28), (), None),
    "inception3a": ((256, 28, 28), (64, 96, 128, 16, 32, 32), 128),
    "inception3b": ((480, 28, 28), (128, 128, 192, 32, 96, 64), 304),
    "pool3": ((480, 14, 14), (), None),
    "inception4a": ((512, 14, 14), (192, 96, 208, 16, 48, 64), 73),
    "inception4b": ((512, 14, 14), (160, 112, 224, 24, 64, 64), 88),
    "inception4c": ((512, 14, 14), (128, 128, 256, 24, 64, 64), 100),
    "inception4d": ((528, 14, 14), (112, 144, 288, 32, 64, 64), 119),
    "inception4e": ((832, 14, 14), (256, 160, 320, 32, 128, 128), 170),
    "pool4": ((832, 7, 7), (), None),
    "inception5a": ((832, 7, 7), (256, 160, 320, 32, 128, 128), 54),
    "inception5b": ((1024, 7, 7), (384, 192, 384, 48, 128, 128), 71),
    "fc": ((1000,), (), None),
}
# Its "params" count 1,024 weights as 1K, without biases: 112K of conv2 and 1000K of the linear layer are exact so.
PARAMS = {"conv2": 112, "inception3a": 159, "inception3b": 380, "inception4b": 437, "fc": 1000}
# These, and "2.7K" of the 7x7 convolution's 9,408 weights, do not follow from the table's own columns.
WRONG_PARAMS = {
    "inception4a": 364,
    "inception4c": 463,
    "inception4d": 580,
    "inception4e": 840,
    "inception5a": 1072,
    "inception5b": 1388,
}


def weights_of(name: str, inputs: int) -> int:
    """From the table's columns alone, without biases."""
    _, (n1, r3, n3, r5, n5, p), _ = TABLE_1[name]
    return inputs * (n1 + r3 + r5 + p) + 9 * r3 * n3 + 25 * r5 * n5


def test_paper_form_has_the_shapes_of_table_1() -> None:
    network = outline(PAPER, (3, 224, 224), 1000)
    found: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda m, i, out, name=name: found.update({name: tuple(out.shape[1:])}))
    heads = {}
    for name in ("auxiliary1", "auxiliary2"):
        pool = network.get_submodule(f"{name}.pool")
        pool.register_forward_hook(lambda m, i, out, name=name: heads.update({name: tuple(out.shape[1:])}))
    network(torch.zeros(2, 3, 224, 224, device="meta"))
    assert {name: found[name] for name in TABLE_1} == {name: shape for name, (shape, _, _) in TABLE_1.items()}
    assert heads == {"auxiliary1": (512, 4, 4), "auxiliary2": (528, 4, 4)}  # section 5


def test_paper_form_has_the_parameters_of_table_1() -> None:
    network = outline(PAPER, (3, 224, 224), 1000)
    counted = {"conv1": 7 * 7 * 3 * 64, "conv2": 64 * 64 + 9 * 64 * 192, "fc": 1024 * 1000}
    biases = {"conv1": 64, "conv2": 64 + 192, "fc": 1000}
    inputs = 192
    for name, (shape, columns, _) in TABLE_1.items():
        if columns:
            counted[name], biases[name], inputs = weights_of(name, inputs), sum(columns), shape[0]
    ours = {name: parameters(network.get_submodule(name)) for name in counted}
    ours["conv2"] += parameters(network.get_submodule("conv2_reduce"))
    assert ours == {name: counted[name] + biases[name] for name in counted}
    for head, channels in (("auxiliary1", 512), ("auxiliary2", 528)):
        assert parameters(network.get_submodule(head)) == (
            (channels + 1) * 128 + (4 * 4 * 128 + 1) * 1024 + (1024 + 1) * 1000
        )
    assert parameters(network) == sum(ours.values()) + sum(
        parameters(network.get_submodule(head)) for head in ("auxiliary1", "auxiliary2")
    )
    for name, printed in PARAMS.items():
        assert abs(counted[name] / 1024 - printed) <= 1.001, name
    for name, printed in WRONG_PARAMS.items():
        assert abs(counted[name] / 1024 - printed) > 2, name


def test_paper_form_has_the_operations_of_table_1() -> None:
    network = outline(PAPER, (3, 224, 224), 1000).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    flops = counter.get_flop_counts()
    for name, (_, _, printed) in TABLE_1.items():
        if printed is not None and name != "inception5a":  # its columns give 51 million, not 54
            found = sum(flops[f"InceptionV1.{name}"].values()) / 2 / 1e6
            assert abs(found - printed) < 0.7, name


def reference_norm(a: Tensor) -> Tensor:
    """Krizhevsky 2012, section 3.3, channel by channel, with Caffe's numbers: alpha 1e-4 over n = 5, k = 1."""
    out = torch.empty_like(a)
    channels = a.shape[1]
    for i in range(channels):
        around = a[:, max(0, i - 2) : min(channels, i + 3)]
        out[:, i] = a[:, i] / (1.0 + 1e-4 / 5 * (around**2).sum(1)) ** 0.75
    return out


def reference_conv(x: Tensor, state: dict[str, Tensor], name: str, stride: int = 1) -> Tensor:
    """As a matrix product over unfolded patches."""
    weight, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
    k = weight.shape[-1]
    patches = F.unfold(x, k, padding=k // 2, stride=stride)
    height, width = ((side + 2 * (k // 2) - k) // stride + 1 for side in x.shape[2:])
    out = weight.flatten(1) @ patches + bias[:, None]
    return out.clamp(min=0).view(len(x), -1, height, width)


def reference_pool(x: Tensor, stride: int) -> Tensor:
    """The largest of 3x3: stride 1 centred on each position; stride 2 from the corner on, cut at the far border."""
    far = 0 if stride == 1 else 2
    near = 1 if stride == 1 else 0
    padded = F.pad(x, (near, near + far, near, near + far), value=-torch.inf)
    windows = padded.unfold(2, 3, stride).unfold(3, 3, stride).amax((4, 5))
    sides = [side if stride == 1 else -(-(side - 3) // 2) + 1 for side in x.shape[2:]]
    return windows[:, :, : sides[0], : sides[1]]


def reference_inception(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    one = reference_conv(x, state, f"{name}.conv1x1")
    three = reference_conv(reference_conv(x, state, f"{name}.conv3x3_reduce"), state, f"{name}.conv3x3")
    five = reference_conv(reference_conv(x, state, f"{name}.conv5x5_reduce"), state, f"{name}.conv5x5")
    pooled = reference_conv(reference_pool(x, 1), state, f"{name}.pool_proj")
    return torch.cat([one, three, five, pooled], 1)


def reference_head(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    windows = x.unfold(2, 5, 3).unfold(3, 5, 3).mean((4, 5))
    hidden = reference_conv(windows, state, f"{name}.conv").flatten(1)
    hidden = (hidden @ state[f"{name}.fc1.weight"].T + state[f"{name}.fc1.bias"]).clamp(min=0)
    return hidden @ state[f"{name}.fc2.weight"].T + state[f"{name}.fc2.bias"]


def reference_network(x: Tensor, state: dict[str, Tensor], *, small: bool) -> list[Tensor]:
    """Table 1 from the top: logits, and those of both auxiliary classifiers."""
    x = reference_conv(x, state, "conv1", 1 if small else 2)
    x = reference_norm(x if small else reference_pool(x, 2))
    x = reference_norm(reference_conv(reference_conv(x, state, "conv2_reduce"), state, "conv2"))
    x = reference_pool(x, 2)
    x = reference_inception(reference_inception(x, state, "inception3a"), state, "inception3b")
    first = reference_inception(reference_pool(x, 2), state, "inception4a")
    x = first
    for name in ("inception4b", "inception4c", "inception4d"):
        x = reference_inception(x, state, name)
    second = x
    x = reference_pool(reference_inception(x, state, "inception4e"), 2)
    x = reference_inception(reference_inception(x, state, "inception5a"), state, "inception5b")
    logits = x.flatten(2).mean(2) @ state["fc.weight"].T + state["fc.bias"]
    return [logits, reference_head(first, state, "auxiliary1"), reference_head(second, state, "auxiliary2")]


def large_weights(network: nn.Module) -> nn.Module:
    """Biases that are not 0, and values so large that the response normalization is felt."""
    torch.manual_seed(1)
    for name, p in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(p, std=0.1)
    for name in ("conv1", "conv2"):
        network.get_submodule(name).conv.weight.data.mul_(20)
    return network


@pytest.mark.parametrize(("scale", "side"), [(Scale.small, 57), (Scale.large, 225)])
def test_paper_form_is_its_table_written_out(scale: Scale, side: int) -> None:
    """At sizes whose heads see 14x14; poolings of 28 and 14 positions are cut at the far border."""
    cfg = settings.InceptionV1(form=InceptionForm.paper, stem=scale)
    torch.manual_seed(0)
    network = large_weights(without_dropout(build_model(cfg, (2, side, side), CLASSES))).double()
    images = torch.randn(1, 2, side, side, dtype=torch.float64)
    state = dict(network.named_parameters())
    found = []
    for ours in (True, False):
        x = images.clone().requires_grad_()
        if ours:
            out = network.train()(x)
            assert isinstance(out, Outputs)
            assert out.weight == 0.3
            heads = [out.logits, *out.auxiliary]
        else:
            heads = reference_network(x, state, small=scale is Scale.small)
        loss = torch.stack([head.pow(2).sum() for head in heads]).sum()
        found.append([*heads, *torch.autograd.grad(loss, [x, state["conv1.conv.weight"]])])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max()
    assert (network.eval()(images) - found[1][0]).abs().max() <= 1e-9 * found[1][0].abs().max()


def test_response_normalization_is_felt_in_that_test() -> None:
    network = large_weights(build_model(PAPER, (2, 28, 28), CLASSES)).eval()
    x = torch.randn(1, 2, 28, 28)
    before = network.conv1(x)
    assert (network.norm1(before) / before)[before > 1].min() < 0.9


def test_heads_see_4x4_of_any_size() -> None:
    for side in (1, 2, 3, 4, 5, 7, 13, 17, 28):
        x = torch.randn(2, 3, side, side + 1, dtype=torch.float64)
        torch.testing.assert_close(PaperAveragePool()(x), F.adaptive_avg_pool2d(x, 4), rtol=0, atol=1e-14)
    for side in (14, 15, 16):
        x = torch.randn(2, 3, side, side, dtype=torch.float64)
        assert torch.equal(PaperAveragePool()(x), F.avg_pool2d(x, 5, stride=3))


# ---- what both forms promise


def test_auto_chooses_the_stem_by_the_shorter_side() -> None:
    for size, kernel in (((64, 200), 3), ((65, 65), 7)):
        for form in InceptionForm:
            cfg = settings.InceptionV1(form=form)
            assert outline(cfg, (3, *size), 3).get_submodule("conv1.conv").kernel_size == (kernel, kernel)
            assert bool(cfg.notes(size)) == (kernel == 3)


@pytest.mark.parametrize("form", InceptionForm)
def test_norm_is_the_forms_own_unless_chosen(form: InceptionForm) -> None:
    for norm, batch in ((None, form is InceptionForm.torchvision), (Norm.none, False), (Norm.batch, True)):
        cfg = settings.InceptionV1(form=form, norm=norm)
        network = outline(cfg, (3, 32, 32), 3)
        assert cfg.norms_batches is batch
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == (len(convolutions) if batch else 0)
        assert all((convolution.bias is None) is batch for convolution in convolutions)
        responses = [m for m in network.modules() if isinstance(m, LocalResponseNorm)]
        assert len(responses) == (2 if form is InceptionForm.paper and not batch else 0)


@pytest.mark.parametrize("form", InceptionForm)
def test_heads_work_in_training_only_and_change_nothing_else(form: InceptionForm) -> None:
    torch.manual_seed(0)
    network = without_dropout(build_model(settings.InceptionV1(form=form), (1, 28, 28), CLASSES))
    alone = without_dropout(build_model(settings.InceptionV1(form=form, auxiliary_weight=None), (1, 28, 28), CLASSES))
    trunk = {name: value for name, value in network.state_dict().items() if not name.startswith("auxiliary")}
    alone.load_state_dict(trunk, strict=True)
    images = torch.randn(4, 1, 28, 28)
    for head in ("auxiliary1", "auxiliary2"):
        network.get_submodule(head).register_forward_hook(lambda m, i, out: called.append(m))
    called: list[nn.Module] = []
    assert torch.equal(network.eval()(images), alone.eval()(images))
    assert not called
    out = network.train()(images)
    assert len(called) == 2
    assert torch.equal(out.logits, alone.train()(images))
    assert not torch.equal(out.auxiliary[0], out.auxiliary[1])


@pytest.mark.parametrize("form", InceptionForm)
def test_signal_and_gradient_keep_their_size_through_22_layers_and_no_class_is_preferred(form: InceptionForm) -> None:
    torch.manual_seed(0)
    network = build_model(settings.InceptionV1(form=form), (3, 32, 32), 10)
    sizes = {}
    for name in ("conv1", "inception3a", "inception4a", "inception5b"):
        network.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: sizes.update({name: out.std()}))
    out = network.train()(torch.randn(16, 3, 32, 32))
    loss = F.cross_entropy(out.logits, torch.arange(16) % 10)
    loss.backward()
    # Glorot's weights in the last layer begin at 5 to 9 in the paper's form, which has no batch norm
    assert loss.item() == pytest.approx(math.log(10), abs=1.0)
    assert all(0.2 < size < 5 for size in sizes.values())
    first, last = (network.get_submodule(f"{name}.conv").weight.grad for name in ("conv1", "inception5b.conv1x1"))
    assert 1e-2 < first.norm() / last.norm() < 1e2
