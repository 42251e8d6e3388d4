"""`trust=[my_package]` or DLTRAIN_TRUST=my_package: models and data sets of the user's own.

`my_package.config` (torch-free, as ours) is imported, and the dataclasses derived from `Model` and `Data` that it
defines become options, with the YAML files in `my_package/configs/`. Without one of the two no foreign code is ever
imported; a run's files have no say in it.
"""

import importlib
import inspect
import os
import re
import sys
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

from dltrain.config import table
from dltrain.config.data import Data
from dltrain.config.messages import Mistake
from dltrain.config.model import Model

_BASES: dict[str, type] = {"model": Model, "data": Data}


def packages(argv: list[str]) -> list[str]:
    """The packages that the command line trusts, else those that DLTRAIN_TRUST does."""
    words = [word for word in argv if word.startswith("trust=")]
    text = words[-1].removeprefix("trust=") if words else os.environ.get("DLTRAIN_TRUST", "")
    names = [name.strip().strip("'\"") for name in text.strip().removeprefix("[").removesuffix("]").split(",")]
    names = [name for name in names if name]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise Mistake(
                f"trust={text}: {name!r} is not the name of a package",
                allowed="names of Python packages of your own",
                type_this="trust=[my_package]",
            )
    return names


def apply(argv: list[str]) -> list[str]:
    """Make the trusted packages' options known, forget those of an earlier call, and return the packages."""
    table.forget_extras()
    names = packages(argv)
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)  # at the end: a file in the working directory replaces no library
    for name in names:
        module = _import(name)
        table.add_extras(_declared(module), Path(str(module.__file__)).parent / "configs")
    return names


def searchpath(overrides: list[str]) -> list[str]:
    """The word that lets Hydra find the trusted packages' YAML files; none if the user typed it."""
    folders = [folder for folder in table.extra_folders() if folder.is_dir()]
    if not folders or any(word.startswith("hydra.searchpath=") for word in overrides):
        return []
    quoted = ["'" + f"file://{folder}".replace("\\", "\\\\").replace("'", "\\'") + "'" for folder in folders]
    return [f"hydra.searchpath=[{','.join(quoted)}]"]


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{name}.config")
    except ModuleNotFoundError as error:
        if error.name not in (name, f"{name}.config"):
            raise Mistake(f"trust=[{name}]: {name}.config needs {error.name}, which is not installed") from None
        raise Mistake(
            f"trust=[{name}]: there is no {name}.config",
            allowed=f"a package with a file {name}/config.py, installed or in the working directory",
        ) from None
    except Exception as error:
        raise Mistake(f"trust=[{name}]: importing {name}.config failed: {type(error).__name__}: {error}") from None


def _declared(module: ModuleType) -> dict[tuple[str, str], type]:
    """The options that a package's config module (or the modules of its config package) declares."""
    found: dict[tuple[str, str], type] = {}
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if not (cls.__module__ + ".").startswith(module.__name__ + "."):
            continue
        for group, base in _BASES.items():
            if issubclass(cls, base) and is_dataclass(cls) and cls().name:  # type: ignore[attr-defined]
                name = cls().name  # type: ignore[attr-defined]
                if name in table.BUILT_IN[group]:
                    raise Mistake(f"{cls.__module__}.{cls.__name__} is called {name}, as a {group} of dltrain is")
                found[group, name] = cls
    return found
