"""Pictures of scenario rows, of their artifacts, and of one slice beside another."""

import itertools
import math
from collections.abc import Sequence

from tracecore.perf.show.charts.drawing import (
    GRID,
    INK,
    SERIES,
    SHOWN_GROUPS,
    SHOWN_STEPS,
    figure_with_axes,
    good_walls_s,
    is_long_tailed,
    largest_good_s,
    left_out,
    picture,
    set_log_scale,
    styled,
    time_unit,
)
from tracecore.perf.show.page import Picture
from tracecore.perf.show.report_data import Group, ReportData
from tracecore.stats import nearest_rank


def draw_distribution(data: ReportData) -> Picture:
    """For each scenario row, how many episodes took no longer than so long."""
    figure, (axes,) = figure_with_axes()
    largest_s = largest_good_s(data)
    scale, unit = time_unit(largest_s)
    for group, colour, marker, dash in styled(data.groups):
        if group.good_walls_s:
            x, y = _ecdf(group.good_walls_s)
            every = max(1, len(x) // 6)
            axes.plot(
                [value * scale for value in x], y, linestyle=dash, color=colour,
                drawstyle="steps-post", marker=marker, markersize=4,
                markevery=(group.number % every, every), label=group.label,
            )  # fmt: skip
    for percent in (50, 95):
        axes.axhline(percent, color=GRID, linewidth=0.9, linestyle=":")
    every_wall_s = good_walls_s(data)
    is_log = is_long_tailed(every_wall_s)
    if is_log:
        set_log_scale(axes.xaxis, every_wall_s[0] * scale * 0.9, largest_s * scale * 1.1)
    else:
        axes.set_xlim(left=0)
    axes.set(yticks=[0, 25, 50, 75, 95], ylim=(0, 101))
    axes.set(xlabel=f"wall clock, {unit}", ylabel="episodes no slower, %")
    logarithmic = " The horizontal axis is logarithmic." if is_log else ""
    return picture(
        figure,
        name="distribution",
        title="Distribution of latency",
        caption=(
            "For each scenario row, how many of its successful episodes took no longer than so"
            " long. Where a line crosses 50 % is the row's median, at 95 % its p95. A step is a"
            " second group of episodes; a long flat end is a tail." + logarithmic + left_out(data)
        ),
    )


def _ecdf(ascending: Sequence[float]) -> tuple[list[float], list[float]]:
    steps = min(len(ascending), SHOWN_STEPS)
    percents = [100 * (step + 1) / steps for step in range(steps)]
    x = [nearest_rank(ascending, percent) for percent in percents]
    return [x[0], *x], [0.0, *percents]


def draw_artifacts(data: ReportData) -> Picture:
    """The bytes of run artifacts, added up."""
    figure, (axes,) = figure_with_axes()
    rows = sorted(
        row for group in data.groups for row in zip(group.end_s, group.artifact_bytes, strict=True)
    )
    totals = list(itertools.accumulate((size for _, size in rows), initial=0))
    scale, unit = (1e-6, "MB") if totals[-1] >= 1e6 else (1e-3, "kB")
    step = math.ceil(len(rows) / SHOWN_STEPS)
    x = sorted({*range(0, len(totals), step), len(rows)})
    axes.plot(
        x, [totals[count] * scale for count in x], "-", color=SERIES[0], marker="o",
        markevery=max(1, len(x) // 12), markersize=3.4, label="artifacts written",
    )  # fmt: skip
    axes.plot(
        [0, len(rows)], [0, totals[-1] * scale], ":", color=INK, linewidth=1.2,
        label="if all were of average size",
    )  # fmt: skip
    axes.set(ylim=(0, None), xlim=(0, len(rows)))
    axes.set(xlabel="episodes, as they finished", ylabel=f"run artifacts, {unit}")
    return picture(
        figure,
        name="artifacts",
        title="Growth of run artifacts",
        caption=(
            "Bytes of run artifacts, added up. Where the line bends away from the dotted one,"
            " episodes write more, or less, than before."
        ),
    )


def draw_baseline(data: ReportData, baseline: ReportData) -> Picture:
    """Median and p95 of each scenario row, before and now."""
    figure, (axes,) = figure_with_axes()
    pairs = _pairs(data, baseline)
    longest_s = [nearest_rank(group.good_walls_s, 95) for pair in pairs for group in pair]
    scale, unit = time_unit(max(longest_s, default=0.0))
    for place, (new, old) in enumerate(pairs):
        for percent, shift, marker in ((50, -0.15, "o"), (95, 0.15, "s")):
            ends = [nearest_rank(group.good_walls_s, percent) * scale for group in (old, new)]
            before, now = (
                f"p{percent}, {which}" if place == 0 else None
                for which in ("baseline", "this slice")
            )
            axes.plot(ends, [place + shift] * 2, "-", color=GRID, linewidth=1)
            axes.plot(
                ends[0], place + shift, marker, markerfacecolor="none", color=INK, markersize=6,
                label=before,
            )  # fmt: skip
            axes.plot(ends[1], place + shift, marker, color=SERIES[0], markersize=5, label=now)
    axes.set_yticks(range(len(pairs)), [new.label for new, _ in pairs])
    axes.set(ylim=(len(pairs) - 0.5, -0.5), xlim=(0, None), xlabel=f"wall clock, {unit}")
    return picture(
        figure,
        name="baseline",
        title=f"Against baseline {baseline.archived.stamp}",
        caption=(
            "Median and p95 of each scenario row: hollow in the baseline, filled in this slice. It"
            " shows where to look and decides nothing: two runs of the same code differ as well."
        ),
    )


def _pairs(data: ReportData, baseline: ReportData) -> list[tuple[Group, Group]]:
    """The rows of which both slices have successful episodes, as far as there is room."""
    before = {(group.task_ref, group.agent): group for group in baseline.groups}
    pairs = [
        (group, old)
        for group in data.groups
        if (old := before.get((group.task_ref, group.agent)))
        and group.good_walls_s
        and old.good_walls_s
    ]
    return pairs[:SHOWN_GROUPS]
