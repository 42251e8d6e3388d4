"""What it costs to start: help, completion, mistakes and the first line of a run, against bare imports of Hydra.

Runs alternate, so that a busy machine slows all of them alike; each ratio is taken within one round.

    python benchmarks/startup.py [ROUNDS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE = ["-c", "import hydra, omegaconf, rich.console"]
CASES = {  # what -> (arguments of python, target: at most this many times the base)
    "help": (["-m", "dltrain", "--help"], 2.2),
    "help of a group": (["-m", "dltrain", "--help", "trainer"], 2.2),
    "completion": (["-m", "dltrain", "--complete", "model="], 2.2),
    "mistake, before Hydra": (["-m", "dltrain", "model=resnet8"], 3.0),
    "mistake, between groups": (["-m", "dltrain", "schedule.warmup=99"], 3.0),
    "mistake, found by trial": (["-m", "dltrain", "seed=1", "optim.lr=${nothing}"], 3.0),
    "first line of a run": (["-m", "dltrain"], 1.0),
}
ROUNDS = 11


def seconds(arguments: list[str], folder: Path, *, first_line: bool = False) -> float:
    """Time of one process, or until its first line."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
    ) as process:
        assert process.stdout is not None
        if first_line:
            process.stdout.readline()
            taken = time.perf_counter() - start
            process.kill()
            return taken
        process.communicate()
        return time.perf_counter() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    base: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds(BASE, folder)  # once for the disk's sake
        for _ in range(rounds):
            base.append(seconds(BASE, folder))
            for case, (arguments, _) in CASES.items():
                ratios[case].append(seconds(arguments, folder, first_line=case.startswith("first")) / base[-1])
    middle = statistics.median(base)
    print(f"base: python {' '.join(BASE)!r}")
    print(f"      {middle * 1000:.0f} ms (from {min(base) * 1000:.0f} to {max(base) * 1000:.0f})")
    print(f"\n{'times the base, ' + str(rounds) + ' rounds':<28}{'median':>8}{'least':>8}{'most':>8}{'target':>9}")
    for case, (_, target) in CASES.items():
        found = ratios[case]
        print(f"{case:<28}{statistics.median(found):>8.2f}{min(found):>8.2f}{max(found):>8.2f}{'<= ' + str(target):>9}")


if __name__ == "__main__":
    main()
