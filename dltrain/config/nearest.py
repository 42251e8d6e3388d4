"""Which valid name a mistyped one was meant to be."""

from collections.abc import Iterable


def plain(word: str) -> str:
    """The word as people hear it: `Fashion-MNIST` and `fashion_mnist` are one name."""
    return word.strip().casefold().replace("-", "_").replace(" ", "_")


def distance(a: str, b: str) -> float:
    """Edits from `a` to `b`: insert, delete or replace a letter (1 each), swap two neighbours (0.8).

    A swap is a single slip of the fingers and costs less than one edit, so that `modle` is `model`, not `mode`.
    """
    rows = [[float(j) for j in range(len(b) + 1)]]
    for i in range(1, len(a) + 1):
        row = [float(i)]
        for j in range(1, len(b) + 1):
            cost = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1] and a[i - 1] != b[j - 1]:
                cost = min(cost, rows[i - 2][j - 2] + 0.8)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]


def score(word: str, name: str) -> float:
    """How far a typed word is from a name: 0 is the same, a beginning or a part of it is nearly so."""
    w, n = plain(word)[:80], plain(name)
    if w == n:
        return 0.0
    far = distance(w, n)
    extra = abs(len(n) - len(w)) / 100
    if len(w) >= 3 and n.startswith(w):
        far = min(far, 1.0 + extra)
    elif (len(w) >= 4 and w in n) or (len(n) >= 3 and w.startswith(n)):
        far = min(far, 1.5 + extra)
    return far


def nearest(word: str, names: Iterable[str]) -> str:
    """The closest of the names, however far; an empty string if there are none. A tie goes to the first."""
    return min(names, key=lambda name: score(word, name), default="")


def is_near(word: str, name: str) -> bool:
    """Whether the name is close enough to be what was meant."""
    return bool(name) and score(word, name) <= max(1.0, 0.45 * len(word))
