"""Learning-rate schedules as pure functions of the step, so that there is nothing to save and nothing to resume."""

import math

from torch.optim import Optimizer

from dltrain.config.groups import Constant, Cosine, OneCycle, Step

ScheduleCfg = Constant | Step | Cosine | OneCycle

ONECYCLE_RISE = 0.3  # share of the run in which the rate rises (torch.optim.lr_scheduler.OneCycleLR: pct_start)
ONECYCLE_START = 1 / 25  # first rate (div_factor = 25)
ONECYCLE_END = ONECYCLE_START / 1e4  # last rate (final_div_factor = 1e4)


def to_steps(epochs: float, steps_per_epoch: int) -> int:
    """The step nearest to a time in epochs."""
    return round(epochs * steps_per_epoch)


def factor(cfg: ScheduleCfg, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """What `optim.lr` is multiplied with at a step; steps count from 0, in all `total_steps`.

    With a warm-up of W steps the factor is a line through 0 before the first step and 1 at step W: (step+1)/(W+1).
    `Step` counts its milestones from the start of the run, `Cosine` falls over what the warm-up leaves.
    """
    if isinstance(cfg, OneCycle):
        rise = ONECYCLE_RISE * total_steps if cfg.warmup is None else float(to_steps(cfg.warmup, steps_per_epoch))
        return _onecycle(step, total_steps, rise)
    warmup = to_steps(cfg.warmup, steps_per_epoch)
    line = (step + 1) / (warmup + 1) if step < warmup else 1.0
    if isinstance(cfg, Step):
        passed = sum(step >= to_steps(milestone, steps_per_epoch) for milestone in cfg.milestones)
        return line * float(cfg.gamma**passed)
    if isinstance(cfg, Cosine) and step >= warmup:
        length = max(1, total_steps - warmup)
        return (1 + math.cos(math.pi * min(step - warmup, length) / length)) / 2
    return line


def _onecycle(step: int, total_steps: int, rise: float) -> float:
    """OneCycleLR with cosine annealing in two phases: up until step rise-1, down until the last step."""
    top, last = rise - 1, total_steps - 1
    if step <= top:
        return _anneal(ONECYCLE_START, 1.0, step / top if top > 0 else 1.0)
    return _anneal(1.0, ONECYCLE_END, min(1.0, (step - top) / (last - top)) if last > top else 1.0)


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Learning rate of the optimizer's next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr
