"""A network in training without data: the steps that `dltrain` takes, over one batch of noise."""

import os
import platform
import re
import time
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cli.py does, before cuBLAS reads it

import torch
from torch import nn

from dltrain import environment
from dltrain.config.compose import compose
from dltrain.config.spec import DataSpec, Target
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.precision import make_scaler
from dltrain.engine.random import Position
from dltrain.engine.step import Turn, apply_update
from dltrain.tasks import Batch
from dltrain.tasks.build import build_task

TINY_LR = 1e-6  # labels that mean nothing are not learned at a recipe's rate without weights that become infinite


class Training:
    """What `words` train (`model=resnet18`, `precision=bf16`), or another network in place of theirs."""

    def __init__(
        self, words: list[str], shape: tuple[int, int, int], classes: int, batch: int, network: nn.Module | None = None
    ) -> None:
        cfg, _ = compose(words)
        masks = cfg.model.task == "segmentation"
        if masks:
            cfg, _ = compose([*words, "data=digit_scenes"])
        target = Target.mask if masks else Target.classes
        spec = DataSpec("noise", shape, target, tuple(map(str, range(classes))), {}, (0.0,) * 3, (1.0,) * 3)
        self.cfg, self.env = cfg, environment.resolve(cfg, spec, None)
        environment.apply(self.env)
        device, self.rows, self.steps = self.env.device, batch, 0
        torch.manual_seed(0)
        task: nn.Module = build_task(cfg, spec, None)  # type: ignore[assignment]
        if network is not None:
            task.model = network
        self.network: nn.Module = task.model  # type: ignore[assignment]
        task.to(device, memory_format=self.env.memory_format).train()
        updates = task.updates()  # type: ignore[operator]
        optimizers = list(build_optimizers(cfg.optim, updates, device).values())  # one an update: each has a module
        scaler = make_scaler(cfg.precision, self.env.precision, device)
        self.turns = []
        for index, (update, optimizer) in enumerate(zip(updates, optimizers, strict=True)):
            named = list(update.module.named_parameters())
            self.turns.append(Turn(update, index, named, optimizer, device, self.env.precision, scaler, True))
            if cfg.trainer.compile:
                update.module.compile()
        images = torch.randn(batch, *shape).to(device).contiguous(memory_format=self.env.memory_format)
        ids = torch.arange(batch, device=device)
        targets = (images[:, 0] > 0).to(torch.uint8) if masks else ids % classes
        self.batch = Batch(images, targets, ids)

    def step(self) -> None:
        """Each update once, as in a run."""
        for turn in self.turns:
            apply_update(self.cfg, turn, self.batch, Position(step=self.steps), TINY_LR)
        self.steps += 1

    def seconds(self, steps: int) -> float:
        """What so many steps take, the device's work included."""
        self._wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        self._wait()
        return time.perf_counter() - began

    def warm_up(self, seconds: float) -> int:
        """Take first steps, which choose kernels and make buffers; returns how many take so long, 2 at least."""
        self.seconds(1 if self.env.device.type == "cpu" else 5)
        return max(2, round(seconds / self.seconds(1)))

    def _wait(self) -> None:
        if self.env.device.type == "cuda":
            torch.cuda.synchronize(self.env.device)


def machine(env: environment.Environment) -> str:
    """Words for what computes here."""
    version = f"torch {torch.__version__.partition('+')[0]}"
    if env.device.type == "cuda":
        return f"{torch.cuda.get_device_name(env.device)}, {version}"
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.M) if info.exists() else None
    name = found[1].strip() if found else platform.machine()
    threads = f"{env.threads} thread{'' if env.threads == 1 else 's'}"
    return f"{threads} of {name} ({torch.backends.cpu.get_cpu_capability()}), {version}"
