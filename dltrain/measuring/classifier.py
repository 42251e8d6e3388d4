"""The classifier of a run as a judge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain import checkpoint
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec, Target
from dltrain.data.preprocess import Preprocess
from dltrain.loaded import open_task
from dltrain.measuring.judge import Seen
from dltrain.measuring.view import View
from dltrain.run import Run
from dltrain.text import safe_text

CHUNK = 256  # images that are looked at together


class Classifier:
    """The classifier of a run. Its features are what goes into its last linear layer."""

    def __init__(self, folder: Path, cfg: Config, spec: DataSpec, task: Any, device: torch.device, view: View) -> None:
        """Raises Mistake if the network does not end in a linear layer."""
        self.name: str = cfg.model.title
        self.where = str(folder)
        self.class_names = spec.class_names
        self.weights_sha256 = checkpoint.weights_sha256(task.state_dict())
        self.most = 1 << 24
        self._task = task.to(device)
        self._device = device
        self._view = view
        self._normalize = Preprocess(spec, device).normalize_
        self._head = last_linear(task, spec, device)
        self.width = self._head.in_features

    def look(self, images: Tensor) -> Seen:
        """(N, C, H, W) uint8. In float32, evaluation mode, without a gradient, in portions of 256."""
        caught: list[Tensor] = []
        handle = self._head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float().cpu()))
        answers = []
        try:
            with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
                for part in torch.split(images, CHUNK):
                    pixels = self._normalize(self._view(part.to(self._device)))
                    answers.append(self._task.predict(pixels).values.argmax(1).cpu())
        finally:
            handle.remove()
        return Seen(torch.cat(caught), torch.cat(answers))


def last_linear(task: Any, spec: DataSpec, device: torch.device) -> nn.Linear:
    """The linear layer that comes last when the network answers. Raises Mistake if it does not end in one."""
    called: list[nn.Linear] = []
    linear = [module for module in task.model.modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_pre_hook(lambda layer, _: called.append(layer)) for module in linear]
    try:
        task.predict(torch.zeros(1, *spec.shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    if not called or called[-1].out_features != spec.num_outputs:
        raise Mistake(
            "a judge's features are what goes into its last linear layer, and this network does not end in one",
            allowed="a run of lenet5, resnet18 or another network with a linear output",
            type_this="task.judge=auto",
        )
    return called[-1]


def open_run(
    folder: Path,
    native: tuple[int, int, int] | None,
    size: tuple[int, int],
    device: torch.device,
    say: Callable[[str], None],
) -> Classifier:
    """The judge in a run folder: its best checkpoint, read as every other. Raises Mistake, Failure.

    `native` and `size` are those of the images that it will be shown.
    """
    record = Run(folder)
    cfg, spec = record.read_config(), record.spec()
    if spec is None or spec.target is not Target.classes or len(spec.class_names) < 2:
        raise Mistake(
            f"task.judge={safe_text(str(folder))} is no classifier: what it learned has no classes",
            allowed="auto, digits, inception, none, or the run of a classifier",
            type_this="task.judge=auto",
        )
    task, _ = open_task(folder, cfg, spec, "best", say)
    return Classifier(folder, cfg, spec, task, device, View(native, size, cfg, spec))
