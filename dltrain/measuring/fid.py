"""The Frechet distance between two sets of features (Heusel et al. 2017), in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Number, sum and sum of outer products of features, added up in portions: memory does not follow their number.

    The sums are of differences to `origin`, the mean of the first portion, so that little cancels.
    """

    width: int
    count: int = 0

    def __post_init__(self) -> None:
        self._origin = torch.zeros(self.width, dtype=torch.float64)
        self._sum = torch.zeros(self.width, dtype=torch.float64)
        self._products = torch.zeros(self.width, self.width, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """(B, width) more features."""
        if not len(features):
            return
        x = features.detach().cpu().double()
        if not self.count:
            self._origin = x.mean(0)
        x = x - self._origin
        self.count += len(x)
        self._sum += x.sum(0)
        self._products += x.T @ x

    @staticmethod
    def of(features: Tensor) -> "Moments":
        """Those of (N, width) features."""
        moments = Moments(features.shape[1])
        moments.add(features)
        return moments

    @property
    def mean(self) -> Tensor:
        """(width,) float64."""
        return self._origin + self._sum / max(1, self.count)

    @property
    def covariance(self) -> Tensor:
        """(width, width) float64, over N - 1; zeros of a single feature."""
        shift = self._sum / max(1, self.count)
        centred = self._products - self.count * torch.outer(shift, shift)
        return (centred + centred.T) / (2 * max(1, self.count - 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """||m_a - m_b||^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)), at least 0.

    The trace of the root is the sum of the square roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), which is
    symmetric: covariances without full rank, of fewer features than they are wide, need no correction.
    """
    s_a, s_b = a.covariance, b.covariance
    values, vectors = torch.linalg.eigh(s_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root @ s_b @ root
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    apart = (a.mean - b.mean).square().sum()
    distance = apart + s_a.trace() + s_b.trace() - 2 * eigenvalues.clamp_min(0).sqrt().sum()
    return max(0.0, float(distance))
