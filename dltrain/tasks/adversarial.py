"""A generator that learns to make images, and a discriminator that learns to tell them from real ones."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain import signals
from dltrain.config.adversarial import Adversarial as Settings
from dltrain.config.adversarial import AdversarialLoss
from dltrain.config.messages import Mistake
from dltrain.engine import random
from dltrain.models.blocks import at_least_float32
from dltrain.report.samples import grid
from dltrain.tasks import Batch, Evaluation, Picture, Prediction, Scalars, Update
from dltrain.tasks.balance import balance
from dltrain.tasks.evaluating import evaluating
from dltrain.tasks.gan_loss import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    r1_penalty,
    score,
    told_right,
)
from dltrain.tasks.pictures import batch_picture, to_pixels
from dltrain.tasks.untraced import untraced

if TYPE_CHECKING:
    from dltrain.measuring.measures import Measures

CHUNK = 64  # images generated at once, always, so that the bits of one do not follow how many there are
COLUMNS = 8  # of the grid of an evaluation's first images, which has as many rows


class Adversarial(nn.Module):
    """A `model` with a `generator`, (B, latent_dim) -> (B, C, H, W), and a `discriminator`, images -> (B,) logits.

    `mean` and `std` undo the normalization of images; `seed` decides which latents an evaluation makes images from, and
    `measures` what these are worth. Each update passes through the other network without changing a bit of it, running
    statistics included: a generator's are those of its own updates.
    """

    model: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        settings: Settings,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int,
        measures: "Measures | None" = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.seed = seed
        self.measures = measures
        self.monitor = "step" if measures is None or measures.judge is None else "-val/fid"
        # not persistent: they follow from the data, and a state dict holds what is learned
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def updates(self) -> list[Update]:
        """The discriminator's, with `r1` its lazy penalty too, by the same optimizer; then the generator's."""
        settings, discriminator = self.settings, self.model.discriminator
        scale = settings.discriminator_lr_scale
        updates = [Update("discriminator", discriminator, self.discriminator_loss, lr_scale=scale)]
        if settings.r1 is not None:
            updates.append(Update("r1", discriminator, self.r1_loss, every=settings.r1_every, lr_scale=scale))
        steps = settings.discriminator_steps
        return [*updates, Update("generator", self.model.generator, self.generator_loss, every=steps)]

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        """Loss of a micro-batch of real images beside as many generated ones; each kind passes through on its own.

        `loss` is that of the logits; what wgan_gp adds to it is `gradient_penalty`. `accuracy` is the share told right.
        """
        kind, critic = self.settings.loss, self.model.discriminator
        with torch.no_grad(), untraced(self.model.generator):
            images = self.model.generator(self._drawn(batch))
        real, fake = at_least_float32(critic(batch.images)), at_least_float32(critic(images))
        loss = discriminator_loss(kind, real, fake)
        scalars = {"loss": loss.detach()}
        with torch.no_grad():
            scalars |= {"real_score": score(kind, real), "fake_score": score(kind, fake)}
            scalars["accuracy"] = told_right(kind, real, fake)
        if kind is AdversarialLoss.wgan_gp and self.settings.gradient_penalty > 0:
            epsilon = random.draw_uniform("interpolation", batch.ids, (1, 1, 1))
            added = self.settings.gradient_penalty * gradient_penalty(critic, batch.images, images, epsilon)
            loss, scalars["gradient_penalty"] = loss + added, added.detach()
        return loss, scalars

    def r1_loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        """gamma/2 ||grad D(x)||^2 at real images, times the steps that it stands for (Karras et al. 2020).

        Their correction of Adam's rate and betas for the further updates, by k/(k+1), is left out.
        """
        assert self.settings.r1 is not None
        weight = self.settings.r1 * self.settings.r1_every
        loss = weight * r1_penalty(self.model.discriminator, batch.images)
        return loss, {"loss": loss.detach()}

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Scalars]:
        """Loss of as many generated images as the micro-batch has real ones."""
        kind = self.settings.loss
        images = self.model.generator(self._drawn(batch))
        with untraced(self.model.discriminator):
            fake = at_least_float32(self.model.discriminator(images))
        loss = generator_loss(kind, fake)
        return loss, {"loss": loss.detach(), "fake_score": score(kind, fake.detach())}

    def _drawn(self, batch: Batch) -> Tensor:
        """(B, latent_dim) latents of an update: others for each of its samples, at each step."""
        return random.draw_normal("latents", batch.ids, (self.model.latent_dim,)).to(batch.images.dtype)

    def latents(self, seed: int, n: int, first: int = 0) -> Tensor:
        """(n, latent_dim) on the CPU, of images `first` and following; each depends on seed and number alone."""
        return random.normal(random.key(seed, "generate"), torch.arange(first, first + n), self.model.latent_dim)

    def generate(self, latents: Tensor) -> Tensor:
        """(n, C, H, W) uint8 on the CPU of (n, latent_dim), in float32: image i has the same bits whatever n is."""
        with evaluating(self), torch.inference_mode():
            return torch.cat([self._pixels(images).cpu() for images in self._generated(latents)])

    def _generated(self, latents: Tensor) -> Iterator[Tensor]:
        """Images (64 or fewer, C, H, W) in order, made in equal chunks; the last chunk is filled up with zeros."""
        device = self.mean.device
        for part in torch.split(latents, CHUNK):
            filled = F.pad(part.to(device, self.mean.dtype), (0, 0, 0, CHUNK - len(part)))
            with torch.autocast(device.type, enabled=False):
                images: Tensor = self.model.generator(filled)
            yield images[: len(part)]

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """What `measures` says of `settings.samples` images beside the split's, then the discriminator's part.

        That is `real_score`, `fake_score` and `discriminator_accuracy` (see `score`, `told_right`). Frames: `samples`,
        the first images of the run's own latents. Leaves no trace: no statistics, modes, gradients or random numbers
        are touched. Raises StopAskedError when a signal comes.
        """
        critic, kind = self.model.discriminator, self.settings.loss
        made, fake, seen, real = [], [], [], []
        with evaluating(self), torch.autocast(self.mean.device.type, enabled=False):
            with torch.inference_mode():
                for images in self._generated(self.latents(self.seed, self.settings.samples)):
                    signals.stop_if_asked()
                    made.append(self._pixels(images).cpu())
                    fake.append(critic(images))
            for batch in batches:  # the loader's own work stays outside of inference mode: it may keep what it makes
                with torch.inference_mode():
                    real += [critic(part) for part in torch.split(batch.images, CHUNK)]
                    if self.measures is not None:
                        seen.append(self._pixels(batch.images).cpu())
        pixels = torch.cat(made)
        logits = torch.cat(real).cpu(), torch.cat(fake).cpu()
        metrics: dict[str, float] = {}
        pictures: dict[str, Picture] = {}
        notes: list[str] = []
        if self.measures is not None:
            found = self.measures.evaluate(pixels, torch.cat(seen))
            metrics, pictures, notes = dict(found.metrics), dict(found.pictures), list(found.notes)
        metrics |= {f"{name}_score": score(kind, of).item() for name, of in zip(("real", "fake"), logits, strict=True)}
        metrics["discriminator_accuracy"] = told_right(kind, *logits).item()
        notes += balance(self.settings, critic, *logits)
        first = pixels[: COLUMNS * COLUMNS]
        return Evaluation(metrics, pictures, {"samples": lambda: grid(first, COLUMNS)}, tuple(notes))

    def _pixels(self, images: Tensor) -> Tensor:
        return to_pixels(images, self.mean, self.std)

    def predict(self, images: Tensor) -> Prediction:
        """Raises Mistake: a generator makes images, and answers nothing about given ones."""
        raise Mistake(
            "a generator makes images and has no answer to one",
            allowed="dltrain.load(run).generate(n=64, seed=0)",
            type_this="dltrain mode=generate run=last",
        )

    def answer(self, outputs: Tensor) -> Tensor:
        """Raises Mistake, as `predict` does."""
        return self.predict(outputs).values

    def pictures(self, batch: Batch) -> dict[str, Picture]:
        """`batch`: its first images as the discriminator sees them."""
        return {"batch": batch_picture(batch, self.mean, self.std)}
