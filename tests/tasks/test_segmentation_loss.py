"""Losses of masks against float64 written out, pixel by pixel; parts of a batch add up to the whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.config.segmentation import SegmentationLoss
from dltrain.config.spec import IGNORED
from dltrain.tasks.pixel_loss import cross_entropies, mask_loss, pixel_weights, soft_dice

K, W = 4, [0.5, 2.0, 1.25, 3.0]
ALL = list(SegmentationLoss)


def make(images: int = 5, size: tuple[int, int] = (6, 7), seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, masks with ignored pixels and with classes missing in some, and borders."""
    g = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(images, K, *size, generator=g, dtype=torch.float64)
    y = torch.randint(K, (images, *size), generator=g).to(torch.uint8)
    y[torch.rand(y.shape, generator=g) < 0.2] = IGNORED
    y[0][y[0] == 2] = 1
    y[1][y[1] != IGNORED] = 3
    return z, y, torch.rand(images, *size, generator=g, dtype=torch.float64)


def written_out(z: Tensor, y: Tensor, e: Tensor | None, w: list[float] | None, w0: float, kind: str) -> float:
    """The formula, one pixel at a time."""
    total, weight = 0.0, 0.0
    for scores, mask, borders in zip(z.numpy(), y.numpy(), np.zeros(y.shape) if e is None else e.numpy(), strict=True):
        ce, own_weight = 0.0, 0.0
        own, p_sum, q_sum = np.zeros(K), np.zeros(K), np.zeros(K)
        for r, c in np.ndindex(*mask.shape):
            k = int(mask[r, c])
            if k == IGNORED:
                continue
            p = np.exp(scores[:, r, c] - scores[:, r, c].max())
            p /= p.sum()
            pixel = (1.0 if w is None else w[k]) + w0 * borders[r, c]
            ce -= pixel * np.log(p[k])
            own_weight += pixel
            own[k] += p[k]
            p_sum += p
            q_sum[k] += 1
        there = [k for k in range(K) if q_sum[k]]
        of_class = [1.0 if w is None else w[k] for k in there]
        dices = [2 * own[k] / (p_sum[k] + q_sum[k]) for k in there]
        dice = float(np.average(dices, weights=of_class)) if sum(of_class) else 1.0
        total += (ce if kind != "dice" else 0) + (own_weight * (1 - dice) if kind != "cross_entropy" else 0)
        weight += own_weight
    return total / weight


@pytest.mark.parametrize("borders", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ALL)
def test_losses_are_their_formulas(kind: SegmentationLoss, weighted: bool, borders: bool) -> None:
    z, y, e = make()
    w, e = (torch.tensor(W, dtype=torch.float64) if weighted else None), (e if borders else None)
    expected = written_out(z, y, e, W if weighted else None, 10.0, kind)
    found = mask_loss(z, y, pixel_weights(y, w, e, 10.0), kind, w)
    assert found.item() == pytest.approx(expected, rel=1e-13)
    single = [None if v is None else v.float() for v in (w, e)]
    assert mask_loss(z.float(), y, pixel_weights(y, *single, 10.0), kind, single[0]).item() == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize("kind", ALL)
def test_gradients_are_those_of_finite_differences(kind: SegmentationLoss) -> None:
    z, y, e = make(2, (3, 2))
    w = torch.tensor(W, dtype=torch.float64)
    weights = pixel_weights(y, w, e, 2.0)
    assert torch.autograd.gradcheck(lambda z: mask_loss(z, y, weights, kind, w), z.requires_grad_())


def test_plain_cross_entropy_is_torchs_with_an_ignored_class() -> None:
    """And with weights torch's too: both are means over the weights of the pixels that count."""
    z, y, _ = make()
    w = torch.tensor(W, dtype=torch.float64)
    target = y.long()
    for given in (None, w):
        theirs = F.cross_entropy(z, target, given, ignore_index=IGNORED)
        ours = mask_loss(z, y, pixel_weights(y, given), SegmentationLoss.cross_entropy)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    each = cross_entropies(z, y, pixel_weights(y, w))
    assert each.sum().item() == pytest.approx(
        F.cross_entropy(z, target, w, ignore_index=IGNORED, reduction="sum").item(), rel=1e-13
    )


@pytest.mark.parametrize("borders", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ALL)
def test_micro_batches_add_up_to_the_batch(kind: SegmentationLoss, weighted: bool, borders: bool) -> None:
    """Values and gradients, with very unequal shares of ignored pixels; weighing by images instead is wrong."""
    z, y, e = make(7)
    y[2:4, :, 1:] = IGNORED
    w, e = (torch.tensor(W, dtype=torch.float64) if weighted else None), (e if borders else None)

    def run(parts: list[slice], by_images: bool = False) -> tuple[float, Tensor]:
        leaf = z.clone().requires_grad_()
        counts = [pixel_weights(y[p], w, None if e is None else e[p], 5.0).sum() for p in parts]
        if by_images:
            counts = [torch.tensor(float(len(y[p]))) for p in parts]
        total = 0.0
        for part, count in zip(parts, counts, strict=True):
            weights = pixel_weights(y[part], w, None if e is None else e[part], 5.0)
            loss = mask_loss(leaf[part], y[part], weights, kind, w) * count / torch.stack(counts).sum()
            loss.backward()
            total += loss.item()
        assert leaf.grad is not None
        return total, leaf.grad

    value, gradient = run([slice(0, 7)])
    for parts in ([slice(0, 3), slice(3, 6), slice(6, 7)], [slice(i, i + 1) for i in range(7)]):
        parts_value, parts_gradient = run(parts)
        assert parts_value == pytest.approx(value, rel=1e-6)
        torch.testing.assert_close(parts_gradient, gradient, rtol=1e-6, atol=1e-9)
        assert abs(run(parts, by_images=True)[0] - value) > 1e-3


def test_dice_is_1_for_a_sure_right_answer_and_0_for_a_sure_wrong_one() -> None:
    _, y, _ = make()
    right = F.one_hot(torch.where(y == IGNORED, 0, y).long(), K).permute(0, 3, 1, 2).double()
    assert soft_dice(200 * right, y).tolist() == pytest.approx([1] * 5, abs=1e-12)
    assert soft_dice(200 * right.roll(1, 1), y).tolist() == pytest.approx([0] * 5, abs=1e-12)


def test_what_is_ignored_plays_no_part() -> None:
    """Neither its logits nor its border change a loss, and its gradient is 0."""
    z, y, e = make()
    z2, e2 = z.clone(), e.clone()
    hidden = y == IGNORED
    z2.permute(0, 2, 3, 1)[hidden] = 7.0
    e2[hidden] = 1.0
    for kind in ALL:
        z.requires_grad_()
        z.grad = None
        loss = mask_loss(z, y, pixel_weights(y, None, e, 3.0), kind)
        assert loss.item() == mask_loss(z2, y, pixel_weights(y, None, e2, 3.0), kind).item()
        loss.backward()
        assert z.grad is not None
        assert not z.grad.permute(0, 2, 3, 1)[hidden].any()
        assert z.grad.permute(0, 2, 3, 1)[~hidden].any()


@pytest.mark.parametrize("kind", ALL)
def test_nothing_to_learn_from_is_loss_0_without_nan(kind: SegmentationLoss) -> None:
    """All ignored, or all of a class that weighs nothing; an image of such pixels beside another changes nothing."""
    z, y, _ = make(2)
    w = torch.tensor([0.0, 1, 1, 1], dtype=torch.float64)
    for empty in (torch.full_like(y, IGNORED), torch.zeros_like(y)):
        leaf = z.clone().requires_grad_()
        loss = mask_loss(leaf, empty, pixel_weights(empty, w), kind, w)
        loss.backward()
        assert loss.item() == 0
        assert leaf.grad is not None
        assert not leaf.grad.any()
        beside = torch.stack([y[0], empty[0]])
        both = mask_loss(z, beside, pixel_weights(beside, w), kind, w)
        alone = mask_loss(z[:1], y[:1], pixel_weights(y[:1], w), kind, w)
        assert both.item() == pytest.approx(alone.item(), rel=1e-13)


def test_weights_are_equation_2() -> None:
    y = torch.tensor([[[0, 1, IGNORED], [1, 0, 0]]], dtype=torch.uint8)
    e = torch.tensor([[[0.0, 0.5, 1.0], [0.25, 1.0, 0.0]]])
    assert pixel_weights(y).tolist() == [[[1, 1, 0], [1, 1, 1]]]
    assert pixel_weights(y, torch.tensor([2.0, 3.0])).tolist() == [[[2, 3, 0], [3, 2, 2]]]
    assert pixel_weights(y, torch.tensor([2.0, 3.0]), e, 10.0).tolist() == [[[2, 8, 0], [5.5, 12, 2]]]
    assert pixel_weights(y, None, e, 10.0).tolist() == [[[1, 6, 0], [3.5, 11, 1]]]


def test_the_highest_class_number_is_one_of_255() -> None:
    """254 is a class, 255 is ignored."""
    y = torch.tensor([[[254, 255]]], dtype=torch.uint8)
    z = torch.zeros(1, 255, 1, 2)
    w = torch.arange(1.0, 256.0)
    assert pixel_weights(y, w).tolist() == [[[255.0, 0.0]]]
    loss = mask_loss(z, y, pixel_weights(y, w), SegmentationLoss.both, w)
    assert loss.item() == pytest.approx(np.log(255) + 1 - 2 / 255 / (1 / 255 + 1), rel=1e-6)
