"""`dltrain.load(run)`: a run's network, its preprocessing and its class names, in one line of Python."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dltrain import checkpoint, data
from dltrain.config import trust as trusting
from dltrain.config.adversarial import Adversarial
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config, Generate
from dltrain.config.ranges import check_range
from dltrain.config.spec import DataSpec, Target
from dltrain.data.mask_coding import nearest
from dltrain.data.preprocess import Preprocess
from dltrain.data.whole import whole_for
from dltrain.digest import tensors
from dltrain.engine.ema import Ema
from dltrain.masking import masker
from dltrain.models import outline
from dltrain.run import Run, find, shown
from dltrain.tasks.build import build_task

if TYPE_CHECKING:
    from dltrain.measuring.measures import Measures

Source = str | Path | Image.Image | np.ndarray[Any, Any]


@dataclass(frozen=True)
class Loaded:
    """A trained network, ready to use: `loaded.predict("cat.jpg")`, `loaded.generate(16)`, or with batches of your own:

    `loaded.task.predict(torch.stack([loaded.preprocess(file) for file in files])).values`, (B, K); of a segmentation
    (B, K, H, W), of images of one size.
    """

    model: nn.Module  # in evaluation mode; the averaged weights if the run kept an average
    preprocess: Callable[[Source], Tensor]  # a file, a Pillow image or uint8 pixels -> (C, H, W) float32
    class_names: tuple[str, ...]  # of a classifier, or of the pixels of a segmentation
    value_names: tuple[str, ...]  # of a regression
    spec: DataSpec
    config: Config
    task: Any  # holds the model; predict(images) gives probabilities, or values in their own units

    def predict(self, source: Source) -> Any:
        """For one image, by name: the probability of each class, or each real value in its own unit (a dict).

        Of a segmentation a mask: the class of each pixel, (H, W) uint8, as large as the image; `class_names` has their
        names.
        """
        device = next(self.model.parameters()).device
        if self.spec.target is Target.mask:
            pixels, size = whole_for(self.config, self.spec)(_image(source))
            mask = masker(self.task, self.spec, device)(pixels, lambda share: None)
            return mask if mask.shape == size else nearest(mask, (0, 0, mask.shape[1], mask.shape[0]), size)
        values: Tensor = self.task.predict(self.preprocess(source)[None].to(device)).values[0]
        return dict(zip(self.class_names or self.value_names, values.tolist(), strict=True))

    def generate(self, n: int, seed: int | None = None) -> np.ndarray[Any, Any]:
        """`n` images of a generator, uint8: (n, H, W), or (n, H, W, 3) in colour.

        Image i depends on the seed (the run's own by default) and on i alone: it is that of `mode=generate`. Raises
        Mistake if the network is no generator or a number out of its range, TypeError if one is not whole.
        """
        if not isinstance(self.config.task, Adversarial):
            raise Mistake(
                f"{self.config.model.title} says something of images, and makes none",
                allowed="generate(n, seed) of a generator, as model=dcgan trains one; predict(image) of this network",
            )
        n, seed = index(n), self.config.seed if seed is None else index(seed)
        for key, value in (("n", n), ("seed", seed)):
            check_range(key, value, Generate.__dataclass_fields__[key])
        pixels = self.task.generate(self.task.latents(seed, n)).numpy()
        return pixels[:, 0] if pixels.shape[1] == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def load(
    run: str | Path,
    checkpoint: Literal["best", "last"] = "best",
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
) -> Loaded:
    """Open a run: its folder, or `last`. The data set need not be there.

    A run of a model or data set of your own needs its package in `trust`, or in DLTRAIN_TRUST; a run's files have no
    say in that. Raises dltrain.config.messages.Mistake if there is no such run or no checkpoint yet, Failure if none
    can be read.
    """
    if trust or os.environ.get("DLTRAIN_TRUST"):
        trusting.apply([f"trust=[{','.join(trust)}]"] if trust else [])
    folder = find(str(run), "run")
    record = Run(folder)
    config = record.read_config()
    spec = record.spec() or data.describe(config, _quiet)
    task, _ = open_task(folder, config, spec, checkpoint, _quiet)
    task.to(device)
    return Loaded(task.model, prepare(config, spec), spec.class_names, spec.value_names, spec, config, task)


def open_task(
    folder: Path,
    config: Config,
    spec: DataSpec,
    which: Literal["best", "last"],
    say: Callable[[str], None],
    train_targets: Tensor | None = None,
    measures: "Measures | None" = None,
) -> tuple[Any, dict[str, Any]]:
    """The task with the weights that the run is judged by, in evaluation mode on the CPU; and the whole checkpoint.

    `train_targets` and `measures` are needed to evaluate alone: see `build_task`.
    """
    state = checkpoint.load(folder, which, say)
    if state is None:
        raise Mistake(f"{folder} has no checkpoint yet", type_this=f"dltrain resume={shown(folder)}")
    # A config that asks for more than the checkpoint holds gets no memory.
    asked = sum(tensor.numel() for tensor in outline(config.model, spec.shape, spec.num_outputs).parameters())
    if asked > sum(tensor.numel() for _, tensor in tensors(state.get("task"), ())):
        raise Mistake(f"the checkpoint of {folder} holds another network than its config.json: a smaller one")
    # The first weights are drawn and at once replaced: who calls this finds the generator as it was.
    generator = torch.default_generator.get_state()
    try:
        task: Any = build_task(config, spec, train_targets, measures=measures)
    finally:
        torch.default_generator.set_state(generator)
    try:
        task.load_state_dict(state["task"] if state["ema"] is None else Ema.weights(state["ema"]))
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise Mistake(f"the checkpoint of {folder} holds another network than its config.json: {error}") from error
    task.eval()
    return task, state


def prepare(config: Config, spec: DataSpec) -> Callable[[Source], Tensor]:
    """A function from an image of any kind to what the network sees, (C, H, W) float32, as in evaluation.

    It raises dltrain.data.decode.UnreadableError for what is no image.
    """
    read = data.decode_for(config, spec)
    normalize = Preprocess(spec, torch.device("cpu")).normalize
    return lambda source: normalize(torch.tensor(read(_image(source)))[None])[0]


def _image(source: Source) -> str | Path | Image.Image:
    if not isinstance(source, np.ndarray):
        return source
    if source.dtype != np.uint8 or source.ndim not in (2, 3) or (source.ndim == 3 and source.shape[2] not in (1, 3)):
        raise ValueError(f"pixels are uint8 of shape (H, W), (H, W, 1) or (H, W, 3), not {source.dtype} {source.shape}")
    return Image.fromarray(source[:, :, 0] if source.ndim == 3 and source.shape[2] == 1 else source)


def _quiet(text: str) -> None:
    """Whoever calls from Python has no screen."""
