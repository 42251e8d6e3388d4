"""mode=predict: what a run's network says of images, as tables, as JSON and as pictures."""

from pathlib import Path
from typing import Any

from PIL.Image import Image

import dltrain
from dltrain import atomic, checkpoint, data, environment
from dltrain.config.messages import Failure
from dltrain.config.mode import Predict
from dltrain.config.spec import DataSpec, Target
from dltrain.data.inputs import Inputs, find_inputs
from dltrain.data.steps import preprocessing
from dltrain.data.whole import whole_for
from dltrain.loaded import open_task
from dltrain.masking import masker
from dltrain.modes.predict_files import network, predict_files
from dltrain.modes.predict_masks import predict_masks
from dltrain.output import made
from dltrain.report import mask_predictions, predictions
from dltrain.report.mask_predictions import MaskPredictions
from dltrain.report.predictions import Predictions
from dltrain.report.table import count, labelled, near
from dltrain.report.terminal import Screen
from dltrain.run import Run, find
from dltrain.text import safe_text, some


def run(cfg: Predict, spec: DataSpec, screen: Screen) -> int:
    """Predict all of `cfg.input` with `cfg.run`'s `cfg.checkpoint`. Returns 0.

    Raises Failure if no file could be read.
    """
    assert cfg.run is not None and cfg.input is not None
    folder = find(cfg.run, "run")
    inputs = find_inputs(cfg.input)
    env = environment.resolve(cfg, spec, Run(folder).environment())
    environment.apply(env)
    task, state = open_task(folder, cfg, spec, cfg.checkpoint.value, screen.line)
    task.to(env.device, memory_format=env.memory_format)
    which = f"{cfg.checkpoint.value}, step {state['step']:,}"
    screen.line(f"{near(folder)}   checkpoint {which}")
    with made(cfg.output, folder / "predict") as product:
        place = product.temporary
        found: Predictions | MaskPredictions
        if spec.target is Target.mask:
            answer = masker(task, spec, env.device, env.precision, env.memory_format)
            found, page = predict_masks(inputs, whole_for(cfg, spec), answer, spec, place, screen)
        else:
            found, page = predict_files(inputs, data.decode_for(cfg, spec), network(task, spec, env), spec, screen)
        if page is None:
            raise Failure("\n  ".join([f"no image of {safe_text(cfg.input)} could be read:", *_unreadable(found)]))
        head = {
            "dltrain": dltrain.__version__,
            "run": near(folder),
            "checkpoint": cfg.checkpoint.value,
            "step": state["step"],
            "weights_sha256": checkpoint.weights_sha256(task.state_dict()),
            "device": str(env.device),
            "precision": env.precision,
            "input": safe_text(cfg.input, 4096),
            "class_names": list(spec.class_names),
            "value_names": list(spec.value_names),
            "value_units": list(spec.value_units),
            "preprocessing": preprocessing(cfg, spec),
        }
        write(place, head, found, page)
    show(found, inputs, screen)
    screen.line(f"written      {near(product.path)}")
    return 0


def write(place: Path, head: dict[str, Any], found: Predictions | MaskPredictions, page: Image) -> None:
    """A table, a JSON file and a page of pictures in the folder `place`."""
    if isinstance(found, MaskPredictions):
        atomic.write_new(place / "areas.csv", lambda file: mask_predictions.write_csv(file, found))
        atomic.write_new(place / "predictions.json", lambda file: mask_predictions.write_json(file, head, found))
    else:
        csv = predictions.to_csv(found).encode()
        atomic.write_new(place / "predictions.csv", lambda file: file.write(csv))
        atomic.write_new(place / "predictions.json", lambda file: predictions.write_json(file, head, found))
    atomic.write_new(place / "predictions.png", lambda file: page.save(file, "PNG"))


def show(found: Predictions | MaskPredictions, inputs: Inputs, screen: Screen) -> None:
    """The first rows, the counts, and every file that was left out, or the first of them, with the reason."""
    room = screen.room
    rows = [("predicted", count(len(found.names), "image"))]
    if found.unreadable:
        rows += [("unreadable", count(len(found.unreadable), "file")), *(("", line) for line in _unreadable(found))]
    if inputs.skipped:
        rows += [("skipped", some([f"{name} ({kind})" for name, kind in inputs.skipped]))]
    if inputs.others:
        rows += [("no images", f"by their names: {some(inputs.others)}")]
    said = mask_predictions.to_screen if isinstance(found, MaskPredictions) else predictions.to_screen
    for line in said(found, room):  # type: ignore[arg-type]
        screen.line(line)
    screen.line("")
    for label, text in rows:
        for line in labelled(label, text, room):
            screen.line(line)


def _unreadable(found: Predictions | MaskPredictions) -> list[str]:
    lines = [f"{safe_text(name)} {reason}" for name, reason in found.unreadable[: predictions.SHOWN]]
    more = len(found.unreadable) - len(lines)
    return [*lines, f"and {count(more, 'more file')} in predictions.json"] if more else lines
