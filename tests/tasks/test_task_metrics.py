"""Metrics against scikit-learn and torchmetrics. Convention: a class neither asked nor answered is not averaged."""

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from dltrain.tasks.metrics import Tally, accuracy, class_accuracy, count_pairs, in_top, macro_f1

K = 8


def draw(seed: int, n: int = 200) -> tuple[Tensor, Tensor]:
    """Logits and targets with: class 5 never a target, class 6 never an answer, class 7 neither."""
    g = torch.Generator().manual_seed(seed)
    targets = torch.tensor([0, 1, 2, 3, 4, 6])[torch.randint(6, (n,), generator=g)]
    logits = torch.randn(n, K, generator=g)
    logits[torch.arange(n), targets] += 1.5
    logits[:, 6:] -= 20
    return logits, targets


def counted(logits: Tensor, targets: Tensor) -> Tensor:
    confusion = torch.zeros(K, K, dtype=torch.int64)
    for part in range(0, len(targets), 37):  # parts of unequal size
        count_pairs(confusion, targets[part : part + 37], logits[part : part + 37].argmax(1))
    return confusion


@pytest.mark.parametrize("seed", range(5))
def test_confusion_matrix_is_scikit_learns(seed: int) -> None:
    logits, targets = draw(seed)
    expected = theirs.confusion_matrix(targets, logits.argmax(1), labels=range(K))
    np.testing.assert_array_equal(counted(logits, targets).numpy(), expected)


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_f1_are_scikit_learns_and_torchmetrics(seed: int) -> None:
    logits, targets = draw(seed)
    answers = logits.argmax(1)
    confusion = counted(logits, targets)
    assert accuracy(confusion) == theirs.accuracy_score(targets, answers)
    assert macro_f1(confusion) == pytest.approx(theirs.f1_score(targets, answers, average="macro"), abs=1e-15)
    other = MulticlassF1Score(num_classes=K, average="macro")(answers, targets).item()
    assert macro_f1(confusion) == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_class_accuracy_is_recall_where_there_are_images(seed: int) -> None:
    logits, targets = draw(seed)
    answers = logits.argmax(1)
    shares = class_accuracy(counted(logits, targets))
    recall = theirs.recall_score(targets, answers, labels=range(K), average=None, zero_division=np.nan)
    assert [k for k in range(K) if shares[k] is None] == [5, 7]
    for k in (0, 1, 2, 3, 4, 6):
        assert shares[k] == pytest.approx(recall[k], abs=1e-15)
    assert shares[6] == 0.0


def test_f1_of_a_class_that_is_only_answered_or_only_asked_is_0_in_the_mean() -> None:
    confusion = torch.zeros(4, 4, dtype=torch.int64)
    count_pairs(confusion, torch.tensor([0, 0, 1]), torch.tensor([0, 2, 0]))
    # class 0: 2*1 / (2*1 + 1 + 1) = 1/2; class 1 asked, 2 answered: 0; class 3 neither: left out
    assert macro_f1(confusion) == pytest.approx((1 / 2 + 0 + 0) / 3)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_top_k_is_scikit_learns_and_torchmetrics(seed: int, k: int) -> None:
    logits, targets = draw(seed)
    ours = in_top(logits, targets, k).double().mean().item()
    assert ours == theirs.top_k_accuracy_score(targets, logits.numpy(), k=k, labels=range(K))
    other = MulticlassAccuracy(num_classes=K, top_k=k, average="micro")(logits, targets).item()
    assert ours == pytest.approx(other, abs=1e-6)


def test_ties_go_to_the_lower_class_as_in_argmax() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randint(3, (500, K), generator=g).float()
    targets = torch.randint(K, (500,), generator=g)
    assert torch.equal(in_top(logits, targets, 1), logits.argmax(1) == targets)
    same = torch.zeros(K, K)
    assert in_top(same, torch.arange(K), 5).tolist() == [True] * 5 + [False] * 3


def test_nan_is_never_a_hit() -> None:
    logits = torch.full((K, K), torch.nan)
    assert not in_top(logits, torch.arange(K), 5).any()


def names(n: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(n))


def test_tally_reads_everything_from_its_parts() -> None:
    logits, targets = draw(0)
    tally = Tally(K, torch.device("cpu"))
    for part in range(0, 200, 37):
        tally.add(logits[part : part + 37], targets[part : part + 37])
    values = tally.read(names(K))
    assert list(values) == [
        "loss",
        "accuracy",
        "macro_f1",
        "top5",
        *(f"class_accuracy/class {k}" for k in (0, 1, 2, 3, 4, 6)),
    ]
    p = logits.double().softmax(1)
    assert values["loss"] == pytest.approx(theirs.log_loss(targets, p.numpy(), labels=range(K)), rel=1e-6)
    assert values["top5"] == in_top(logits, targets, 5).double().mean().item()
    assert values["accuracy"] == (logits.argmax(1) == targets).double().mean().item()


def test_top5_needs_six_classes() -> None:
    for n in (2, 5, 6):
        tally = Tally(n, torch.device("cpu"))
        tally.add(torch.eye(n), torch.arange(n))
        assert ("top5" in tally.read(names(n))) == (n > 5)


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        Tally(3, torch.device("cpu")).read(names(3))


def test_adding_reads_nothing_back_to_the_host() -> None:
    """On the meta device there are no values: whatever needs one raises."""
    meta = torch.device("meta")
    tally = Tally(K, meta)
    tally.add(torch.empty(7, K, device=meta), torch.empty(7, dtype=torch.int64, device=meta))
    with pytest.raises((NotImplementedError, RuntimeError)):
        tally.nats.item()
