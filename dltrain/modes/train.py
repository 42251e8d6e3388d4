"""mode=train: train, evaluate, keep the best, test it once."""

import resource
import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain import checkpoint, environment, signals
from dltrain.config.messages import Failure, Mistake
from dltrain.config.mode import Config
from dltrain.config.overlay import model_words
from dltrain.config.spec import DataSpec
from dltrain.data import open_data
from dltrain.data.loaders import Data
from dltrain.engine import loop
from dltrain.engine.ema import Ema
from dltrain.engine.optimizers import build_optimizers
from dltrain.engine.precision import make_scaler
from dltrain.engine.profile import Profile
from dltrain.engine.random import key, seed_generators
from dltrain.engine.state import State
from dltrain.engine.step import Turn
from dltrain.environment import Environment
from dltrain.measuring.measures import Measures
from dltrain.modes.judging import UNKNOWN, Record, measures_for, record_of, spoken_judge
from dltrain.report import Report
from dltrain.report.terminal import Screen
from dltrain.run import Run
from dltrain.tasks import Evaluation, Picture
from dltrain.tasks.build import build_task, weighs_pixels
from dltrain.text import SHOWN

EXIT_CODES = {"completed": 0, "SIGINT": 130}  # any other reason to stop is a scheduler's or max_time's: 75


def run(
    cfg: Config, spec: DataSpec, folder: Path, screen: Screen, recorded_environment: dict[str, Any] | None = None
) -> int:
    """Train in `folder`, from its last checkpoint if it has one. Returns the exit code 0, 75 or 130.

    `recorded_environment` is what a reproduced run resolved its `auto` values to; a resumed run reads its own.
    """
    began = time.monotonic()
    record = Run(folder)
    with record.lock():
        earlier = record.results()["seconds"] or 0.0
        saved = checkpoint.load(folder, "last", screen.line, repair=True)
        before = record.environment()
        env = environment.resolve(cfg, spec, before or recorded_environment)
        environment.apply(env)
        now = environment.to_json(env, spec, before)
        if warning := environment.warning(before, now):
            screen.warn(warning)
        kept = {name: before[name] for name in ("data_sha256", "judge") if saved is not None and name in before}
        seen = kept.get("data_sha256")
        running = {"status": "running", "device": str(env.device), "precision": env.precision, "seed": cfg.seed}
        if saved is None:
            record.write_environment(now)
            record.write_results(**running)

        data = open_data(cfg, spec, env.device, env.loader, env.workers, screen.line)
        try:
            digests = data.digests()
            refuse_other_images(seen, digests, folder)
            now["data_sha256"] = digests or seen or {}
            then = kept if saved is not None else recorded_environment or {}
            measures = measures_for(cfg, spec, data, env, screen, then.get("judge", UNKNOWN))
            judge = record_of(measures)
            refuse_other_judge(kept.get("judge"), judge, folder)
            state, turns = build(cfg, spec, data, env, screen, measures)
            lengthen(record, cfg)  # not before here: a run that may not go on stays as it was
            if saved is not None:
                state.load_state_dict(saved, env.device)
                record.write_results(**running)
                record.write_metrics(state.rows)
            record.write_environment(now if measures is None else now | {"judge": judge})
            pictures: dict[str, Picture] = {}
            parameters = sum(param.numel() for param in state.task.parameters())
            record.write_results(parameters=parameters)
            report = Report(screen, cfg, spec, record, state.task.monitor, state.step)
            notes = [] if judge is None else [spoken_judge(judge)]
            notes += [] if saved is None else [f"goes on from step {state.step:,}"]
            report.banner(parameters, env, notes)
            with signals.patient():  # from here on a signal is noted, and the loop stops and saves
                with profiling(cfg, state, data, record, report, env) as profile:
                    reason = loop.train(cfg, state, turns, data, record, report, env, profile)
                results = summary(state, report, env)
                if reason == "completed":
                    results["weights_sha256"] = checkpoint.weights_sha256(state.task.state_dict())
                    try:
                        final = final_evaluation(cfg, state, data, folder, env, screen)
                        results["metrics"], pictures = final.metrics, final.pictures
                    except loop.StopAskedError:
                        reason = signals.requested() or "SIGTERM"
                results["seconds"] = round(earlier + time.monotonic() - began, 3)
                results["status"] = "completed" if reason == "completed" else "interrupted"
                # told before it is recorded: a run that is killed here is not complete, and does its end again
                report.end(record.results() | results, reason, state.rows, pictures)
                record.write_results(**results)
        finally:
            data.close()
    return EXIT_CODES.get(reason, 75)


def lengthen(record: Run, cfg: Config) -> None:
    """Keep the length of a run that goes on; other words beside `resume=` are for one time only."""
    recorded = record.read_config()
    if (cfg.trainer.epochs, cfg.trainer.steps) != (recorded.trainer.epochs, recorded.trainer.steps):
        recorded.trainer.epochs, recorded.trainer.steps = cfg.trainer.epochs, cfg.trainer.steps
        record.write_config(recorded)


def refuse_other_images(then: Any, now: dict[str, str], folder: Path) -> None:
    """Raise Failure if a run is about to go on with other pixels or targets than it has learned from.

    The streaming loader tells nothing of the pixels: there is nothing to compare.
    """
    other = [split for split, digest in now.items() if isinstance(then, dict) and then.get(split, digest) != digest]
    if other:
        raise Failure(
            f"the images of {' and '.join(other)} are not those that {folder} has learned from: the same files hold "
            "other pixels, and it would not end as if it had never stopped",
            resumes=False,
        )


def refuse_other_judge(then: Any, now: Record, folder: Path) -> None:
    """Raise Failure if what a run goes on with would measure it otherwise than it was measured so far."""
    if isinstance(then, dict) and then.get("weights_sha256") != (now or {}).get("weights_sha256"):
        names = [spoken_judge(judge) if isinstance(judge, dict) else "no judge" for judge in (then, now)]
        raise Failure(
            f"the judge is not the one that {folder} was measured by so far: {names[0]}\n"
            f"  here it is {names[1]}\n"
            "  what it would measure from here on could not be compared: put the former judge back in its place",
            resumes=False,
        )


def profiling(
    cfg: Config, state: State, data: Data, record: Run, report: Report, env: Environment
) -> AbstractContextManager[Profile | None]:
    """What profiles steps while it is open, where that is asked for."""
    if not cfg.trainer.profile:
        return nullcontext()
    left = loop.Horizon.of(cfg, data.steps_per_epoch).total - state.step
    return Profile(record.path, env.device, left, report)


def summary(state: State, report: Report, env: Environment) -> dict[str, Any]:
    """What `results.json` says of a run that has stopped or ended."""
    found: dict[str, Any] = {
        "best": state.best,
        "steps": state.step,
        "epochs": len(state.rows),
        "peak_memory_bytes": peak_memory(env.device),
    }
    if report.clock.images:
        found["images_per_second"] = round(report.clock.images_per_second, 1)
    return found


def build(
    cfg: Config, spec: DataSpec, data: Data, env: Environment, screen: Screen, measures: Measures | None = None
) -> tuple[State, list[Turn]]:
    """The task with its first weights on the device, its optimizers and its updates, at step 0."""
    seed_generators(key(cfg.seed, "init"), torch.device("cpu"))
    pixels = data.class_pixels("train") if weighs_pixels(cfg.task) else None
    task: Any = build_task(cfg, spec, data.targets("train"), pixels, measures)
    if cfg.init.name == "run":
        load_weights(task, cfg, spec, screen)
    task.to(env.device, memory_format=env.memory_format)
    task.train()
    ema = None if cfg.trainer.ema is None else Ema(task, cfg.trainer.ema)
    updates = task.updates()
    optimizers = build_optimizers(cfg.optim, updates, env.device)
    scaler = make_scaler(cfg.precision, env.precision, env.device)
    turns = []
    for index, update in enumerate(updates):
        named = [(name, param) for name, param in update.module.named_parameters() if param.requires_grad]
        first = next(other for other in updates if other.module is update.module)
        optimizer = optimizers[first.name or "model"]
        turns.append(Turn(update, index, named, optimizer, env.device, env.precision, scaler, first is update))
        if cfg.trainer.compile:
            update.module.compile()
    return State(task, optimizers, ema, scaler), turns


def load_weights(task: nn.Module, cfg: Config, spec: DataSpec, screen: Screen) -> None:
    """Weights of another run's checkpoint (its average, if it kept one), all of which must fit."""
    source = Path(cfg.init.source)
    saved = checkpoint.load(source, cfg.init.checkpoint, screen.line)
    if saved is None:
        raise Failure(f"the checkpoint of {source} is gone")
    theirs = saved["task"] if saved["ema"] is None else Ema.weights(saved["ema"])
    ours = task.state_dict()
    odd = [f"{name}: only in this network" for name in sorted(ours.keys() - theirs.keys())]
    odd += [f"{name}: only in {source}" for name in sorted(theirs.keys() - ours.keys())]
    odd += [
        f"{name}: {tuple(ours[name].shape)} here, {tuple(theirs[name].shape)} there"
        for name in sorted(ours.keys() & theirs.keys())
        if ours[name].shape != theirs[name].shape
    ]
    if odd:
        more = [f"and {len(odd) - SHOWN:,} more"] if len(odd) > SHOWN else []
        raise Mistake(
            "\n    ".join([f"init.source={cfg.init.source} holds another network:", *odd[:SHOWN], *more]),
            allowed="a run of the same model, with as many channels, and as many classes or values to be learned",
            type_this=same_model(cfg, spec, source),
        )
    task.load_state_dict(theirs)


def same_model(cfg: Config, spec: DataSpec, source: Path) -> str:
    """The words that make the model that of `source`; empty where that alone would not do."""
    record = Run(source)
    theirs, seen = record.read_config().model, record.spec()
    if seen is None or (seen.shape, seen.num_outputs) != (spec.shape, spec.num_outputs):
        return ""
    return shlex.join(model_words(theirs, cfg.model))


def final_evaluation(
    cfg: Config, state: State, data: Data, folder: Path, env: Environment, screen: Screen
) -> Evaluation:
    """`val/…` of the best epoch, and `test/…` of its weights where there is a test split; pictures of the last."""
    if state.best is None:
        raise Failure(
            f"no evaluation gave a {state.task.monitor} that is a number, so there is no best checkpoint", resumes=False
        )
    row = state.rows[state.best["epoch"] - 1]
    metrics = {name: value for name, value in row.items() if name.startswith("val/")}
    if "test" not in data.spec.counts:
        return Evaluation(metrics)
    best = checkpoint.load(folder, "best", screen.line)
    if best is None:
        raise Failure(f"{folder / 'checkpoints' / 'best.pt'} is missing: the test needs it")
    if state.ema is not None:
        state.ema.load_state_dict(best["ema"])
    else:
        state.task.load_state_dict(best["task"])
    test = loop.evaluate(cfg, state.evaluated, data, "test", best["step"], env)
    return Evaluation(metrics | {f"test/{name}": value for name, value in test.metrics.items()}, test.pictures)


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device where it is a GPU, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
