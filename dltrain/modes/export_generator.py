"""A run's generator as one ONNX file from latents to images, and the proof that it makes what the network makes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dltrain import atomic
from dltrain.config.messages import Failure
from dltrain.config.spec import DataSpec
from dltrain.modes.export_form import show_made
from dltrain.modes.export_onnx import BATCHES, TOLERANCE, run_file, save_graph
from dltrain.report.terminal import Screen
from dltrain.text import json_bytes


class Graph(nn.Module):
    """(B, Z) float32 latents to (B, C, H, W) float32 images in 0 to 1."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = (self.generator(latents) + 1) / 2
        return images


def write(place: Path, task: Any, spec: DataSpec, origin: dict[str, Any], threads: int) -> float:
    """Put `model.onnx` and `generator.json` into a folder; the largest difference of a pixel in 0 to 1.

    Raises Failure if there is something that ONNX or its exporter has not, or if the file makes other images.
    """
    graph = Graph(task.model.generator).eval()
    latent_dim = int(task.model.latent_dim)
    about = origin | {
        "input": {"name": "latents", "type": "float32", "shape": ["batch", latent_dim]},
        "output": {"name": "images", "type": "float32", "shape": ["batch", *spec.shape], "range": [0, 1]},
        "latents": "independent standard normal numbers",
    }
    path = place / "model.onnx"
    dims = {0: torch.export.Dim("batch")}
    save_graph(path, graph, torch.zeros(2, latent_dim), dims, ("latents", "images"), about)
    parts = task.latents(0, sum(BATCHES)).split(BATCHES)
    theirs = run_file(path, "latents", [part.numpy() for part in parts], threads)
    with torch.inference_mode():
        ours = [graph(part).numpy() for part in parts]
    differ = float(np.max([difference(*pair) for pair in zip(ours, theirs, strict=True)]))
    if not differ <= TOLERANCE:
        raise Failure(f"the file makes other images than the network, so it was not kept:\n  {words(differ)}")
    readers = json_bytes(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    atomic.write_new(place / "generator.json", lambda file: file.write(readers))
    return differ


def difference(ours: "np.ndarray[Any, Any]", theirs: "np.ndarray[Any, Any]") -> float:
    """The largest between two batches of images; what is no number, or of another shape, is far from all."""
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def words(differ: float) -> str:
    return f"pixels in 0 to 1 differ by {differ:.1e} at most (allowed: {TOLERANCE:.0e})"


def show(place: Path, task: Any, spec: DataSpec, differ: float, screen: Screen) -> None:
    """What was made, how near it comes, and how to use it."""
    latent_dim = task.model.latent_dim
    rows = {
        "checked": f"{words(differ)}, by onnxruntime in batches of 1, 4 and 7",
        "input": f"latents: float32 (batch, {latent_dim}), independent standard normal numbers",
        "output": f"images: float32 (batch, {', '.join(map(str, spec.shape))}) in 0 to 1",
    }
    use = [
        f"latents = numpy.random.default_rng(0).standard_normal((16, {latent_dim}), numpy.float32)",
        'images = session.run(None, {"latents": latents})[0]',
        "pixels = (images * 255).round().astype(numpy.uint8)",
    ]
    show_made(place, rows, use, screen)
