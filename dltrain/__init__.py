"""dltrain trains the image networks every deep-learning course teaches, from Hydra YAML."""

from typing import Any

__version__ = "0.1.0"

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """`dltrain.load` brings torch with it, so it is imported when it is first asked for."""
    if name == "load":
        from dltrain.loaded import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
