"""Tests by rank, trends, and the price of asking many questions at once.

Everything here is one-sided towards "greater" unless stated otherwise, and counts in integers where
samples are small enough. A p is the chance of data at least as extreme if nothing were there.
Values are numbers and never NaN.
"""

import bisect
import functools
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from tracecore.stats import (
    ROUNDING,
    Interval,
    check_confidence,
    median,
    normal_quantile,
    normal_tail,
)

# 20 v 20: the largest product of two sample sizes whose rank sums are counted
EXACT_PAIRS: Final = 400
EXACT_ORDERS: Final = 50  # values without ties whose orders are counted for Kendall's tau


def mann_whitney_greater(x: Sequence[float], y: Sequence[float]) -> float:
    """The p of whether ``y`` tends to be greater than ``x``.

    Mann and Whitney, "On a Test of Whether One of Two Random Variables Is Stochastically Larger",
    1947; ties share their middle rank, and the permutation distribution of those ranks is counted,
    so that small and tied samples are exact too (Lehmann, "Nonparametrics", 1975, section 1.4).
    Larger samples take the normal approximation with tie and continuity corrections.

    Args:
        x: Independent values: the base.
        y: Independent values: what may be greater.

    Raises:
        ValueError: One of the samples is empty.
    """
    _check_samples(x, y)
    ranks = _doubled_ranks([*x, *y])
    doubled_sum = sum(ranks[len(x) :])
    pairs, count = len(x) * len(y), len(ranks)
    if pairs <= EXACT_PAIRS:
        return _exact_rank_sum_p(ranks, len(x), doubled_sum)
    u = (doubled_sum - len(y) * (len(y) + 1)) / 2  # the pairs in which y is greater; ties one half
    tied = sum(size**3 - size for size in Counter(ranks).values())
    variance = pairs / 12 * (count + 1 - tied / (count * (count - 1)))
    return normal_tail((u - pairs / 2 - 0.5) / math.sqrt(variance)) if variance > 0 else 1.0


def _exact_rank_sum_p(ranks: list[int], split: int, observed: int) -> float:
    """The share of all ways to split the ranks that leave a sum of at least ``observed`` after
    ``split``.
    """
    # Choosing one side leaves the other, so the smaller is counted: its sum is then as low as the
    # other's is high.
    size, ascending = len(ranks) - split, tuple(sorted(ranks))
    if size <= split:
        favourable = sum(_sums_of_choices(ascending, size)[observed:])
    else:
        favourable = sum(_sums_of_choices(ascending, split)[: sum(ranks) - observed + 1])
    return favourable / math.comb(len(ranks), size)


@functools.lru_cache(maxsize=64)  # without ties, samples of the same sizes all have the same ranks
def _sums_of_choices(ranks: tuple[int, ...] | range, size: int) -> list[int]:
    """In how many ways ``size`` of the ranks can be chosen so that they sum to 0, 1, 2, ...; not to
    be changed.
    """
    highest = sum(sorted(ranks)[-size:])
    # by how many are chosen, then by their sum
    ways = [[0] * (highest + 1) for _ in range(size + 1)]
    ways[0][0] = 1
    for rank in ranks:
        for chosen in range(size, 0, -1):
            without, with_one_less = ways[chosen], ways[chosen - 1]
            added = [a + b for a, b in zip(without[rank:], with_one_less, strict=False)]
            ways[chosen] = without[:rank] + added
    return ways[size]


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value: tied values share the middle of their ranks, and doubling keeps
    it whole.
    """
    ascending = sorted(values)
    return [
        bisect.bisect_left(ascending, value) + bisect.bisect_right(ascending, value) + 1
        for value in values
    ]


def smallest_p(n: int, m: int) -> float:
    """The smallest p that :func:`mann_whitney_greater` can reach with samples of these sizes.

    One split of all is the most extreme: 5 against 5 cannot go below 0.004, whatever they hold.
    """
    return 1 / math.comb(n + m, n)


def hodges_lehmann(x: Sequence[float], y: Sequence[float]) -> float:
    """How far ``y`` lies above ``x``: the median of all differences between a value of y and one of
    x.

    Hodges and Lehmann, "Estimates of Location Based on Rank Tests", 1963. Of logarithms it is the
    logarithm of a ratio.

    Raises:
        ValueError: One of the samples is empty.
    """
    _check_samples(x, y)
    return median(_differences(x, y))


def hodges_lehmann_interval(
    x: Sequence[float], y: Sequence[float], confidence: float
) -> Interval | None:
    """The shifts of ``y`` against ``x`` that a two-sided Mann-Whitney test would not reject.

    Hollander and Wolfe, "Nonparametric Statistical Methods", 1999, section 4.3. Exact up to 20
    against 20, the normal approximation beyond; with ties it errs towards wider.

    Args:
        x: Independent values: the base.
        y: Independent values: what may be shifted.
        confidence: The least chance that the interval holds the true shift.

    Returns:
        The ends of the interval, or None where the samples are too small to bound it.

    Raises:
        ValueError: One of the samples is empty, or ``confidence`` is out of range.
    """
    _check_samples(x, y)
    check_confidence(confidence)
    cut = _pairs_in_tail(len(x), len(y), (1 - confidence) / 2)
    if cut == 0:
        return None
    ascending = sorted(_differences(x, y))
    return ascending[cut - 1], ascending[-cut]


def _pairs_in_tail(n: int, m: int, tail: float) -> int:
    """The largest k for which U < k is at most ``tail`` likely; 0 where there is none."""
    pairs = n * m
    if pairs > EXACT_PAIRS:
        z, spread = normal_quantile(1 - tail), math.sqrt(pairs * (n + m + 1) / 12)
        return max(0, math.floor(pairs / 2 + 0.5 - z * spread))
    size = min(n, m)
    # by U: 0, 1, 2, ...
    ways = _sums_of_choices(range(1, n + m + 1), size)[size * (size + 1) // 2 :]
    allowed = tail * math.comb(n + m, size) * (1 + ROUNDING)
    return sum(1 for below in itertools.accumulate(ways) if below <= allowed)


def _differences(x: Sequence[float], y: Sequence[float]) -> list[float]:
    return [b - a for a in x for b in y]


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """The p, two-sided, of whether ``y`` rises or falls with ``x``; 1 where all x or all y are
    equal.

    Kendall, "Rank Correlation Methods", 1970: tau-b. Exact for up to 50 pairs without ties;
    otherwise the normal approximation with his correction of the variance for ties.

    Raises:
        ValueError: There are fewer than two pairs, or x and y differ in length.
    """
    count = _check_pairs(x, y)
    concordance = [
        _sign(b - a) * _sign(d - c)
        for (a, c), (b, d) in itertools.combinations(zip(x, y, strict=True), 2)
    ]
    score, pairs = sum(concordance), len(concordance)
    x_ties, y_ties = _tie_sizes(x), _tie_sizes(y)
    x_tied, y_tied = _falling_sum(x_ties, 2) // 2, _falling_sum(y_ties, 2) // 2
    if pairs in (x_tied, y_tied):
        return 1.0
    if x_tied == y_tied == 0 and count <= EXACT_ORDERS:
        return _exact_kendall_p(count, score)
    return 2 * normal_tail(abs(score) / math.sqrt(_kendall_variance(count, x_ties, y_ties)))


def _exact_kendall_p(count: int, score: int) -> float:
    """The share of all orders whose score is at least as far from zero."""
    discordant = (count * (count - 1) // 2 - abs(score)) // 2
    orders = [1]  # by the number of discordant pairs: 0, 1, 2, ...
    for place in range(1, count):
        # One value more can stand before 0 to `place` of those already there, and makes as many
        # pairs discordant.
        sums = [0, *itertools.accumulate(orders + [0] * place)]
        orders = [sums[k + 1] - sums[max(0, k - place)] for k in range(len(orders) + place)]
    return min(1.0, 2 * sum(orders[: discordant + 1]) / math.factorial(count))


def _kendall_variance(count: int, x_ties: list[int], y_ties: list[int]) -> float:
    def weighted(sizes: list[int]) -> int:
        return sum(size * (size - 1) * (2 * size + 5) for size in sizes)

    ordered = count * (count - 1)
    variance = (weighted([count]) - weighted(x_ties) - weighted(y_ties)) / 18
    variance += _falling_sum(x_ties, 2) * _falling_sum(y_ties, 2) / (2 * ordered)
    if count > 2:
        variance += _falling_sum(x_ties, 3) * _falling_sum(y_ties, 3) / (9 * ordered * (count - 2))
    return variance


def _tie_sizes(values: Sequence[float]) -> list[int]:
    return [size for size in Counter(values).values() if size > 1]


def _falling_sum(sizes: Sequence[int], length: int) -> int:
    """The sum of size (size - 1) ...

    over ``length`` factors: ordered ways to take that many out of one tie.
    """
    return sum(math.perm(size, length) for size in sizes)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def theil_sen(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of ``y`` over ``x``: the median slope between any two points.

    Theil, "A Rank-Invariant Method of Linear and Polynomial Regression Analysis", 1950; Sen,
    "Estimates of the Regression Coefficient Based on Kendall's Tau", 1968. Points of equal x have
    no slope between them.

    Raises:
        ValueError: There are no two points of different x, or x and y differ in length.
    """
    _check_pairs(x, y)
    points = itertools.combinations(zip(x, y, strict=True), 2)
    slopes = [(d - c) / (b - a) for (a, c), (b, d) in points if a != b]
    if not slopes:
        raise ValueError("no two points of different x to draw a slope between")
    return median(slopes)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, raised so that the chance of *any* false alarm among them stays below the level
    asked for.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979. In the order they were
    given.
    """
    count = len(p_values)
    adjusted, highest = [0.0] * count, 0.0
    for passed, place in enumerate(_ascending_places(p_values)):
        highest = max(highest, (count - passed) * p_values[place])
        adjusted[place] = min(1.0, highest)
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The p values, raised so that the *share* of false ones among the alarms stays below the level
    asked for.

    Benjamini and Hochberg, "Controlling the False Discovery Rate", 1995. In the order they were
    given.
    """
    count = len(p_values)
    adjusted, lowest = [0.0] * count, 1.0
    for left, place in enumerate(reversed(_ascending_places(p_values))):
        lowest = min(lowest, p_values[place] * count / (count - left))
        adjusted[place] = lowest
    return adjusted


def _ascending_places(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda place: p_values[place])


def _check_samples(x: Sequence[float], y: Sequence[float]) -> None:
    if not x or not y:
        raise ValueError(f"two samples are needed, not {len(x)} values against {len(y)}")


def _check_pairs(x: Sequence[float], y: Sequence[float]) -> int:
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"two or more pairs are needed, not {len(x)} values with {len(y)}")
    return len(x)
