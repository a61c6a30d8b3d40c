"""Whether something grew over the course of a slice."""

import math
from array import array
from collections.abc import Iterable
from typing import Final

from tracecore.perf.findings.columns import LEFT_OUT, Columns
from tracecore.perf.findings.finding import Finding
from tracecore.perf.findings.trends import (
    BLOCKS,
    LEAST_PER_BLOCK,
    Trend,
    block_means,
    block_middles,
    boundaries,
    cut_into_blocks,
    middle,
    trend,
)
from tracecore.perf.host.noise import HostNoise
from tracecore.record import record
from tracecore.records import JsonObject

LEAST_FOR_A_TREND: Final = BLOCKS * LEAST_PER_BLOCK  # episodes
GROWTH_LEAST_BYTES: Final = 64  # of an artifact
MEMORY_LEAST_BYTES: Final = 4 << 20
HARNESS_LEAST_BYTES: Final = 64 << 20
HARNESS_BYTES_PER_EPISODE: Final = 1 << 10  # it keeps about a fifth of that


@record
class Course:
    """Which block of the slice's course each episode belongs to, once all workers were there."""

    blocks: "array[int]"
    # what started before this is left out: fewer workers shared the machine then
    steady_from: float

    def kept(self, columns: Columns, values: Iterable[float]) -> "array[float]":
        """The values, NaN where an episode began too early."""
        return array(
            "d",
            (
                value if start >= self.steady_from else LEFT_OUT
                for value, start in zip(values, columns.starts, strict=True)
            ),
        )


def chart_course(columns: Columns) -> Course | None:
    """Cut the slice into blocks by start time; None where it is too short for a trend."""
    if len(columns) < LEAST_FOR_A_TREND:
        return None
    # A worker that replaces a lost one begins late and is no part of the beginning.
    first_quarter, *_ = boundaries(columns.starts, 4)
    begins = [columns.starts[place] for place in columns.first_places.values()]
    steady_from = max((begin for begin in begins if begin <= first_quarter), default=0.0)
    steady = array("d", (start for start in columns.starts if start >= steady_from))
    return Course(cut_into_blocks(columns.starts, boundaries(steady, BLOCKS)), steady_from)


def late_drift(columns: Columns, course: Course | None) -> list[Finding] | None:
    """Whether episodes took longer and longer."""
    found = _middles_trend(columns, course, columns.walls_s)
    if found is None:
        return None
    if not found.is_rise_of_times:
        return []
    text = (
        f"Episodes at the end took {_percent(found.ratio)} longer than at the beginning, relative"
        " to their scenario's median."
    )
    return [Finding("late_drift", "warn", text, _evidence(found))]


def memory_growth(columns: Columns, course: Course | None, host: HostNoise) -> list[Finding] | None:
    """Whether episodes needed more and more memory, or the harness kept some of each."""
    sizes = array("d", (size or LEFT_OUT for size in columns.peak_rss_bytes))  # 0: not measured
    found = _middles_trend(columns, course, sizes)
    own = _harness_growth(columns, host)
    if found is None:
        return own or None
    median_bytes = middle(size for size in sizes if not math.isnan(size))
    if not found.is_rise or (found.ratio - 1) * median_bytes < MEMORY_LEAST_BYTES:
        return own
    text = (
        f"Episodes at the end needed {_percent(found.ratio)} more memory than at the beginning, at"
        " their highest."
    )
    return [
        *own,
        Finding("memory_growth", "warn", text, {**_evidence(found), "median_bytes": median_bytes}),
    ]


def _harness_growth(columns: Columns, host: HostNoise) -> list[Finding]:
    growth_bytes = host.harness_growth_bytes or 0
    if growth_bytes < max(HARNESS_LEAST_BYTES, HARNESS_BYTES_PER_EPISODE * len(columns)):
        return []
    text = f"The harness itself grew by {growth_bytes / 1e6:.3g} MB over {len(columns)} episodes."
    return [
        Finding(
            "memory_growth",
            "warn",
            text,
            {"harness_growth_bytes": growth_bytes, "episodes": len(columns)},
        )
    ]


def artifact_growth(columns: Columns, course: Course | None) -> list[Finding] | None:
    """Whether the bytes of artifacts grow faster than the episodes: an artifact's size is no matter
    of when it is made.
    """
    if course is None:
        return None
    relative = course.kept(columns, columns.relative(columns.artifact_bytes))
    found = trend(block_means(course.blocks, relative))
    if found is None:
        return None
    mean_bytes = sum(columns.artifact_bytes) / len(columns)
    if not found.is_rise or (found.ratio - 1) * mean_bytes < GROWTH_LEAST_BYTES:
        return []
    text = (
        f"Artifacts at the end are {_percent(found.ratio)} larger than at the beginning: their"
        " bytes grow faster than the number of episodes."
    )
    return [
        Finding(
            "artifact_growth_nonlinear",
            "warn",
            text,
            {**_evidence(found), "mean_bytes": mean_bytes},
        )
    ]


def _middles_trend(
    columns: Columns, course: Course | None, values: Iterable[float]
) -> Trend | None:
    if course is None:
        return None
    return trend(block_middles(course.blocks, course.kept(columns, columns.relative(values))))


def _evidence(found: Trend) -> JsonObject:
    return {
        "ratio": found.ratio,
        "slope_per_block": found.slope,
        "p": found.p,
        "p_corrected": found.p_corrected,
        "blocks": list(found.blocks),
    }


def _percent(ratio: float) -> str:
    return f"{ratio - 1:.0%}"
