"""mode=eval: a run's metrics again, from its checkpoint. Makes nothing, but with output= a results.json."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dltrain import checkpoint, data, environment, signals
from dltrain.config.messages import Mistake
from dltrain.config.mode import Eval
from dltrain.config.spec import DataSpec
from dltrain.engine import loop
from dltrain.environment import Environment
from dltrain.loaded import open_task
from dltrain.report.table import columns, count, metric, near, percent, spoken, standard_error
from dltrain.report.terminal import Screen
from dltrain.run import Run, find, shown

EXIT_CODES = {"SIGINT": 130}  # any other signal is a scheduler's: 75


def run(cfg: Eval, screen: Screen) -> int:
    """Evaluate `cfg.run`'s `cfg.checkpoint` on val and test. Returns the exit code."""
    if cfg.run is None:
        raise Mistake("mode=eval needs a run", type_this="dltrain mode=eval run=last")
    folder = find(cfg.run, "run")
    record = Run(folder)
    spec = spec_of_run(cfg, record, screen)
    recorded = record.environment()
    env = environment.resolve(cfg, spec, recorded)
    environment.apply(env)
    if warning := environment.warning(recorded, environment.to_json(env)):
        screen.warn(warning)
    images = data.open_data(cfg, spec, env.device, env.loader, env.workers, screen.line)
    try:
        task, state = open_task(folder, cfg, spec, cfg.checkpoint.value, screen.line, images.targets("train"))
        task.to(env.device, memory_format=env.memory_format)
        metrics: dict[str, float] = {}
        for split in [name for name in ("val", "test") if spec.counts.get(name)]:
            found = loop.evaluate(cfg, task, images, split, state["step"], env)
            metrics |= {f"{split}/{name}": value for name, value in found.items()}
    except loop.StopAskedError:
        screen.line("stopped; nothing was written")
        return EXIT_CODES.get(signals.requested() or "", 75)
    finally:
        images.close()
    show(metrics, spec, f"{cfg.checkpoint.value}, step {state['step']:,}", folder, screen)
    if cfg.output is not None:
        write(Path(cfg.output).expanduser(), record, cfg, metrics, task, state, env, screen)
    return 0


def spec_of_run(cfg: Any, record: Run, screen: Screen) -> DataSpec:
    """The data as they are now, seen as the run saw them. Raises Mistake if they cannot be."""
    recorded = record.spec()
    if recorded is None:
        return data.describe(cfg, screen.line)
    # Normalization belongs to the weights: it stays the run's, also for other images below another root.
    cfg.data.mean, cfg.data.std = list(recorded.mean), list(recorded.std)
    spec = data.describe(cfg, screen.line)
    for name in ("shape", "target", "class_names", "ignore_index"):
        now, then = getattr(spec, name), getattr(recorded, name)
        if now != then:
            raise Mistake(
                f"the data are not those of {record.path}: {name} is {now}",
                allowed=f"{name} {then}",
                type_this="data.root=FOLDER with the classes of the run",
            )
    return replace(spec, mean=recorded.mean, std=recorded.std)


def show(metrics: dict[str, float], spec: DataSpec, what: str, folder: Path, screen: Screen) -> None:
    """One row a metric, one column a split."""
    splits = [name for name in ("val", "test") if spec.counts.get(name)]
    names = list(dict.fromkeys(name.partition("/")[2] for name in metrics))
    head = ["", *(f"{split} ({count(spec.counts[split], 'image')})" for split in splits)]
    rows = [
        [
            spoken(name),
            *(_cell(name, metrics[f"{s}/{name}"], spec.counts[s]) for s in splits),
        ]
        for name in names
    ]
    screen.line(f"{near(folder)}   checkpoint {what}")
    for line in columns(head, rows, right=range(1, len(head))):
        screen.line(line)


def _cell(name: str, value: float, total: int) -> str:
    """The value; with an accuracy its standard error."""
    if name != "accuracy":
        return metric(name, value)
    return f"{percent(value)} ± {standard_error(round(value * total), total) * 100:.1f}"


def write(
    output: Path,
    record: Run,
    cfg: Eval,
    metrics: dict[str, float],
    task: Any,
    state: dict[str, Any],
    env: Environment,
    screen: Screen,
) -> None:
    """`results.json` in `output`, with the keys of a run's."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Mistake(f"output={output} cannot be made: {error.strerror}", type_this="output=FOLDER") from error
    if (output / "config.json").exists():
        raise Mistake(
            f"output={output} is a run: its results.json is its own",
            allowed="a folder of its own",
            type_this=f"output={shown(record.path / 'eval')}",
        )
    Run(output).write_results(
        status="completed",
        metrics=metrics,
        best=state["best"],
        parameters=sum(param.numel() for param in task.parameters()),
        weights_sha256=checkpoint.weights_sha256(state["task"]),
        steps=state["step"],
        epochs=len(state["rows"]),
        device=str(env.device),
        precision=env.precision,
        seed=cfg.seed,
    )
    screen.line(f"written {near(output / 'results.json')}")
