"""What each part of a training step costs beside torch's own: `python benchmarks/step_parts.py`.

Each pair is timed in turns on the CPU with one thread, the median of 15 rounds taken; times in microseconds a call.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dltrain.config import groups
from dltrain.engine.clip import clip
from dltrain.engine.ema import Ema
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.penalty import add_penalty
from dltrain.engine.random import Position, set_position
from dltrain.engine.schedules import factor, set_lr
from dltrain.tasks import Update

CPU = torch.device("cpu")
Pair = tuple[Callable[[], object], Callable[[], object]]


def small() -> nn.Module:
    """The 10 tensors of LeNet-5."""
    convolutions = [nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)]
    return nn.Sequential(*convolutions, nn.Linear(120, 84), nn.Linear(84, 10))


def deep() -> nn.Module:
    """59 tensors of the sizes of ResNet-20's."""
    widths = [16] * 7 + [32] * 6 + [64] * 6
    layers: list[nn.Module] = []
    for before, width in zip([3, *widths], widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, bias=False), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def measure(pair: Pair, rounds: int = 15, calls: int = 100) -> tuple[float, float]:
    """Microseconds a call of each of the two."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, found in zip(pair, times, strict=True):
            began = time.perf_counter()
            for _ in range(calls):
                function()
            found.append((time.perf_counter() - began) / calls * 1e6)
    return statistics.median(times[0]), statistics.median(times[1])


def pairs(module: nn.Module) -> dict[str, Pair]:
    named = list(module.named_parameters())
    params = [p for _, p in named]
    for p in params:
        p.grad = torch.randn_like(p) * 1e-3
    updates = [Update("", module, lambda batch: (batch.images.sum(), {}))]
    sgd = build_optimizers(groups.Sgd(lr=1e-9), updates, CPU)["model"]
    adamw = build_optimizers(groups.AdamW(lr=1e-9), updates, CPU)["model"]
    peer_sgd = torch.optim.SGD(params, lr=1e-9, momentum=0.9, nesterov=True)
    peer_adamw = torch.optim.AdamW(params, lr=1e-9)
    ema, peer_ema = Ema(module, 0.999), AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    skip = torch.tensor(False)
    schedule = OneCycleLR(peer_sgd, max_lr=1e-9, total_steps=10**9, cycle_momentum=False)
    onecycle, position = groups.OneCycle(), Position()
    weights = [p for p in params if p.ndim >= 2]

    def autograd_penalty() -> None:
        sum((0.5e-9 * w.square().sum() for w in weights), torch.zeros(())).backward()

    def seeded() -> None:
        set_position(position, CPU)

    return {
        "sgd, nesterov | foreach": (sgd.step, peer_sgd.step),
        "adamw | foreach": (adamw.step, peer_adamw.step),
        "clip=none (norm only) | get_total_norm": (
            lambda: clip(named, groups.NoClip()),
            lambda: nn.utils.get_total_norm([p.grad for p in params if p.grad is not None]),
        ),
        "clip=norm | clip_grad_norm_": (
            lambda: clip(named, groups.ClipNorm(max_norm=1e6)),
            lambda: nn.utils.clip_grad_norm_(params, 1e6),
        ),
        "clip=value | clip_grad_value_": (
            lambda: clip(named, groups.ClipValue(max_value=1e6)),
            lambda: nn.utils.clip_grad_value_(params, 1e6),
        ),
        "clip=agc | clip_grad_norm_": (
            lambda: clip(named, groups.ClipAgc(factor=1e6)),
            lambda: nn.utils.clip_grad_norm_(params, 1e6),
        ),
        "reg.l2 | in the loss": (lambda: add_penalty(named, groups.Reg(l2=1e-9)), autograd_penalty),
        "ema | AveragedModel": (lambda: ema.update(module, None), lambda: peer_ema.update_parameters(module)),
        "ema, fp16 | AveragedModel": (lambda: ema.update(module, skip), lambda: peer_ema.update_parameters(module)),
        "onecycle | OneCycleLR": (lambda: set_lr(sgd, factor(onecycle, 500, 1000, 50)), schedule.step),
        "position | torch.manual_seed": (seeded, lambda: torch.manual_seed(0)),
    }


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'part | peer':42}{'10 tensors':>12}{'peer':>8}{'ratio':>8}{'59 tensors':>14}{'peer':>8}{'ratio':>8}")
    tables = [pairs(small()), pairs(deep())]
    for name in tables[0]:
        (a, peer_a), (b, peer_b) = (measure(table[name]) for table in tables)
        print(f"{name:42}{a:12.0f}{peer_a:8.0f}{a / peer_a:8.2f}{b:14.0f}{peer_b:8.0f}{b / peer_b:8.2f}")


if __name__ == "__main__":
    main()
