"""Whether something grew over the course of a slice."""

import itertools
import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tracecore.perf.findings.columns import (
    LEFT_OUT,
    Columns,
    Finding,
    boundaries,
    cut_into_blocks,
    middle,
)
from tracecore.perf.host.noise import HostNoise
from tracecore.ranks import kendall, theil_sen
from tracecore.record import as_dict, record
from tracecore.stats import ROUNDING, normal_quantile, normal_tail

Blocks = Sequence[int]  # the block of each episode
BlockFigure = Callable[[Sequence[float]], float]

BLOCKS: Final = 20
TOO_EARLY: Final = BLOCKS
LEAST_PER_BLOCK: Final = 5
RISE_P: Final = 0.01
RISE_RATIO: Final = 1.10  # of the last quarter to the first
GROSS_RATIO: Final = 1.5  # which no host was seen to wander by within a slice
LAG_MOST: Final = 0.95
LEAST_FOR_A_TREND: Final = BLOCKS * LEAST_PER_BLOCK  # episodes
GROWTH_LEAST_BYTES: Final = 64  # of an artifact
MEMORY_LEAST_BYTES: Final = 4 << 20
HARNESS_LEAST_BYTES: Final = 64 << 20
HARNESS_BYTES_PER_EPISODE: Final = 1 << 10  # it keeps about a fifth of that


@record
class Trend:
    """How a figure changed from the first block to the last."""

    ratio: float  # of the middle of the last quarter of blocks to that of the first
    slope_per_block: float  # of the logarithm
    p: float  # of a rise or fall, two-sided, were blocks independent of their neighbours
    p_corrected: float  # the same with what neighbouring blocks share taken into account
    blocks: tuple[float, ...]  # in the figure's own unit

    @property
    def is_rise(self) -> bool:
        """Whether it rises, beyond chance and by enough to matter."""
        return self.slope_per_block > 0 and self.p < RISE_P and self.ratio >= RISE_RATIO

    @property
    def is_rise_of_times(self) -> bool:
        """The same of times, which wander with the host: identical slices rose or fell by up to 29%
        from their first quarter to the last, five in ten of them with p below 0.01.
        """
        is_sure = self.p_corrected < RISE_P or self.ratio >= GROSS_RATIO
        return self.is_rise and is_sure


def chart_course(columns: Columns) -> "array[int] | None":
    """The block of the slice's course that each episode belongs to, by its start; None where the
    slice is too short for a trend.

    ``TOO_EARLY`` is that of episodes that began before all workers were there: fewer shared the
    machine then.
    """
    if len(columns) < LEAST_FOR_A_TREND:
        return None
    # A worker that replaces a lost one begins late and is no part of the beginning.
    first_quarter, *_ = boundaries(columns.starts, 4)
    begins = [columns.starts[place] for place in columns.first_places.values()]
    steady_from = max((begin for begin in begins if begin <= first_quarter), default=0.0)
    steady = array("d", (start for start in columns.starts if start >= steady_from))
    blocks = cut_into_blocks(columns.starts, boundaries(steady, BLOCKS))
    pairs = zip(columns.starts, blocks, strict=True)
    return array("B", (block if start >= steady_from else TOO_EARLY for start, block in pairs))


def late_drift(columns: Columns, course: Blocks | None) -> list[Finding] | None:
    """Whether episodes took longer and longer."""
    found = _trend_of(columns, course, columns.walls_s, middle)
    if found is None:
        return None
    if not found.is_rise_of_times:
        return []
    return [
        Finding(
            text=(
                f"Episodes at the end took {found.ratio - 1:.0%} longer than at the beginning,"
                " relative to their scenario's median."
            ),
            evidence=as_dict(found),
        )
    ]


def memory_growth(columns: Columns, course: Blocks | None, host: HostNoise) -> list[Finding] | None:
    """Whether episodes needed more and more memory, or the harness kept some of each."""
    sizes = array("d", (size or LEFT_OUT for size in columns.peak_rss_bytes))  # 0: not measured
    found = _trend_of(columns, course, sizes, middle)
    own = _harness_growth(columns, host)
    if found is None:
        return own or None
    median_bytes = middle(size for size in sizes if not math.isnan(size))
    if not found.is_rise or (found.ratio - 1) * median_bytes < MEMORY_LEAST_BYTES:
        return own
    return [
        *own,
        Finding(
            text=(
                f"Episodes at the end needed {found.ratio - 1:.0%} more memory than at the"
                " beginning, at their highest."
            ),
            evidence={**as_dict(found), "median_bytes": median_bytes},
        ),
    ]


def _harness_growth(columns: Columns, host: HostNoise) -> list[Finding]:
    growth_bytes = host.harness_growth_bytes or 0
    if growth_bytes < max(HARNESS_LEAST_BYTES, HARNESS_BYTES_PER_EPISODE * len(columns)):
        return []
    return [
        Finding(
            text=(
                f"The harness itself grew by {growth_bytes / 1e6:.3g} MB over {len(columns)}"
                " episodes."
            ),
            evidence={"harness_growth_bytes": growth_bytes, "episodes": len(columns)},
        )
    ]


def artifact_growth(columns: Columns, course: Blocks | None) -> list[Finding] | None:
    """Whether the bytes of artifacts grow faster than the episodes: an artifact's size is no matter
    of when it is made.
    """
    found = _trend_of(columns, course, columns.artifact_bytes, mean)
    if found is None:
        return None
    mean_bytes = mean(columns.artifact_bytes)
    if not found.is_rise or (found.ratio - 1) * mean_bytes < GROWTH_LEAST_BYTES:
        return []
    return [
        Finding(
            text=(
                f"Artifacts at the end are {found.ratio - 1:.0%} larger than at the beginning:"
                " their bytes grow faster than the number of episodes."
            ),
            evidence={**as_dict(found), "mean_bytes": mean_bytes},
        )
    ]


def _trend_of(
    columns: Columns, course: Blocks | None, values: Iterable[float], figure: BlockFigure
) -> Trend | None:
    if course is None:
        return None
    return trend(block_figures(course, columns.relative(values), figure))


# --- blocks of episodes in the order of their start, and whether they rise ---


def trend(blocks: Sequence[float]) -> Trend | None:
    """The trend of positive block figures; None where fewer than four blocks have one."""
    if len(blocks) < 4 or min(blocks) <= 0:
        return None
    logs = [math.log(value) for value in blocks]
    places = list(range(len(logs)))
    quarter = len(logs) // 4
    ratio = math.exp(middle(logs[-quarter:]) - middle(logs[:quarter]))
    slope, p = theil_sen(places, logs), kendall(places, logs)
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


def block_figures(blocks: Blocks, values: Iterable[float], figure: BlockFigure) -> list[float]:
    """The figure of every block that has enough values; NaN marks a value that is left out."""
    parts = [array("d") for _ in range(BLOCKS)]
    for block, value in zip(blocks, values, strict=True):
        if block != TOO_EARLY and not math.isnan(value):
            parts[block].append(value)
    return [figure(part) for part in parts if len(part) >= LEAST_PER_BLOCK]


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return sum(values) / len(values)
