"""What a mode asks of the run that it opens, and of its data, before torch is imported."""

from dataclasses import replace
from pathlib import Path

from dltrain import data
from dltrain.config.check import check_data
from dltrain.config.messages import Mistake
from dltrain.config.mode import Eval, Reproduce, Train
from dltrain.config.spec import DataSpec
from dltrain.data.imageset import Say
from dltrain.run import Run, find, shown


def to_evaluate(cfg: Eval, say: Say) -> DataSpec:
    """The data as they are now, with the run's normalization. Raises Mistake if they are not the run's."""
    assert cfg.run is not None  # `check` has seen to it
    record = Run(find(cfg.run, "run"))
    if not record.has_checkpoint:
        raise Mistake(f"{record.path} has no checkpoint yet", type_this=f"dltrain resume={shown(record.path)}")
    if cfg.output is not None and (Path(cfg.output).expanduser() / "config.json").exists():
        raise Mistake(
            f"output={cfg.output} is a run: its results.json is its own",
            allowed="a folder of its own",
            type_this=f"output={shown(record.path / 'eval')}",
        )
    recorded = record.spec()
    if recorded is None:
        return data.describe(cfg, say)
    # Normalization belongs to the weights: it stays the run's, also for other images below another root.
    cfg.data.mean, cfg.data.std = list(recorded.mean), list(recorded.std)
    spec = data.describe(cfg, say)
    for name in ("shape", "target", "class_names", "ignore_index"):
        now, then = getattr(spec, name), getattr(recorded, name)
        if now != then:
            raise Mistake(
                f"the data are not those of {record.path}: {name} is {now}",
                allowed=f"{name} {then}",
                type_this="data.root=FOLDER with the classes of the run",
            )
    return replace(spec, mean=recorded.mean, std=recorded.std)


def to_resume(cfg: Train, spec: DataSpec) -> None:
    """Raise Mistake if the run, with the length that it is given, would end before where it is."""
    assert cfg.resume is not None
    record = Run(Path(cfg.resume))
    rows = record.read_metrics()
    done = int(rows[-1].get("step", 0)) if rows else 0
    end = cfg.trainer.steps or cfg.trainer.epochs * max(1, spec.counts.get("train", 0) // cfg.trainer.batch_size)
    if done > end:
        length = f"trainer.steps={end}" if cfg.trainer.steps else f"trainer.epochs={cfg.trainer.epochs}"
        raise Mistake(
            f"{length}: {record.path} would end at step {end:,}, and is at step {done:,} already",
            allowed="a length that it has not passed",
            type_this=f"dltrain mode=eval run={shown(record.path)}",
        )


def to_reproduce(cfg: Reproduce, say: Say) -> DataSpec:
    """The data as they are now, not as the run saw them, so that a change of theirs shows. Raises Mistake."""
    assert cfg.run is not None
    original = Run(find(cfg.run, "run"))
    status = original.results()["status"]
    if status != "completed":
        raise Mistake(
            f"run={cfg.run} has not completed (its status is {status}): there is nothing to compare with",
            allowed="a run that completed",
            type_this=f"dltrain resume={shown(original.path)}",
        )
    if not original.read_metrics() or not isinstance(original.results()["weights_sha256"], str):
        raise Mistake(f"run={cfg.run} has lost its metrics.csv or its weights_sha256: there is nothing to compare with")
    spec = data.describe(cfg, say)
    check_data(cfg, spec)
    return spec
