"""`dltrain` as a process of its own whose steps take long enough for a signal from outside to meet one.

python -m tests.faults.slow WORD ...
"""

import time
from typing import Any

from dltrain import cli
from dltrain.engine import loop

_step = loop.train_step


def train_step(*args: Any) -> None:
    time.sleep(0.05)
    _step(*args)


if __name__ == "__main__":
    loop.train_step = train_step
    cli.entry()
