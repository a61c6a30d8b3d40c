"""Pictures over the time of a slice: latency, throughput, episodes in flight, machine."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracecore.perf.show.charts.drawing import (
    FAILURE,
    INK,
    SERIES,
    SHOWN_POINTS,
    figure_with_axes,
    good_walls_s,
    is_long_tailed,
    largest_good_s,
    picture,
    plot_points,
    round_up,
    set_log_scale,
    styled,
    time_unit,
)
from tracecore.perf.show.page import Picture
from tracecore.perf.show.report_data import Group, ReportData
from tracecore.records import JsonObject
from tracecore.stats import median

TIME_AXIS: Final = "s after the start of the slice"
BLOCKS: Final = 20  # of the line of medians
BINS: Final = 40  # of the throughput
FLIGHT_BINS: Final = 200  # of the episodes in flight


def draw_latency(data: ReportData) -> Picture:
    """Each episode's wall clock over its start, and a line of medians."""
    figure, (axes,) = figure_with_axes()
    largest_s = largest_good_s(data)
    scale, unit = time_unit(largest_s)
    top = largest_s * scale * 1.06
    every = math.ceil(sum(len(group.wall_s) for group in data.groups) / SHOWN_POINTS)
    for group, colour, marker, _ in styled(data.groups):
        plot_points(
            *(axes, _runs([group], scale, failed=False)[::every]), marker=marker, linestyle="none",
            color=colour, markersize=2.8, markeredgewidth=0, alpha=0.55, label=group.label,
        )  # fmt: skip
    runs = _runs(data.groups, scale, failed=True)
    if runs:
        shown = [(start_s, min(wall, top * 0.985)) for start_s, wall in runs]
        plot_points(
            *(axes, shown[:: math.ceil(len(shown) / SHOWN_POINTS)]), marker="x", linestyle="none",
            color=FAILURE, markersize=5, markeredgewidth=1.4, label=f"failed ({len(runs)})",
        )  # fmt: skip
    middles = _block_medians(_runs(data.groups, scale, failed=False))
    if len(middles) > 1:
        plot_points(
            *(axes, middles), marker="o", color=INK, markersize=3.2, linewidth=1.8,
            label=f"median of {len(middles)} blocks",
        )  # fmt: skip
    good = good_walls_s(data)
    is_log = is_long_tailed(good)
    if is_log:
        set_log_scale(axes.yaxis, good[0] * scale * 0.9, top)
    else:
        axes.set_ylim(0, top)
    _mark_parts(axes, data)
    axes.set(xlim=(0, None), xlabel=TIME_AXIS, ylabel=f"wall clock, {unit}")
    thinned = f" One episode in {every} is shown, and every failure." if every > 1 else ""
    logarithmic = " The vertical axis is logarithmic." if is_log else ""
    return picture(
        figure,
        name="latency",
        title="Latency over start time",
        caption=(
            "A point is an episode: when it started, and how long it took. The line joins the"
            " medians of equally many episodes: where it climbs, the slice slowed down. Crosses"
            " are failures, at the upper edge if they took longer than any success."
            + logarithmic
            + thinned
        ),
    )


def _mark_parts(axes: Any, data: ReportData) -> None:
    """A line where a slice was resumed."""
    for place, at_s in enumerate(data.resumed_s):
        label = "resumed" if place == 0 else None
        axes.axvline(at_s, color=INK, linestyle=(0, (2, 3)), linewidth=1.1, label=label)


def _runs(groups: Iterable[Group], scale: float, *, failed: bool) -> list[tuple[float, float]]:
    """Start and scaled wall clock of the episodes that failed, or of those that did not."""
    return [
        (start_s, wall_s * scale)
        for group in groups
        for start_s, wall_s, has_failed in zip(
            group.start_s, group.wall_s, group.failed, strict=True
        )
        if has_failed == failed
    ]


def _block_medians(runs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of start and wall clock, over blocks of equally many episodes."""
    runs, blocks = sorted(runs), min(BLOCKS, len(runs) // 4)
    edges = [len(runs) * block // blocks for block in range(blocks + 1)] if blocks else []
    parts = [zip(*runs[low:high], strict=True) for low, high in itertools.pairwise(edges)]
    return [(median(starts_s), median(walls)) for starts_s, walls in parts]


def draw_throughput(data: ReportData) -> Picture:
    """Episodes that finished, per second."""
    figure, (axes,) = figure_with_axes()
    good_s, bad_s = (
        [
            end_s
            for group in data.groups
            for end_s, has_failed in zip(group.end_s, group.failed, strict=True)
            if has_failed == failed
        ]
        for failed in (False, True)
    )
    last_s = max(itertools.chain(good_s, bad_s))
    width_s = round_up(last_s / BINS)
    # What is left over at the end is part of the last full step: drawn by itself, a moment with few
    # episodes would look like a fall.
    edges = [*(width_s * place for place in range(max(1, int(last_s / width_s)))), last_s or 1.0]
    good_eps, bad_eps = (_rates(some, width_s, edges) for some in (good_s, bad_s))
    finished_eps = [good + bad for good, bad in zip(good_eps, bad_eps, strict=True)]
    # Without a baseline: a line down to zero at the end would look like a fall, too.
    axes.stairs(
        finished_eps, edges, baseline=None, color=SERIES[0], linewidth=1.6, label="finished"
    )
    if bad_s:
        axes.stairs(
            bad_eps, edges, fill=True, facecolor="none", edgecolor=FAILURE, hatch="////",
            label="of those, failed",
        )  # fmt: skip
    _mark_parts(axes, data)
    axes.set(ylim=(0, None), xlim=(0, edges[-1]), xlabel=TIME_AXIS, ylabel="episodes per s")
    return picture(
        figure,
        name="throughput",
        title="Throughput",
        caption=(
            f"Episodes that finished, per second, in steps of {width_s:g} s. It begins at zero,"
            " while the workers start. A sag while latency stays the same is the machine's; with"
            " rising latency, the episodes'."
        ),
    )


def _rates(ends_s: Sequence[float], width_s: float, edges: Sequence[float]) -> list[float]:
    counts = [0] * (len(edges) - 1)
    for end_s in ends_s:
        counts[min(int(end_s / width_s), len(counts) - 1)] += 1
    return [
        count / (high - low)
        for count, (low, high) in zip(counts, itertools.pairwise(edges), strict=True)
    ]


def draw_in_flight(data: ReportData) -> Picture:
    """How many episodes were running at a time."""
    figure, (axes,) = figure_with_axes()
    slots = data.archived.manifest["workers"]
    last_s = max(max(group.end_s) for group in data.groups) or 1.0
    width_s = last_s / FLIGHT_BINS
    edges = [width_s * place for place in range(FLIGHT_BINS + 1)]
    axes.stairs(
        _means_in_flight(data, width_s), edges, color=SERIES[0], fill=True, alpha=0.35,
        label="in flight, on average",
    )  # fmt: skip
    axes.axhline(slots, color=INK, linestyle="--", linewidth=1.2, label=f"asked for: {slots}")
    _mark_parts(axes, data)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(ylim=(0, None), xlim=(0, last_s), xlabel=TIME_AXIS, ylabel="episodes")
    return picture(
        figure,
        name="in-flight",
        title="Episodes in flight",
        caption=(
            "Episodes that were running at the same time. It should stay at the dashed line until"
            " too few episodes are left; a slow end is a few long episodes running alone."
        ),
    )


def _means_in_flight(data: ReportData, width_s: float) -> list[float]:
    """The mean number of running episodes in each step of the time of the slice."""
    busy_s = [0.0] * (FLIGHT_BINS + 1)
    for group in data.groups:
        for start_s, end_s in zip(group.start_s, group.end_s, strict=True):
            first, last = (min(int(max(at, 0) / width_s), FLIGHT_BINS) for at in (start_s, end_s))
            if first == last:
                busy_s[first] += end_s - start_s
                continue
            busy_s[first] += (first + 1) * width_s - start_s
            busy_s[last] += end_s - last * width_s
            for place in range(first + 1, last):
                busy_s[place] += width_s
    return [seconds / width_s for seconds in busy_s[:FLIGHT_BINS]]


def draw_machine(samples: JsonObject) -> Picture:
    """How busy the processors were, and how much memory was in use."""
    figure, (upper, lower) = figure_with_axes(rows=2)
    rows: list[JsonObject] = samples["samples"]
    _plot_samples(upper, rows, "cpu_percent", 1, color=SERIES[0], marker="o", label="all cores")
    _plot_cores(upper, rows)
    if any(row.get("steal_percent") for row in rows):
        _plot_samples(
            *(upper, rows, "steal_percent", 1), color=FAILURE, linestyle=":", marker="x",
            label="taken by the host",
        )  # fmt: skip
    _plot_samples(
        *(lower, rows, "tree_rss_bytes", 1e-6), color=SERIES[2], linestyle="--", marker="^",
        label="resident memory",
    )  # fmt: skip
    upper.set(xlim=(0, None), ylim=(0, 104), ylabel="CPU, %")
    lower.set(xlim=(0, None), ylim=(0, None), ylabel="memory, MB", xlabel=TIME_AXIS)
    why = "" if samples.get("available") else f" No CPU figures: {samples.get('trouble')}."
    return picture(
        figure,
        name="machine",
        title="Processors and memory",
        caption=(
            "Above, how busy the processors were; the band reaches from the idlest core to the"
            " busiest. Below, the resident memory of the harness and all its processes: pages that"
            " several of them share count for each. Memory that climbs is a leak." + why
        ),
    )


def _plot_samples(
    axes: Any, rows: Sequence[JsonObject], name: str, scale: float, **style: Any
) -> None:
    known = [(row["offset_s"], row[name] * scale) for row in rows if row.get(name) is not None]
    if known:
        plot_points(axes, known, markersize=3, markevery=max(1, len(known) // 20), **style)


def _plot_cores(axes: Any, rows: Sequence[JsonObject]) -> None:
    known = [
        (row["offset_s"], cores)
        for row in rows
        if (cores := row.get("cpu_percent_per_core")) and None not in cores
    ]
    if known:
        x = [offset_s for offset_s, _ in known]
        low, high = [min(cores) for _, cores in known], [max(cores) for _, cores in known]
        axes.fill_between(
            *(x, low, high), color=SERIES[0], alpha=0.22, linewidth=0,
            label="idlest to busiest core",
        )  # fmt: skip
