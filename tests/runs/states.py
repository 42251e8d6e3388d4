"""A state as a run has it, and how the tests of checkpoints look at one."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from dltrain.checkpoint import load


def state_of(step: int, best: int | None = None) -> dict:
    """A state as a run has it, every number of it a function of the step."""
    torch.manual_seed(step)
    net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 16, 10))
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    for param in net.parameters():
        param.grad = torch.randn_like(param)
    optimizer.step()
    return {
        "task": net.state_dict(),
        "ema": None,
        "optimizers": {"model": optimizer.state_dict()},
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3},
        "step": step,
        "best": None if best is None else {"epoch": 1, "step": best, "metric": "val/accuracy", "value": 0.1 + best},
        "stale": 0,
        "rows": [{"epoch": 1, "step": step, "train/loss": 1 / 3, "val/loss": float("nan")}],
        "sums": {"": {"names": ["loss"], "values": torch.tensor([1 / 3], dtype=torch.float64), "turns": 2}},
    }


def quiet(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")


def step_of(folder: Path, which="last", say=quiet) -> int:
    return load(folder, which, say)["step"]


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (folder / "checkpoints").iterdir()}


def raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        same = type(b) is torch.Tensor and a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()
        return same and torch.equal(raw(a), raw(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def tree_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}
