"""What passes of a DCGAN leave behind; its spectral norm against torch's; second derivatives; both parts learn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config.groups import ClipAgc
from dltrain.config.model import DiscriminatorNorm, Norm, UpSampling
from dltrain.engine.clip import clip
from dltrain.engine.ema import Ema
from dltrain.models.dcgan import DCGAN, Discriminator, SpectralConv2d, SpectralLinear, SpectralNorm
from tests.models.dcgans import built, doublings, drawn, noise

EXACT = {"rtol": 1e-9, "atol": 1e-12}
every_discriminator_norm = pytest.mark.parametrize("discriminator_norm", DiscriminatorNorm)


# ---- what a pass leaves behind


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def test_what_the_discriminator_keeps_beside_its_weights() -> None:
    kept = {
        norm: {name for name, _ in built(discriminator_norm=norm).discriminator.named_buffers()}
        for norm in DiscriminatorNorm
    }
    spectral = {"first.conv.spectral.u", "downs.0.conv.spectral.u", "output.spectral.u"}
    assert kept == {DiscriminatorNorm.batch: set(), DiscriminatorNorm.none: set(), DiscriminatorNorm.spectral: spectral}


def passes(net: DCGAN) -> dict[str, Callable[[], object]]:
    """All kinds that are not of the discriminator's own update."""
    images, z = torch.randn(4, 2, 28, 28), torch.randn(4, 10)

    def look() -> None:
        with torch.no_grad():
            net.discriminator(images)

    def infer() -> None:
        with torch.inference_mode():
            net.discriminator(images)

    return {
        "a generator's update": lambda: net.discriminator(net(z)).sum().backward(),
        "a penalty": lambda: net.discriminator(images.clone().requires_grad_()).sum().backward(),
        "a look in training": look,
        "inference in training": infer,
        "evaluation": lambda: net.eval().discriminator(images).sum().backward(),
    }


@every_discriminator_norm
def test_a_pass_that_is_not_its_own_changes_no_bit_of_the_discriminator(discriminator_norm: DiscriminatorNorm) -> None:
    net = built(discriminator_norm=discriminator_norm)
    for kept in net.discriminator.buffers():
        nn.init.normal_(kept)  # so that a step of the power method would be seen
    for what, work in passes(net).items():
        before = state_of(net.discriminator)
        work()
        assert changed(net.discriminator, before) == set(), what


def test_a_pass_of_its_own_takes_one_step_of_the_power_method() -> None:
    """The control of the test above; step by step as Miyato et al. 2018, algorithm 1."""
    net = built(discriminator_norm=DiscriminatorNorm.spectral).double()
    discriminator, images = net.discriminator, noise(4, 2, 28, 28)
    expected = {}
    for name, layer in discriminator.named_modules():
        if isinstance(layer, SpectralConv2d | SpectralLinear):
            nn.init.normal_(layer.spectral.u)
            matrix = layer.weight.detach().flatten(1)
            v = matrix.T @ layer.spectral.u
            u = matrix @ (v / v.norm())
            expected[f"{name}.spectral.u"] = u / u.norm()
    before = state_of(discriminator)
    discriminator(images)
    assert changed(discriminator, before) == set(expected)
    for name, u in expected.items():
        torch.testing.assert_close(discriminator.state_dict()[name], u, **EXACT)


def test_two_passes_are_differentiated_each_by_its_own_norms() -> None:
    """Real and generated images, one backward pass: the second step of the power method does not disturb the first."""
    net = drawn(built(discriminator_norm=DiscriminatorNorm.spectral))
    for buffer in net.discriminator.buffers():
        nn.init.normal_(buffer)
    real, fake = noise(4, 2, 28, 28), noise(4, 2, 28, 28, seed=3)
    params = list(net.discriminator.parameters())
    start = state_of(net.discriminator)

    first = net.discriminator(real)
    second = net.discriminator(fake)
    both = torch.autograd.grad(first.sum() + 2 * second.sum(), params)

    net.discriminator.load_state_dict(start)
    alone = torch.autograd.grad(net.discriminator(real).sum(), params)
    again = torch.autograd.grad(2 * net.discriminator(fake).sum(), params)
    for a, b, c in zip(both, alone, again, strict=True):
        torch.testing.assert_close(a, b + c, **EXACT)


@every_discriminator_norm
def test_real_and_generated_images_are_told_apart_from_each_other(discriminator_norm: DiscriminatorNorm) -> None:
    """What it says of real images is the same whatever is generated; batch norm would mix them in one batch."""
    net = built(discriminator_norm=discriminator_norm)
    start, real = state_of(net.discriminator), torch.randn(4, 2, 28, 28)
    alone = net.discriminator(real)
    net.discriminator.load_state_dict(start)
    beside = net.discriminator(real)
    net.discriminator(torch.randn(4, 2, 28, 28).sign())
    assert torch.equal(alone, beside)
    net.discriminator.load_state_dict(start)
    mixed = net.discriminator(torch.cat([real, torch.randn(4, 2, 28, 28).sign()]))[:4]
    assert torch.allclose(alone, mixed, atol=1e-6) == (discriminator_norm is not DiscriminatorNorm.batch)


# ---- spectral norm


def test_sigma_and_its_gradient_are_those_of_the_singular_value_decomposition() -> None:
    weight = noise(6, 3, 4, 4).requires_grad_()
    norm = SpectralNorm(weight.detach())
    for _ in range(2000):
        norm.advance(weight)
    scaled = norm(weight)
    exact = weight / torch.linalg.matrix_norm(weight.flatten(1), 2)
    torch.testing.assert_close(scaled, exact, **EXACT)
    assert torch.linalg.matrix_norm(scaled.flatten(1), 2).item() == pytest.approx(1, abs=1e-12)
    by = noise(*weight.shape, seed=4)
    ours, theirs = (torch.autograd.grad((of * by).sum(), weight)[0] for of in (scaled, exact))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_spectral_norm_is_torchs() -> None:
    """From the same vectors, step by step of the power method, where both have not yet converged."""
    conv = nn.Conv2d(3, 6, 4).double()
    weight = conv.weight.detach().clone()
    ours = SpectralNorm(weight)
    nn.init.normal_(ours.u)
    theirs = torch.nn.utils.parametrizations.spectral_norm(conv)
    kept: Any = theirs.parametrizations.weight[0]
    kept._v.copy_(F.normalize(weight.flatten(1).T @ ours.u, dim=0))
    sigmas = []
    for _ in range(4):
        ours.advance(weight)
        expected = theirs.weight  # in training, to ask for it is to take a step
        torch.testing.assert_close(ours(weight), expected, **EXACT)
        sigmas.append((weight / expected).mean().item())
    assert sigmas[0] < 0.98 * sigmas[-1]
    original = theirs.parametrizations.weight.original
    copy = original.detach().clone().requires_grad_()
    theirs.eval()
    by = noise(*weight.shape, seed=4)
    (a,) = torch.autograd.grad((ours(copy) * by).sum(), copy)
    (b,) = torch.autograd.grad((theirs.weight * by).sum(), original)
    torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("side", [28, 32, 64, 128])
def test_every_layer_of_the_discriminator_has_a_norm_of_one(side: int) -> None:
    """At first about so; while it does not change, ever nearer. The largest singular values are those of torch."""
    net = built(side, discriminator_norm=DiscriminatorNorm.spectral)
    images = torch.randn(2, 2, side, side)

    def largest() -> list[float]:
        return [
            torch.linalg.matrix_norm(layer.spectral(layer.weight).flatten(1), 2).item()
            for layer in net.discriminator.modules()
            if isinstance(layer, SpectralConv2d | SpectralLinear)
        ]

    assert len(largest()) == 1 + doublings(side)[1]
    assert all(0.999 < value < 1.2 for value in largest())
    for _ in range(100):
        net.discriminator(images)
    assert all(value == pytest.approx(1, abs=0.02) for value in largest())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_spectral_norm_is_computed_in_float32_in_mixed_precision(dtype: torch.dtype) -> None:
    net = built(discriminator_norm=DiscriminatorNorm.spectral)
    layer = net.discriminator.downs[0].conv
    assert isinstance(layer, SpectralConv2d)
    outside, start = layer.spectral(layer.weight), state_of(net.discriminator)
    layer.spectral.advance(layer.weight)
    moved = layer.spectral.u.clone()
    net.discriminator.load_state_dict(start)
    with torch.autocast("cpu", dtype):
        inside = layer.spectral(layer.weight)
        layer.spectral.advance(layer.weight)
        assert torch.equal(layer.spectral.u, moved)
        logits = net.discriminator(torch.randn(2, 2, 28, 28))
    assert torch.equal(inside, outside)
    assert (inside.dtype, logits.dtype) == (torch.float32, dtype)


# ---- second derivatives


@pytest.mark.parametrize("discriminator_norm", [DiscriminatorNorm.none, DiscriminatorNorm.spectral])
def test_the_gradient_of_a_gradient_penalty_matches_differences(discriminator_norm: DiscriminatorNorm) -> None:
    net = drawn(built(discriminator_norm=discriminator_norm)).train()
    images = noise(2, 2, 28, 28)

    def penalty() -> Tensor:
        """R1 of Mescheder et al. 2018, with gamma 1."""
        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net.discriminator(x).sum(), x, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean() / 2

    named = [(name, p) for name, p in net.discriminator.named_parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(penalty(), [p for _, p in named])
    for (name, p), gradient in zip(named, gradients, strict=True):
        at = int(gradient.abs().argmax())
        flat, values = p.detach().view(-1), []
        for sign in (1, -1):
            flat[at] += sign * 1e-6
            values.append(penalty().item())
            flat[at] -= sign * 1e-6
        numeric = (values[0] - values[1]) / 2e-6
        assert numeric == pytest.approx(gradient.flatten()[at].item(), rel=1e-4, abs=1e-9), name
        assert abs(numeric) > 1e-9, name


# ---- learning


def forms() -> list[dict[str, Any]]:
    """Each up-sampling and each pair of norms."""
    found = [{"up": up} for up in UpSampling]
    found += [{"norm": norm, "discriminator_norm": of} for norm in Norm for of in DiscriminatorNorm]
    return found


every_form = pytest.mark.parametrize("form", forms(), ids=lambda form: " ".join(map(str, form.values())))


@every_form
def test_either_network_learns_against_the_other_at_rest(form: dict[str, Any]) -> None:
    """First the discriminator, to tell squares from what is generated; then the generator, to pass as real."""
    net = built(base_channels=8, **form).train()
    z = torch.randn(8, 10)
    real = torch.full((8, 2, 28, 28), -1.0)
    for row in range(8):
        real[row, :, 2 * row : 2 * row + 10, 8:20] = 1
    fake = net(z).detach()

    def told() -> Tensor:
        return F.softplus(-net.discriminator(real)).mean() + F.softplus(net.discriminator(fake)).mean()

    first, others = told().item(), state_of(net.generator)
    optimizer = torch.optim.Adam(net.discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    for _ in range(40):
        optimizer.zero_grad()
        told().backward()
        optimizer.step()
    assert told().item() < 0.5 * first
    assert changed(net.generator, others) == set()

    fooled = F.softplus(-net.discriminator(net(z))).mean().item()
    others = state_of(net.discriminator)
    params = list(net.generator.parameters())
    optimizer = torch.optim.Adam(params, lr=2e-3, betas=(0.5, 0.999))
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.softplus(-net.discriminator(net(z))).mean()
        torch.autograd.backward(loss, inputs=params)
        optimizer.step()
    assert loss.item() < 0.5 * fooled
    assert changed(net.discriminator, others) == set()


def test_its_average_follows_weights_and_takes_what_norms_keep() -> None:
    net = built(discriminator_norm=DiscriminatorNorm.spectral).train()
    ema = Ema(net, 0.5)
    net.discriminator(torch.randn(2, 2, 28, 28))
    net(torch.randn(4, 10))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)
    ema.update(net)
    for (name, mean), p in zip(ema.module.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mean, p - 0.5, msg=name)
    for (name, copy), buffer in zip(ema.module.named_buffers(), net.named_buffers(), strict=True):
        assert torch.equal(copy, buffer[1]), name
    assert not ema.module.training
    assert isinstance(ema.module.discriminator, Discriminator)


def test_agc_leaves_out_the_layer_that_gives_the_logits() -> None:
    """Brock 2021, section 4.1, of the module that an update moves; a generator's last layer is a convolution."""
    for norm in DiscriminatorNorm:
        net = built(discriminator_norm=norm)
        for module, left in ((net.discriminator, {"output"}), (net.generator, set())):
            named = list(module.named_parameters())
            for _, p in named:
                p.grad = torch.ones_like(p)
            clip(named, ClipAgc(factor=1e-3))
            as_they_were = {name for name, p in named if p.grad is not None and bool((p.grad == 1).all())}
            assert {name.rpartition(".")[0] for name in as_they_were} == left
