"""What lies next to what: precision and recall among features, and the nearest training image in pixels.

Both compare everything with everything, in blocks: memory does not follow the numbers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

NEIGHBOURS = 3  # k of Kynkaanniemi et al. 2019, section 3
AROUND = 50  # training images next to an image that its nearest one is compared with (Carlini et al. 2023)
BLOCK = 1 << 22  # distances, or numbers of a block of images, that are held at a time


def precision_recall(generated: Tensor, real: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2) of (N, D) and (M, D) features.

    Precision is the share of generated features that lie no farther from some real one than its k-th neighbour among
    the real ones; recall the share of real ones that lie so among the generated. N and M should be equal: the more
    there are of a kind, the closer its neighbours.
    """
    x, y = generated.double(), real.double()
    # from a common middle, so that squares of large numbers do not cancel
    middle = y.mean(0)
    x, y = x - middle, y - middle
    return covered(x, y, radii(y, k)), covered(y, x, radii(x, k))


def radii(features: Tensor, k: int) -> Tensor:
    """(N,) squared distance from each of (N, D) features to its k-th neighbour, itself left out; 0 of a single one.

    With N features or fewer than k others the farthest counts.
    """
    n = len(features)
    if n < 2:
        return features.new_zeros(n)
    found = []
    for rows, squared in _squared(features, features):
        own = torch.arange(rows.start, rows.stop, device=features.device)
        squared[own - rows.start, own] = torch.inf
        found.append(squared.kthvalue(min(k, n - 1), dim=1).values)
    return torch.cat(found)


def covered(points: Tensor, centres: Tensor, squared_radii: Tensor) -> float:
    """Share of (N, D) points that lie in a ball around one of (M, D) centres, their surfaces included."""
    inside = 0
    for _, squared in _squared(points, centres):
        inside += int((squared <= squared_radii).any(dim=1).sum())
    return inside / len(points)


def _squared(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of all pairs, (rows, M) at a time, with the rows that they are of."""
    squares = b.square().sum(1)
    step = max(1, BLOCK // max(1, len(b)))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        part = a[rows]
        squared = torch.addmm(squares[None, :], part, b.T, alpha=-2).add_(part.square().sum(1, keepdim=True))
        yield rows, squared.clamp_min_(0)


def nearest(images: Tensor, among: Tensor, k: int = AROUND) -> tuple[Tensor, Tensor, Tensor]:
    """Which of (M, D) uint8 images is nearest to each of (N, D), how far, and how far its k nearest are on average.

    (N,) int64 and twice (N,) float64, on the CPU; a distance is the root of the mean squared difference of pixels in 0
    to 1. The first is exact for the image that is named; which of two is named that are equally near, but for float32's
    rounding, is left open.
    """
    n, d = images.shape
    x = images.to(among.device, torch.float32) - 127.5
    best = torch.full((n,), torch.inf, device=among.device)
    index = torch.zeros(n, dtype=torch.int64, device=among.device)
    closest = torch.empty((n, 0), device=among.device)
    step = max(1, BLOCK // max(n, d))
    for start in range(0, len(among), step):
        block = among[start : start + step].to(torch.float32) - 127.5
        # ||x||^2 is left out: it is the same for all that x is compared with
        apart = torch.addmm(block.square().sum(1)[None, :], x, block.T, alpha=-2)
        least, where = apart.min(dim=1)
        closer = least < best
        best, index = torch.where(closer, least, best), torch.where(closer, where + start, index)
        closest = torch.cat([closest, apart], dim=1)
        closest = closest.topk(min(k, closest.shape[1]), dim=1, largest=False, sorted=False).values
    squared = (closest.double() + x.double().square().sum(1, keepdim=True)).clamp_min_(0)
    around = squared.div(d).sqrt().div(255).sort(dim=1).values.mean(dim=1)
    return index.cpu(), _rms(images, among, index), around.cpu()


def apart_from_others(distances: Tensor, around: Tensor) -> Tensor:
    """The nearest distance as a share of that of the k nearest: 1 amid images that are all as far, 0 of a copy.

    So a copy is told from an image that is merely near to everything, as a plain grey one is (Carlini et al. 2023,
    section 5.1, have half of that average as their bound).
    """
    return torch.where(distances > 0, distances / around.clamp(min=1e-12), 0.0)


def _rms(images: Tensor, among: Tensor, index: Tensor) -> Tensor:
    found = []
    step = max(1, BLOCK // images.shape[1])
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        apart = images[part].to(among.device, torch.int64) - among[index[part]].to(torch.int64)
        found.append(apart.square().sum(1))
    return (torch.cat(found).double() / images.shape[1]).sqrt().div(255).cpu()
