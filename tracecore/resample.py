"""Intervals by resampling; apart from ``stats`` because ``random`` is dear to import."""

import math
import random
from collections.abc import Callable, Sequence

from tracecore.stats import Interval, quantile


def moving_block_bootstrap(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float],
    *,
    block: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """An interval for a statistic of values that depend on their neighbours in time.

    Künsch, "The Jackknife and the Bootstrap for General Stationary Observations", 1989: series of
    the same length are put together from runs of neighbours, and the interval holds the middle of
    what the statistic makes of them. It knows the noise within this one run, and nothing of that
    between runs.

    Args:
        values: The series, in order of time.
        statistic: What is to be bounded; given a series of the same length.
        block: How many neighbours stay together; :func:`usual_block` if not given, and never more
            than there are.
        resamples: How many series are put together.
        seed: The same seed gives the same interval.
        confidence: The share of the resampled statistics between the two ends.

    Raises:
        ValueError: There are no values, or a size or the confidence is out of range.
    """
    if not values:
        raise ValueError("no values to resample")
    length = len(values)
    block = min(usual_block(length) if block is None else block, length)
    if block < 1 or resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"block {block}, {resamples} resamples, confidence {confidence}")
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    statistics = sorted(statistic(_put_together(values, block, chance)) for _ in range(resamples))
    tail_percent = 50 * (1 - confidence)
    return quantile(statistics, tail_percent), quantile(statistics, 100 - tail_percent)


def usual_block(length: int) -> int:
    """How many neighbours to keep together: the cube root of the series' length, and at least
    eight.
    """
    return max(8, round(math.cbrt(length)))


def _put_together(values: Sequence[float], block: int, chance: random.Random) -> list[float]:
    length = len(values)
    resampled: list[float] = []
    while len(resampled) < length:
        # random() alone is promised to give the same numbers in every version of Python.
        start = int(chance.random() * (length - block + 1))
        resampled.extend(values[start : start + block])
    return resampled[:length]
