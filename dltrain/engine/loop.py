"""The training loop: updates over batches, evaluation, checkpoints. It knows no task by name."""

import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dltrain import checkpoint, signals
from dltrain.config import parse
from dltrain.config.messages import Failure
from dltrain.config.mode import Config
from dltrain.data.loaders import Data
from dltrain.engine.precision import autocast
from dltrain.engine.random import Position, key, seed_generators
from dltrain.engine.schedules import factor
from dltrain.engine.state import State, Sums
from dltrain.engine.step import Turn, apply_update
from dltrain.environment import Environment
from dltrain.report import Report
from dltrain.run import Run
from dltrain.tasks import Batch

MOST_OVERFLOWS = 200  # halved so often, no first scale is too large any more: something else is wrong


@dataclass(frozen=True)
class Horizon:
    """How far a run goes: the one place where epochs become steps."""

    steps_per_epoch: int
    total: int

    @staticmethod
    def of(cfg: Config, steps_per_epoch: int) -> "Horizon":
        steps = cfg.trainer.steps
        return Horizon(steps_per_epoch, cfg.trainer.epochs * steps_per_epoch if steps is None else steps)

    @property
    def epochs(self) -> int:
        return -(-self.total // self.steps_per_epoch)

    def ended(self, step: int) -> int:
        """Epochs that have ended before this step; the run's end also ends its last epoch."""
        return self.epochs if step == self.total else step // self.steps_per_epoch


class StopAskedError(Exception):
    """A signal came while something was under way that is simply done again on resume."""


@dataclass
class Window:
    """Scalars of the steps since they were last read: the only place where the loop waits for the device."""

    vectors: dict[str, list[Tensor]] = field(default_factory=dict)
    steps: dict[str, list[int]] = field(default_factory=dict)
    overflows: int = 0  # turns skipped one after another

    def add(self, name: str, step: int, vector: Tensor) -> None:
        self.vectors.setdefault(name, []).append(vector)
        self.steps.setdefault(name, []).append(step)

    def read(self, sums: dict[str, Sums], precision: str) -> dict[str, float]:
        """Means since the last reading. Raises Failure at a loss or gradient norm that is not finite."""
        means: dict[str, float] = {}
        for update, vectors in self.vectors.items():
            table = torch.stack(vectors).cpu()
            names = sums[update].names
            if precision == "fp16":
                for skipped in table[:, names.index("skipped")].tolist():
                    self.overflows = self.overflows + 1 if skipped else 0
                if self.overflows >= MOST_OVERFLOWS:
                    raise Failure(
                        f"the last {self.overflows} steps overflowed in fp16, up to step {self.steps[update][-1]}.\n"
                        "  The last good checkpoint is kept. Try precision=bf16 or a smaller optim.lr."
                    )
            else:
                watched = table[:, [names.index("loss"), names.index("grad_norm")]]
                bad = (~torch.isfinite(watched)).any(dim=1).nonzero()
                if len(bad):
                    step = self.steps[update][int(bad[0])]
                    loss, norm = watched[int(bad[0])].tolist()
                    raise Failure(
                        f"the loss is {loss:g} and its gradient's norm {norm:g} at step {step}.\n"
                        "  The last good checkpoint is kept. Try a smaller optim.lr, or clip=norm clip.max_norm=1."
                    )
            means |= {prefixed(update, name): value for name, value in zip(names, table.mean(0).tolist(), strict=True)}
        self.vectors, self.steps = {}, {}
        return means


def prefixed(update: str, name: str) -> str:
    """`train/loss` of a task's only update, `train/generator/loss` of a named one."""
    return f"train/{update}/{name}" if update else f"train/{name}"


def train(
    cfg: Config,
    state: State,
    turns: list[Turn],
    data: Data,
    run: Run,
    report: Report,
    env: Environment,
) -> str:
    """Train from `state.step` to the end. Returns `completed`, a signal's name, or `max_time`; the state is saved."""
    horizon = Horizon.of(cfg, data.steps_per_epoch)
    deadline = None if cfg.trainer.max_time is None else time.monotonic() + parse.seconds(cfg.trainer.max_time)
    save_unit, save_interval = parse.save_interval(cfg.trainer.save_every)
    window, clock = Window(), report.clock
    first = saved_at_step = state.step
    saved_at_time = time.monotonic()
    batches = data.batches(state.step)
    clock.start()

    while True:
        if horizon.ended(state.step) > len(state.rows):
            window.read(state.sums, env.precision)
            clock.stop()
            try:
                close_epoch(cfg, state, horizon, data, run, report, env)
            except StopAskedError:
                save(state, run, best=False)
                return signals.requested() or "SIGTERM"
            saved_at_step, saved_at_time = state.step, time.monotonic()
            clock.start()

        if finished(cfg, state, horizon):
            return "completed"
        stop = signals.requested() or ("max_time" if deadline is not None and time.monotonic() >= deadline else None)
        passed = state.step - saved_at_step if save_unit == "steps" else time.monotonic() - saved_at_time
        if passed >= save_interval or (stop and state.step > saved_at_step):
            window.read(state.sums, env.precision)
            save(state, run, best=False)
            saved_at_step, saved_at_time = state.step, time.monotonic()
        if stop:
            if not state.step:
                save(state, run, best=False)
            return stop

        batch = next(batches)
        train_step(cfg, state, turns, batch, horizon, window, env)
        state.step += 1
        clock.images += len(batch.ids)
        if state.step % cfg.log.every == 0 or state.step == first + 1:
            scalars = window.read(state.sums, env.precision)
            clock.stop()
            report.step(
                state.step,
                horizon.total,
                horizon.ended(state.step - 1) + 1,
                horizon.epochs,
                scalars,
                clock.images_per_second,
            )
            clock.start()


def train_step(
    cfg: Config, state: State, turns: list[Turn], batch: Batch, horizon: Horizon, window: Window, env: Environment
) -> None:
    """Every update that is due at this step, then the average of the weights."""
    step = state.step
    lr = cfg.optim.lr * factor(cfg.schedule, step, horizon.total, horizon.steps_per_epoch)
    batch = batch._replace(images=batch.images.contiguous(memory_format=env.memory_format))
    skipped: Tensor | None = None
    for turn in turns:
        if step % turn.update.every:
            continue
        position = Position(seed=cfg.seed, epoch=step // horizon.steps_per_epoch, step=step)
        scalars = apply_update(cfg, turn, batch, position, lr)
        name = turn.update.name
        window.add(name, step, state.sums.setdefault(name, Sums()).add(scalars))
        if "skipped" in scalars:
            skipped = scalars["skipped"] if skipped is None else torch.maximum(skipped, scalars["skipped"])
    if state.ema is not None:
        state.ema.update(state.task, skipped)


def close_epoch(
    cfg: Config, state: State, horizon: Horizon, data: Data, run: Run, report: Report, env: Environment
) -> None:
    """Write the row of the epoch that has ended; evaluate, and keep the best, when that is due."""
    epoch = horizon.ended(state.step)
    row: dict[str, Any] = {"epoch": epoch, "step": state.step}
    row["train/lr"] = cfg.optim.lr * factor(cfg.schedule, state.step - 1, horizon.total, horizon.steps_per_epoch)
    for update, sums in state.sums.items():
        row |= {prefixed(update, name): value for name, value in sums.means().items()}
    due = epoch % cfg.trainer.eval_every == 0 or state.step == horizon.total
    improved = False
    if due:
        metrics = evaluate(cfg, state.evaluated, data, "val", state.step, env)
        row |= {f"val/{name}": value for name, value in metrics.items()}
        improved = is_better(state.task.monitor, row, state.best)
        state.stale = 0 if improved else state.stale + 1
        if improved:
            metric = state.task.monitor
            state.best = {"epoch": epoch, "step": state.step, "metric": metric, "value": row[metric.lstrip("-")]}
    state.rows.append(row)
    state.sums = {}
    if due:
        save(state, run, best=improved)
    report.epoch(row, improved)


def is_better(monitor: str, row: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """A tie keeps the earlier one; what is not a number is never better."""
    value = row[monitor.lstrip("-")]
    if best is None:
        return bool(value == value)
    return bool(value < best["value"] if monitor.startswith("-") else value > best["value"])


def finished(cfg: Config, state: State, horizon: Horizon) -> bool:
    patience = cfg.trainer.early_stop
    return state.step >= horizon.total or (patience is not None and state.stale >= patience)


def save(state: State, run: Run, *, best: bool) -> None:
    """The checkpoint first: `metrics.csv` is written again from its rows on resume."""
    checkpoint.save(run.path, state.state_dict(), best=best)
    run.write_metrics(state.rows)


def evaluate(cfg: Config, task: nn.Module, data: Data, split: str, step: int, env: Environment) -> dict[str, float]:
    """Metrics of one split. Draws from its own seed, and the next training step reseeds, so it leaves no trace.

    Raises StopAskedError when a signal comes between two batches.
    """
    seed_generators(key(cfg.seed, "evaluate", step), env.device)
    # in eager mode, so that mode=eval and dltrain.load see what the run saw
    eager = torch.compiler.set_stance("force_eager") if cfg.trainer.compile else nullcontext()
    with eager, autocast(env.precision, env.device):
        metrics: dict[str, float] = task.evaluate(until_asked(data.split(split), env))  # type: ignore[operator]
    return metrics


def until_asked(batches: Iterable[Batch], env: Environment) -> Iterator[Batch]:
    for batch in batches:
        if signals.requested():
            raise StopAskedError
        yield batch._replace(images=batch.images.contiguous(memory_format=env.memory_format))
