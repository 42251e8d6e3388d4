"""What a mode asks of the run that it opens, and of its data, before torch is imported."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dltrain import data
from dltrain.config.check import check_data
from dltrain.config.data import MaskFolder, Masks
from dltrain.config.messages import Mistake, require_extra
from dltrain.config.mode import Config, Eval, Export, Generate, Predict, Reproduce, Summary, Train
from dltrain.config.overlay import anew
from dltrain.config.spec import DataSpec
from dltrain.data.imageset import Say
from dltrain.data.inputs import find_inputs
from dltrain.data.sizes import LARGEST
from dltrain.output import check_output
from dltrain.run import Run, find, shown
from dltrain.text import safe_text, some


def spec_for(cfg: Config, say: Say) -> DataSpec:
    """The data as the mode needs to know them. Raises Mistake for what the run or its data do not allow."""
    if isinstance(cfg, Eval):
        return to_evaluate(cfg, say)
    if isinstance(cfg, Reproduce):
        return to_reproduce(cfg, say)
    if isinstance(cfg, Predict):
        return to_predict(cfg, say)
    if isinstance(cfg, Export):
        return to_export(cfg, say)
    if isinstance(cfg, Generate):
        return _to_make(cfg, say)
    assert isinstance(cfg, Summary)
    return as_recorded(cfg, say)


def as_recorded(cfg: Predict | Export | Generate | Summary, say: Say) -> DataSpec:
    """The data as the run saw them: they need not be there any more. Raises Mistake if there is no checkpoint."""
    assert cfg.run is not None
    record = Run(find(cfg.run, "run"))
    if not record.has_checkpoint and not isinstance(cfg, Summary):
        raise Mistake(f"{record.path} has no checkpoint yet", type_this=f"dltrain resume={shown(record.path)}")
    recorded = record.spec()
    if recorded is not None and max(recorded.shape[1:]) > LARGEST:
        raise Mistake(
            f"{record.path / 'environment.json'}: images of {recorded.shape} are larger than data.size may be"
        )
    if recorded is not None and not cfg.model.takes(recorded.shape[1:]):
        raise Mistake(f"{record.path / 'environment.json'}: {cfg.model.title} has no images of {recorded.shape}")
    return data.describe(cfg, say) if recorded is None else recorded


def to_predict(cfg: Predict, say: Say) -> DataSpec:
    """The data as the run saw them. Raises Mistake if there is nothing to predict, or no place for what is made."""
    assert cfg.input is not None  # `check` has seen to it
    find_inputs(cfg.input)
    return _to_make(cfg, say)


def to_export(cfg: Export, say: Say) -> DataSpec:
    """The data as the run saw them. Raises Mistake if a package is missing, or a place for what is made."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require_extra(package, "export", what="mode=export")
    if cfg.output is not None and cfg.output.endswith(".onnx"):
        raise Mistake(
            f"output={safe_text(cfg.output)} is the name of a file, and what is made is a folder",
            allowed="a folder, in which model.onnx will lie, and what a reader of it has to know",
            type_this=shlex.join([f"output={cfg.output.removesuffix('.onnx')}"]),
        )
    return _to_make(cfg, say)


def _to_make(cfg: Predict | Export | Generate, say: Say) -> DataSpec:
    spec = as_recorded(cfg, say)
    assert cfg.run is not None
    check_output(cfg.output, find(cfg.run, "run") / cfg.mode)
    return spec


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
    # Normalization of images and of values belongs to the weights: it stays the run's, also for other images.
    cfg.data.mean, cfg.data.std = list(recorded.mean), list(recorded.std)
    if isinstance(cfg.data, Masks):
        _learned_masks(cfg.data, recorded)
    spec = data.describe(cfg, say)
    for name in ("shape", "target", "class_names", "value_names", "ignore_index"):
        now, then = getattr(spec, name), getattr(recorded, name)
        if now != then:
            raise Mistake(
                f"the data are not those of {record.path}: {name} is {now}",
                allowed=f"{name} {then}",
                type_this="data.root=FOLDER with what the run has learned",
            )
    return replace(
        spec,
        mean=recorded.mean,
        std=recorded.std,
        value_mean=recorded.value_mean,
        value_std=recorded.value_std,
    )


def _learned_masks(settings: Masks, recorded: DataSpec) -> None:
    """What training found in the masks and their images stays the run's: its window, and the values of its classes."""
    height, width = recorded.shape[1:]
    settings.crop = f"{height}x{width}"
    if isinstance(settings, MaskFolder) and (settings.mask_values, settings.mask_colors, settings.class_names) == (
        None, None, None
    ):  # fmt: skip
        settings.mask_values = list(range(recorded.num_outputs))


def to_resume(cfg: Train, spec: DataSpec) -> None:
    """Raise Mistake if the data are not those of the run, or if its new length ends before where it is."""
    assert cfg.resume is not None
    record = Run(Path(cfg.resume))
    if record.has_checkpoint and (recorded := record.spec()) is not None:
        _refuse_other_data(cfg, recorded, spec)
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


def _refuse_other_data(cfg: Train, then: DataSpec, now: DataSpec) -> None:
    """What has been learned from some images goes on with these, or does not end as if it had never stopped."""
    lists = [split for split in then.listing if now.listing.get(split) != then.listing[split]]
    found = _unequal(then, now, ("shape", "target", "class_names", "value_names", "counts"))
    found += [f"other files, or other targets, in {some(lists)}"] if lists else []
    found += _unequal(then, now, ("mean", "std", "value_mean", "value_std"))
    if found:
        notes = [f"now: {note}" for note in now.notes if note not in then.notes]
        notes += [f"then: {note}" for note in then.notes if note not in now.notes]
        raise Mistake(
            "\n    ".join([f"the data are not those that resume={cfg.resume} has learned from: {found[0]}", *notes]),
            allowed="the images as they were; or a new run from its weights",
            type_this=anew(Path(str(cfg.resume)), cfg),
        )


def _unequal(then: DataSpec, now: DataSpec, names: Sequence[str]) -> list[str]:
    return [
        f"{name.replace('_', ' ')} {_plain(getattr(now, name))}, and not {_plain(getattr(then, name))}"
        for name in names
        if getattr(now, name) != getattr(then, name)
    ]


def _plain(value: object) -> str:
    """A fact of the data as one reads it."""
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {split}" for split, count in value.items())
    return some([f"{item}" for item in value]) if isinstance(value, tuple) else str(value)


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
