"""Exponential moving average of a task's weights, over torch.optim.swa_utils."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Ema:
    """ema_0 = w_0, ema_t = decay ema_(t-1) + (1 - decay) w_t; `.module` is the copy to evaluate with.

    Its buffers (running statistics of batch norm) are the module's own after the same step. `n_averaged` in the state
    counts the steps, of each part that was followed alone. AveragedModel holds the copy; the update is made here, since
    `update_parameters` waits for the device to learn whether it is the first call, and cannot leave out a step that the
    gradient scaler skipped.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        first = next(module.parameters(), None)
        self.averaged = AveragedModel(module, device=None if first is None else first.device)
        self.averaged.requires_grad_(False)
        self.averaged.eval()
        follow: Callable[[list[Tensor], list[Tensor], int], None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._follow = follow

    @property
    def module(self) -> Any:
        """The averaged copy, of the module's own type."""
        return self.averaged.module

    @torch.no_grad()
    def update(self, module: nn.Module, skip: Tensor | None = None, part: nn.Module | None = None) -> None:
        """Follow the module by one step. Where `skip`, a device scalar, is not 0, no bit changes.

        `part`, one of the module's own modules, is followed alone: what did not move at this step must not come nearer.
        """
        part, twin = (module, self.module) if part is None else (part, self._twin(module, part))
        means: list[Tensor] = list(twin.parameters())
        weights: list[Tensor] = list(part.parameters())
        copies, buffers = list(twin.buffers()), list(part.buffers())
        count = self.averaged.n_averaged
        if skip is None:
            _apply(self._follow, means, weights, 0)  # the last argument, the count so far, plays no part in an EMA
            _apply(torch._foreach_copy_, copies, buffers)
            count.add_(1)
            return
        skip = skip != 0
        # `where`, not a factor of 0: a skipped step may leave inf or nan in a buffer, and 0 * inf is nan.
        moved = [mean.clone() for mean in means]
        _apply(self._follow, moved, weights, 0)
        for old, new in zip(means + copies, moved + buffers, strict=True):
            old.copy_(torch.where(skip, old, new))
        count.add_(~skip)

    def _twin(self, module: nn.Module, part: nn.Module) -> nn.Module:
        """What stands in the copy where `part` stands in the module. Raises ValueError if it is none of its modules."""
        name = next((name for name, found in module.named_modules() if found is part), None)
        if name is None:
            raise ValueError(f"this {type(part).__name__} is no part of the {type(module).__name__} that is averaged")
        twin: nn.Module = self.module.get_submodule(name)
        return twin

    def state_dict(self) -> dict[str, Any]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; names and shapes must be the same."""
        self.averaged.load_state_dict(state)

    @staticmethod
    def weights(state: dict[str, Any]) -> dict[str, Any]:
        """The averaged module's own state dict, out of what `state_dict` gave."""
        return {name.removeprefix("module."): value for name, value in state.items() if name.startswith("module.")}


def _apply(operation: Callable[..., object], to: list[Tensor], values: list[Tensor], *rest: int) -> None:
    """Nothing for an empty list, which torch's foreach operations refuse."""
    if to:
        operation(to, values, *rest)
