"""Resume that forgets one item of the checkpoint: what the comparison of runs must see."""

from typing import Any

from dltrain.engine.state import State

_load = State.load_state_dict


def lose_optimizer() -> None:
    def load(self: State, saved: dict[str, Any], device: Any) -> None:
        fresh = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        _load(self, saved | {"optimizers": fresh}, device)

    State.load_state_dict = load  # type: ignore[method-assign]


def lose_ema() -> None:
    def load(self: State, saved: dict[str, Any], device: Any) -> None:
        assert self.ema is not None
        _load(self, saved | {"ema": self.ema.state_dict()}, device)

    State.load_state_dict = load  # type: ignore[method-assign]


def lose_step() -> None:
    def load(self: State, saved: dict[str, Any], device: Any) -> None:
        _load(self, saved | {"step": saved["step"] - 1}, device)

    State.load_state_dict = load  # type: ignore[method-assign]
