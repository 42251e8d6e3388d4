"""Whether a generator and a discriminator still learn from each other, or one side has won."""

from torch import Tensor, nn

from dltrain.config.adversarial import Adversarial, AdversarialLoss
from dltrain.config.check_adversarial import USUAL_R1
from dltrain.config.mode import Config
from dltrain.config.model import DiscriminatorNorm
from dltrain.models.dcgan import SpectralNorm
from dltrain.report.table import percent
from dltrain.tasks.gan_loss import discriminator_loss, told_right

TOLD, FOOLED = 0.99, 0.95  # shares of images from which on the discriminator, and the generator, has won
LITTLE = 0.05  # loss of a discriminator that is sure, too: in games that go well it may tell all, and stays above 0.1


def cures(cfg: Config) -> list[str]:
    """What a run has not tried yet against a generator that makes some kinds of images only."""
    found = []
    if cfg.task.loss is not AdversarialLoss.wgan_gp and cfg.task.r1 is None:
        norms = getattr(cfg.model, "discriminator_norm", None) is DiscriminatorNorm.batch
        found.append(f"task.r1={USUAL_R1}{' model.discriminator_norm=none' if norms else ''}")
    if cfg.trainer.ema is None:
        found.append("trainer.ema=0.999")
    return [*found, f"optim.lr={cfg.optim.lr / 2:g}"]


def balance(settings: Adversarial, discriminator: nn.Module, real: Tensor, fake: Tensor) -> list[str]:
    """A line where one side has won, by the logits (N,) of real images that were held out and (M,) of generated ones.

    What stands before its colon is the same for as long as it holds. A critic of wgan_gp is there to tell as much as it
    can, and its generator learns from it nevertheless: of that loss there are none.
    """
    kind, scale = settings.loss, settings.discriminator_lr_scale
    if kind is AdversarialLoss.wgan_gp:
        return []
    told, fooled = told_right(kind, real, fake).item(), (fake > 0).float().mean().item()
    loss, of_a_coin = (discriminator_loss(kind, *sides).item() for sides in ((real, fake), (0 * real, 0 * fake)))
    if told >= TOLD and loss <= LITTLE:
        tries = [f"task.discriminator_lr_scale={scale / 2:g}"]
        if not any(isinstance(module, SpectralNorm) for module in discriminator.modules()):
            tries.append("model.discriminator_norm=spectral")
        elif settings.r1 is None:
            tries.append(f"task.r1={USUAL_R1}")
        return [
            f"the discriminator has won: it tells {percent(told)} of held-out real and of generated images right, and "
            f"the generator learns little from it. If that stays so, try {' or '.join(tries)}"
        ]
    if fooled >= FOOLED and loss >= of_a_coin:  # below, it still tells one kind from the other
        return [
            f"the generator has won: the discriminator takes {percent(fooled)} of generated images for real, and has "
            f"little to teach. If that stays so, try task.discriminator_lr_scale={scale * 2:g} or "
            f"task.discriminator_steps={settings.discriminator_steps + 1}"
        ]
    return []
