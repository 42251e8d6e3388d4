"""A run's network as one ONNX file that takes uint8 images, and the proof that it answers as the network does."""

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dltrain.config.messages import Failure
from dltrain.config.sides import Sides
from dltrain.config.spec import DataSpec, Target
from dltrain.data.embedded import read_sheet
from dltrain.data.preprocess import Preprocess
from dltrain.data.sizes import Size, fit, to_image
from dltrain.engine import random

LARGEST_FILE = 2**31 - 2**24  # bytes of weights that still fit into one file of protocol buffers
BATCHES = (1, 1, 4, 7)
TOLERANCE = 1e-4
FAINTEST = 1e-30  # probabilities below are not compared as logarithms: float32 ends at 1e-38


class Difference(NamedTuple):
    """The largest differences between the file and the network."""

    answers: float  # of probabilities; of values in standard deviations of the training set
    logits: float  # of logarithms of probabilities, as a share of the largest (or of 1); 0 for values

    @property
    def small(self) -> bool:
        """Whether they are within the tolerance; never for what is not a number."""
        return self.answers <= TOLERANCE and self.logits <= TOLERANCE


class Graph(nn.Module):
    """(B, C, H, W) uint8 to the task's answers: normalization, network, and probabilities or real values.

    They are (B, K); of a segmentation (B, K, h, w), as many pixels as the network has outputs.
    """

    def __init__(self, task: Any, spec: DataSpec) -> None:
        super().__init__()
        self.task = task
        self.normalize = Preprocess(spec, torch.device("cpu")).normalize

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.task.answer(self.task.model(self.normalize(images)))
        return answers


def write_onnx(path: Path, task: Any, spec: DataSpec, about: dict[str, Any], open_sides: bool = False) -> None:
    """Put the task's network into the file at `path`, in float32; beyond 2 GB its weights lie beside it, as ONNX asks.

    Input `images` (batch, C, H, W) uint8, output `probabilities` or `values`, as of `Graph`. H and W are those of the
    spec, or with `open_sides` any that the network takes. `about` becomes the file's metadata, text as it is and the
    rest as JSON. What tells of the machine it was made on is left out, so the same weights give the same bytes. Raises
    Failure if the network has something that ONNX or its exporter has not.
    """
    graph = Graph(task, spec).eval()
    dims: dict[int, Any] = {0: torch.export.Dim("batch")}
    size: Size = spec.shape[1:]
    if open_sides:
        sides = task.model.sides
        size = small_size(sides)
        dims |= {at: _open(sides, name) for at, name in ((2, "rows"), (3, "columns"))}
    example = torch.zeros(2, spec.shape[0], *size, dtype=torch.uint8)
    save_graph(path, graph, example, dims, ("images", "probabilities" if spec.class_names else "values"), about)


def save_graph(
    path: Path, graph: nn.Module, example: Tensor, dims: dict[int, Any], names: tuple[str, str], about: dict[str, Any]
) -> None:
    """Put a network of one input and one output, of these names, into a file; see `write_onnx`. Raises Failure."""
    try:
        with quiet():
            program: Any = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[names[0]],
                output_names=[names[1]],
                dynamic_shapes=(dims,),
            )
            model = program.model
            _forget_origin(model)
            texts = {key: item if isinstance(item, str) else json.dumps(item) for key, item in about.items()}
            model.metadata_props.update(texts)
            needed = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
            program.save(path, external_data=needed > LARGEST_FILE)
    except OSError:
        raise
    except Exception as error:
        raise Failure(f"the network cannot be written as ONNX: {_brief(error)}") from error


def _open(sides: Sides, name: str) -> Any:
    """A side of k * stride + offset."""
    side = sides.stride * torch.export.Dim(name)
    return side + sides.offset if sides.offset else side


def small_size(sides: Sides) -> Size:
    """Sides that differ, with more than one pixel at a U-Net's lowest level: an exporter takes 1 for a constant."""
    side = sides.up(2 * sides.lost + 4 * sides.stride)
    return side, side + sides.stride


def _forget_origin(model: Any) -> None:
    """Take away stack traces with the paths of this machine, and other notes of the exporter."""
    model.doc_string = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.doc_string = None
        node.metadata_props.clear()
    for function in model.functions.values():
        function.metadata_props.clear()
        for node in function.all_nodes():
            node.metadata_props.clear()


def measure(path: Path, task: Any, spec: DataSpec, threads: int, open_sides: bool = False) -> Difference:
    """Run the file with onnxruntime beside the network, on digits and on noise, in batches of 1, 4 and 7.

    With `open_sides` these are small, and there is one more image, of the spec's size. The network computes in float32,
    as the file does. Raises Failure if the file cannot be run.
    """
    small = replace(spec, shape=(spec.shape[0], *small_size(task.model.sides))) if open_sides else spec
    parts = np.split(probes(small), np.cumsum(BATCHES)[:-1])
    if open_sides:
        parts.append(probes(spec)[:1])
    normalize = Preprocess(spec, torch.device("cpu")).normalize
    theirs = run_file(path, "images", parts, threads)
    ours = [_answers(task, spec, normalize(torch.from_numpy(part))).numpy() for part in parts]
    found = [difference(a, b, spec) for a, b in zip(ours, theirs, strict=True)]
    return Difference(*np.max(np.array(found), axis=0).tolist())  # what is not a number stays that


def run_file(path: Path, name: str, parts: Sequence[NDArray[Any]], threads: int) -> list[NDArray[Any]]:
    """What onnxruntime makes of each part, given as the input of this name. Raises Failure if it cannot."""
    import onnxruntime

    try:
        with quiet():
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            return [session.run(None, {name: part})[0] for part in parts]
    except Exception as error:
        raise Failure(f"onnxruntime cannot run the file: {_brief(error)}") from error


@torch.inference_mode()
def _answers(task: Any, spec: DataSpec, images: Tensor) -> Tensor:
    """What the task predicts; of a segmentation what it says of the network's own outputs, without tiles."""
    of_pixels = spec.target is Target.mask
    answers: Tensor = task.answer(task.model(images)) if of_pixels else task.predict(images).values
    return answers


def difference(ours: NDArray[Any], theirs: NDArray[Any], spec: DataSpec) -> Difference:
    """Between answers of the network and of the file, (B, K), or (B, K, h, w) of a segmentation."""
    if ours.shape != theirs.shape:
        return Difference(math.inf, math.inf)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if not spec.class_names:
        return Difference(float((np.abs(a - b) / np.array(spec.value_std)).max()), 0.0)
    with np.errstate(all="ignore"):
        seen = a > FAINTEST
        logs = np.log(a[seen]), np.log(np.maximum(b[seen], FAINTEST**2))
        largest = np.max(np.abs(logs[0]), initial=1.0)
        of_logs = np.max(np.abs(logs[0] - logs[1]), initial=0.0) / largest
        return Difference(float(np.abs(a - b).max()), float(of_logs))


def probes(spec: DataSpec) -> NDArray[np.uint8]:
    """Images of the network's shape for all `BATCHES`: embedded digits and noise by turns."""
    channels, height, width = spec.shape
    number = sum(BATCHES)
    sheet = read_sheet()
    digits = [fit(to_image(image), (height, width)) for image in sheet[:: len(sheet) // number][:number]]
    images = np.repeat(np.stack(digits), channels, axis=1)
    noise = random.words(random.key(0, "export"), torch.arange(number), channels * height * width) & 255
    images[1::2] = noise.to(torch.uint8).numpy().reshape(images.shape)[1::2]
    return images


def _brief(error: Exception) -> str:
    """What exporters say fills screens; the first lines tell the cause."""
    return "\n  ".join([type(error).__name__, *(line for line in str(error).splitlines() if line.strip())][:6])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what others print, warn or log reaches the screen."""
    before = logging.root.manager.disable
    nothing = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
