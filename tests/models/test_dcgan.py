"""DCGAN against closed forms, and against its port written out by torch's functions in float64."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.check import check
from dltrain.config.compose import compose
from dltrain.config.messages import Mistake
from dltrain.config.model import DiscriminatorNorm, Norm, UpSampling
from dltrain.models import build_model, outline
from dltrain.models.dcgan import DCGAN
from tests.models.dcgans import built, doublings, drawn, noise

EXACT = {"rtol": 1e-9, "atol": 1e-12}
SIDES = (28, 32, 64, 128)
every_side = pytest.mark.parametrize("side", SIDES)
every_up = pytest.mark.parametrize("up", UpSampling)
every_norm = pytest.mark.parametrize("norm", Norm)
every_discriminator_norm = pytest.mark.parametrize("discriminator_norm", DiscriminatorNorm)


# ---- counts and shapes


def generators_count(cfg: settings.DCGAN, channels: int, side: int) -> int:
    """Weights of all layers; two numbers a channel of a norm, or else a bias for each output; the last has neither."""
    first, times = doublings(side)
    c = [cfg.base_channels * 2 ** (times - 1 - level) for level in range(times)]
    window = {UpSampling.transpose: 16, UpSampling.resize: 9, UpSampling.pixelshuffle: 36}[cfg.up]
    outputs = 4 if cfg.up is UpSampling.pixelshuffle else 1
    batch = cfg.norm is Norm.batch
    projection = cfg.latent_dim * c[0] * first**2 + (2 * c[0] if batch else c[0] * first**2)
    ups = sum(a * b * window + (2 * b if batch else outputs * b) for a, b in itertools.pairwise(c))
    return projection + ups + c[-1] * channels * window


def discriminators_count(cfg: settings.DCGAN, channels: int, side: int) -> int:
    """4x4 weights; two numbers a channel of a batch norm, which the first layer does not have; or else biases."""
    first, times = doublings(side)
    c = [channels, *(cfg.base_channels * 2**level for level in range(times))]
    batch = cfg.discriminator_norm is DiscriminatorNorm.batch
    rest = sum((2 if batch else 1) * width for width in c[2:]) + (0 if batch else c[1])
    return sum(16 * a * b for a, b in itertools.pairwise(c)) + rest + c[-1] * first**2


def counts(cfg: settings.DCGAN, channels: int, side: int) -> tuple[int, int]:
    """Of the generator, and of the discriminator."""
    net = outline(cfg, (channels, side, side), 1)
    generator, discriminator = net.get_submodule("generator"), net.get_submodule("discriminator")
    return sum(p.numel() for p in generator.parameters()), sum(p.numel() for p in discriminator.parameters())


@every_side
@pytest.mark.parametrize(
    ("up", "norm", "discriminator_norm"),
    [
        (up, norm, tuple(DiscriminatorNorm)[(place + number) % 3])
        for (place, up), (number, norm) in itertools.product(enumerate(UpSampling), enumerate(Norm))
    ],
)
def test_parameters_follow_the_closed_form(
    side: int, up: UpSampling, norm: Norm, discriminator_norm: DiscriminatorNorm
) -> None:
    for channels, width, numbers in ((1, 3, 7), (3, 16, 100)):
        cfg = settings.DCGAN(
            base_channels=width, latent_dim=numbers, up=up, norm=norm, discriminator_norm=discriminator_norm
        )
        expected = generators_count(cfg, channels, side), discriminators_count(cfg, channels, side)
        assert counts(cfg, channels, side) == expected


def test_parameters_are_the_published_ones() -> None:
    """Of the paper's 1024 channels with 4x4 kernels, and of the port that most use, with half of them."""
    assert counts(settings.DCGAN(), 3, 64) == (12_658_432, 11_036_160)
    assert counts(settings.DCGAN(base_channels=64), 3, 64) == (3_576_704, 2_765_568)  # pytorch/examples, dcgan


@every_side
@every_up
def test_shapes_at_every_stage(side: int, up: UpSampling) -> None:
    """Figure 1 at 64x64: 4x4x1024, 8x8x512, 16x16x256, 32x32x128, 64x64x3; the discriminator the same way back."""
    net, found = outline(settings.DCGAN(up=up), (3, side, side), 1), dict[str, tuple[int, ...]]()
    for name, layer in net.named_modules():
        layer.register_forward_hook(lambda m, i, out, n=name: found.update({n: tuple(out.shape[1:])}))
    images = net(torch.zeros(2, 100, device="meta"))
    logits = net.get_submodule("discriminator")(images)
    assert (images.shape, logits.shape) == ((2, 3, side, side), (2,))
    first, times = doublings(side)
    maps = [(128 * 2 ** (times - 1 - k), first * 2**k, first * 2**k) for k in range(times)]
    if side == 64:
        assert maps == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32)]
    up_names = ["project", *(f"ups.{k}" for k in range(times - 1))]
    assert [found[f"generator.{name}"] for name in up_names] == maps
    down_names = ["first", *(f"downs.{k}" for k in range(times - 1))]
    assert [found[f"discriminator.{name}"] for name in down_names] == maps[::-1]


def test_sizes_that_it_makes() -> None:
    cfg = settings.DCGAN()
    assert [side for side in range(1, 300) if cfg.takes((side, side))] == list(SIDES)
    assert not any(cfg.takes(size) for size in ((28, 32), (64, 128)))
    own = {(28, 28): 28, (31, 99): 28, (20, 24): 28, (32, 32): 32, (48, 40): 32, (64, 64): 64, (500, 375): 128}
    assert {size: cfg.size_for(size)[0] for size in own} == own
    assert cfg.sizes((30, 30)) == "28x28, 32x32, 64x64, 128x128"
    for size in ((30, 30), (32, 28)):
        with pytest.raises(ValueError, match="it makes 28x28, 32x32"):
            build_model(cfg, (1, *size), 1)


def test_a_size_that_it_does_not_make_is_refused_with_one_that_it_does() -> None:
    with pytest.raises(Mistake) as told:
        check(compose(["model=dcgan", "data.size=48x48"])[0])
    assert "48x48 do not suit dcgan" in str(told.value)
    assert told.value.type_this == "data.size=32x32"
    assert "28x28, 32x32, 64x64, 128x128" in told.value.allowed


@every_discriminator_norm
@every_norm
def test_it_learns_from_one_image_as_its_settings_say(norm: Norm, discriminator_norm: DiscriminatorNorm) -> None:
    for side in (28, 32):
        net = built(side, norm=norm, discriminator_norm=discriminator_norm).train()
        assert settings.DCGAN(norm=norm, discriminator_norm=discriminator_norm).learns_from_one((side, side))
        F.softplus(-net.discriminator(net(torch.randn(1, 10)))).mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


# ---- the port, layer by layer


def batch_norm(x: Tensor, state: dict[str, Tensor], name: str, trains: bool = True) -> Tensor:
    """Ioffe and Szegedy 2015, algorithm 1; its running statistics otherwise; nothing where there is no norm."""
    if f"{name}.weight" not in state:
        return x
    if trains:
        mean = x.mean((0, 2, 3), keepdim=True)
        var = (x - mean).square().mean((0, 2, 3), keepdim=True)
    else:
        mean, var = (state[f"{name}.running_{what}"].view(1, -1, 1, 1) for what in ("mean", "var"))
    gain, shift = (state[f"{name}.{what}"].view(1, -1, 1, 1) for what in ("weight", "bias"))
    return gain * (x - mean) / (var + 1e-5).sqrt() + shift


def fractionally_strided(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Zeros between the pixels and around them, then a convolution of stride 1 by the kernel turned around."""
    size, height, width = x.shape[0], x.shape[2], x.shape[3]
    wide = x.new_zeros(size, x.shape[1], 2 * height - 1, 2 * width - 1)
    wide[:, :, ::2, ::2] = x
    return F.conv2d(F.pad(wide, (2, 2, 2, 2)), weight.flip(2, 3).transpose(0, 1), bias)


def up_by_hand(x: Tensor, up: UpSampling, state: dict[str, Tensor], name: str) -> Tensor:
    if up is UpSampling.transpose:
        return fractionally_strided(x, state[f"{name}.weight"], state.get(f"{name}.bias"))
    if up is UpSampling.resize:
        wide = x[:, :, torch.arange(2 * x.shape[2]) // 2][:, :, :, torch.arange(2 * x.shape[3]) // 2]
        return F.conv2d(wide, state[f"{name}.1.weight"], state.get(f"{name}.1.bias"), padding=1)
    weight, bias = state[f"{name}.0.weight"], state.get(f"{name}.0.bias")
    out = x.new_zeros(x.shape[0], len(weight) // 4, 2 * x.shape[2], 2 * x.shape[3])
    for i, j in itertools.product(range(2), range(2)):
        own = 2 * i + j  # each of the four pixels of a position has kernels of its own
        out[:, :, i::2, j::2] = F.conv2d(x, weight[own::4], None if bias is None else bias[own::4], padding=1)
    return out


def generated_by_hand(z: Tensor, net: DCGAN, up: UpSampling, state: dict[str, Tensor], trains: bool = True) -> Tensor:
    """As the port has it: the projection is a transposed convolution of a single pixel."""
    shape = net.generator.project.shape
    weight = state["generator.project.linear.weight"].view(*shape, -1).permute(3, 0, 1, 2)
    x = F.conv_transpose2d(z[:, :, None, None], weight)
    if "generator.project.linear.bias" in state:
        x = x + state["generator.project.linear.bias"].view(shape)
    x = batch_norm(x, state, "generator.project.norm", trains).clamp(min=0)
    for k in range(len(net.generator.ups)):
        x = up_by_hand(x, up, state, f"generator.ups.{k}.conv")
        x = batch_norm(x, state, f"generator.ups.{k}.norm", trains).clamp(min=0)
    x = up_by_hand(x, up, state, "generator.output")
    return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())


def told_by_hand(images: Tensor, net: DCGAN, state: dict[str, Tensor]) -> Tensor:
    """As the port has it: the last layer is a convolution without padding, as large as the map."""

    def weight_of(name: str) -> Tensor:
        """Divided by u^T W v where there is a spectral norm (Miyato et al. 2018, algorithm 1)."""
        weight = state[f"{name}.weight"]
        if f"{name}.spectral.u" not in state:
            return weight
        matrix, u = weight.flatten(1), state[f"{name}.spectral.u"]
        v = (u @ matrix).detach()
        return weight / (u @ matrix @ (v / v.square().sum().sqrt()))

    x = images
    for name in ["first", *(f"downs.{k}" for k in range(len(net.discriminator.downs)))]:
        name = f"discriminator.{name}"
        x = F.conv2d(x, weight_of(f"{name}.conv"), state.get(f"{name}.conv.bias"), stride=2, padding=1)
        x = batch_norm(x, state, f"{name}.norm")
        x = torch.where(x > 0, x, 0.2 * x)
    weight = weight_of("discriminator.output")
    return F.conv2d(x, weight.view(1, *x.shape[1:]))[:, 0, 0, 0]


def parts(net: nn.Module) -> dict[str, Tensor]:
    return dict(net.named_parameters()) | dict(net.named_buffers())


@pytest.mark.parametrize("side", [28, 32, 64])
@every_up
@every_norm
def test_the_generator_and_its_gradients(side: int, up: UpSampling, norm: Norm) -> None:
    net = drawn(built(side, up=up, norm=norm)).train()
    z = noise(3, 10).requires_grad_()
    ours, by_hand = net(z), generated_by_hand(z, net, up, parts(net))
    torch.testing.assert_close(ours, by_hand, **EXACT)
    assert ours.detach().std() > 0.05
    weights, sources = noise(*ours.shape, seed=2), [z, *net.generator.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), sources),
        torch.autograd.grad((by_hand * weights).sum(), sources),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@every_up
def test_the_generator_in_evaluation_takes_its_running_statistics(up: UpSampling) -> None:
    net = drawn(built(up=up)).train()
    for seed in range(5):
        net(noise(4, 10, seed=seed))
    net.eval()
    z = noise(3, 10, seed=9)
    torch.testing.assert_close(net(z), generated_by_hand(z, net, up, parts(net), trains=False), **EXACT)
    assert not torch.allclose(net(z), generated_by_hand(z, net, up, parts(net), trains=True))  # the control


@pytest.mark.parametrize("side", [28, 32, 64])
@every_discriminator_norm
def test_the_discriminator_and_its_gradients(side: int, discriminator_norm: DiscriminatorNorm) -> None:
    net = drawn(built(side, discriminator_norm=discriminator_norm))
    images = noise(3, 2, side, side).tanh().requires_grad_()
    for mode in (True, False):  # it is the same function in evaluation
        net.train(mode)
        ours, by_hand = net.discriminator(images), told_by_hand(images, net, parts(net))
        torch.testing.assert_close(ours, by_hand, **EXACT)
        weights, sources = noise(*ours.shape, seed=2), [images, *net.discriminator.parameters()]
        for a, b in zip(
            torch.autograd.grad((ours * weights).sum(), sources),
            torch.autograd.grad((by_hand * weights).sum(), sources),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_a_repetition_and_a_3x3_convolution_are_a_fractionally_strided_one_of_4x4() -> None:
    """Its kernels are the 3x3 ones, turned around and blurred by 2x2: both look at the same pixels, at borders too."""
    net = drawn(built(up=UpSampling.resize))
    layer = net.generator.ups[0].conv
    weight = layer[1].weight
    blurred = F.conv2d(weight.flip(2, 3).reshape(-1, 1, 3, 3), weight.new_ones(1, 1, 2, 2), padding=1)
    kernel = blurred.view(*weight.shape[:2], 4, 4).transpose(0, 1)
    x = noise(2, weight.shape[1], 7, 7)
    torch.testing.assert_close(layer(x), F.conv_transpose2d(x, kernel, stride=2, padding=1), **EXACT)


@every_up
def test_images_are_in_the_range_of_tanh(up: UpSampling) -> None:
    net = drawn(built(up=up))
    images = net(100 * noise(8, 10))
    assert images.abs().max() <= 1
    assert images.min() < -0.5
    assert images.max() > 0.5


# ---- first weights


@every_up
def test_weights_are_drawn_as_the_paper_says(up: UpSampling) -> None:
    """Section 4: N(0, 0.02). Gains N(1, 0.02) and shifts 0, as in its authors' code."""
    net, seen = built(64, 3, base_channels=32, latent_dim=100, up=up), 0
    for name, p in net.named_parameters():
        if p.ndim > 1:
            kernels = p[::4] if up is UpSampling.pixelshuffle and p.ndim == 4 and "generator" in name else p
            n = kernels.numel()
            assert kernels.mean().item() == pytest.approx(0, abs=5 * 0.02 / n**0.5), name
            assert kernels.std().item() == pytest.approx(0.02, rel=4 / n**0.5), name
            seen += 1
        elif name.endswith("weight"):
            assert p.mean().item() == pytest.approx(1, abs=5 * 0.02 / len(p) ** 0.5), name
            assert p.std().item() == pytest.approx(0.02, rel=4 / len(p) ** 0.5), name
        else:
            assert not p.any(), name
    assert seen == 5 + 5


@every_up
def test_only_the_fractionally_strided_begins_with_a_checkerboard(up: UpSampling) -> None:
    """Of a constant map they make a constant, away from its border; 4x4 kernels of stride 2 do not.

    A sub-pixel convolution begins as a repetition (Aitken et al. 2017), from which its kernels learn to differ.
    """
    net = drawn(built(up=up))
    layer, inputs = net.generator.ups[0].conv, net.generator.project.shape[0]
    if up is UpSampling.pixelshuffle:
        layer = built(up=up).double().generator.ups[0].conv
        assert isinstance(layer, nn.Sequential)
        out = layer(noise(2, inputs, 7, 7))
        blocks = out.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        torch.testing.assert_close(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks), **EXACT)
        weight = layer[0].weight
        (gradient,) = torch.autograd.grad((out * noise(*out.shape)).sum(), weight)
        assert not torch.allclose(gradient[::4], gradient[1::4])
    inside = layer(torch.ones(1, inputs, 7, 7, dtype=torch.float64))[0, :, 2:-2, 2:-2]
    even = torch.allclose(inside, inside[:, :1, :1].expand_as(inside), rtol=0, atol=1e-12)
    assert even == (up is not UpSampling.transpose)


@every_up
def test_biases_begin_at_zero_where_there_is_no_norm(up: UpSampling) -> None:
    net = built(up=up, norm=Norm.none, discriminator_norm=DiscriminatorNorm.none)
    biases = [name for name, p in net.named_parameters() if p.ndim == 1 and not p.any()]
    assert len(biases) == 2 + 2  # projection and one up; first and one down: the last layers have none
    assert len(biases) == sum(p.ndim == 1 for p in net.parameters())
