"""All that a run is at a step: what a checkpoint holds, and nothing a checkpoint does not hold."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dltrain.engine.ema import Ema
from dltrain.tasks import Scalars


@dataclass
class Sums:
    """Running sums of one update's scalars over the epoch that is under way, on the device, in float64."""

    names: list[str] = field(default_factory=list)
    values: Tensor | None = None  # (names,)
    turns: int = 0

    def add(self, scalars: Scalars) -> Tensor:
        """Add one turn; returns its scalars as one vector, in the order of `names`."""
        if self.values is None:
            self.names = list(scalars)
            first = next(iter(scalars.values()))
            self.values = torch.zeros(len(scalars), dtype=torch.float64, device=first.device)
        vector = torch.stack([scalars[name].to(torch.float64) for name in self.names])
        if "skipped" in scalars:  # a skipped turn has no gradient to speak of
            vector = torch.where(torch.isfinite(vector), vector, 0.0)
        self.values += vector
        self.turns += 1
        return vector

    def means(self) -> dict[str, float]:
        """Mean of each scalar over the turns; `skipped` is a count, and skipped turns have no gradient to speak of."""
        if self.values is None:
            return {}
        sums = dict(zip(self.names, self.values.tolist(), strict=True))
        skipped = sums.get("skipped", 0.0)
        moved = max(1.0, self.turns - skipped)
        return {
            name: total
            if name == "skipped"
            else total / (moved if name.startswith(("grad_norm", "clipped")) else self.turns)
            for name, total in sums.items()
        }


@dataclass
class State:
    """The networks, what moves them, and where the run stands."""

    task: Any  # a Task that is an nn.Module
    optimizers: dict[str, Optimizer]
    ema: Ema | None
    scaler: torch.amp.GradScaler | None
    step: int = 0
    best: dict[str, Any] | None = None  # epoch, step, metric, value
    stale: int = 0  # evaluations since the best one
    rows: list[dict[str, Any]] = field(default_factory=list)  # metrics.csv so far
    sums: dict[str, Sums] = field(default_factory=dict)  # by update name

    @property
    def evaluated(self) -> nn.Module:
        """The task whose weights are judged: the average if there is one."""
        module: nn.Module = self.task if self.ema is None else self.ema.module
        return module

    def state_dict(self) -> dict[str, Any]:
        return {
            "task": self.task.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "rows": self.rows,
            "sums": {
                name: {"names": sums.names, "values": sums.values, "turns": sums.turns}
                for name, sums in self.sums.items()
            },
        }

    def load_state_dict(self, saved: dict[str, Any], device: torch.device) -> None:
        self.task.load_state_dict(saved["task"])
        if self.ema is not None:
            self.ema.load_state_dict(saved["ema"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        if self.scaler is not None:
            self.scaler.load_state_dict(saved["scaler"])
        self.step, self.best, self.stale = saved["step"], saved["best"], saved["stale"]
        self.rows = list(saved["rows"])
        self.sums = {
            name: Sums(sums["names"], None if sums["values"] is None else sums["values"].to(device), sums["turns"])
            for name, sums in saved["sums"].items()
        }
