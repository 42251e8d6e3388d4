"""Whether two runs ended in the same bits."""

from pathlib import Path
from typing import Any, Literal

import torch

from dltrain import checkpoint


def run_folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("outputs/*/*/config.json"))


def the_run(folder: Path) -> Path:
    runs = run_folders(folder)
    assert len(runs) == 1, runs
    return runs[0]


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Paths at which two nested states differ; NaNs and signed zeros are compared by their bits."""
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__} and {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape
        same = same and a.contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8))
        return [] if same else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{where}: keys {sorted(a.keys() ^ b.keys())}"]
        return [line for name in a for line in differences(a[name], b[name], f"{where}/{name}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{where}: lengths {len(a)} and {len(b)}"]
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in differences(x, y, f"{where}/{i}")]
    return [] if repr(a) == repr(b) else [f"{where}: {a!r} and {b!r}"]


def run_differences(a: Path, b: Path) -> list[str]:
    """What differs between two runs' last and best checkpoints and their metrics.csv."""
    found: list[str] = []
    which: Literal["last", "best"]
    for which in ("last", "best"):
        states = [checkpoint.load(run, which, print) for run in (a, b)]
        found += differences(states[0], states[1], which)
    rows = [(run / "metrics.csv").read_text() for run in (a, b)]
    if rows[0] != rows[1]:
        found.append("metrics.csv")
    return found
