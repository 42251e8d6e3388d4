"""mode=export: a run's network as ONNX, with its preprocessing, run beside the network before it counts as done."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from dltrain import atomic, environment
from dltrain.config.messages import Failure
from dltrain.config.mode import Export
from dltrain.config.spec import DataSpec
from dltrain.data.steps import preprocessing
from dltrain.loaded import open_task
from dltrain.modes import export_generator
from dltrain.modes.export_form import Form, origin, show_made
from dltrain.modes.export_onnx import TOLERANCE, Difference, measure, write_onnx
from dltrain.output import made
from dltrain.report.table import near
from dltrain.report.terminal import Screen
from dltrain.run import Run, find
from dltrain.text import json_bytes


def run(cfg: Export, spec: DataSpec, screen: Screen) -> int:
    """Write `model.onnx`, and what a reader of it has to know, of `cfg.run`'s `cfg.checkpoint`. Returns 0.

    Raises Failure, and leaves nothing, if the file does not answer as the network does.
    """
    assert cfg.run is not None
    folder = find(cfg.run, "run")
    env = environment.resolve(cfg, spec, Run(folder).environment())
    environment.apply(env)
    task, state = open_task(folder, cfg, spec, cfg.checkpoint.value, screen.line)
    screen.line(f"{near(folder)}   checkpoint {cfg.checkpoint.value}, step {state['step']:,}")
    if cfg.task.name == "adversarial":
        about = origin(cfg, folder, task, state["step"])
        with made(cfg.output, folder / "export") as product:
            differ = export_generator.write(product.temporary, task, spec, about, env.threads)
        export_generator.show(product.path, task, spec, differ, screen)
        return 0
    with made(cfg.output, folder / "export") as product:
        path = product.temporary / "model.onnx"
        form = Form.of(task, spec)
        about = describe(cfg, form, folder, task, state["step"])
        try:
            write_onnx(path, task, spec, about, form.is_open)
        except Failure as error:
            if not form.is_open:
                raise
            form = replace(form, is_open=False)
            about = describe(cfg, form, folder, task, state["step"])
            write_onnx(path, task, spec, about)
            screen.warn(f"only windows of {spec.shape[1]}x{spec.shape[2]}, since {' '.join(str(error).split())}")
        found = measure(path, task, spec, env.threads, form.is_open)
        if not found.small:
            raise Failure(f"the file does not answer as the network does, so it was not kept:\n  {words(found, spec)}")
        readers = json_bytes(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        atomic.write_new(product.temporary / "preprocess.json", lambda file: file.write(readers))
    show(product.path, found, form, screen)
    return 0


def describe(cfg: Export, form: Form, folder: Path, task: Any, step: int) -> dict[str, Any]:
    """What a reader of the file has to know: its metadata, and `preprocess.json`."""
    spec = form.spec
    return {
        **origin(cfg, folder, task, step),
        **form.about(),
        "class_names": list(spec.class_names),
        "value_names": list(spec.value_names),
        "value_units": list(spec.value_units),
        "preprocessing": preprocessing(cfg, spec),
        "normalization_is_inside": True,
    }


def show(place: Path, found: Difference, form: Form, screen: Screen) -> None:
    """What was made, how near it comes, and how to use it."""
    spec = form.spec
    taken, given, size = (", ".join(map(str, shape)) for shape in (form.taken, form.given, spec.shape))
    sides = f", sides of {form.words}" if form.is_open else ""
    rows = {
        "checked": f"{words(found, spec)}, by onnxruntime in batches of 1, 4 and 7",
        "input": f"images: uint8 (batch, {taken}){sides}; normalized inside; preprocess.json tells how to get there",
        "output": f"{form.name}: (batch, {given})",
    }
    use = [
        f"images = numpy.zeros((1, {size}), numpy.uint8)",
        f'{form.name} = session.run(None, {{"images": images}})[0]',
        *(["mask = probabilities.argmax(1)"] if form.sides is not None else []),
    ]
    show_made(place, rows, use, screen)


def words(found: Difference, spec: DataSpec) -> str:
    """The differences in words."""
    of = f"probabilities differ by {found.answers:.1e} at most, their logarithms by {found.logits:.1e} of the largest"
    if not spec.class_names:
        of = f"values differ by {found.answers:.1e} standard deviations at most"
    return f"{of} (allowed: {TOLERANCE:.0e})"
