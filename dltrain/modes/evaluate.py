"""mode=eval: a run's metrics again, from its checkpoint. Makes nothing, but with output= results.json and pictures."""

from pathlib import Path
from typing import Any

from dltrain import checkpoint, data, environment, signals
from dltrain.config.messages import Mistake
from dltrain.config.mode import Eval
from dltrain.config.spec import DataSpec
from dltrain.engine import loop
from dltrain.environment import Environment
from dltrain.loaded import open_task
from dltrain.modes.judging import Record, measures_for, record_of, spoken_judge
from dltrain.report.album import Album
from dltrain.report.table import columns, count, near, percent, spoken, standard_error
from dltrain.report.terminal import Screen
from dltrain.report.values import is_repeated, with_unit
from dltrain.run import Run, find
from dltrain.tasks import Picture

EXIT_CODES = {"SIGINT": 130}  # any other signal is a scheduler's: 75


def run(cfg: Eval, spec: DataSpec, screen: Screen) -> int:
    """Evaluate `cfg.run`'s `cfg.checkpoint` on val and test. Returns the exit code."""
    folder = find(cfg.run or "", "run")
    record = Run(folder)
    recorded = record.environment()
    env = environment.resolve(cfg, spec, recorded)
    environment.apply(env)
    if warning := environment.warning(recorded, environment.to_json(env)):
        screen.warn(warning)
    images = data.open_data(cfg, spec, env.device, env.loader, env.workers, screen.line)
    try:
        if others := other_images(recorded, spec, images.digests()):
            screen.warn(f"{' and '.join(others)}: not the images that the run had; some may be of its training set")
        measures = measures_for(cfg, spec, images, env, screen)
        if warning := other_judge(recorded.get("judge"), record_of(measures)):
            screen.warn(warning)
        targets = images.targets("train")
        task, state = open_task(folder, cfg, spec, cfg.checkpoint.value, screen.line, targets, measures)
        task.to(env.device, memory_format=env.memory_format)
        metrics: dict[str, float] = {}
        pictures: dict[str, Picture] = {}  # of the last split, the test if there is one
        for split in [name for name in ("val", "test") if spec.counts.get(name)]:
            found = loop.evaluate(cfg, task, images, split, state["step"], env)
            metrics |= {f"{split}/{name}": value for name, value in found.metrics.items()}
            pictures = found.frames | found.pictures
    except loop.StopAskedError:
        screen.line("stopped; nothing was written")
        return EXIT_CODES.get(signals.requested() or "", 75)
    finally:
        images.close()
    show(metrics, spec, f"{cfg.checkpoint.value}, step {state['step']:,}", folder, screen)
    if cfg.output is not None:
        output = Path(cfg.output).expanduser()
        write(output, cfg, metrics, task, state, env, screen)
        if cfg.log.pictures:
            album = Album(output / "pictures", cfg, spec, task.monitor, screen)
            album.draw(pictures)
            if names := album.names():
                screen.line(f"written {', '.join(near(album.folder / name) for name in names)}")
    return 0


def other_images(recorded: dict[str, Any], spec: DataSpec, digests: dict[str, str]) -> list[str]:
    """The evaluated splits that do not hold the images that the run saw there, as far as that is recorded."""
    facts = [recorded.get(name) for name in ("data_spec", "data_sha256")]
    described, seen = (fact if isinstance(fact, dict) else {} for fact in facts)
    counts = described.get("counts", spec.counts)
    both = seen.keys() & digests.keys()  # the streaming loader has no digests
    return [
        split
        for split in ("val", "test")
        if spec.counts.get(split)
        and (counts.get(split) != spec.counts[split] or (split in both and seen[split] != digests[split]))
    ]


def other_judge(then: Any, now: Record) -> str:
    """Words for the screen if the run was measured by another judge; else ""."""
    if not isinstance(then, dict) or now is None or then.get("weights_sha256") == now["weights_sha256"]:
        return ""
    return f"FID and classes do not compare with the run's, whose judge was another: {spoken_judge(then)}"


def show(metrics: dict[str, float], spec: DataSpec, what: str, folder: Path, screen: Screen) -> None:
    """One row a metric, one column a split."""
    splits = [name for name in ("val", "test") if spec.counts.get(name)]
    names = list(dict.fromkeys(name.partition("/")[2] for name in metrics if not is_repeated(name, spec)))
    head = ["", *(f"{split} ({count(spec.counts[split], 'image')})" for split in splits)]
    rows = [
        [
            spoken(name),
            *(_cell(f"{s}/{name}", metrics, spec) for s in splits),
        ]
        for name in names
    ]
    screen.line(f"{near(folder)}   checkpoint {what}")
    for line in columns(head, rows, right=range(1, len(head))):
        screen.line(line)


def _cell(name: str, metrics: dict[str, float], spec: DataSpec) -> str:
    """The value, with its unit if known; with an accuracy its standard error; empty for a class that is not there."""
    if name not in metrics:
        return ""
    split, _, what = name.partition("/")
    value, total = metrics[name], spec.counts[split]
    if what != "accuracy":
        return with_unit(name, value, spec)
    return f"{percent(value)} ± {standard_error(round(value * total), total) * 100:.1f}"


def write(
    output: Path,
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
