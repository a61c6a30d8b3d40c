"""Percentiles, spreads and intervals: exact where that is possible, and of the standard library's
``math`` alone.

Values are numbers and never NaN. Where an order is asked for, the argument is called
``sorted_values``. Percents run from 0 to 100; confidences and probabilities from 0 to 1.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

Interval = tuple[float, float]

# for a normal sample, this times the MAD estimates the standard deviation
MAD_TO_SIGMA: Final = 1.4826
# up to here hypergeometric chances are counted in integers, beyond it in logarithms
COUNTED_POPULATION: Final = 1000
# what a sum of doubles may have gained; far below any difference that means something
ROUNDING: Final = 1e-9


def nearest_rank(sorted_values: Sequence[float], percent: float) -> float:
    """The smallest value that has at least ``percent`` of the values at or below it.

    The nearest-rank percentile (Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996,
    type 1): always one of the values, never something between two.

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


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones; the values may come in any order.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values to take a median of")
    ascending = sorted(values)
    middle = len(ascending) // 2
    if len(ascending) % 2:
        return ascending[middle]
    return (ascending[middle - 1] + ascending[middle]) / 2


def mad(values: Sequence[float]) -> float:
    """The median distance from the median, unscaled (Hampel, "The Influence Curve and Its Role",
    1974).

    Raises:
        ValueError: There are no values.
    """
    centre = median(values)
    return median([abs(value - centre) for value in values])


def wilson_interval(successes: int, trials: int, confidence: float) -> Interval:
    """An interval for a success rate that keeps its sense at 0% and 100% and for few trials.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927, without
    continuity correction. Without trials nothing is known, and it is (0, 1).

    Raises:
        ValueError: ``successes`` is not within ``trials``, or ``confidence`` is out of range.
    """
    check_confidence(confidence)
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    z = normal_quantile((1 + confidence) / 2)
    rate, weight = successes / trials, z * z / trials
    centre = (rate + weight / 2) / (1 + weight)
    reach = z * math.sqrt(rate * (1 - rate) / trials + weight / (4 * trials)) / (1 + weight)
    # At the ends the two terms are equal on paper; rounding must not turn "never" into "almost
    # never".
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == trials else min(1.0, centre + reach)
    return low, high


def hypergeometric_tail(least: int, population: int, successes: int, draws: int) -> float:
    """The chance of at least ``least`` successes in ``draws`` from a population without putting
    back: the one-sided p of Fisher's exact test ("The Logic of Inductive Inference", 1935).

    Johnson, Kemp and Kotz, "Univariate Discrete Distributions", 2005, chapter 6. Asks whether the 7
    failures among the 50 episodes of one task are more than that task's share of all failures.

    Args:
        least: How many successes were found among those drawn.
        population: How many there are in all.
        successes: How many of the population are successes.
        draws: How many of the population were drawn.

    Raises:
        ValueError: ``successes`` or ``draws`` is not within the population.
    """
    if not (0 <= successes <= population and 0 <= draws <= population):
        raise ValueError(
            f"{successes} successes and {draws} draws from a population of {population}"
        )
    lowest, highest = max(0, draws + successes - population), min(draws, successes)
    if least <= lowest:
        return 1.0
    if population <= COUNTED_POPULATION:
        failures = population - successes
        ways = sum(
            math.comb(successes, k) * math.comb(failures, draws - k)
            for k in range(least, highest + 1)
        )
        return ways / math.comb(population, draws)
    all_ways = _log_comb(population, draws)
    logs = (
        _log_comb(successes, k) + _log_comb(population - successes, draws - k)
        for k in range(least, highest + 1)
    )
    return min(1.0, math.fsum(math.exp(log - all_ways) for log in logs))


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def normal_tail(z: float) -> float:
    """The chance that a standard normal value exceeds ``z``."""
    return math.erfc(z / math.sqrt(2)) / 2


def normal_quantile(probability: float) -> float:
    """The ``z`` that a standard normal value stays below with this probability.

    Raises:
        ValueError: ``probability`` is not between 0 and 1.
    """
    return _quantile(probability, lambda z: normal_tail(-z), 40.0)


def _quantile(probability: float, below: Callable[[float], float], farthest: float) -> float:
    """Found by halving, which is exact to the last digits and needs no table of coefficients."""
    if not 0 < probability < 1:
        raise ValueError(f"a probability lies between 0 and 1, not at {probability}")
    low, high = -farthest, farthest
    while low < (middle := (low + high) / 2) < high:
        if below(middle) < probability:
            low = middle
        else:
            high = middle
    return middle


def student_tail(t: float, freedom: int) -> float:
    """The chance that a value of Student's distribution exceeds ``t``.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 26.7.3 and 26.7.4: a finite
    sum of cosines, exact but for rounding.

    Args:
        t: Where the tail begins.
        freedom: Degrees of freedom, one or more.

    Raises:
        ValueError: ``freedom`` is below one.
    """
    if freedom < 1:
        raise ValueError(f"one degree of freedom or more, not {freedom}")
    angle = math.atan2(abs(t), math.sqrt(freedom))
    cosine, term, total = math.cos(angle), 1.0, 0.0
    for power in range(freedom % 2, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    if freedom % 2:
        within = 2 / math.pi * (angle + math.sin(angle) * cosine * total)
    else:
        within = math.sin(angle) * total
    tail = max(0.0, (1 - within) / 2)
    return tail if t >= 0 else 1 - tail


def student_quantile(probability: float, freedom: int) -> float:
    """The ``t`` that a value of Student's distribution stays below with this probability.

    Raises:
        ValueError: ``probability`` is not between 0 and 1, or ``freedom`` is below one.
    """
    return _quantile(probability, lambda t: student_tail(-t, freedom), 1e9)


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless ``confidence`` lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
