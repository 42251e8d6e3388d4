"""Student's t (1908): how far a mean of few numbers may lie from the truth. Needs neither torch nor SciPy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


def within(t: float, freedom: int) -> float:
    """P(|T| <= t) for `freedom` >= 1 degrees of freedom, t >= 0: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    if freedom < 1 or not t >= 0:
        raise ValueError(f"no such t: {t} with {freedom} degrees of freedom")
    angle = math.atan2(t, math.sqrt(freedom))
    return _within(angle, freedom)


def _within(angle: float, freedom: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = 0.0 if freedom == 1 else cosine if odd else 1.0
    for i in range(2 + odd, freedom - 1, 2):  # (2/3) cos^3, (2*4)/(3*5) cos^5, …; or (1/2) cos^2, (1*3)/(2*4) cos^4, …
        term *= cosine * cosine * (i - 1) / i
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


@lru_cache(maxsize=1024)
def quantile(level: float, freedom: int) -> float:
    """The t that |T| stays within with probability `level`, 0 < level < 1: 2.262 for 95 % and 9 degrees of freedom."""
    if not 0 < level < 1:
        raise ValueError(f"a level is between 0 and 1, not {level}")
    low, high = 0.0, math.pi / 2  # of the angle, whose range is bounded
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation (0 for a single number) of `n` numbers."""

    n: int
    value: float
    deviation: float

    @staticmethod
    def of(values: Sequence[float]) -> "Mean":
        """Raises ValueError where there are none."""
        if not values:
            raise ValueError("no numbers have no mean")
        n, mean = len(values), math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return Mean(n, mean, math.sqrt(squares / (n - 1)) if n > 1 else 0.0)

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Where the true mean lies with this confidence; None for a single number, which says nothing of spread."""
        if self.n < 2:
            return None
        half = quantile(level, self.n - 1) * self.deviation / math.sqrt(self.n)
        return self.value - half, self.value + half
