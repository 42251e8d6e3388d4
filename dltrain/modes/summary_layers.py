"""A network's layers: shapes, parameters, multiply-adds and activations, found by passes without numbers.

Activations, shapes and calls are those of a training pass. Multiply-adds are those of an evaluation pass, as papers and
others count them: what a network has for its training only has none.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from dltrain.report.table import columns, count, folded, memory, short
from dltrain.report.terminal import width

SHORTEST_KIND = 9  # letters that are left of `BatchNorm2d`


@dataclass(frozen=True)
class Layer:
    """One module, and what is its own: what modules inside of it have stands in their lines."""

    name: str  # as in the state dict; empty for the network itself
    kind: str
    calls: int  # in one pass; 0: the pass does not use it
    evaluated: bool  # whether the evaluation pass uses it too
    output: tuple[int, ...] | None  # of its last call, without the batch; None if that is no tensor
    parameters: int  # shared ones belong to the first module that has them
    multiply_adds: int  # for one image
    kept_bytes: int  # for the batch


@dataclass(frozen=True)
class Summary:
    """A network as passes over `batch` inputs of `shape`, (C, H, W) of images, found it, and its sums."""

    shape: tuple[int, ...]
    batch: int
    device: str  # meta, or cpu for networks that cannot be run without numbers
    layers: tuple[Layer, ...]
    parameters: int
    trained: int  # of them
    training_only: int  # of them
    parameter_bytes: int
    multiply_adds: int  # for one image, of convolutions and matrix products: half of what torch's counter counts
    kept_bytes: int  # for the batch: all that the backward pass needs but parameters and buffers


def summarize(model: nn.Module, shape: tuple[int, ...], batch: int = 2) -> Summary:
    """The layers of any network that takes (B, *shape). Changes nothing: neither the model nor any generator.

    A copy on torch's meta device is run, which computes shapes alone; where that cannot be, one on the CPU with two
    images, for which the model must have numbers. `batch` must be 2 or more, since batch norm cannot learn from one.
    """
    if batch < 2:
        raise ValueError(f"a batch of {batch} cannot be trained on by every network: 2 or more")
    try:
        return _Pass(_without_numbers(model)).over(shape, batch, "meta")
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # what asks for a number has many ways to fail
        generator = torch.default_generator.get_state()
        try:
            return _Pass(copy.deepcopy(model).cpu()).over(shape, 2, "cpu")
        finally:
            torch.default_generator.set_state(generator)


def _without_numbers(model: nn.Module) -> nn.Module:
    """A copy on the meta device; the weights are not copied on the way."""
    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(model, memo)


class _Pass:
    """A pass of each kind, in which whatever happens belongs to the innermost module that is at work."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.at_work: list[nn.Module] = []
        self.calls: dict[nn.Module, int] = {}  # while training
        self.evaluated: set[nn.Module] = set()
        self.outputs: dict[nn.Module, tuple[int, ...] | None] = {}
        self.flops: dict[nn.Module, int] = {}
        self.kept: dict[nn.Module, int] = {}
        self.counted = 0
        self.counter = FlopCounterMode(display=False)
        # Storages are held: one that is freed gives its address to another.
        self.known = dict(map(_storage, [*model.parameters(), *model.buffers()]))

    def over(self, shape: tuple[int, ...], batch: int, device: str) -> Summary:
        model = self.model
        for module in model.modules():
            module.register_forward_pre_hook(self._enter, prepend=True)
            module.register_forward_hook(self._leave)
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        images = torch.zeros(batch, *shape, dtype=dtype, device=device)
        model.train()
        with torch.enable_grad(), saved_tensors_hooks(self._keep, lambda tensor: tensor):
            model(images)
        model.eval()
        with torch.enable_grad(), self.counter:  # without gradients torch fuses attention, and nothing is counted
            model(images)
        parameters, layers = list(model.parameters()), tuple(self._layers(batch))
        return Summary(
            shape=shape,
            batch=batch,
            device=device,
            layers=layers,
            parameters=sum(p.numel() for p in parameters),
            trained=sum(p.numel() for p in parameters if p.requires_grad),
            training_only=sum(layer.parameters for layer in layers if layer.calls and not layer.evaluated),
            parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
            multiply_adds=_per_image(self.counter.get_total_flops(), batch),
            kept_bytes=sum(self.kept.values()),
        )

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._count()
        self.at_work.append(module)
        if self.model.training:
            self.calls[module] = self.calls.get(module, 0) + 1
        else:
            self.evaluated.add(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._count()
        self.at_work.pop()
        if self.model.training:
            self.outputs[module] = _shape(output)

    def _count(self) -> None:
        """Give what was counted since the last call to the module at work."""
        total = self.counter.get_total_flops()
        if self.at_work:
            self.flops[self.at_work[-1]] = self.flops.get(self.at_work[-1], 0) + total - self.counted
        self.counted = total

    def _keep(self, tensor: Tensor) -> Tensor:
        address, storage = _storage(tensor)
        if address not in self.known:
            self.known[address] = storage
            module = self.at_work[-1]
            self.kept[module] = self.kept.get(module, 0) + storage.nbytes()
        return tensor

    def _layers(self, batch: int) -> Iterator[Layer]:
        seen: set[nn.Parameter] = set()
        for name, module in self.model.named_modules():
            own = [p for p in module.parameters(recurse=False) if p not in seen]
            seen.update(own)
            layer = Layer(
                name=name,
                kind=type(module).__name__,
                calls=self.calls.get(module, 0),
                evaluated=module in self.evaluated,
                output=self.outputs.get(module),
                parameters=sum(p.numel() for p in own),
                multiply_adds=_per_image(self.flops.get(module, 0), batch),
                kept_bytes=self.kept.get(module, 0),
            )
            does = layer.parameters or layer.multiply_adds or layer.kept_bytes
            if does or (not list(module.children()) and not isinstance(module, nn.Identity)):
                yield layer


def _storage(tensor: Tensor) -> tuple[int, torch.UntypedStorage]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage  # on meta, memory has no address


def _per_image(flops: int, batch: int) -> int:
    return round(flops / (2 * batch))


def _shape(output: Any) -> tuple[int, ...] | None:
    """Of a tensor, or of the first one in a list, tuple or dict."""
    if isinstance(output, Tensor):
        return tuple(output.shape[1:])
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else []
    return next((shape for part in parts if (shape := _shape(part)) is not None), None)


# ---- as text


def table(summary: Summary, room: int | None = None) -> list[str]:
    """The layers, then their sums, as lines of at most `room` columns.

    Where that is too narrow: short numbers, then shortened kinds, then two lines a layer.
    """
    return [*_layers(summary, room), "", *_sums(summary, room)]


def _layers(summary: Summary, room: int | None) -> list[str]:
    head = ["layer", "kind", "output", "parameters", "multiply-adds", "activations"]
    lines = _aligned(summary, head, "{:,}".format)
    if room is None or _widest(lines) <= room:
        return lines
    head = ["layer", "kind", "output", "params", "mult-adds", "activ."]
    lines = _aligned(summary, head, short)
    kinds = max(len(_kind(layer)) for layer in summary.layers)
    kinds -= _widest(lines) - room
    if kinds >= SHORTEST_KIND:
        return _aligned(summary, head, short, kinds)
    stacked = ["  ".join(head[:2]), "    " + "  ".join(head[2:])]
    for row in _rows(summary, short):
        stacked += [f"{row[0]}  {row[1]}".rstrip(), "    " + "  ".join(cell or "-" for cell in row[2:])]
    return [part for line in stacked for part in folded(line, room)]


def _aligned(summary: Summary, head: Sequence[str], number: Callable[[int], str], kinds: int = 0) -> list[str]:
    rows = _rows(summary, number)
    if kinds:
        rows = [[row[0], _cut(row[1], kinds), *row[2:]] for row in rows]
    return columns(head, rows, right=[3, 4, 5])


def _rows(summary: Summary, number: Callable[[int], str]) -> list[list[str]]:
    rows = []
    for layer in summary.layers:
        output = "" if layer.output is None else by(layer.output) or "1"
        counts = [number(value) if value else "" for value in (layer.parameters, layer.multiply_adds)]
        kept = memory(layer.kept_bytes) if layer.kept_bytes else ""
        rows.append([layer.name or "(network)", _kind(layer), output, *counts, kept])
    sums = [number(summary.parameters), number(summary.multiply_adds), memory(summary.kept_bytes)]
    return [*rows, ["total", "", "", *sums]]


def _kind(layer: Layer) -> str:
    if layer.calls and not layer.evaluated:
        return f"{layer.kind} (training)"
    return layer.kind + {0: " (not used)", 1: ""}.get(layer.calls, f" x{layer.calls}")


def _sums(summary: Summary, room: int | None) -> list[str]:
    fixed = summary.parameters - summary.trained
    trained = [f"{fixed:,} of them fixed"] if fixed else []
    what = "(channels x height x width)" if len(summary.shape) == 3 else "numbers"
    rows = [
        ("input", [f"{by(summary.shape)} {what}"]),
        ("parameters", [f"{summary.parameters:,}", memory(summary.parameter_bytes), *trained]),
        ("multiply-adds", [f"{summary.multiply_adds:,} an image", "convolutions and matrix products, each 2 FLOPs"]),
        (
            "activations",
            [f"{memory(summary.kept_bytes)} for {count(summary.batch, 'image')}", "kept for the backward pass"],
        ),
    ]
    if summary.training_only:
        of = f"{summary.training_only:,} of the parameters"
        rows.append(("training only", [of, "the activations count them, the multiply-adds do not"]))
    lines = []
    for label, parts in rows:
        text = f"{label:<15}{'; '.join(parts)}"
        whole = room is None or width(text) <= room
        lines += [text] if whole or room is None else [label, *(p for part in parts for p in folded(f"  {part}", room))]
    return lines


def _widest(lines: Sequence[str]) -> int:
    return max(map(width, lines))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def by(sizes: Sequence[int]) -> str:
    """`6x28x28`."""
    return "x".join(map(str, sizes))
