"""From config and data to a task."""

import torch
from torch import Tensor

from dltrain.config import groups
from dltrain.config.messages import Mistake
from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec
from dltrain.models import build_model
from dltrain.tasks import Task
from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression


def build_task(cfg: Config, spec: DataSpec, train_targets: Tensor | None) -> Task:
    """The task of `cfg` with a new network, whose weights come from torch's default generator.

    `train_targets` (N,) are the training set's, for `task.balanced`; with None such a task can only evaluate, for
    which class weights do not matter. Raises Mistake where a class to balance has no image.
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
    if not isinstance(cfg.task, groups.Classification):
        raise TypeError(f"no task is built from {type(cfg.task).__qualname__}")
    weights, can_learn = None, True
    if cfg.task.class_weights is not None:
        weights = torch.tensor(cfg.task.class_weights, dtype=torch.float32)
    elif cfg.task.balanced and train_targets is not None:
        weights = balanced_weights(train_targets, spec.class_names)
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


def balanced_weights(targets: Tensor, class_names: tuple[str, ...]) -> Tensor:
    """(K,) float32 weights N / (K * count of the class), under which each class weighs the same in all.

    Raises Mistake where a class has no image.
    """
    count = torch.bincount(targets, minlength=len(class_names))
    absent = [name for name, n in zip(class_names, count.tolist(), strict=True) if n == 0]
    if absent:
        raise Mistake(
            f"task.balanced=true: no training image of class {', '.join(absent)}",
            allowed="task.balanced=true where each class has training images",
            type_this="task.balanced=false",
        )
    return (len(targets) / (len(class_names) * count.double())).float()
