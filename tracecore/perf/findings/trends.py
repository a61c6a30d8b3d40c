"""Figures of a slice over its course: blocks of episodes in the order of their start, and whether
they rise.
"""

import itertools
import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from tracecore.ranks import kendall, theil_sen
from tracecore.record import record
from tracecore.stats import ROUNDING, nearest_rank, normal_quantile, normal_tail

BLOCKS: Final = 20
LEAST_PER_BLOCK: Final = 5
RISE_P: Final = 0.01
RISE_RATIO: Final = 1.10  # of the last quarter to the first
GROSS_RATIO: Final = 1.5  # which no host was seen to wander by within a slice
LAG_MOST: Final = 0.95


@record
class Trend:
    """How a figure changed from the first block to the last."""

    ratio: float  # of the middle of the last quarter of blocks to that of the first
    slope: float  # per block, of the logarithm
    p: float  # of a rise or fall, two-sided, were blocks independent of their neighbours
    p_corrected: float  # the same with what neighbouring blocks share taken into account
    blocks: tuple[float, ...]  # in the figure's own unit

    @property
    def is_rise(self) -> bool:
        """Whether it rises, beyond chance and by enough to matter."""
        return self.slope > 0 and self.p < RISE_P and self.ratio >= RISE_RATIO

    @property
    def is_rise_of_times(self) -> bool:
        """The same of times, which wander with the host: identical slices rose or fell by up to 29%
        from their first quarter to the last, five in ten of them with p below 0.01.
        """
        is_sure = self.p_corrected < RISE_P or self.ratio >= GROSS_RATIO
        return self.is_rise and is_sure


def trend(blocks: Sequence[float]) -> Trend | None:
    """The trend of positive block figures; None where fewer than four blocks have one."""
    if len(blocks) < 4 or min(blocks) <= 0:
        return None
    logs = [math.log(value) for value in blocks]
    places = list(range(len(logs)))
    quarter = len(logs) // 4
    ratio = math.exp(middle(logs[-quarter:]) - middle(logs[:quarter]))
    slope, p = theil_sen(places, logs), kendall(places, logs).p
    rest = [log - slope * place for place, log in zip(places, logs, strict=True)]
    z = -normal_quantile(p / 2) / math.sqrt(_inflation(rest))
    return Trend(ratio, slope, p, 2 * normal_tail(z), tuple(blocks))


def _inflation(rest: Sequence[float]) -> float:
    """By how much the variance of a trend's score grows where what is left beside the trend goes
    with its neighbour: Yue and Wang, "The Mann-Kendall Test Modified by Effective Sample Size",
    2004, with the bias of so short a series taken off.
    """
    count, mean = len(rest), math.fsum(rest) / len(rest)
    squares = math.fsum((value - mean) ** 2 for value in rest)
    if squares < ROUNDING:
        return 1.0
    products = ((one - mean) * (next_ - mean) for one, next_ in itertools.pairwise(rest))
    lag_one = math.fsum(products) / squares
    lag_one = min(LAG_MOST, max(0.0, lag_one + (1 + 4 * lag_one) / count))
    return (1 + lag_one) / (1 - lag_one)


def middle(values: Iterable[float]) -> float:
    """The nearest-rank median of at least one value.

    Raises:
        ValueError: There are no values.
    """
    return nearest_rank(sorted(values), 50)


def boundaries(values: Sequence[float], parts: int) -> list[float]:
    """What the first value of every part but the first is, when sorted values are cut into equal
    parts.
    """
    ordered, count = sorted(values), len(values)
    return [ordered[count * part // parts] for part in range(1, parts)] if ordered else []


def cut_into_blocks(starts: Iterable[float], edges: Sequence[float]) -> "array[int]":
    """The block, from 0, that each start belongs to."""
    return array("B", (bisect_right(edges, start) for start in starts))


def block_middles(blocks: Iterable[int], values: Iterable[float]) -> list[float]:
    """The median of every block that has enough values; NaN marks a value that is left out."""
    parts: list[list[float]] = [[] for _ in range(BLOCKS)]
    for block, value in zip(blocks, values, strict=True):
        if not math.isnan(value):
            parts[block].append(value)
    return [middle(part) for part in parts if len(part) >= LEAST_PER_BLOCK]


def block_means(blocks: Iterable[int], values: Iterable[float]) -> list[float]:
    """The mean of every block that has enough values."""
    sums, counts = [0.0] * BLOCKS, [0] * BLOCKS
    for block, value in zip(blocks, values, strict=True):
        if not math.isnan(value):
            sums[block] += value
            counts[block] += 1
    return [
        total / count for total, count in zip(sums, counts, strict=True) if count >= LEAST_PER_BLOCK
    ]


def count_distinct(values: Iterable[int]) -> int:
    """How many different integers there are."""
    return sum(1 for _ in itertools.groupby(sorted(values)))


def count_repeated(values: Iterable[int], least: int) -> dict[int, int]:
    """The integers that are there ``least`` times or more often, and how often."""
    counts = ((value, sum(1 for _ in same)) for value, same in itertools.groupby(sorted(values)))
    return {value: count for value, count in counts if count >= least}
