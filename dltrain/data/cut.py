"""Cutting images into parts by seed, class and group. Needs no torch.

An opener calls `complete` for what its set lacks of train, val and test; sets of files have `files.open_files`, which
also looks at every file and leaves out what cannot be read.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dltrain.config.data import Cut
from dltrain.config.messages import Mistake
from dltrain.keys import key
from dltrain.text import some

Numbers = NDArray[np.int64]
Targets = NDArray[np.int64] | NDArray[np.float32]
PASSES = 20  # over all groups, while moving one still brings the shares nearer
MOST_COMPARED = 10_000_000  # numbers in a pass that looks for groups to swap


def ranks(seed: int, identities: Sequence[int], purpose: str = "split") -> Numbers:
    """(N,) the order of samples by a keyed hash of what identifies each; ties by position."""
    hashes = np.fromiter((key(seed, purpose, identity) for identity in identities), np.uint64, len(identities))
    return np.argsort(hashes, kind="stable")


def share_of(share: float, count: int) -> int:
    """A share as a number of images: rounded, at least one if the share is above zero."""
    return max(1, int(share * count + 0.5)) if share > 0 else 0


def strata(targets: Targets) -> Numbers:
    """(N,) what parts are to hold equal shares of: the class; one and the same for values and for no targets."""
    return targets.astype(np.int64) if targets.ndim == 1 else np.zeros(len(targets), np.int64)


def cut(
    numbers: Numbers,
    targets: Targets,
    order: Numbers,
    shares: dict[str, float],
    groups: Numbers | None = None,
) -> dict[str, Numbers]:
    """Sample numbers of each part and, under `train`, the rest; every part has its share of every class.

    Args:
        numbers: (N,) sample numbers to be cut.
        targets: (N,) classes of these; (N, K) values or (N, 0) are cut without regard to what they are.
        order: (N,) permutation of positions, from `ranks`.
        shares: of each part that is cut off, such as `{"val": 0.1, "test": 0.2}`.
        groups: (N,) samples of one number here stay together; shares are then met as nearly as groups allow.

    A class too small to give every part an image, or fewer groups than parts, is to be found before: `refuse_small`.
    """
    labels = strata(targets)
    if groups is not None:
        parts = by_groups(labels, order, {**shares, "train": 1 - sum(shares.values())}, groups)
        return {name: numbers[positions] for name, positions in parts.items()}
    found: dict[str, list[Numbers]] = {name: [] for name in (*shares, "train")}
    mixed = numbers[order]
    of_mixed = labels[order]
    for label in np.unique(labels):
        members = mixed[of_mixed == label]
        start = 0
        for name, share in shares.items():
            count = share_of(share, len(members))
            found[name].append(members[start : start + count])
            start += count
        found["train"].append(members[start:])
    return {name: np.sort(np.concatenate(members)) for name, members in found.items()}


def refuse_small(
    where: str,
    targets: Targets,
    class_names: Sequence[str],
    shares: dict[str, float],
    groups: Numbers | None = None,
) -> None:
    """Raise Mistake, beginning with `where`, if a class (or the number of groups) is too small to be cut by shares."""
    parts = len(shares) + 1
    if groups is not None:
        if (count := len(np.unique(groups))) < parts:
            raise Mistake(
                f"{where}: {count} groups cannot be cut into {parts} parts", allowed=f"{parts} groups or more"
            )
        return
    names = class_names if targets.ndim == 1 else ["all images"]
    counts = np.bincount(strata(targets), minlength=len(names)).tolist()
    few = [
        f"{name} ({count})"
        for name, count in zip(names, counts, strict=True)
        if count - sum(share_of(share, count) for share in shares.values()) < 1
    ]
    each = " a class" if targets.ndim == 1 else ""
    if few:
        raise Mistake(
            f"{where}: too few images to split in {some(few)}",
            allowed=f"at least {parts} images{each}, and something left for train after "
            + " and ".join(f"data.{name}_share={share:g}" for name, share in shares.items()),
        )


def refuse_empty(
    where: str, splits: dict[str, Numbers], targets: Targets, class_names: Sequence[str], because: str
) -> None:
    """Raise Mistake if a split has no image left, or a class no training image.

    `because` says which files cannot be read; `targets` are of all samples.
    """
    empty = [name for name, numbers in splits.items() if not len(numbers)]
    lacking: list[str] = []
    if targets.ndim == 1:
        counts = np.bincount(targets[splits["train"]].astype(np.int64), minlength=len(class_names)).tolist()
        lacking = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if empty or lacking:
        what = f"no images in {some(empty)}" if empty else f"no training images of {some(lacking)}"
        raise Mistake(
            f"{where}: {what}{' can be read' if because else ''}" + (f": {because}" if because else ""),
            allowed="at least one image of every class in train, and one in every split",
        )


def complete(
    settings: Cut,
    found: dict[str, Numbers],
    targets: Targets,
    class_names: Sequence[str],
    identities: Sequence[int],
    seed: int,
    groups: Numbers | None = None,
    where: str = "",
) -> tuple[dict[str, Numbers], tuple[str, ...]]:
    """The splits of a set of the user's own, and notes for the screen; what is not there is cut from train.

    Args:
        settings: `val_share` and `test_share`.
        found: sample numbers of `train`, and of `val` and `test` where the user has split the set.
        targets, class_names: of all samples, (N,) or (N, K).
        identities: (N,) what tells each sample from all others, so that it stays where it is when others come.
        groups: (N,) samples of one number stay together.
        where: how a message begins; by default the root.

    Raises:
        Mistake: a class or the number of groups is too small.
    """
    shares: dict[str, float] = {}
    if "val" not in found:
        shares["val"] = settings.val_share
        if "test" not in found and settings.test_share > 0:
            shares["test"] = settings.test_share
    notes = []
    if "val" in found and "test" not in found:
        notes.append("no test images, so there is no test at the end")
    elif shares:
        by = "seed and group" if groups is not None else "seed and class" if targets.ndim == 1 else "seed"
        notes.append(f"{' and '.join(shares)} cut from {'train' if len(found) > 1 else 'the images'} by {by}")
    train = found["train"]
    of_train = None if groups is None else groups[train]
    refuse_small(where or f"data={settings.name}", targets[train], class_names, shares, of_train)
    order = ranks(seed, [identities[number] for number in train.tolist()])
    parts = {**found, **cut(train, targets[train], order, shares, of_train)}
    return {name: parts[name] for name in ("train", "val", "test") if name in parts}, tuple(notes)


def fold_of(labels: Numbers, order: Numbers, folds: int, groups: Numbers | None = None) -> Numbers:
    """(N,) the fold, 0 to folds-1, of each sample: classes are spread evenly, and groups are never parted.

    `labels` (N,) are `strata`, `order` (N,) is from `ranks`. Without groups, sizes of folds differ by one at most, in
    all and in every class.
    """
    fold = np.empty(len(labels), np.int64)
    if groups is not None:
        parts = by_groups(labels, order, {str(part): 1 / folds for part in range(folds)}, groups)
        for part, positions in enumerate(parts.values()):
            fold[positions] = part
        return fold
    first = 0  # the fold that gets the next image left over
    of_ordered = labels[order]
    for label in np.unique(labels):
        members = order[of_ordered == label]
        each, over = divmod(len(members), folds)
        sizes = [each + ((part - first) % folds < over) for part in range(folds)]
        fold[members] = np.repeat(np.arange(folds), sizes)
        first = (first + over) % folds
    return fold


def by_groups(labels: Numbers, order: Numbers, shares: dict[str, float], groups: Numbers) -> dict[str, Numbers]:
    """Positions of each part, sorted; samples of one number in `groups` stay together, and no part is empty.

    In the order of their first samples, groups go where the counts of each class and of all images then come nearest to
    the shares (by the sum of (count - wanted)^2 / wanted); after that, one is moved, or swapped for another, as long as
    it helps.
    """
    _, index = np.unique(groups, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((index.max() + 1, label.max() + 2))  # images of each group: of each class, and all
    np.add.at(counts, (index, label), 1)
    counts[:, -1] = counts.sum(1)
    wanted = np.outer(list(shares.values()), counts.sum(0))
    held = np.zeros_like(wanted)
    part = np.full(len(counts), -1)
    _, first = np.unique(index[order], return_index=True)
    turn = np.argsort(first).tolist()  # groups in the order of their first samples

    def put(group: int, where: int) -> None:
        if part[group] >= 0:
            held[part[group]] -= counts[group]
        part[group] = where
        held[where] += counts[group]

    def cost_of(group: int) -> NDArray[np.float64]:
        """(parts,) what it costs each to take the group in, rounded, so that no last bit decides."""
        mine = counts[group]
        without = held.copy()
        if part[group] >= 0:
            without[part[group]] -= mine
        cost: NDArray[np.float64] = ((2 * (without - wanted) + mine) * mine / wanted).sum(1)
        return cost.round(9)

    def move(group: int) -> bool:
        cost = cost_of(group)
        best = int(np.argmin(cost))
        if cost[best] >= cost[part[group]] or (part == part[group]).sum() == 1:
            return False
        put(group, best)
        return True

    def swap(group: int) -> bool:
        """With the group of another part with which it helps most."""
        here = part[group]
        more = counts - counts[group]  # what the group's part would gain, and the other's lose
        change = ((2 * (held[here] - wanted[here]) + more) * more / wanted[here]).sum(1)
        change += ((2 * (wanted[part] - held[part]) + more) * more / wanted[part]).sum(1)
        other = int(np.argmin(np.where(part == here, 0, change.round(9))))
        if change[other].round(9) >= 0 or part[other] == here:
            return False
        there = int(part[other])
        put(other, int(here))
        put(group, there)
        return True

    for group in turn:
        put(group, int(np.argmin(cost_of(group))))
    swaps = counts.size * len(counts) <= MOST_COMPARED  # of many groups, each is small beside its part
    for _ in range(PASSES):
        moved = [move(group) or (swaps and swap(group)) for group in turn]
        if not any(moved):
            break
    for empty in range(len(shares)):
        if not (part == empty).any():
            sizes = np.bincount(part, minlength=len(shares))
            group = min((g for g in turn if sizes[part[g]] > 1), key=lambda g: counts[g, -1])
            put(group, empty)
    return {name: np.flatnonzero(part[index] == number) for number, name in enumerate(shares)}
