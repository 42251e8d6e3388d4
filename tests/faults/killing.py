"""Runs `dltrain` in a process of its own and sends it a signal, SIGKILL unless said otherwise, at a chosen point.

The processes are forked from a server that has imported everything and trained once, so that one costs only its run.
"""

import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "torch",
        "torch._dynamo",
        "torch.optim",
        "hydra",
        "dltrain.cli",
        "dltrain.job",
        "dltrain.modes.train",
        "matplotlib.figure",
        "tensorboard.compat.tensorflow_stub.pywrap_tensorflow",
        "tests.faults.pair",
        "tests.hermetic",
        "tests.faults.warm",
    ]
)


@dataclass(frozen=True)
class Bomb:
    """A signal at the nth call of a function (from 1) whose arguments hold `holding`, before or after it has run."""

    target: str  # "package.module:function", "package.module:Class.method"
    nth: int = 1
    after: bool = False
    holding: str = ""
    sends: tuple[str, ...] = ("SIGKILL",)

    def go_off(self) -> None:
        for name in self.sends:
            os.kill(os.getpid(), getattr(signal, name))

    def plant(self) -> None:
        module_name, _, path = self.target.partition(":")
        owner: Any = importlib.import_module(module_name)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        real: Callable[..., Any] = getattr(owner, name)
        calls = 0

        def armed(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if self.holding in " ".join(str(arg) for arg in args if isinstance(arg, str | Path)):
                calls += 1
                if calls == self.nth and not self.after:
                    self.go_off()
                result = real(*args, **kwargs)
                if calls == self.nth and self.after:
                    self.go_off()
                return result
            return real(*args, **kwargs)

        setattr(owner, name, armed)


def _child(argv: list[str], folder: str, bombs: list[Bomb], setup: str | None) -> None:
    os.chdir(folder)
    with open("screen.txt", "a") as screen:  # noqa: PTH123
        os.dup2(screen.fileno(), 1)
        os.dup2(screen.fileno(), 2)
    from dltrain import cli
    from tests import hermetic

    hermetic.watch()
    if setup is not None:
        module, _, name = setup.partition(":")
        getattr(importlib.import_module(module), name)()
    for bomb in bombs:
        bomb.plant()
    os._exit(cli.main(argv))


def dltrain(argv: list[str], folder: Path, *bombs: Bomb, setup: str | None = None) -> int:
    """The exit code of `dltrain *argv` in `folder`; -9 if a bomb went off. `setup` is called first in the process."""
    process = _context.Process(target=_child, args=(argv, str(folder), list(bombs), setup))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "still running after 300 s"
    return process.exitcode
