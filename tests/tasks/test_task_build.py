"""From config and data to a task."""

import numpy as np
import pytest
import torch

from dltrain.config import groups, mode
from dltrain.config import model as settings
from dltrain.config.messages import Mistake
from dltrain.config.spec import DataSpec, Target
from dltrain.tasks import Batch
from dltrain.tasks.build import balanced_weights, build_task
from dltrain.tasks.classification import Classification

SPEC = DataSpec("folder", (3, 8, 8), Target.classes, ("cat", "dog", "emu"), {}, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
TARGETS = torch.tensor([0] * 6 + [1] * 3 + [2])
BATCH = Batch(torch.zeros(3, 3, 8, 8), torch.tensor([0, 1, 2]), torch.arange(3))


def make(targets: torch.Tensor | None = TARGETS, **task: object) -> Classification:
    torch.manual_seed(0)
    cfg = mode.Train(model=settings.MLP(widths=[5]), task=groups.Classification(**task))
    built = build_task(cfg, SPEC, targets)
    assert isinstance(built, Classification)
    return built


def test_sizes_names_and_normalization_follow_the_data() -> None:
    task = make(label_smoothing=0.2)
    assert task.model(BATCH.images).shape == (3, 3)
    assert task.class_names == SPEC.class_names
    assert task.label_smoothing == 0.2
    torch.testing.assert_close(task.mean, torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(task.std, torch.tensor([0.5, 0.6, 0.7]))
    assert task.monitor == "val/accuracy"


def test_class_weights_are_those_given() -> None:
    assert make().class_weights is None
    weights = make(class_weights=[1.0, 2.0, 0.0]).class_weights
    assert weights is not None
    assert weights.tolist() == [1.0, 2.0, 0.0]


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS.numpy())
    weights = make(balanced=True).class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx(expected, rel=1e-6)
    assert weights[TARGETS].sum().item() == pytest.approx(len(TARGETS))


def test_a_class_without_images_cannot_be_balanced() -> None:
    with pytest.raises(Mistake, match="emu") as caught:
        balanced_weights(torch.bincount(TARGETS[:9], minlength=3), SPEC.class_names)
    assert caught.value.type_this == "task.balanced=false"


def test_balanced_without_training_targets_evaluates_and_refuses_to_learn() -> None:
    task = make(None, balanced=True)
    assert 0 <= task.evaluate([BATCH]).metrics["accuracy"] <= 1
    with pytest.raises(ValueError, match="balanced"):
        task.updates()
    assert make(None).updates()


def test_other_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="Reg"):
        build_task(mode.Train(model=settings.MLP(), task=groups.Reg()), SPEC, None)
