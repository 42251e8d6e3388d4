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
from dltrain.engine.profile import BATCH, STEP, Profile, measured
from dltrain.engine.random import Position, key, seed_generators
from dltrain.engine.schedules import factor
from dltrain.engine.state import State, Sums, stacked
from dltrain.engine.step import Turn, apply_update
from dltrain.environment import Environment
from dltrain.report import Report
from dltrain.run import Run
from dltrain.signals import StopAskedError as StopAskedError
from dltrain.tasks import Batch, Evaluation

MOST_OVERFLOWS = 200  # halved so often, no first scale is too large any more: something else is wrong


@dataclass(frozen=True)
class Horizon:
    """How far a run goes: the one place where epochs become steps."""

    steps_per_epoch: int
    total: int

    @staticmethod
    def of(cfg: Config, steps_per_epoch: int) -> "Horizon":
        steps = 1 if cfg.trainer.dry_run else cfg.trainer.steps
        return Horizon(steps_per_epoch, cfg.trainer.epochs * steps_per_epoch if steps is None else steps)

    @property
    def epochs(self) -> int:
        return -(-self.total // self.steps_per_epoch)

    def ended(self, step: int) -> int:
        """Epochs that have ended before this step; the run's end also ends its last epoch."""
        return self.epochs if step == self.total else step // self.steps_per_epoch

    def points_every(self, every: int) -> int:
        """Steps from one point of the training curves to the next: `log.every`, but one an epoch at least."""
        return min(every, self.steps_per_epoch, self.total)


@dataclass
class Unread:
    """Scalars of the steps that nobody has looked at yet: the only place where the loop waits for the device."""

    updates: list[str]  # in the order of their turns within a step
    turns: dict[str, list[tuple[int, list[str], Tensor]]] = field(default_factory=dict)  # step, names, values

    def add(self, update: str, step: int, names: list[str], vector: Tensor) -> None:
        self.turns.setdefault(update, []).append((step, names, vector))

    def check(self, state: State, precision: str) -> None:
        """Look at all of them. Raises Failure at a loss, a part of it or a gradient norm that is not finite.

        Of several the first is named, since what one update spoils the others run into.
        """
        bad: list[tuple[int, int, str]] = []  # step, place among the updates, what is wrong
        for place, update in enumerate(self.updates):
            if update not in self.turns:
                continue
            turns = self.turns[update]
            steps, names = [step for step, _, _ in turns], turns[0][1]
            table = torch.stack([vector for _, _, vector in turns]).cpu()
            if precision == "fp16":
                for skipped in table[:, names.index("skipped")].tolist():
                    state.overflows[update] = state.overflows.get(update, 0) + 1 if skipped else 0
                if state.overflows[update] >= MOST_OVERFLOWS:
                    turn = f"{update} updates" if update else "steps"
                    raise Failure(
                        f"the last {state.overflows[update]} {turn} overflowed in fp16, up to step {steps[-1]}.\n"
                        "  The last good checkpoint is kept. Try precision=bf16 or a smaller optim.lr."
                    )
                continue
            watched = ["loss", "grad_norm", *(name for name in names if name.endswith(("_loss", "penalty")))]
            values = table[:, [names.index(name) for name in watched]]
            rows = (~torch.isfinite(values)).any(dim=1).nonzero()
            if len(rows):
                loss, norm, *parts = values[int(rows[0])].tolist()
                others = "".join(f", {name} {value:g}" for name, value in zip(watched[2:], parts, strict=True))
                whose = f"{update} loss" if update else "loss"
                bad.append(
                    (steps[int(rows[0])], place, f"the {whose} is {loss:g}{others} and the gradient's norm {norm:g}")
                )
        self.turns = {}
        if bad:
            step, _, what = min(bad)
            raise Failure(
                f"{what} at step {step}.\n"
                "  The last good checkpoint is kept. Try a smaller optim.lr, or clip=norm clip.max_norm=1."
            )


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
    profile: Profile | None = None,
) -> str:
    """Train from `state.step` to the end. Returns `completed`, a signal's name, or `max_time`; the state is saved."""
    horizon = Horizon.of(cfg, data.steps_per_epoch)
    deadline = None if cfg.trainer.max_time is None else time.monotonic() + parse.seconds(cfg.trainer.max_time)
    save_unit, save_interval = parse.save_interval(cfg.trainer.save_every)
    points_every = horizon.points_every(cfg.log.every)
    unread, clock = Unread([turn.update.name for turn in turns]), report.clock
    first = saved_at_step = state.step
    saved_at_time = time.monotonic()
    batches = data.batches(state.step)
    clock.start()

    while True:
        if horizon.ended(state.step) > len(state.rows):
            unread.check(state, env.precision)
            clock.stop()
            try:
                close_epoch(cfg, state, horizon, data, run, report, env)
            except StopAskedError:
                save(state, run, report, best=False)
                return signals.requested() or "SIGTERM"
            saved_at_step, saved_at_time = state.step, time.monotonic()
            clock.start()

        if finished(cfg, state, horizon):
            return "completed"
        stop = signals.requested() or ("max_time" if deadline is not None and time.monotonic() >= deadline else None)
        passed = state.step - saved_at_step if save_unit == "steps" else time.monotonic() - saved_at_time
        if passed >= save_interval or (stop and state.step > saved_at_step):
            unread.check(state, env.precision)
            save(state, run, report, best=False)
            saved_at_step, saved_at_time = state.step, time.monotonic()
        if stop:
            if not state.step:
                save(state, run, report, best=False)
            return stop

        with measured(profile, BATCH):
            batch = next(batches)
        if not state.step and cfg.log.pictures:
            clock.stop()
            report.batch(state.task.pictures(batch), state.step)
            clock.start()
        with measured(profile, STEP):
            train_step(cfg, state, turns, batch, horizon, unread, env)
        state.step += 1
        clock.images += len(batch.ids)
        is_point = state.step % points_every == 0
        ends_epoch = horizon.ended(state.step) > len(state.rows)
        if is_point or state.step == first + 1:
            unread.check(state, env.precision)
            clock.stop()
            tell(cfg, state, horizon, report, is_point=is_point)
            clock.start()
        if cfg.log.histograms and ends_epoch:
            clock.stop()
            report.histograms(weights_and_gradients(turns), state.step)
            clock.start()
        if profile is not None:
            clock.stop()
            profile.advance()
            clock.start()


def tell(cfg: Config, state: State, horizon: Horizon, report: Report, *, is_point: bool) -> None:
    """Means since the last point of the curves; a point begins the next window, whether or not the run was stopped."""
    before = state.step - 1
    scalars = {"train/lr": cfg.optim.lr * factor(cfg.schedule, before, horizon.total, horizon.steps_per_epoch)}
    for update, sums in state.window.items():
        scalars |= {prefixed(update, name): value for name, value in sums.means().items()}
    report.step(state.step, horizon.total, horizon.ended(before) + 1, horizon.epochs, scalars, is_point=is_point)
    if is_point:
        state.window = {}


def weights_and_gradients(turns: list[Turn]) -> Iterator[tuple[str, Tensor]]:
    """By name, of each module once; gradients as the optimizer took them in the last step."""
    for turn in turns:
        if turn.penalized:
            for name, param in turn.named_params:
                full = f"{turn.update.name}/{name}" if turn.update.name else name
                yield f"weights/{full}", param
                if param.grad is not None:
                    yield f"gradients/{full}", param.grad


def train_step(
    cfg: Config, state: State, turns: list[Turn], batch: Batch, horizon: Horizon, unread: Unread, env: Environment
) -> None:
    """Every update that is due at this step, then the average of the weights that they moved."""
    step = state.step
    lr = cfg.optim.lr * factor(cfg.schedule, step, horizon.total, horizon.steps_per_epoch)
    batch = batch._replace(images=batch.images.contiguous(memory_format=env.memory_format))
    skipped: dict[nn.Module, Tensor | None] = {}  # of each module that had a turn: whether none moved it
    for turn in turns:
        if step % turn.update.every:
            continue
        position = Position(seed=cfg.seed, epoch=step // horizon.steps_per_epoch, step=step)
        scalars = apply_update(cfg, turn, batch, position, lr)
        name, module = turn.update.name, turn.update.module
        vector = stacked(scalars)
        for sums in (state.sums, state.window):
            sums.setdefault(name, Sums()).add(scalars, vector)
        unread.add(name, step, list(scalars), vector)
        skip, before = scalars.get("skipped"), skipped.get(module)
        skipped[module] = skip if skip is None or before is None else skip & before
    if state.ema is not None:
        for module, skip in skipped.items():
            state.ema.update(state.task, skip, module)


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
    improved, found = False, Evaluation({})
    if due:
        found = evaluate(cfg, state.evaluated, data, "val", state.step, env)
        row |= {f"val/{name}": value for name, value in found.metrics.items()}
        improved = is_better(state.task.monitor, row, state.best)
        state.stale = 0 if improved else state.stale + 1
        if improved:
            metric = state.task.monitor
            state.best = {"epoch": epoch, "step": state.step, "metric": metric, "value": row[metric.lstrip("-")]}
    state.rows.append(row)
    state.sums = {}
    report.epoch(state.rows, improved, found)  # before the save: what is told of a step comes before its checkpoint
    if due:
        save(state, run, report, best=improved)


def is_better(monitor: str, row: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """A tie keeps the earlier one; what is not a number is never better."""
    value = row[monitor.lstrip("-")]
    if best is None:
        return bool(value == value)
    return bool(value < best["value"] if monitor.startswith("-") else value > best["value"])


def finished(cfg: Config, state: State, horizon: Horizon) -> bool:
    patience = cfg.trainer.early_stop
    return state.step >= horizon.total or (patience is not None and state.stale >= patience)


def save(state: State, run: Run, report: Report, *, best: bool) -> None:
    """Events before the checkpoint, which they cannot be made from; `metrics.csv` after it, which can."""
    report.flush()
    checkpoint.save(run.path, state.state_dict(), best=best)
    run.write_metrics(state.rows)


def evaluate(cfg: Config, task: nn.Module, data: Data, split: str, step: int, env: Environment) -> Evaluation:
    """Metrics and pictures of one split. Draws from its own seed, and the next step reseeds, so it leaves no trace.

    Raises StopAskedError when a signal comes between two batches.
    """
    seed_generators(key(cfg.seed, "evaluate", step), env.device)
    # in eager mode, so that mode=eval and dltrain.load see what the run saw
    eager = torch.compiler.set_stance("force_eager") if cfg.trainer.compile else nullcontext()
    with eager, autocast(env.precision, env.device):
        found: Evaluation = task.evaluate(until_asked(data.split(split), env))  # type: ignore[operator]
    return found


def until_asked(batches: Iterable[Batch], env: Environment) -> Iterator[Batch]:
    for batch in batches:
        signals.stop_if_asked()
        yield batch._replace(images=batch.images.contiguous(memory_format=env.memory_format))
