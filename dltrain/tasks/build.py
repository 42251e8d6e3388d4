"""From config and data to a task."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dltrain.config import adversarial, groups, segmentation
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec
from dltrain.models import build_model
from dltrain.tasks import Task
from dltrain.tasks.adversarial import Adversarial
from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression
from dltrain.tasks.segmentation import Segmentation

if TYPE_CHECKING:
    from dltrain.measuring.measures import Measures


def build_task(
    cfg: Config,
    spec: DataSpec,
    train_targets: Tensor | None,
    class_pixels: Tensor | None = None,
    measures: "Measures | None" = None,
) -> Task:
    """The task of `cfg` with a new network, whose weights come from torch's default generator.

    `train_targets` (N,) are the training set's, for `task.balanced`, and `class_pixels` (K,) how many pixels each class
    has in its masks (see `weighs_pixels`); with None such a task can only evaluate: class weights do not matter then.
    `measures` say what a generator's images are worth.
    Raises Mistake where a class to balance has no image, or no pixel.
    """
    if isinstance(cfg.task, groups.Regression):
        return Regression(
            build_model(cfg.model, spec.shape, spec.num_outputs),
            spec.value_names,
            value_mean=spec.value_mean,
            value_std=spec.value_std,
            value_units=spec.value_units,
            mean=spec.mean,
            std=spec.std,
            loss=cfg.task.loss,
            delta=cfg.task.delta,
        )
    if isinstance(cfg.task, segmentation.Segmentation):
        return _segmentation(cfg.task, build_model(cfg.model, spec.shape, spec.num_outputs), spec, class_pixels)
    if isinstance(cfg.task, adversarial.Adversarial):
        model = build_model(cfg.model, spec.shape, spec.num_outputs)
        return Adversarial(model, cfg.task, mean=spec.mean, std=spec.std, seed=cfg.seed, measures=measures)
    if not isinstance(cfg.task, groups.Classification):
        raise TypeError(f"no task is built from {type(cfg.task).__qualname__}")
    weights, can_learn = None, True
    if cfg.task.class_weights is not None:
        weights = torch.tensor(cfg.task.class_weights, dtype=torch.float32)
    elif cfg.task.balanced and train_targets is not None:
        count = torch.bincount(train_targets, minlength=len(spec.class_names))
        weights = balanced_weights(count, spec.class_names)
    elif cfg.task.balanced:
        can_learn = False
    model = build_model(cfg.model, spec.shape, spec.num_outputs)
    return Classification(
        model,
        spec.class_names,
        mean=spec.mean,
        std=spec.std,
        label_smoothing=cfg.task.label_smoothing,
        class_weights=weights,
        can_learn=can_learn,
    )


def _segmentation(
    settings: segmentation.Segmentation, model: nn.Module, spec: DataSpec, class_pixels: Tensor | None
) -> Segmentation:
    weights, can_learn = None, True
    if settings.class_weights is not None:
        weights = torch.tensor(settings.class_weights, dtype=torch.float32)
    elif weighs_pixels(settings) and class_pixels is not None:
        key = "task.balanced" if settings.balanced else "task.weight_map"
        weights = balanced_weights(class_pixels.cpu(), spec.class_names, key, "pixel")
    elif weighs_pixels(settings):
        can_learn = False
    return Segmentation(
        model,
        spec.class_names,
        mean=spec.mean,
        std=spec.std,
        loss=settings.loss,
        class_weights=weights,
        weight_map=settings.weight_map,
        w0=settings.w0,
        tile=settings.tile,
        can_learn=can_learn,
    )


def weighs_pixels(settings: object) -> bool:
    """Whether a task weighs classes by how many pixels they have in the training masks."""
    if not isinstance(settings, segmentation.Segmentation) or settings.class_weights is not None:
        return False
    return settings.balanced or settings.weight_map


def balanced_weights(
    count: Tensor, class_names: tuple[str, ...], key: str = "task.balanced", of: str = "image"
) -> Tensor:
    """(K,) float32 weights N / (K * count), under which each class weighs the same in all; `count` is (K,), on the CPU.

    Raises Mistake where a class has no image (or no pixel, as `of` says).
    """
    absent = [name for name, n in zip(class_names, count.tolist(), strict=True) if n == 0]
    if absent:
        raise Mistake(
            f"{key}=true: no training {of} of class {', '.join(absent)}",
            allowed=f"{key}=true where each class has training {of}s",
            type_this=f"{key}=false",
        )
    return (count.sum() / (len(class_names) * count.double())).float()
