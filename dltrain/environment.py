"""Where a run computes: everything that is `auto` is settled here once, with its reason, since most of it changes bits.

What was settled is written to `environment.json` together with the versions of all that computes; a resumed or
reproduced run takes it from there.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from dltrain.config import saved
from dltrain.config.messages import Mistake, command
from dltrain.config.mode import Config, Determinism, Reproduce, Train
from dltrain.config.overlay import model_words
from dltrain.config.spec import DataSpec, spec_to_json
from dltrain.data import loader_for
from dltrain.models import outline
from dltrain.report.table import memory
from dltrain.text import safe_text
from dltrain.versions import versions

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Precision = Literal["fp32", "bf16", "fp16"]
Loader = Literal["resident", "streaming"]
MOST_THREADS = 1024


@dataclass
class Environment:
    """What was settled. `reasons` says of each field why; `versions` names what computes."""

    device: torch.device
    precision: Precision
    threads: int
    memory_format: torch.memory_format
    loader: Loader
    workers: int
    determinism: Determinism
    reasons: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # the config by key: what a later change is told from
    network: tuple[str, ...] = ()  # what is built otherwise to suit the images


def resolve(cfg: Config, spec: DataSpec, recorded: dict[str, Any] | None) -> Environment:
    """Settle all that is `auto`: as `recorded` (the `environment.json` of a run that goes on) where it says so.

    Raises Mistake for a device that is not here and for a record that dltrain did not write.
    """
    old = _checked(recorded or {})
    reasons: dict[str, str] = {}
    device = _device(cfg, old, reasons)
    network = _network(cfg, spec, device)
    precision = _precision(cfg, old, reasons, device)
    loader = _loader(cfg, spec, old, reasons, device)
    workers = _workers(cfg, old, reasons, loader)
    return Environment(
        device=device,
        precision=precision,
        threads=_threads(cfg, old, reasons, workers),
        memory_format=_memory_format(cfg, network, old, reasons),
        loader=loader,
        workers=workers,
        determinism=cfg.determinism,
        reasons=reasons,
        versions=versions(device),
        settings=dict(_leaves(saved.to_json(cfg))),
        network=cfg.model.notes(spec.shape[1:]),
    )


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


RECORDED = "as recorded"
TYPED = "as configured"


def _checked(recorded: dict[str, Any]) -> dict[str, Any]:
    """The settled values of a record, if they are such as are written here; an empty record is one."""
    allowed: dict[str, Callable[[Any], object]] = {
        "device": lambda v: isinstance(v, str) and re.fullmatch(r"cpu|cuda(:\d{1,3})?", v),
        "precision": lambda v: v in get_args(Precision),
        "threads": lambda v: type(v) is int and 1 <= v <= MOST_THREADS,
        "memory_format": lambda v: isinstance(v, str) and v in FORMATS,
        "loader": lambda v: v in get_args(Loader),
        "workers": lambda v: type(v) is int and 0 <= v <= MOST_THREADS,
    }
    for name, fits in allowed.items():
        if name in recorded and not fits(recorded[name]):
            found = safe_text(repr(recorded[name]), 60)
            raise Mistake(f"environment.json: {name} is {found}, which dltrain did not write")
    return {name: recorded[name] for name in allowed if name in recorded}


def _device(cfg: Config, old: dict[str, Any], reasons: dict[str, str]) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if cfg.device != "auto":
        reasons["device"] = TYPED
        device = torch.device(cfg.device)
        if device.type == "cuda" and (device.index or 0) >= count:
            has = f"cpu, or one of cuda:0 to cuda:{count - 1}" if count else "cpu: torch finds no GPU here"
            raise Mistake(f"device={cfg.device} is not here", allowed=has, type_this="device=auto")
        return _numbered(device)
    if "device" in old:
        device = torch.device(old["device"])
        if device.type == "cpu" or (device.index or 0) < count:
            reasons["device"] = RECORDED
            return _numbered(device)
        reasons["device"] = f"{device} was recorded and is not here: not bit-exact"
        return torch.device("cuda", 0) if count else torch.device("cpu")
    reasons["device"] = "a GPU is here" if count else "torch finds no GPU"
    return torch.device("cuda", 0) if count else torch.device("cpu")


def _numbered(device: torch.device) -> torch.device:
    """`cuda` by its number, as torch asks for when it is made the current one."""
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


def _precision(cfg: Config, old: dict[str, Any], reasons: dict[str, str], device: torch.device) -> Precision:
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    automatic = "bf16" if has_bf16 else "fp32"
    why = "the GPU computes in bf16" if has_bf16 else f"no bf16 unit is used on {device.type}"
    return cast(Precision, _settle("precision", cfg.precision.name, automatic, why, old, reasons))


def _settle(name: str, typed: Any, automatic: Any, why: str, old: dict[str, Any], reasons: dict[str, str]) -> Any:
    """What was typed; else what was recorded; else what suits."""
    if typed not in ("auto", None):
        reasons[name] = TYPED
        return typed
    reasons[name] = RECORDED if name in old else why
    return old.get(name, automatic)


def _loader(cfg: Config, spec: DataSpec, old: dict[str, Any], reasons: dict[str, str], device: torch.device) -> Loader:
    automatic, why = loader_for(cfg, spec, device.type, free_bytes(device))
    return cast(Loader, _settle("loader", str(cfg.data.loader), automatic, why, old, reasons))


def _workers(cfg: Config, old: dict[str, Any], reasons: dict[str, str], loader: str) -> int:
    if loader == "resident":
        reasons["workers"] = "the resident loader needs none"
        return 0
    cores, why = usable_cores()
    recorded = old if old.get("loader") == "streaming" else {}
    automatic = min(8, max(0, cores - 1))
    return int(_settle("workers", cfg.data.workers, automatic, f"{why}, less one", recorded, reasons))


def _threads(cfg: Config, old: dict[str, Any], reasons: dict[str, str], workers: int) -> int:
    """Threads of one operation. They change the order of sums, so their number is part of the run's result."""
    variable = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if variable.isdigit() and 1 <= int(variable) <= MOST_THREADS:
        automatic, why = int(variable), f"OMP_NUM_THREADS={variable}"
    else:
        cores, why = usable_cores()
        automatic = max(1, cores - workers)
        why += f", less {workers} workers" if workers else ""
    return int(_settle("threads", cfg.trainer.threads, automatic, why, old, reasons))


def usable_cores() -> tuple[int, str]:
    """Cores that this process may use, and what says so: its affinity, or the quota of its container."""
    if hasattr(os, "sched_getaffinity"):
        cores, why = len(os.sched_getaffinity(0)), "cores this process may use"
    else:
        cores, why = os.cpu_count() or 1, "cores"
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        limit = math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return cores, why
    return (limit, "cores of this container's quota") if 1 <= limit < cores else (cores, why)


def _network(cfg: Config, spec: DataSpec, device: torch.device) -> nn.Module:
    """The network without memory. Raises Mistake if it cannot be held: the system would end this process, wordless."""
    copies, what = (2, "weights and their gradients") if isinstance(cfg, Train | Reproduce) else (1, "weights")
    network = outline(cfg.model, spec.shape, spec.num_outputs)
    sizes = [(param.numel(), param.element_size()) for param in network.parameters()]
    needed, free = copies * sum(n * size for n, size in sizes), free_bytes(device)
    if needed > free:
        raise Mistake(
            f"{cfg.model.title} has {sum(n for n, _ in sizes):,} parameters: {memory(needed)} for its {what} alone,"
            f" and {memory(free)} are free on {device}",
            allowed="a smaller network: mode=summary counts without memory",
            type_this=command(["mode=summary", *model_words(cfg.model, cfg.model)]),
        )
    return network


def _memory_format(
    cfg: Config, network: nn.Module, old: dict[str, Any], reasons: dict[str, str]
) -> torch.memory_format:
    convolutional = any(param.ndim == 4 for param in network.parameters())
    automatic = "channels_last" if convolutional else "contiguous"
    why = "faster for convolutions" if convolutional else "the network has no convolutions"
    return FORMATS[_settle("memory_format", str(cfg.trainer.memory_format), automatic, why, old, reasons)]


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device: on the GPU, else in the machine or in the container's share of it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
        free = int(available.group(1)) * 1024 if available else free
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        free = min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # another system, or no limit
        pass
    return free


def apply(env: Environment) -> None:
    """Set torch up as settled. Everything is set either way, so that no job of a sweep inherits from another."""
    exact = env.determinism == Determinism.exact
    torch.set_num_threads(env.threads)
    torch.use_deterministic_algorithms(exact)
    # On by default with the flag above, and 500 times slower; nothing here reads what it did not write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = exact
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact
    if env.device.type == "cuda":
        torch.cuda.set_device(env.device)
        torch.cuda.reset_peak_memory_stats(env.device)


def to_json(env: Environment, spec: DataSpec | None = None, recorded: dict[str, Any] | None = None) -> dict[str, Any]:
    """`environment.json`: what was settled and why; with `spec` the data as the run sees them.

    With what a run that goes on had `recorded`, every different environment it ran in before is kept in `earlier`.
    """
    now: dict[str, Any] = {
        "device": str(env.device),
        "precision": env.precision,
        "threads": env.threads,
        "memory_format": next(name for name, value in FORMATS.items() if value == env.memory_format),
        "determinism": str(env.determinism),
        "loader": env.loader,
        "workers": env.workers,
        "reasons": env.reasons,
        "versions": env.versions,
        "network": list(env.network),
        "settings": env.settings,
    }
    if recorded:
        earlier = recorded.get("earlier")
        before = list(earlier) if isinstance(earlier, list) else []
        if differences(recorded, now):
            before.append({name: recorded.get(name) for name in (*BITS, "versions")})
        if before:
            now["earlier"] = before[-20:]
    if spec is not None:
        now["data_spec"] = spec_to_json(spec)
    return now


BITS = ("device", "precision", "threads", "memory_format", "determinism")


def differences(recorded: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, recorded, now) of all that differs between two `environment.json` and can change bits."""
    return [(name, *pair) for name, pair in _pairs(recorded, now).items() if pair[0] != pair[1]]


def _pairs(recorded: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[str, str]]:
    old, new = recorded.get("versions"), now.get("versions")
    old, new = old if isinstance(old, dict) else {}, new if isinstance(new, dict) else {}
    pairs = {name: (_said(recorded, name), _said(now, name)) for name in BITS}
    return pairs | {name: (_said(old, name), _said(new, name)) for name in dict.fromkeys([*old, *new])}


def _said(record: dict[str, Any], name: str) -> str:
    return safe_text(str(record.get(name, "")))


def warning(recorded: dict[str, Any], now: dict[str, Any]) -> str:
    """Words for the screen if a run's bits may come out otherwise here than they were recorded; else ""."""
    found = differences(recorded, now) if recorded else []
    rows = [f"    {name}: {then or 'nothing'} recorded, {here or 'nothing'} here" for name, then, here in found]
    return "\n".join(["not bit-exact, since this is not where the run was:", *rows]) if found else ""
