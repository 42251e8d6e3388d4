"""One turn: one update over one batch, from zero gradients to moved weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dltrain.config.mode import Config
from dltrain.engine.clip import clip
from dltrain.engine.penalty import add_penalty
from dltrain.engine.precision import autocast, found_inf
from dltrain.engine.random import Position, set_position
from dltrain.engine.schedules import set_lr
from dltrain.tasks import Batch, Scalars, Update


@dataclass
class Turn:
    """What an update works with, made once: its place among the task's updates, its parameters, its optimizer."""

    update: Update
    index: int
    named_params: list[tuple[str, Parameter]]
    optimizer: Optimizer
    device: torch.device
    precision: str  # "fp32", "bf16", "fp16"
    scaler: torch.amp.GradScaler | None
    penalized: bool  # reg belongs to a module once a step: to the first update that moves it


def micro_batches(batch: Batch, size: int | None) -> list[Batch]:
    """The batch in parts of at most `size` rows; null: whole."""
    rows = len(batch.ids)
    if size is None or size >= rows:
        return [batch]
    return [batch.part(slice(at, at + size)) for at in range(0, rows, size)]


def shares(count: Callable[[Batch], Tensor] | None, batch: Batch, micros: list[Batch]) -> Sequence[Tensor | float]:
    """Each micro-batch's part of the whole mean: by what `count` gives, else by rows."""
    if len(micros) == 1:
        return [1.0]
    if count is None:
        return [len(micro.ids) / len(batch.ids) for micro in micros]
    with torch.no_grad():
        counts = [count(micro) for micro in micros]
        total = torch.stack(counts).sum().clamp(min=1e-12)
        return [number / total for number in counts]


def apply_update(cfg: Config, turn: Turn, batch: Batch, position: Position, lr: float) -> Scalars:
    """Move `turn.update.module` by one optimizer step and return device scalars, without a host sync.

    The scalars are the loss's own, `loss` among them, weighted over micro-batches, and `grad_norm` (before
    clipping), `clipped` and `skipped` (0 or 1), `penalty` where there is one, `grad_norm/<layer>` on request.
    """
    update, optimizer, scaler = turn.update, turn.optimizer, turn.scaler
    params = [param for _, param in turn.named_params]
    set_lr(optimizer, lr * update.lr_scale)
    optimizer.zero_grad(set_to_none=True)

    scalars: Scalars = {}
    micros = micro_batches(batch, cfg.trainer.micro_batch_size)
    of_loss = shares(update.count, batch, micros)
    of_scalars = {name: shares(count, batch, micros) for name, count in update.counts.items()}
    for micro_index, (micro, share) in enumerate(zip(micros, of_loss, strict=True)):
        position.micro, position.update = micro_index, turn.index
        set_position(position, turn.device)
        with autocast(turn.precision, turn.device):
            loss, found = update.loss(micro)
        loss = loss * share
        torch.autograd.backward(scaler.scale(loss) if scaler is not None else loss, inputs=params)
        for name, value in found.items():
            part = value.detach() * of_scalars.get(name, of_loss)[micro_index]
            scalars[name] = scalars[name] + part if name in scalars else part

    if scaler is not None:
        scaler.unscale_(optimizer)
        scalars["skipped"] = found_inf(scaler, optimizer)
    penalty = add_penalty(turn.named_params, cfg.reg) if turn.penalized else None
    if penalty is not None:
        scalars["penalty"] = penalty
    clipped = clip(turn.named_params, cfg.clip, cfg.log.layer_norms)
    scalars["grad_norm"], scalars["clipped"] = clipped.norm, clipped.clipped
    if scaler is not None:  # an infinite norm is not clipped but skipped
        scalars["clipped"] = torch.where(scalars["skipped"], 0.0, clipped.clipped)
    if clipped.layer_norms is not None:
        scalars |= {f"grad_norm/{name}": value for name, value in clipped.layer_norms.items()}

    if scaler is not None:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    return scalars
