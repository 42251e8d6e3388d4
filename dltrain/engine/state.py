"""All that a run is at a step: what a checkpoint holds, and nothing a checkpoint does not hold."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dltrain.engine.ema import Ema
from dltrain.tasks import Scalars


def stacked(scalars: Scalars) -> Tensor:
    """One turn's scalars as a float64 vector (names,) on the device."""
    vector = torch.stack([value.to(torch.float64) for value in scalars.values()])
    if "skipped" in scalars:  # a skipped turn has no gradient to speak of
        vector = torch.where(torch.isfinite(vector), vector, 0.0)
    return vector


@dataclass
class Sums:
    """Running sums of one update's scalars over some steps, on the device, in float64."""

    names: list[str] = field(default_factory=list)
    values: Tensor | None = None  # (names,)
    turns: int = 0

    def add(self, scalars: Scalars, vector: Tensor) -> None:
        """Add one turn: its scalars, and the same `stacked`."""
        if self.values is None:
            self.names, self.values = list(scalars), torch.zeros_like(vector)
        if self.names != list(scalars):  # a resumed run may log other scalars: the sums go on for those of both
            both = [index for index, name in enumerate(self.names) if name in scalars]
            self.names, self.values = [self.names[index] for index in both], self.values[both]
            vector = stacked({name: scalars[name] for name in self.names})
        self.values += vector
        self.turns += 1

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
    sums: dict[str, Sums] = field(default_factory=dict)  # of the epoch that is under way, by update name
    window: dict[str, Sums] = field(default_factory=dict)  # since the last point of the training curves
    overflows: dict[str, int] = field(default_factory=dict)  # turns skipped one after another, by update name

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
            "sums": _plain(self.sums),
            "window": _plain(self.window),
            "overflows": dict(self.overflows),
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
        self.sums = _from_plain(saved["sums"], device)
        # a checkpoint without these is older than they are: the curves' next point then begins at it
        self.window = _from_plain(saved.get("window", {}), device)
        self.overflows = dict(saved.get("overflows", {}))


def _plain(sums: dict[str, Sums]) -> dict[str, Any]:
    return {name: {"names": one.names, "values": one.values, "turns": one.turns} for name, one in sums.items()}


def _from_plain(saved: dict[str, Any], device: torch.device) -> dict[str, Sums]:
    return {
        name: Sums(one["names"], None if one["values"] is None else one["values"].to(device), one["turns"])
        for name, one in saved.items()
    }
