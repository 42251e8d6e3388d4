"""In which order training images come, epoch by epoch: a pure function of the seed and the epoch."""

import torch
from torch import Tensor

from dltrain.engine import random


def shuffled(numbers: Tensor, seed: int, epoch: int) -> Tensor:
    """(N,) each of the numbers once."""
    return numbers[random.order(random.key(seed, "order", epoch), len(numbers))]


def balanced(numbers: Tensor, labels: Tensor, seed: int, epoch: int, every: int) -> Tensor:
    """(N,) as many as there are numbers, each class as often as any other, give or take one.

    The images of a class come in rounds, each a shuffle of all of them, which go on from one epoch to the next: an
    image comes again only after all others of its class. One that comes again within an epoch has `every` (the number
    of all samples) added to its number each time, so that what is random about it is drawn anew; modulo `every` it is
    its number.

    Args:
        numbers: (N,) sample numbers of the training images, below `every`.
        labels: (N,) their classes.
    """
    classes = torch.unique(labels).tolist()
    each, over = divmod(len(numbers), len(classes))  # `over` classes have one more, in turn from epoch to epoch
    parts = []
    for place, label in enumerate(classes):
        start, end = (e * each + (e * over + len(classes) - 1 - place) // len(classes) for e in (epoch, epoch + 1))
        parts.append(_in_rounds(numbers[labels == label], start, end, random.key(seed, "balance", label), every))
    return shuffled(torch.cat(parts), seed, epoch)


def _in_rounds(members: Tensor, start: int, end: int, key64: int, every: int) -> Tensor:
    """Members number `start` to `end - 1` of an endless row of shuffles of all of them."""
    n = len(members)
    first = start // n
    rounds = torch.arange(first, -(-end // n))
    pair = random.words(key64, (rounds[:, None] * n + torch.arange(n)).reshape(-1), 2)
    order = torch.argsort(((pair[:, 0] << 30) ^ pair[:, 1]).reshape(-1, n), dim=1, stable=True)
    again = (rounds - first)[:, None] * every
    return (members[order] + again).reshape(-1)[start - first * n : end - first * n]
