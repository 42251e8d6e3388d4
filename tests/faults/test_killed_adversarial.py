"""A generator and a discriminator, killed between their updates and resumed, end as if nothing had happened.

That is with the bits of weights, averages, optimizers and metrics, and with the same pictures of the same latents.
"""

from pathlib import Path

import pytest

from tests.faults.compare import run_differences, the_run
from tests.faults.killing import Bomb, dltrain

SHORT = ["model=dcgan", "model.base_channels=2", "model.latent_dim=6", "data.train_per_class=30"]
SHORT += ["task.judge=none", "task.samples=70", "trainer.epochs=4", "trainer.batch_size=50", "trainer.threads=1"]
SHORT += ["device=cpu", "log.tensorboard=false"]  # 6 steps an epoch

LAZY = ["model.discriminator_norm=none", "task.r1=1", "task.r1_every=3"]
SETTINGS = {
    "two steps, R1, average": [*LAZY, "task.discriminator_steps=2", "trainer.ema=0.9", "optim.lr=0.002"],
    "critic in micro-batches": [
        *["task.loss=wgan_gp", "model.discriminator_norm=spectral", "trainer.micro_batch_size=20"],
        *["task.discriminator_steps=2", "task.discriminator_lr_scale=2", "trainer.ema=0.9"],
    ],
    "fp16": [
        *["task.loss=hinge", "task.discriminator_steps=2", "trainer.ema=0.9"],
        *["precision=fp16", "precision.init_scale=1e8", "precision.growth_interval=3", "optim.lr=0.01"],
    ],
    "batch norm, streaming": ["data.loader=streaming", "data.workers=0", "task.discriminator_steps=2"],
}
UPDATE = "dltrain.engine.loop:apply_update"

# The discriminator has a turn at each step and the generator at each second; R1 at each third. A save every five steps.
# Of "two steps, R1, average" steps 0 to 9 have 19 turns, and step 10 its discriminator's, then its generator's.
BETWEEN = {
    "two steps, R1, average": [Bomb(UPDATE, 21), Bomb(UPDATE, 2), Bomb(UPDATE, 5)],
    "critic in micro-batches": [Bomb(UPDATE, 17), Bomb(UPDATE, 2)],
    "fp16": [Bomb(UPDATE, 17), Bomb(UPDATE, 5)],
    "batch norm, streaming": [Bomb(UPDATE, 17)],
}
ALWAYS = "two steps, R1, average"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == ALWAYS else pytest.mark.slow) for name in SETTINGS]
)
def test_killed_between_the_two_updates_it_resumes_bit_exact(name: str, tmp_path: Path) -> None:
    words = [*SHORT, *SETTINGS[name]]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert dltrain(words, whole) == 0, (whole / "screen.txt").read_text()
    argv = [*words, "trainer.save_every=5"]
    for bomb in BETWEEN[name]:
        assert dltrain(argv, parts, bomb) == -9, (parts / "screen.txt").read_text()
        argv = ["resume=last"]
    assert dltrain(argv, parts) == 0, (parts / "screen.txt").read_text()
    assert run_differences(the_run(whole), the_run(parts)) == []
    ours, theirs = (samples(the_run(folder)) for folder in (whole, parts))
    assert {f"samples/{step}.png" for step in (6, 12, 18, 24)} | {"samples.png", "samples.gif"} <= ours.keys()
    assert len(set(ours.values())) > 4
    assert ours == theirs


def samples(run: Path) -> dict[str, bytes]:
    """What is drawn of the run's own latents, by file."""
    pictures = run / "pictures"
    files = [*pictures.glob("samples.*"), *pictures.glob("samples/*")]
    return {path.relative_to(pictures).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["dltrain.tasks.adversarial:to_pixels", "dltrain.report.frames:Frames.add"])
def test_killed_in_an_evaluation_it_resumes_bit_exact(place: str, tmp_path: Path) -> None:
    words = [*SHORT, *SETTINGS[ALWAYS]]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert dltrain(words, whole) == 0, (whole / "screen.txt").read_text()
    assert dltrain([*words, "trainer.save_every=5"], parts, Bomb(place, 2)) == -9
    assert dltrain(["resume=last"], parts) == 0, (parts / "screen.txt").read_text()
    assert run_differences(the_run(whole), the_run(parts)) == []
    assert samples(the_run(whole)) == samples(the_run(parts))
