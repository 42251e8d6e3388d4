"""What each side of a generator and a discriminator learns from, and the penalties on the discriminator's slope.

D(x) is the discriminator's logit for image x; sigma(D(x)) is the share of belief that x is real. Means are over images.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.config.adversarial import AdversarialLoss
from dltrain.models.blocks import at_least_float32

Discriminator = Callable[[Tensor], Tensor]  # (B, C, H, W) -> (B,) logits
BELIEFS = (AdversarialLoss.non_saturating, AdversarialLoss.minimax)  # whose logits are those of a probability


def discriminator_loss(kind: AdversarialLoss, real: Tensor, fake: Tensor) -> Tensor:
    """What D falls with, of its logits (N,) for real and (M,) for generated images.

    non_saturating, minimax: -mean log sigma(D(x)) - mean log(1 - sigma(D(G(z)))) (Goodfellow et al. 2014, equation 1);
    hinge: mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z))) (Lim and Ye 2017);
    wgan_gp: mean D(G(z)) - mean D(x), to which `gradient_penalty` belongs (Gulrajani et al. 2017).
    """
    if kind in BELIEFS:
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind is AdversarialLoss.hinge:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: AdversarialLoss, fake: Tensor) -> Tensor:
    """What G falls with, of D's logits (M,) for generated images.

    non_saturating: -mean log sigma(D(G(z))); minimax: mean log(1 - sigma(D(G(z)))) (both Goodfellow et al. 2014);
    hinge, wgan_gp: -mean D(G(z)).
    """
    if kind is AdversarialLoss.non_saturating:
        return F.softplus(-fake).mean()
    if kind is AdversarialLoss.minimax:
        return -F.softplus(fake).mean()
    return -fake.mean()


def score(kind: AdversarialLoss, logits: Tensor) -> Tensor:
    """() the mean probability that images are real, 0 to 1; of hinge and wgan_gp, which know none, the mean logit."""
    return (logits.sigmoid() if kind in BELIEFS else logits).mean()


def told_right(kind: AdversarialLoss, real: Tensor, fake: Tensor) -> Tensor:
    """() share, 0 to 1, of images on their side of 0, real and generated ones weighing the same.

    A critic of wgan_gp knows its logits up to a constant: its border lies in the middle of both means.
    """
    border = (real.mean() + fake.mean()) / 2 if kind is AdversarialLoss.wgan_gp else 0.0
    return ((real > border).float().mean() + (fake < border).float().mean()) / 2


def slopes(discriminator: Discriminator, images: Tensor) -> Tensor:
    """(B, C*H*W) gradient of each image's logit by its pixels, from which gradients flow on to D's weights.

    In float32 at least, whatever precision is around: in 16 bits it would vanish or overflow before anything scales it.
    D has to look at each image alone, so no batch norm.
    """
    with torch.autocast(images.device.type, enabled=False):
        x = at_least_float32(images.detach()).requires_grad_()
        (gradients,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradients.flatten(1)


def gradient_penalty(discriminator: Discriminator, real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """mean (||grad D(x^)|| - 1)^2 at x^ = epsilon x + (1 - epsilon) G(z) (Gulrajani et al. 2017, algorithm 1).

    `real` and `fake` are (B, C, H, W), `epsilon` (B, 1, 1, 1) in 0 to 1.
    """
    between = epsilon * real + (1 - epsilon) * fake
    norms: Tensor = torch.linalg.vector_norm(slopes(discriminator, between), dim=1)
    return (norms - 1).square().mean()


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """mean ||grad D(x)||^2 / 2 at real images (B, C, H, W) (Mescheder et al. 2018, equation 9, without gamma)."""
    return slopes(discriminator, real).square().sum(1).mean() / 2
