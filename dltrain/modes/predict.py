"""mode=predict: what a run's network says of images, as tables, as JSON and as a contact sheet."""

import dltrain
from dltrain import atomic, checkpoint, data, environment
from dltrain.config.messages import Failure
from dltrain.config.mode import Predict
from dltrain.config.spec import DataSpec
from dltrain.data.inputs import Inputs, find_inputs
from dltrain.data.steps import preprocessing
from dltrain.loaded import open_task
from dltrain.modes.predict_files import network, predict_files
from dltrain.output import made
from dltrain.report import predictions
from dltrain.report.predictions import Predictions
from dltrain.report.sheet import sheet
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
        answers = network(task, spec, env)
        found, (pictures, captions) = predict_files(inputs, data.decode_for(cfg, spec), answers, spec, screen)
        if not found.names:
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
        place = product.temporary
        csv = predictions.to_csv(found).encode()
        atomic.write_new(place / "predictions.csv", lambda file: file.write(csv))
        atomic.write_new(place / "predictions.json", lambda file: predictions.write_json(file, head, found))
        of = f"{len(captions):,} of " if len(captions) < len(found.names) else ""
        image = sheet(pictures, captions, title=of + count(len(found.names), "image"))
        atomic.write_new(place / "predictions.png", lambda file: image.save(file, "PNG"))
    show(found, inputs, screen)
    screen.line(f"written      {near(product.path)}")
    return 0


def show(found: Predictions, inputs: Inputs, screen: Screen) -> None:
    """The first rows, the counts, and every file that was left out, or the first of them, with the reason."""
    room = screen.room
    rows = [("predicted", count(len(found.names), "image"))]
    if found.unreadable:
        rows += [("unreadable", count(len(found.unreadable), "file")), *(("", line) for line in _unreadable(found))]
    if inputs.skipped:
        rows += [("skipped", some([f"{name} ({kind})" for name, kind in inputs.skipped]))]
    if inputs.others:
        rows += [("no images", f"by their names: {some(inputs.others)}")]
    for line in [*predictions.to_screen(found, room), ""]:
        screen.line(line)
    for label, text in rows:
        for line in labelled(label, text, room):
            screen.line(line)


def _unreadable(found: Predictions) -> list[str]:
    lines = [f"{safe_text(name)} {reason}" for name, reason in found.unreadable[: predictions.SHOWN]]
    more = len(found.unreadable) - len(lines)
    return [*lines, f"and {count(more, 'more file')} in predictions.json"] if more else lines
