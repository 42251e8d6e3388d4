"""The adversarial task: who moves whom, which latents, what an evaluation finds and that it leaves no trace."""

import copy
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain import signals
from dltrain.config import model as settings
from dltrain.config.adversarial import Adversarial as Settings
from dltrain.config.adversarial import AdversarialLoss
from dltrain.config.check import check
from dltrain.config.compose import compose
from dltrain.config.messages import Mistake
from dltrain.config.model import DiscriminatorNorm, Norm, UpSampling
from dltrain.engine import random
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.precision import make_scaler
from dltrain.engine.random import Position, set_position
from dltrain.engine.step import Turn, apply_update
from dltrain.models.dcgan import DCGAN
from dltrain.tasks import Batch, adversarial
from dltrain.tasks.adversarial import Adversarial
from dltrain.tasks.balance import balance, cures
from dltrain.tasks.gan_loss import score, told_right
from dltrain.tasks.untraced import untraced
from tests.engine.reading import NoReading

CPU = torch.device("cpu")
BASE = {"base_channels": 2, "latent_dim": 5}
ALONE = {"discriminator_norm": DiscriminatorNorm.none}


def build(measures: Any = None, shape: tuple[int, int, int] = (1, 28, 28), **words: Any) -> Adversarial:
    """A tiny task; `words` are of the model where it has such a field, else of the task."""
    torch.manual_seed(0)
    names = {name for name in words if hasattr(settings.DCGAN(), name)}
    model = DCGAN(settings.DCGAN(**BASE, **{name: words[name] for name in names}), shape, 0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "spectral" not in name:
                weight.mul_(5)  # at N(0, 0.02) so few channels give next to nothing
    task = Settings(samples=words.pop("samples", 70), **{n: v for n, v in words.items() if n not in names})
    half = (0.5,) * shape[0]
    found = Adversarial(model, task, mean=half, std=half, seed=3, measures=measures)
    return found.train()


def pixels(rows: int, seed: int = 1, shape: tuple[int, int, int] = (1, 28, 28)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, *shape), dtype=torch.uint8, generator=generator)


def batch(rows: int = 12, seed: int = 1, first: int = 0) -> Batch:
    return Batch(pixels(rows, seed) / 127.5 - 1, None, torch.arange(first, first + rows))


def config(*words: str) -> Any:
    return compose(["model=mlp", "optim=sgd", "optim.momentum=0", "optim.nesterov=false", *words])[0]


def turns(cfg: Any, task: Adversarial, precision: str = "fp32") -> dict[str, Turn]:
    updates = task.updates()
    optimizers = build_optimizers(cfg.optim, updates, CPU)
    scaler = make_scaler(cfg.precision, precision, CPU)
    found = {}
    for i, u in enumerate(updates):
        optimizer = optimizers["generator" if u.name == "generator" else "discriminator"]
        named = list(u.module.named_parameters())
        found[u.name] = Turn(u, i, named, optimizer, CPU, precision, scaler, u.name != "r1")
    return found


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


# ---- who moves whom

FORMS: list[dict[str, Any]] = [
    {"loss": loss, "discriminator_norm": norm}
    for loss in AdversarialLoss
    for norm in DiscriminatorNorm
    if not (loss is AdversarialLoss.wgan_gp and norm is DiscriminatorNorm.batch)
]
FORMS += [{"r1": 3.0, "discriminator_norm": norm} for norm in (DiscriminatorNorm.none, DiscriminatorNorm.spectral)]
FORMS += [{"up": UpSampling.resize}, {"up": UpSampling.pixelshuffle}, {"norm": Norm.none}]


@pytest.mark.parametrize("words", FORMS, ids=lambda words: " ".join(f"{value}" for value in words.values()))
def test_an_update_moves_its_network_and_no_bit_of_the_other(words: dict[str, Any]) -> None:
    """Weights and buffers: running statistics and the estimates of spectral norms."""
    task = build(**words)
    networks = {"generator": task.model.generator, "discriminator": task.model.discriminator}
    for name, turn in turns(config(), task).items():
        mine = "generator" if name == "generator" else "discriminator"
        other = "discriminator" if name == "generator" else "generator"
        before = {network: state(module) for network, module in networks.items()}
        apply_update(config(), turn, batch(), Position(step=7), lr=0.1)
        assert moved(networks[other], before[other]) == set(), name
        weights = {key for key, value in networks[mine].named_parameters() if value.ndim > 1}
        assert weights <= moved(networks[mine], before[mine]), name
        assert all(param.grad is None for param in networks[other].parameters()), name
        for network in networks.values():
            network.zero_grad()


def test_a_generator_keeps_the_statistics_of_its_own_updates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: without `untraced` the discriminator's update would move them."""
    task = build()
    turn = turns(config(), task)
    before = state(task.model.generator)
    apply_update(config(), turn["generator"], batch(), Position(), lr=0.0)
    statistics = {name for name in before if "running" in name or "tracked" in name}
    assert statistics
    assert moved(task.model.generator, before) == statistics
    monkeypatch.setattr(adversarial, "untraced", lambda module: nullcontext())
    before = state(task.model.generator)
    apply_update(config(), turn["discriminator"], batch(), Position(), lr=0.1)
    assert moved(task.model.generator, before) == statistics


class Foreign(nn.Module):
    """A discriminator as others write it: running statistics, torch's own spectral norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3))
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.conv(x)).relu().mean((2, 3))).squeeze(1)
        return out


def test_untraced_computes_as_in_training_and_changes_no_buffer() -> None:
    network = Foreign()
    x = torch.randn(6, 1, 9, 9)
    before = state(network)
    with untraced(network):
        through = network(x)
    assert moved(network, before) == set()
    assert network.norm.track_running_stats
    assert all(module.training for module in network.modules())
    estimates = {name: value.clone() for name, value in network.named_buffers() if "parametrizations" in name}
    network(x)
    assert {name for name in moved(network, before) if "norm" in name.split(".")[0]}
    with torch.no_grad():  # the same estimates of the spectral norms: the same bits
        for name, value in network.named_buffers():
            if name in estimates:
                value.copy_(estimates[name])
        for module in network.modules():
            if "SpectralNorm" in type(module).__name__:
                module.training = False
        assert torch.equal(network(x), through)


def test_untraced_puts_everything_back_after_an_error() -> None:
    network = Foreign()
    network.norm.eval()
    with pytest.raises(ZeroDivisionError), untraced(network):
        raise ZeroDivisionError
    assert network.norm.track_running_stats
    assert not network.norm.training
    assert all(module.training for module in network.modules() if module is not network.norm)


# ---- what the updates are


def test_updates_are_in_their_order_with_their_rates() -> None:
    task = build(r1=2.0, r1_every=4, discriminator_steps=3, discriminator_lr_scale=0.5, **ALONE)
    found = [(u.name, u.every, u.lr_scale) for u in task.updates()]
    assert found == [("discriminator", 1, 0.5), ("r1", 4, 0.5), ("generator", 3, 1.0)]
    modules = [u.module for u in task.updates()]
    assert modules == [task.model.discriminator, task.model.discriminator, task.model.generator]
    assert [u.name for u in build().updates()] == ["discriminator", "generator"]
    optimizers = build_optimizers(compose(["model=dcgan"])[0].optim, task.updates(), CPU)
    assert list(optimizers) == ["discriminator", "generator"]


def test_two_rates_of_learning() -> None:
    """Under plain SGD the discriminator's step is as much longer as `discriminator_lr_scale` says."""
    steps = []
    for scale in (1.0, 4.0):
        task = build(discriminator_lr_scale=scale)
        before = state(task)
        found = turns(config(), task)
        apply_update(config(), found["discriminator"], batch(), Position(), lr=0.001)
        d = task.state_dict()["model.discriminator.first.conv.weight"] - before["model.discriminator.first.conv.weight"]
        task.load_state_dict(before)
        apply_update(config(), found["generator"], batch(), Position(), lr=0.001)
        g = task.state_dict()["model.generator.project.linear.weight"] - before["model.generator.project.linear.weight"]
        steps.append((d, g))
    torch.testing.assert_close(steps[1][0], 4 * steps[0][0], rtol=1e-3, atol=1e-7)
    assert torch.equal(steps[1][1], steps[0][1])


def test_real_and_generated_batches_pass_on_their_own() -> None:
    """One pass of the real images, one of as many generated ones; each has the statistics of its own."""
    task = build()
    seen: list[Tensor] = []
    task.model.discriminator.register_forward_hook(lambda module, args, out: seen.extend([args[0], out.detach()]))
    real = batch()
    set_position(Position(step=5), CPU)
    z = random.draw_normal("latents", real.ids, (5,))
    made = copy.deepcopy(task.model.generator)(z)
    loss, found = task.discriminator_loss(real)
    assert len(seen) == 4
    assert torch.equal(seen[0], real.images)
    assert torch.equal(seen[2], made)
    of_real, of_made = seen[1], seen[3]
    expected = torch.nn.functional.softplus(-of_real).mean() + torch.nn.functional.softplus(of_made).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert found["loss"].item() == loss.item()
    kind = AdversarialLoss.non_saturating
    assert found["real_score"].item() == pytest.approx(score(kind, of_real).item(), rel=1e-6)
    assert found["fake_score"].item() == pytest.approx(score(kind, of_made).item(), rel=1e-6)
    assert found["accuracy"].item() == pytest.approx(told_right(kind, of_real, of_made).item())
    together = task.model.discriminator(torch.cat([real.images, made])).detach()
    assert not torch.allclose(together, torch.cat([of_real, of_made]), atol=1e-3)


def test_scalars_of_each_update_are_there() -> None:
    set_position(Position(), CPU)
    both = {"loss", "real_score", "fake_score", "accuracy"}
    assert set(build().discriminator_loss(batch())[1]) == both
    critic = build(loss=AdversarialLoss.wgan_gp, **ALONE)
    loss, found = critic.discriminator_loss(batch())
    assert set(found) == both | {"gradient_penalty"}
    assert loss.item() == pytest.approx((found["loss"] + found["gradient_penalty"]).item(), rel=1e-6)
    assert found["gradient_penalty"].item() > 0
    plain = build(loss=AdversarialLoss.wgan_gp, gradient_penalty=0.0, **ALONE)
    assert set(plain.discriminator_loss(batch())[1]) == both
    assert set(build().generator_loss(batch())[1]) == {"loss", "fake_score"}
    assert set(build(r1=1.0, **ALONE).r1_loss(batch())[1]) == {"loss"}


def test_a_lazy_penalty_weighs_as_many_steps_as_it_stands_for() -> None:
    losses = [build(r1=gamma, r1_every=every, **ALONE).r1_loss(batch())[0] for gamma, every in ((1, 1), (3, 1), (3, 8))]
    assert losses[0] > 0
    assert losses[1].item() == pytest.approx(3 * losses[0].item(), rel=1e-6)
    assert losses[2].item() == pytest.approx(24 * losses[0].item(), rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_lazy_penalty_moves_the_same_bits_in_mixed_precision(precision: str) -> None:
    """Its second derivatives are float32's; the scaler's powers of two go in and out of them without a trace."""
    ends = []
    for each in ("fp32", precision):
        task = build(r1=5.0, **ALONE)
        cfg = config(f"precision={each}", *(["precision.init_scale=1024"] if each == "fp16" else []))
        found = apply_update(cfg, turns(cfg, task, each)["r1"], batch(), Position(), lr=0.01)
        assert not found.get("skipped", torch.tensor(False))
        ends.append((state(task.model.discriminator), found))
    assert ends[0][0].keys() == ends[1][0].keys()
    assert all(torch.equal(value, ends[1][0][name]) for name, value in ends[0][0].items())
    assert torch.equal(ends[0][1]["grad_norm"], ends[1][1]["grad_norm"])
    assert moved(build(r1=5.0, **ALONE).model.discriminator, ends[0][0])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_critic_learns_in_mixed_precision_about_what_it_learns_in_float32(precision: str) -> None:
    gradients = []
    for each in ("fp32", precision):
        task = build(loss=AdversarialLoss.wgan_gp, **ALONE)
        cfg = config(f"precision={each}", *(["precision.init_scale=1024"] if each == "fp16" else []))
        before = torch.nn.utils.parameters_to_vector(task.model.discriminator.parameters()).detach().clone()
        apply_update(cfg, turns(cfg, task, each)["discriminator"], batch(), Position(), lr=1.0)
        after = torch.nn.utils.parameters_to_vector(task.model.discriminator.parameters()).detach()
        gradients.append(before - after)
    assert gradients[0].norm() > 0
    assert ((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item() < 0.02


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "words",
    [{}, {"loss": "wgan_gp", "r1": 1.0, "discriminator_norm": "spectral"}, {"loss": "hinge", "norm": Norm.none}],
    ids=["plain", "penalties", "hinge"],
)
def test_no_turn_reads_a_value_from_the_device(precision: str, words: dict[str, Any]) -> None:
    words = dict(words)
    if "loss" in words:
        words["loss"] = AdversarialLoss(words["loss"])
    if "discriminator_norm" in words:
        words["discriminator_norm"] = DiscriminatorNorm(words["discriminator_norm"])
    task, cfg = build(**words), config("clip=norm")
    for turn in turns(cfg, task, precision).values():
        apply_update(cfg, turn, batch(), Position(), lr=0.01)
        with NoReading():
            apply_update(cfg, turn, batch(), Position(step=1), lr=0.01)


# ---- latents and micro-batches


def latents_of(task: Adversarial, name: str, of: Batch, step: int) -> Tensor:
    seen: list[Tensor] = []
    hook = task.model.generator.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    update = next((index, u) for index, u in enumerate(task.updates()) if u.name == name)
    set_position(Position(step=step, update=update[0]), CPU)
    update[1].loss(of)
    hook.remove()
    (found,) = seen
    return found


def test_latents_are_drawn_for_each_update_step_and_sample() -> None:
    task = build()
    first = latents_of(task, "generator", batch(), 4)
    assert first.shape == (12, 5)
    assert not (first == latents_of(task, "discriminator", batch(), 4)).any()
    assert not (first == latents_of(task, "generator", batch(), 5)).any()
    whole = batch()
    assert torch.equal(latents_of(task, "generator", whole.part(slice(3, 8)), 4), first[3:8])
    many = latents_of(task, "generator", batch(3000), 4)
    assert many.mean().abs() < 0.03
    assert (many.std() - 1).abs() < 0.03


MICRO = {"norm": Norm.none, **ALONE}


@pytest.mark.parametrize("name", ["discriminator", "r1", "generator"])
@pytest.mark.parametrize("loss", AdversarialLoss)
def test_micro_batches_without_batch_norm_are_the_whole_batch(name: str, loss: AdversarialLoss) -> None:
    ends = []
    for size in (None, 5):
        cfg = config()
        cfg.trainer.micro_batch_size = size
        task = build(loss=loss, r1=2.0, **MICRO)
        found = apply_update(cfg, turns(cfg, task)[name], batch(), Position(step=2), lr=1.0)
        ends.append((state(task), found))
    before = state(build(loss=loss, r1=2.0, **MICRO))
    for key, value in ends[0][0].items():
        scale = (value - before[key]).abs().max().item()
        torch.testing.assert_close(ends[1][0][key], value, rtol=0, atol=1e-6 + 1e-4 * scale)
    assert ends[0][1]["loss"].item() == pytest.approx(ends[1][1]["loss"].item(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["discriminator", "generator"])
def test_micro_batches_with_batch_norm_have_statistics_of_their_own(name: str) -> None:
    ends = []
    for size in (None, 5):
        cfg = config()
        cfg.trainer.micro_batch_size = size
        task = build()
        apply_update(cfg, turns(cfg, task)[name], batch(), Position(step=2), lr=1.0)
        ends.append(torch.nn.utils.parameters_to_vector(task.parameters()).detach())
    assert not torch.allclose(*ends, atol=1e-4)


# ---- images


def test_latents_of_a_seed_are_the_first_of_any_more() -> None:
    task = build()
    ten, hundred = task.latents(0, 10), task.latents(0, 100)
    assert hundred.shape == (100, 5)
    assert torch.equal(hundred[:10], ten)
    assert torch.equal(task.latents(0, 30, 70), hundred[70:])
    assert not (task.latents(1, 100) == hundred).any()


def settled(task: Adversarial) -> Adversarial:
    """With running statistics that are no zeros and ones, and images that are not all grey."""
    with torch.no_grad():
        task.model.generator.output.weight.mul_(30)
        for seed in range(20):
            task.model.generator(torch.randn(32, 5, generator=torch.Generator().manual_seed(seed)))
    return task


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65])
def test_a_picture_is_the_same_bits_whatever_their_number(n: int) -> None:
    task = settled(build(shape=(3, 32, 32)))
    before, generator = state(task), torch.get_rng_state()
    whole = task.generate(task.latents(0, 130))
    some = task.generate(task.latents(0, n))
    assert whole.shape == (130, 3, 32, 32)
    assert whole.dtype == torch.uint8
    assert torch.equal(some, whole[:n])
    assert whole.float().std(0).mean() > 20
    assert moved(task, before) == set()
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in task.modules())


def test_images_are_those_of_evaluation_in_float32_whatever_is_around() -> None:
    task = settled(build())
    z = task.latents(9, 64)
    found = task.generate(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(task.generate(z), found)
    copied = copy.deepcopy(task.model).eval()
    expected = ((copied(z).detach().numpy().astype(np.float64) + 1) / 2 * 255).round()
    assert (np.abs(found.numpy() - expected) <= 1).all()  # a value halfway may round either way
    assert (found.numpy() == expected).mean() > 0.999


# ---- evaluation


class Recorded:
    """Measures that remember what they were shown."""

    def __init__(self, judge: Any = None) -> None:
        self.judge = judge
        self.shown: list[tuple[Tensor, Tensor]] = []

    def evaluate(self, generated: Tensor, real: Tensor) -> Any:
        self.shown.append((generated, real))
        return SimpleNamespace(metrics={"fid": 7.5}, pictures={"modes": lambda: None}, notes=("a mode is lost",))

    def __deepcopy__(self, memo: Any) -> "Recorded":
        return self


def split(sizes: tuple[int, ...] = (80, 30)) -> Iterator[Batch]:
    for at, rows in enumerate(sizes):
        yield batch(rows, seed=50 + at)


def test_an_evaluation_measures_the_runs_own_samples_beside_all_of_the_split() -> None:
    measures = Recorded()
    task = build(measures, samples=70)
    found = task.evaluate(split())
    ((generated, real),) = measures.shown
    assert torch.equal(generated, task.generate(task.latents(3, 70)))
    assert torch.equal(real, torch.cat([pixels(80, 50), pixels(30, 51)]))
    assert list(found.metrics) == ["fid", "real_score", "fake_score", "discriminator_accuracy"]
    assert found.metrics["fid"] == 7.5
    assert list(found.pictures) == ["modes"]
    assert found.notes[0] == "a mode is lost"
    frame = np.asarray(found.frames["samples"]())
    first, last = generated[0, 0].numpy(), generated[63, 0].numpy()
    side = (frame.shape[0] - 2) // 8
    large = [np.kron(image, np.ones(((side - 2) // 28,) * 2, np.uint8)) for image in (first, last)]
    assert np.array_equal(frame[2:side, 2:side], large[0])
    assert np.array_equal(frame[-side : frame.shape[0] - 2, -side : frame.shape[1] - 2], large[1])


def test_scores_are_the_discriminators_on_both_kinds() -> None:
    task = build(samples=70, discriminator_norm=DiscriminatorNorm.none)
    found = task.evaluate(split()).metrics
    critic = copy.deepcopy(task.model.discriminator).eval()
    real = torch.cat([pixels(80, 50), pixels(30, 51)]) / 127.5 - 1
    fake = copy.deepcopy(task.model).eval()(task.latents(3, 70))
    with torch.no_grad():
        real, fake = critic(real).double(), critic(fake).double()
    assert found["real_score"] == pytest.approx(real.sigmoid().mean().item(), rel=1e-5)
    assert found["fake_score"] == pytest.approx(fake.sigmoid().mean().item(), rel=1e-5)
    expected = ((real > 0).double().mean() + (fake < 0).double().mean()).item() / 2
    assert found["discriminator_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_an_evaluation_leaves_no_trace_and_its_precision_is_float32() -> None:
    for norm in DiscriminatorNorm:
        task = build(Recorded(), discriminator_norm=norm)
        before, generator = state(task), torch.get_rng_state()
        plain = task.evaluate(split())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = task.evaluate(split())
        assert plain.metrics == mixed.metrics
        assert moved(task, before) == set()
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(module.training for module in task.modules())
        assert all(param.grad is None for param in task.parameters())


def test_what_is_monitored_follows_the_judge() -> None:
    assert build().monitor == "step"
    assert build(Recorded()).monitor == "step"
    assert build(Recorded(judge="a classifier")).monitor == "-val/fid"
    measures = Recorded()
    assert copy.deepcopy(build(measures)).measures is measures
    assert not any("measures" in name for name in build(measures).state_dict())
    assert all(name.startswith("model.") for name in build(measures).state_dict())


def test_a_signal_ends_an_evaluation_among_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "requested", lambda: "SIGTERM")
    with pytest.raises(signals.StopAskedError):
        build().evaluate(split())


def test_what_a_generator_cannot_do_says_what_it_can() -> None:
    for ask in (build().predict, build().answer):
        with pytest.raises(Mistake) as caught:
            ask(batch().images)
        assert "mode=generate" in str(caught.value)


def test_a_batch_is_shown_without_labels() -> None:
    picture = build().pictures(batch()._replace(targets=torch.arange(12)))["batch"]()
    assert min(picture.size) > 100


# ---- who has won

WON = torch.full((50,), 6.0)
LOST = -WON
DRAWN = torch.linspace(-1, 2, 50)


@pytest.mark.parametrize("kind", [AdversarialLoss.non_saturating, AdversarialLoss.minimax, AdversarialLoss.hinge])
def test_a_side_that_has_won_is_told_with_what_to_try(kind: AdversarialLoss) -> None:
    task = build(loss=kind)
    critic = task.model.discriminator
    (line,) = balance(task.settings, critic, WON, LOST)
    assert line.startswith("the discriminator has won")
    (other,) = balance(task.settings, critic, LOST, WON)
    assert other.startswith("the generator has won")
    assert balance(task.settings, critic, DRAWN, -DRAWN) == []
    nearly = LOST.clone()
    nearly[0] = 1
    (again,) = balance(task.settings, critic, WON, nearly)
    assert "99.0 %" in again
    assert again.partition(":")[0] == line.partition(":")[0]
    # real images are called more real than the generated ones, all of which are called real: it still tells them apart
    assert balance(task.settings, critic, WON, torch.full((50,), 0.1)) == []
    unsure = torch.full((50,), 0.9)  # all are told, and the loss has much to teach: a game that goes on
    assert balance(task.settings, critic, unsure, -unsure) == []


def test_a_critic_may_tell_all_of_them() -> None:
    task = build(loss=AdversarialLoss.wgan_gp, **ALONE)
    assert balance(task.settings, task.model.discriminator, WON, LOST) == []


@pytest.mark.parametrize("norm", DiscriminatorNorm)
@pytest.mark.parametrize("r1", [None, 2.0])
@pytest.mark.parametrize("sides", [(WON, LOST), (LOST, WON)])
def test_what_is_to_be_tried_can_be_typed_and_is_new(
    norm: DiscriminatorNorm, r1: float | None, sides: tuple[Tensor, Tensor]
) -> None:
    task = build(discriminator_norm=norm, r1=r1)
    (line,) = balance(task.settings, task.model.discriminator, *sides)
    words = [word for word in shlex.split(line.partition(" try ")[2]) if word != "or"]
    assert words
    for word in words:
        assert word not in (f"model.discriminator_norm={norm}", f"task.r1={r1}")
        cfg, _ = compose(["model=dcgan", "data=digits", *words])
        key, _, value = word.partition("=")
        group, name = key.split(".")
        assert str(getattr(getattr(cfg, group), name)) in (value, f"{value}.0")


@pytest.mark.parametrize("r1", [None, 2.0])
@pytest.mark.parametrize("ema", [None, 0.999])
@pytest.mark.parametrize("norm", DiscriminatorNorm)
def test_what_is_to_be_tried_against_lost_classes_is_new_and_can_be_typed(
    r1: float | None, ema: float | None, norm: DiscriminatorNorm
) -> None:
    if r1 is not None and norm is DiscriminatorNorm.batch:
        return
    own = [f"task.r1={r1}"] if r1 else []
    own += [f"trainer.ema={ema}"] if ema else []
    base = ["model=dcgan", "data=digits", f"model.discriminator_norm={norm}"]
    cfg, _ = compose([*base, *own])
    found = cures(cfg)
    assert found[-1] == "optim.lr=0.0001"
    assert any("r1" in words for words in found) == (r1 is None)
    assert any("ema" in words for words in found) == (ema is None)
    for words in found:
        tried, _ = compose([*base, *own, *shlex.split(words)])
        assert tried != cfg


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_generator_is_not_shown_mixtures(name: str) -> None:
    with pytest.raises(Mistake, match=rf"data.augment.{name}=0.2 shows mixtures") as told:
        check(compose(["model=dcgan", "data=digits", f"data.augment.{name}=0.2"])[0])
    assert told.value.type_this == f"data.augment.{name}=0"
