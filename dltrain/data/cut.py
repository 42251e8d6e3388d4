"""Cutting a validation and a test split from the training images, by seed and class. Needs no torch."""

from collections.abc import Sequence

import numpy as np

from dltrain.data.imageset import Numbers
from dltrain.keys import key


def ranks(seed: int, identities: Sequence[int]) -> Numbers:
    """(N,) the order of samples by a keyed hash of what identifies each; ties by position."""
    hashes = np.fromiter((key(seed, "split", identity) for identity in identities), np.uint64, len(identities))
    return np.argsort(hashes, kind="stable")


def share_of(share: float, count: int) -> int:
    """A share as a number of images: rounded, at least one if the share is above zero."""
    return max(1, int(share * count + 0.5)) if share > 0 else 0


def cut(numbers: Numbers, targets: Numbers, order: Numbers, shares: dict[str, float]) -> dict[str, Numbers]:
    """Sample numbers of each part and, under `train`, the rest; every part has its share of every class.

    `targets` and `order` (a permutation of positions, from `ranks`) belong to `numbers`. A class too small to give
    every part an image is the caller's mistake, to be found before.
    """
    parts: dict[str, list[Numbers]] = {name: [] for name in (*shares, "train")}
    mixed = numbers[order]
    of_mixed = targets[order]
    for label in np.unique(targets):
        members = mixed[of_mixed == label]
        start = 0
        for name, share in shares.items():
            count = share_of(share, len(members))
            parts[name].append(members[start : start + count])
            start += count
        parts["train"].append(members[start:])
    return {name: np.sort(np.concatenate(found)) for name, found in parts.items()}
