"""Quantiles and intervals: small, exact, and of the standard library alone."""

import math
from collections.abc import Sequence


def nearest_rank(sorted_values: Sequence[float], percent: float) -> float:
    """The smallest value that has at least ``percent`` of the values at or below it.

    The nearest-rank percentile (Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996, type 1): always
    one of the values, never something between two.

    Args:
        sorted_values: The values, ascending.
        percent: From 0 (the smallest value) to 100 (the largest).

    Raises:
        ValueError: There are no values, or ``percent`` is out of range.
    """
    if not sorted_values:
        raise ValueError("no values to take a percentile of")
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentile lies between 0 and 100, not at {percent}")
    # 99.9% of 1000 is 999 values, though the double nearest to 99.9 lies a little above it.
    rank = math.ceil(round(percent * len(sorted_values) / 100, 9))
    return sorted_values[max(rank, 1) - 1]
