"""Losses of both sides and penalties on a slope, with their gradients, in float64 against closed forms."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain.config import model as settings
from dltrain.config.adversarial import AdversarialLoss
from dltrain.config.model import DiscriminatorNorm
from dltrain.models.dcgan import DCGAN
from dltrain.tasks.gan_loss import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
    score,
    slopes,
    told_right,
)

REAL = np.array([2.5, -0.3, 0.7, 1.4, -4.0])
FAKE = np.array([-1.7, 0.4, -0.2, 3.1, -0.9, -6.0, 0.05])
KINDS = list(AdversarialLoss)


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def leaf(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


# loss of D, its gradient by D(x) times N, by D(G(z)) times M; loss of G, its gradient by D(G(z)) times M
BELIEF = (-np.log(sigma(REAL)).mean() - np.log(1 - sigma(FAKE)).mean(), sigma(REAL) - 1, sigma(FAKE))
CLOSED = {
    "non_saturating": (*BELIEF, -np.log(sigma(FAKE)).mean(), sigma(FAKE) - 1),
    "minimax": (*BELIEF, np.log(1 - sigma(FAKE)).mean(), -sigma(FAKE)),
    "hinge": (
        np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean(),
        -(REAL < 1).astype(float),
        (FAKE > -1).astype(float),
        -FAKE.mean(),
        -np.ones(7),
    ),
    "wgan_gp": (FAKE.mean() - REAL.mean(), -np.ones(5), np.ones(7), -FAKE.mean(), -np.ones(7)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_their_gradients_are_the_closed_forms(kind: AdversarialLoss) -> None:
    assert CLOSED.keys() == set(KINDS)
    of_d, by_real, by_fake, of_g, g_by_fake = CLOSED[kind]
    real, fake, only = leaf(REAL), leaf(FAKE), leaf(FAKE)
    loss = discriminator_loss(kind, real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(of_d, rel=1e-13)
    np.testing.assert_allclose(real.grad, by_real / 5, rtol=1e-12)
    np.testing.assert_allclose(fake.grad, by_fake / 7, rtol=1e-12)
    loss = generator_loss(kind, only)
    loss.backward()
    assert loss.item() == pytest.approx(of_g, rel=1e-13)
    np.testing.assert_allclose(only.grad, g_by_fake / 7, rtol=1e-12)


def test_beliefs_are_twice_binary_cross_entropy() -> None:
    """The form of the common ports: BCELoss against ones for real images and zeros for generated ones."""
    real, fake = leaf(REAL), leaf(FAKE)
    bce = nn.BCELoss()
    expected = bce(real.sigmoid(), torch.ones_like(real)) + bce(fake.sigmoid(), torch.zeros_like(fake))
    for kind in (AdversarialLoss.non_saturating, AdversarialLoss.minimax):
        assert discriminator_loss(kind, real, fake).item() == pytest.approx(expected.item(), rel=1e-12)
    assert generator_loss(AdversarialLoss.non_saturating, fake).item() == pytest.approx(
        bce(fake.sigmoid(), torch.ones_like(fake)).item(), rel=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_any_size_give_finite_losses_and_gradients(kind: AdversarialLoss) -> None:
    for sign in (-1, 1):
        real = torch.tensor([sign * 3e4], requires_grad=True)
        fake = torch.tensor([-sign * 3e4], requires_grad=True)
        (discriminator_loss(kind, real, fake) + generator_loss(kind, fake)).backward()
        for x in (real, fake):
            assert x.grad is not None
            assert torch.isfinite(x.grad).all()


def test_a_generator_that_is_seen_through_learns_by_non_saturating_alone() -> None:
    """What the two forms of the paper differ in: at D(G(z)) = -20 one has slope 1, the other next to none."""
    found = {}
    for kind in (AdversarialLoss.non_saturating, AdversarialLoss.minimax):
        fake = leaf(np.array([-20.0]))
        generator_loss(kind, fake).backward()
        assert fake.grad is not None
        found[kind] = fake.grad.item()
    assert found[AdversarialLoss.non_saturating] == pytest.approx(-1, abs=1e-8)
    assert -1e-8 < found[AdversarialLoss.minimax] < 0


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_probabilities_where_there_are_any(kind: AdversarialLoss) -> None:
    expected = sigma(REAL).mean() if kind in ("non_saturating", "minimax") else REAL.mean()
    assert score(kind, leaf(REAL)).item() == pytest.approx(expected, rel=1e-12)


def test_told_right_counts_both_kinds_alike() -> None:
    real, fake = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, 5.0])
    assert told_right(AdversarialLoss.hinge, real, fake).item() == pytest.approx((3 / 4 + 1 / 2) / 2)
    # logits at 0 are told neither way: a network that says 0 of all has told nothing
    assert told_right(AdversarialLoss.hinge, torch.zeros(3), torch.zeros(3)).item() == 0
    # a critic that has moved both up tells no worse
    kind = AdversarialLoss.wgan_gp
    assert told_right(kind, real, fake - 9).item() == told_right(kind, real + 100, fake + 91).item() == 1.0
    assert told_right(AdversarialLoss.hinge, real + 100, fake + 91).item() == 0.5


class Quadratic(nn.Module):
    """D(x) = x^T A x / 2 + b^T x of (B, 1, 2, 3) images: its slope is (A + A^T) x / 2 + b."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.a = nn.Parameter(torch.randn(6, 6, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(6, generator=generator, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        return ((x @ self.a) * x).sum(1) / 2 + x @ self.b


def images(seed: int, rows: int = 5) -> Tensor:
    return torch.randn(rows, 1, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(critic: Quadratic, x: np.ndarray) -> np.ndarray:
    a = critic.a.detach().numpy()
    return x @ (a + a.T) / 2 + critic.b.detach().numpy()


def outer(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """mean over images of (w x^T + x w^T) / 2: how a slope (A + A^T) x / 2 hands a gradient w on to A."""
    both = np.einsum("ni,nj->ij", weights, x)
    return (both + both.T) / 2 / len(x)


def test_gradient_penalty_of_a_quadratic_and_its_gradient_by_the_weights() -> None:
    critic, real, fake = Quadratic(), images(1), images(2)
    epsilon = torch.rand(5, 1, 1, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    penalty = gradient_penalty(critic, real, fake, epsilon)
    penalty.backward()
    e = epsilon.flatten(1).numpy()
    x = e * real.flatten(1).numpy() + (1 - e) * fake.flatten(1).numpy()
    slope = by_hand(critic, x)
    norm = np.linalg.norm(slope, axis=1, keepdims=True)
    assert penalty.item() == pytest.approx(((norm - 1) ** 2).mean(), rel=1e-12)
    handed = 2 * (norm - 1) * slope / norm
    assert critic.b.grad is not None
    assert critic.a.grad is not None
    np.testing.assert_allclose(critic.b.grad, handed.mean(0), rtol=1e-11)
    np.testing.assert_allclose(critic.a.grad, outer(handed, x), rtol=1e-10, atol=1e-13)


def test_gradient_penalty_is_0_for_a_slope_of_length_1_and_finite_for_none() -> None:
    critic, ends = Quadratic(), (images(1), images(2))
    with torch.no_grad():
        critic.a.zero_()
        critic.b.copy_(critic.b / critic.b.norm())
    half = torch.full((5, 1, 1, 1), 0.5)
    assert gradient_penalty(critic, *ends, half).item() == pytest.approx(0, abs=1e-28)
    with torch.no_grad():
        critic.b.zero_()
    penalty = gradient_penalty(critic, *ends, half)
    penalty.backward()
    assert penalty.item() == 1
    assert critic.b.grad is not None
    assert torch.isfinite(critic.b.grad).all()


def test_r1_of_a_quadratic_and_its_gradient_by_the_weights() -> None:
    critic, real = Quadratic(), images(1)
    penalty = r1_penalty(critic, real)
    penalty.backward()
    x = real.flatten(1).numpy()
    slope = by_hand(critic, x)
    assert penalty.item() == pytest.approx((slope**2).sum(1).mean() / 2, rel=1e-12)
    assert critic.b.grad is not None
    assert critic.a.grad is not None
    np.testing.assert_allclose(critic.b.grad, slope.mean(0), rtol=1e-11)
    np.testing.assert_allclose(critic.a.grad, outer(slope, x), rtol=1e-10, atol=1e-13)
    assert not real.requires_grad


def critic(norm: DiscriminatorNorm, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    cfg = settings.DCGAN(base_channels=2, latent_dim=3, discriminator_norm=norm)
    found: nn.Module = DCGAN(cfg, (1, 28, 28), 0).discriminator.to(dtype)
    with torch.no_grad():
        for weight in found.parameters():
            weight.mul_(8)  # so that slopes are no mere 1e-4
    return found


@pytest.mark.parametrize("norm", [DiscriminatorNorm.none, DiscriminatorNorm.spectral])
def test_the_gradient_of_a_penalty_is_that_of_finite_differences(norm: DiscriminatorNorm) -> None:
    """Second derivatives through the network's own layers, in float64."""
    d = critic(norm, torch.float64)
    real = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    r1_penalty(d, real).backward()
    along = {name: torch.randn_like(p) for name, p in d.named_parameters()}
    slope = sum((p.grad * along[name]).sum().item() for name, p in d.named_parameters() if p.grad is not None)
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for name, p in d.named_parameters():
                p.add_(along[name], alpha=sign * step)
        values.append(r1_penalty(d, real).item())
        with torch.no_grad():
            for name, p in d.named_parameters():
                p.sub_(along[name], alpha=sign * step)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)
    assert abs(slope) > 1e-8


@pytest.mark.parametrize("norm", [DiscriminatorNorm.none, DiscriminatorNorm.spectral])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_penalties_and_their_gradients_are_float32s_own(
    norm: DiscriminatorNorm, dtype: torch.dtype
) -> None:
    """Bit for bit, also after a forward pass in the same context has left its 16-bit weights in autocast's cache."""
    real = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    fake = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(2)) * 2 - 1
    epsilon = torch.rand(4, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    found = []
    for half in (False, True):
        d = critic(norm).eval()
        with torch.autocast("cpu", dtype=dtype, enabled=half):
            logits = d(real)
            assert logits.dtype == (dtype if half else torch.float32)
            penalties = [r1_penalty(d, real), gradient_penalty(d, real, fake, epsilon)]
        sum(penalties).backward()  # type: ignore[union-attr]
        found.append([*penalties, *(p.grad for p in d.parameters())])
    for whole, mixed in zip(*found, strict=True):
        assert whole is not None
        assert mixed is not None
        assert mixed.dtype == torch.float32
        assert torch.equal(whole, mixed)


def test_in_16_bits_a_penalty_would_be_another() -> None:
    """The negative control: a slope as autocast would compute it."""
    d = critic(DiscriminatorNorm.none)
    real = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    exact = slopes(d, real).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = real.clone().requires_grad_()
        (rough,) = torch.autograd.grad(d(x).sum(), x)
    assert ((rough.flatten(1) - exact).norm() / exact.norm()).item() > 1e-4
