"""FID against closed forms for Gaussians, scipy's matrix root, and torch-fidelity with the same features."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from dltrain.measuring.fid import Moments, frechet_distance


def with_moments(mean: Tensor, covariance: Tensor, n: int, seed: int) -> Tensor:
    """(n, d) float64 features whose mean and covariance (over n - 1) are these exactly, but for rounding."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x -= x.mean(0)
    lower = torch.linalg.cholesky(x.T @ x / (n - 1))
    white = torch.linalg.solve_triangular(lower, x.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def covariance(d: int, seed: int) -> Tensor:
    a = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T / d + 0.1 * torch.eye(d, dtype=torch.float64)


def fid(a: Tensor, b: Tensor) -> float:
    return frechet_distance(Moments.of(a), Moments.of(b))


def by_scipy(a: Tensor, b: Tensor) -> float:
    x, y = a.double().numpy(), b.double().numpy()
    s, t = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    root = scipy.linalg.sqrtm(s @ t)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * np.real(root)))


@pytest.mark.parametrize("d", [1, 7, 84])
def test_a_shift_by_d_gives_d_squared(d: int) -> None:
    x = with_moments(torch.zeros(d, dtype=torch.float64), covariance(d, 1), 400, 2)
    shift = torch.full((d,), 3.0 / d**0.5, dtype=torch.float64)
    assert fid(x, x + shift) == pytest.approx(9.0, abs=1e-9)


def test_of_the_same_features_it_is_zero_also_without_full_rank() -> None:
    x = torch.randn(30, 84, generator=torch.Generator().manual_seed(0))
    assert fid(x, x) == pytest.approx(0, abs=1e-6)
    assert fid(x[:1], x[:1]) == 0


def test_covariances_that_commute_have_a_closed_form() -> None:
    """sum (sqrt(a_i) - sqrt(b_i))^2 over eigenvalues that belong to the same axes."""
    a, b = torch.tensor([4.0, 1.0, 0.25]).double(), torch.tensor([1.0, 9.0, 0.04]).double()
    axes = torch.linalg.qr(covariance(3, 5))[0]
    x, y = (
        with_moments(torch.zeros(3).double(), axes @ torch.diag(values) @ axes.T, 200, seed)
        for seed, values in ((1, a), (2, b))
    )
    expected = float((a.sqrt() - b.sqrt()).square().sum())
    assert fid(x, y) == pytest.approx(expected, abs=1e-9)


def test_general_gaussians_by_scipys_matrix_root() -> None:
    mean = torch.linspace(-1, 1, 12).double()
    s, t = covariance(12, 3), covariance(12, 4)
    found = fid(with_moments(mean, s, 100, 5), with_moments(-mean, t, 150, 6))
    root = np.real(scipy.linalg.sqrtm((s @ t).numpy()))
    expected = float((4 * mean.square()).sum()) + np.trace((s + t).numpy() - 2 * root)
    assert found == pytest.approx(expected, rel=1e-10)
    assert fid(with_moments(-mean, t, 150, 6), with_moments(mean, s, 100, 5)) == pytest.approx(expected, rel=1e-10)


def test_portions_add_up_to_the_whole_far_from_the_origin_too() -> None:
    x = with_moments(torch.full((5,), 1e4).double(), covariance(5, 7), 300, 8)
    moments = Moments(5)
    for part in x.split(37):
        moments.add(part)
    moments.add(x[:0])
    assert moments.count == 300
    np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(x.numpy(), rowvar=False), rtol=0, atol=1e-9)


def test_float32_features_of_a_network_as_torch_fidelity_measures_them() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_fid")
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(500, 84, generator=generator).relu() * 3
    y = (torch.randn(400, 84, generator=generator) + 0.2).relu() * 2
    theirs = [metric.fid_features_to_statistics(features) for features in (x, y)]
    (expected,) = metric.fid_statistics_to_metric(*theirs, verbose=False).values()
    assert fid(x, y) == pytest.approx(expected, rel=1e-6)
    assert by_scipy(x, y) == pytest.approx(expected, rel=1e-6)
    few = x[:40]  # fewer than they are wide
    (expected,) = metric.fid_statistics_to_metric(
        metric.fid_features_to_statistics(few), theirs[1], verbose=False
    ).values()
    assert fid(few, y) == pytest.approx(expected, rel=1e-3)
