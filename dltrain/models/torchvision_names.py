"""torchvision's names of parameters, and ours: its weights fit the same networks here."""

import re
from collections.abc import Sequence

from torch import Tensor

Names = Sequence[tuple[str, str]]  # (pattern of torchvision's name, ours), the first that matches counts


def from_torchvision(state: dict[str, Tensor], names: Names) -> dict[str, Tensor]:
    """A state dict of torchvision's network under our names: `TORCHVISION` of the network's file.

    A name that no pattern matches is kept.
    """
    return {_ours(name, names): value for name, value in state.items()}


def _ours(name: str, names: Names) -> str:
    for pattern, ours in names:
        if re.match(pattern, name):
            return re.sub(pattern, ours, name, count=1)
    return name
