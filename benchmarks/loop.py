"""`dltrain`'s loop against a bare hand-written one: the same network, batches, optimizer and schedule.

Runs alternate in one process, so that what else the machine does falls on both. Prints images/s and the ratio
ours / bare, with its spread over the pairs. LeNet-5 and MLP learn the embedded digits; ResNet-20, as its experiment
says (in bf16), noise of CIFAR's shape.

    python benchmarks/loop.py [lenet5 mlp resnet20] [--pairs 5] [--epochs 4] [--threads 2]
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cli.py does, before cuBLAS reads it

import numpy as np
import torch
from torch.nn import functional as F

from dltrain import environment
from dltrain.config.compose import compose
from dltrain.data import describe, open_data
from dltrain.engine import loop
from dltrain.engine.precision import DTYPES
from dltrain.engine.schedules import factor
from dltrain.modes.train import build
from dltrain.report import Report
from dltrain.report.terminal import Screen
from dltrain.run import Run

WORDS = ["trainer.eval_every=1000", "log.every=50"]
CASES = {
    "lenet5": ["model=lenet5"],
    "mlp": ["model=mlp"],
    "resnet20": ["experiment=cifar10_resnet20", "data=array"],
}
NOISE = 6000  # images, of which 4,560 train: 35 steps an epoch


def ours(words: list[str]) -> float:
    """Images a second of the loop itself, as it reports them."""
    cfg, _ = compose(words)
    screen = Screen(out=io.StringIO())
    spec = describe(cfg, screen.line)
    env = environment.resolve(cfg, spec, None)
    environment.apply(env)
    data = open_data(cfg, spec, env.device, env.loader, env.workers, screen.line)
    state, turns = build(cfg, spec, data, env, screen)
    with tempfile.TemporaryDirectory() as folder:
        report = Report(screen, cfg, spec, Run(Path(folder)), state.task.monitor)
        loop.train(cfg, state, turns, data, Run(Path(folder)), report, env)
    return report.clock.images_per_second


def bare(words: list[str]) -> float:
    """The same steps, written as in a tutorial: no sums, norms, clipping, logging, checkpoints, positions."""
    cfg, _ = compose(words)
    screen = Screen(out=io.StringIO())
    spec = describe(cfg, screen.line)
    env = environment.resolve(cfg, spec, None)
    environment.apply(env)
    data = open_data(cfg, spec, env.device, env.loader, env.workers, screen.line)
    state, _ = build(cfg, spec, data, env, screen)
    net, optimizer = state.task.model, next(iter(state.optimizers.values()))
    total = cfg.trainer.epochs * data.steps_per_epoch
    batches = data.batches(0)
    began = time.monotonic()
    for step in range(total):
        batch = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = cfg.optim.lr * factor(cfg.schedule, step, total, data.steps_per_epoch)
        optimizer.zero_grad()
        images = batch.images.contiguous(memory_format=env.memory_format)
        with torch.autocast(env.device.type, DTYPES[env.precision], enabled=env.precision != "fp32"):
            loss = F.cross_entropy(net(images), batch.targets)
        loss.backward()
        optimizer.step()
    if env.device.type == "cuda":
        torch.cuda.synchronize()
    return total * data.batch_size / (time.monotonic() - began)


def noise(folder: Path) -> str:
    """An .npz file of CIFAR's shape."""
    draw = np.random.RandomState(0)
    pixels = draw.randint(0, 256, (NOISE, 32, 32, 3)).astype(np.uint8)
    np.savez(folder / "noise.npz", images=pixels, labels=np.arange(NOISE) % 10)
    return str(folder / "noise.npz")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=list(CASES), metavar="MODEL")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {args.threads} threads, {args.pairs} pairs")
    print(f"{'model':<10}{'ours img/s':>12}{'bare img/s':>12}{'ratio':>8}{'spread':>16}")
    for model in args.models:
        words = [*WORDS, *CASES[model], f"trainer.epochs={args.epochs}", f"trainer.threads={args.threads}"]
        pairs = []
        with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            words += [f"data.root={noise(Path(folder))}"] if "data=array" in words else []
            for index in range(args.pairs + 1):
                first, second = (ours, bare) if index % 2 else (bare, ours)
                a, b = first(words), second(words)
                pairs.append((a, b) if first is ours else (b, a))
        pairs = pairs[1:]  # the first warms up
        ratios = [a / b for a, b in pairs]
        speeds = [statistics.median(column) for column in zip(*pairs, strict=True)]
        print(
            f"{model:<10}{speeds[0]:>12,.0f}{speeds[1]:>12,.0f}{statistics.median(ratios):>8.3f}"
            f"{min(ratios):>9.3f}-{max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
