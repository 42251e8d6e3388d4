"""What every network in the table must do, by a small member of each family (family.py). All names: test_names.py."""

import copy
import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dltrain.config.groups import ClipAgc
from dltrain.config.model import DCGAN, VGG, AttentionCNN, Compatibility, LeNet5Caffe, Model, Padding, PerPixel, UNet
from dltrain.engine.clip import clip
from dltrain.models import build_model, dcgan
from dltrain.models.outputs import Outputs, split
from dltrain.tasks.evaluating import evaluating
from tests.models.family import MEMBERS, answer_shape, every_member, is_wide, settings, shape, variants
from tests.models.torchvision_twins import without_dropout

BATCH, CLASSES = 4, 3
every_variant = pytest.mark.parametrize("words", variants("light"), ids=" ".join)
every_heavy_variant = pytest.mark.parametrize("words", variants("heavy"), ids=" ".join)
every_answering = pytest.mark.parametrize("words", [m.words for m in MEMBERS if not m.generates], ids=" ".join)
NOISE = 1e-6  # of the largest gradient of a parameter: rounding leaves up to 1e-7 where there is nothing to learn
CHECKED = 12  # parameters of a network whose gradients are compared with differences, from the first to the last


def build(cfg: Model, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(cfg, shape(cfg), CLASSES)


def inputs(cfg: Model, n: int = BATCH) -> Tensor:
    """Images; numbers, for a network that makes images of them."""
    size = (cfg.latent_dim,) if isinstance(cfg, DCGAN) else shape(cfg)
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(1))


def run(net: nn.Module, x: Tensor) -> Tensor | Outputs:
    """What it is trained by: of a generator, what its discriminator says of its images."""
    found: Tensor | Outputs = net.discriminator(net(x)) if isinstance(net, dcgan.DCGAN) else net(x)
    return found


def answers(x: Tensor, logits: Tensor) -> Tensor:
    """Class numbers to be learned: one after the other of images; of pixels, the number of channels above zero there.

    Where outputs are smaller than images, those of the images' middle.
    """
    if logits.ndim == 2:
        return torch.arange(len(x)) % CLASSES
    lost = (x.shape[2] - logits.shape[2]) // 2
    return (x > 0).sum(1)[:, lost : x.shape[2] - lost, lost : x.shape[3] - lost]


def loss_of(outputs: Tensor | Outputs, x: Tensor) -> Tensor:
    """As it is trained: the auxiliary heads' losses count by their weight; a generator's images are to pass as real."""
    logits, auxiliary, weight = split(outputs)
    if logits.ndim == 1:
        return nn.functional.softplus(-logits).mean()
    losses = [nn.functional.cross_entropy(head, answers(x, head)) for head in (logits, *auxiliary)]
    return losses[0] + weight * sum(losses[1:], torch.zeros(()))


def without_effect(cfg: Model) -> str:
    """A pattern of the names of parameters that the loss does not depend on, by the formulas of their papers."""
    if isinstance(cfg, AttentionCNN) and cfg.compatibility is Compatibility.parametrized:
        return r"(conv14|conv15|fc)\."  # the global feature: u . g is the same for all positions, which softmax drops
    if isinstance(cfg, VGG) and cfg.norms_batches:
        return r".*\.conv\.bias"  # which the batch norm behind it takes away; torchvision's has it too
    if isinstance(cfg, LeNet5Caffe) and cfg.norms_batches:
        return r"norm[12]\.bias"  # nothing but a pooling and a linear layer is between it and the next batch norm
    if isinstance(cfg, UNet) and cfg.padding is Padding.valid and cfg.norms_batches:
        return r"expanding\.\d\.up\.bias"  # without padding the next convolution makes it a constant, as VGG's
    return "none"


def check_gradients(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net, x = build(cfg), inputs(cfg)
    outputs = run(net, x)
    logits, auxiliary, _ = split(outputs)
    for head in (logits, *auxiliary):
        assert head.shape == answer_shape(cfg, shape(cfg)[1:], CLASSES, BATCH)
        assert head.dtype == torch.float32
    loss_of(outputs, x).backward()
    norms = {}
    for parameter, p in net.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter
        norms[parameter] = p.grad.norm().item()
    least = NOISE * max(norms.values())
    nothing = {parameter for parameter, norm in norms.items() if norm < least}
    assert nothing == {parameter for parameter in norms if re.fullmatch(f"{without_effect(cfg)}.*", parameter)}


@every_variant
def test_every_parameter_gets_a_finite_gradient(words: tuple[str, ...]) -> None:
    check_gradients(words)


@pytest.mark.slow
@every_heavy_variant
def test_every_parameter_of_a_heavy_network_gets_a_finite_gradient(words: tuple[str, ...]) -> None:
    check_gradients(words)


@every_answering
def test_agc_leaves_out_the_layer_that_gives_the_logits(words: tuple[str, ...]) -> None:
    """Brock 2021, section 4.1: all layers are clipped but the last, linear one; auxiliary heads too.

    The last layer of a network that answers per pixel is a convolution, and clipped as such.
    """
    cfg = settings(*words)
    net = build(cfg)
    given: dict[int, tuple[str, nn.Module]] = {}
    for layer, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda m, i, out, layer=layer: given.update({id(out): (layer, m)}))
    logits, _, _ = split(net(inputs(cfg)))
    named = list(net.named_parameters())
    for _, p in named:
        p.grad = torch.ones_like(p)
    clip(named, ClipAgc(factor=1e-3))
    as_it_was = {name.rpartition(".")[0] for name, p in named if p.grad is not None and bool((p.grad == 1).all())}
    layer, last = given[id(logits)]
    assert as_it_was == ({layer} if isinstance(last, nn.Linear) else set())
    assert isinstance(last, nn.Linear) != isinstance(cfg, PerPixel)


@every_answering
@pytest.mark.parametrize("outputs", [1, 7])
def test_any_number_of_outputs(words: tuple[str, ...], outputs: int) -> None:
    cfg = settings(*words)
    found, _, _ = split(build_model(cfg, shape(cfg), outputs)(inputs(cfg)))
    assert found.shape == answer_shape(cfg, shape(cfg)[1:], outputs, BATCH)


def check_learning(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net = build(cfg).train()
    x = inputs(cfg, 8)
    if isinstance(cfg, PerPixel):  # squares of 8x8, since what has no skips sees no single pixels
        x = x[:, :, torch.arange(x.shape[2]) // 8 * 8][:, :, :, torch.arange(x.shape[3]) // 8 * 8]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def loss() -> float:
        with torch.no_grad(), evaluating(net):  # batch norm and dropout as in use: averages, nothing dropped
            return loss_of(run(net, x), x).item()

    first = loss()
    for step in range(1, 161):
        optimizer.zero_grad()
        loss_of(run(net, x), x).backward()
        optimizer.step()
        if step % 20 == 0 and loss() < 0.8 * first:
            return
    raise AssertionError(f"the loss of 8 images is {loss():.3f} after 160 steps, and was {first:.3f}")


@pytest.mark.parametrize("words", [w for w in variants("light") if not is_wide(w)], ids=" ".join)
def test_loss_of_a_tiny_batch_falls(words: tuple[str, ...]) -> None:
    check_learning(words)


@pytest.mark.slow
@pytest.mark.parametrize("words", [w for w in variants("light") if is_wide(w)] + variants("heavy"), ids=" ".join)
def test_loss_of_a_tiny_batch_falls_in_large_networks(words: tuple[str, ...]) -> None:
    check_learning(words)


@every_variant
def test_state_dict_makes_the_same_network_again(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net = build(cfg).train()
    run(net, inputs(cfg))  # moves batch norm's statistics, and what a spectral norm keeps
    other = build(cfg, seed=5)
    x = inputs(cfg)
    assert not torch.equal(run(net.eval(), x), run(other.eval(), x))
    other.load_state_dict(copy.deepcopy(net.state_dict()), strict=True)
    assert torch.equal(run(net, x), run(other, x))


@every_member
def test_weights_follow_from_the_seed(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    first, again, other = build(cfg, 3).state_dict(), build(cfg, 3).state_dict(), build(cfg, 4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key in first if first[key].ndim > 1]
    assert weights
    assert not any(torch.equal(first[key], other[key]) for key in weights)


@every_variant
def test_no_module_works_in_place_or_twice(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net = build(cfg)
    calls: dict[str, int] = {}
    for module_name, module in net.named_modules():
        assert not getattr(module, "inplace", False), module_name
        calls[module_name] = 0
        module.register_forward_hook(lambda m, i, o, n=module_name: calls.update({n: calls[n] + 1}))
    run(net, inputs(cfg))
    containers = {n for n, m in net.named_modules() if isinstance(m, nn.ModuleList | nn.ModuleDict)}
    containers |= {n for n, m in net.named_modules() if isinstance(m, nn.Sequential) and not len(m)}
    assert {n: c for n, c in calls.items() if c != 1 and not (c == 0 and n in containers)} == {}


@every_variant
def test_each_image_is_seen_alone_in_evaluation(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net = build(cfg).double().eval()
    x = inputs(cfg).double()
    together = net(x)
    assert together.dtype == torch.float64
    alone = torch.cat([net(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)
    assert torch.equal(net(x), together)


@every_member
def test_channels_last_and_contiguous_agree(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net = build(cfg).double()
    without_dropout(net)
    x = inputs(cfg).double()
    expected = split(run(net, x))
    net.to(memory_format=torch.channels_last)
    found = split(run(net, x.to(memory_format=torch.channels_last) if x.ndim == 4 else x))
    for ours, theirs in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@every_member
def test_float64_gradients_match_finite_differences(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net = build(cfg).double().eval()
    if isinstance(cfg, DCGAN):  # where nothing reaches a pixel, a ReLU stands at its kink while all shifts are 0
        for p in net.parameters():
            p.data.add_(0.01 if p.ndim == 1 else 0)
    x = inputs(cfg, 2).double()
    loss = loss_of(run(net, x), x)
    grads = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    used = [(p, grad) for p, grad in zip(net.named_parameters(), grads, strict=True) if grad is not None]
    assert len(used) > 0.9 * len(grads)  # the auxiliary heads have no part in evaluation
    step = 1e-6
    with torch.no_grad():
        for (parameter, p), grad in used[:: max(1, len(used) // CHECKED)]:
            at = int(grad.abs().argmax())
            flat = p.view(-1)
            values = []
            for sign in (1, -1):
                flat[at] += sign * step
                values.append(loss_of(run(net, x), x).item())
                flat[at] -= sign * step
            numeric = (values[0] - values[1]) / (2 * step)
            assert numeric == pytest.approx(grad.view(-1)[at].item(), rel=1e-4, abs=1e-8), parameter


@every_member
def test_the_network_runs_in_half_precision(words: tuple[str, ...]) -> None:
    cfg = settings(*words)
    net = build(cfg)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            logits, auxiliary, _ = split(run(net, inputs(cfg)))
        for head in (logits, *auxiliary):
            assert head.dtype == dtype
            assert head.isfinite().all()


def test_a_config_names_no_code() -> None:
    cfg = copy.copy(settings("model=mlp"))
    cfg.name = "os:system"
    assert type(build(cfg)).__name__ == "MLP"


def test_a_model_of_the_users_own_package_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "package_of_mine" / "models"
    models.mkdir(parents=True)
    (models / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self, cfg, shape, num_outputs): super().__init__(shape[2], num_outputs)\n"
        "def no_module(cfg, shape, num_outputs): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cls = dataclasses.make_dataclass("Net", [], bases=(Model,), namespace={"builds": "net:Net"})
    cls.__module__ = "package_of_mine.config"
    net = build_model(cls(), (1, 8, 8), 2)
    assert type(net).__module__ == "package_of_mine.models.net"
    cls.builds = "net:no_module"
    with pytest.raises(TypeError, match=r"no torch\.nn\.Module"):
        build_model(cls(), (1, 8, 8), 2)
    cls.builds = "net"
    with pytest.raises(ValueError, match="file:Class"):
        build_model(cls(), (1, 8, 8), 2)
