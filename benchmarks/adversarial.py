"""`dltrain`'s loop in training a DCGAN against bare hand-written ones: the same networks, batches and optimizers.

The first peer computes what dltrain computes: new images for each of the two updates, and no gradient that is not used.
The second does as PyTorch's own example: one batch of images for both updates, and in the generator's update gradients
of the discriminator too, which are thrown away. Runs alternate in one process, so that what else the machine does falls
on all. Prints images/s, and ours / theirs with its spread over the rounds.

    python benchmarks/adversarial.py [digits mnist faces] [--rounds 5] [--steps 60] [--threads 2] [--device auto]
        [--precision auto] [--batch 128]

`faces` is the paper's network at 64x64 in colour, the others have a quarter of its channels. `mnist` and `faces` are
noise of that shape.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cli.py does, before cuBLAS reads it

import numpy as np
import torch
from noise import machine
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from dltrain import environment
from dltrain.config.compose import compose
from dltrain.data import describe, open_data
from dltrain.engine import loop
from dltrain.engine.precision import autocast
from dltrain.modes.train import build
from dltrain.report import Report
from dltrain.report.terminal import Screen
from dltrain.run import Run

WORDS = ["model=dcgan", "log.every=50", "trainer.eval_every=100000", "task.judge=none", "task.samples=2"]
CASES = {
    "digits": ["model.base_channels=32"],
    "mnist": ["model.base_channels=32", "data.size=32", "data=array"],
    "faces": ["data=array"],
}
NOISE = {"mnist": (28, 28), "faces": (64, 64, 3)}  # shapes of arrays in place of data
ROWS = 2560


class Opened:
    """What a run works with, ready for its first step."""

    def __init__(self, words: list[str]) -> None:
        self.cfg, _ = compose(words)
        self.screen = Screen(out=io.StringIO())
        self.spec = describe(self.cfg, self.screen.line)
        self.env = environment.resolve(self.cfg, self.spec, None)
        environment.apply(self.env)
        env = self.env
        self.data = open_data(self.cfg, self.spec, env.device, env.loader, env.workers, self.screen.line)
        self.state, self.turns = build(self.cfg, self.spec, self.data, env, self.screen)

    def ours(self) -> float:
        """Images a second of the loop itself, as it reports them."""
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder))
            report = Report(self.screen, self.cfg, self.spec, run, self.state.task.monitor)
            loop.train(self.cfg, self.state, self.turns, self.data, run, report, self.env)
        return report.clock.images_per_second


class Peer(Opened):
    """The non-saturating loss by hand: no sums, norms, clipping, logging, checkpoints, positions."""

    def speed(self, shares: bool) -> float:
        """Images a second. `shares`: one batch of generated images for both updates, as PyTorch's example has it."""
        task: Any = self.state.task
        generator, discriminator = task.model.generator, task.model.discriminator
        optimizers, numbers = self.state.optimizers, task.model.latent_dim
        batches, steps = self.data.batches(0), self.cfg.trainer.steps
        began = time.monotonic()
        for _ in range(steps):
            real = next(batches).images.contiguous(memory_format=self.env.memory_format)
            with autocast(self.env.precision, self.env.device):
                with torch.set_grad_enabled(shares):
                    fake = generator(torch.randn(len(real), numbers, device=real.device))
                loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
            self.step(optimizers["discriminator"], loss, None)
            with autocast(self.env.precision, self.env.device):
                if not shares:
                    fake = generator(torch.randn(len(real), numbers, device=real.device))
                loss = F.softplus(-discriminator(fake)).mean()
            self.step(optimizers["generator"], loss, None if shares else list(generator.parameters()))
            if shares:
                optimizers["discriminator"].zero_grad()
        if self.env.device.type == "cuda":
            torch.cuda.synchronize()
        return steps * self.cfg.trainer.batch_size / (time.monotonic() - began)

    def step(self, optimizer: Optimizer, loss: Tensor, inputs: list[Tensor] | None) -> None:
        """One step; gradients of `inputs` alone, or of all that is there."""
        scaler = self.state.scaler
        optimizer.zero_grad()
        torch.autograd.backward(loss if scaler is None else scaler.scale(loss), inputs=inputs)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()


def one_round(words: list[str], turn: int) -> list[float]:
    """Images/s of dltrain, of the peer that does the same work, of the example; each time another one begins."""
    works = [
        lambda: Opened(words).ours(),
        lambda: Peer(words).speed(shares=False),
        lambda: Peer(words).speed(shares=True),
    ]
    found = [0.0] * len(works)
    for place in range(len(works)):
        which = (turn + place) % len(works)
        found[which] = works[which]()
    return found


def noise(folder: Path, shape: tuple[int, ...]) -> str:
    """An .npz file of images of that shape."""
    pixels = np.random.RandomState(0).randint(0, 256, (ROWS, *shape)).astype(np.uint8)
    np.savez(folder / "noise.npz", images=pixels, labels=np.arange(ROWS) % 10)
    return str(folder / "noise.npz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="a round")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    for case in args.cases:
        if case not in CASES:
            parser.error(f"{case!r} is none of {', '.join(CASES)}")
    common = [f"device={args.device}", f"precision={args.precision}", f"trainer.threads={args.threads}"]
    common += [f"trainer.steps={args.steps}", f"trainer.batch_size={args.batch}", "log=quiet"]
    peers = "".join(f"{who:>12}{'ratio':>8}{'spread':>15}" for who in ("same work", "example"))
    print(f"{'case':<10}{'ours img/s':>12}{peers}")
    for case in args.cases:
        with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            words = [*WORDS, *CASES[case], *common]
            words += [f"data.root={noise(Path(folder), NOISE[case])}"] if case in NOISE else []
            place = f"{machine(Opened(words).env)}, {Opened(words).env.precision}, batches of {args.batch}"
            rounds = [one_round(words, turn) for turn in range(args.rounds + 1)][1:]  # the first warms up
        mine, same, example = (list(column) for column in zip(*rounds, strict=True))
        line = f"{case:<10}{statistics.median(mine):>12,.0f}"
        for theirs in (same, example):
            ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
            line += f"{statistics.median(theirs):>12,.0f}{statistics.median(ratios):>8.3f}"
            line += f"{min(ratios):>9.3f}-{max(ratios):.3f}"
        print(f"{line}   {place}", flush=True)


if __name__ == "__main__":
    main()
