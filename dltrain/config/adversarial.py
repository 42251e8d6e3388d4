"""Settings of the task in which a generator learns from a discriminator."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from dltrain.config.knob import knob


class AdversarialLoss(StrEnum):
    non_saturating = "non_saturating"
    minimax = "minimax"
    hinge = "hinge"
    wgan_gp = "wgan_gp"


@dataclass
class Adversarial:
    """A generator of images, and a discriminator that tells them from real ones (Goodfellow et al. 2014)."""

    kinds: ClassVar[tuple[str, ...]] = ("class", "value", "none")
    name: str = "adversarial"
    loss: AdversarialLoss = knob(
        AdversarialLoss.non_saturating,
        "non_saturating, minimax (both Goodfellow 2014), hinge (Lim and Ye 2017), wgan_gp (Gulrajani 2017)",
    )
    gradient_penalty: float = knob(10.0, "lambda: weight of (||gradient|| - 1)^2, with loss=wgan_gp", ge=0)
    r1: float | None = knob(
        None,
        "gamma: (gamma / 2) ||gradient||^2 at real images, a further update of the discriminator; null: off",
        gt=0,
        source="Mescheder 2018",
    )
    r1_every: int = knob(16, "steps from one R1 update to the next, each weighing as many", ge=1, source="Karras 2020")
    discriminator_lr_scale: float = knob(1.0, "factor on optim.lr for the discriminator", gt=0, source="Heusel 2017")
    discriminator_steps: int = knob(1, "discriminator updates to one of the generator; each is a step", ge=1)
    samples: int = knob(1000, "generated images that are measured at each evaluation", ge=2, le=100_000)
    judge: str = knob(
        "auto",
        "whose features measure: auto (LeNet-5 trained once on the set's own labels; Inception-v3 where there are "
        "none), a run of a classifier, digits, inception, or none",
        free_text=True,
    )
