"""The pictures of a slice, as SVG: the same bytes for the same data and the same version of
matplotlib.

Drawn to be read in light and in dark, in grey, and on a telephone: no background, colours of middle
    brightness, every
line with a dash and a marker of its own, letters as outlines. Needs the ``report`` extra.
"""

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tracecore.perf.show.report_data import Group, ReportData
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.stats import median, nearest_rank

INK: Final = "#757b84"  # as far from white as from black
GRID: Final = "#757b85"  # a shade apart, so that a page can give it a colour of its own
FAILURE: Final = "#d64545"
SERIES: Final = (
    "#3b7dd8",
    "#c4720e",
    "#2a9160",
    "#9a63c9",
    "#c8527f",
    "#1690a8",
    "#97713d",
    "#6b7f2a",
)
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "h", "*")
DASHES: Final[tuple[Any, ...]] = (
    "-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)),
)  # fmt: skip
SHOWN_GROUPS: Final = len(SERIES)
SHOWN_POINTS: Final = 1500  # of a scatter; beyond it, every k-th, and all failures
SHOWN_STEPS: Final = 300  # of a distribution
BLOCKS: Final = 20
BINS: Final = 40
SIZE_INCHES: Final = (5.6, 3.1)

STYLE: Final[Any] = {
    "svg.hashsalt": "tracecore",
    "svg.fonttype": "path",
    "text.parse_math": False,  # what others have named may hold a dollar sign
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same outlines everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.alpha": 0.28,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "path.simplify": False,
}


@record
class Chart:
    """One picture."""

    name: str  # part of its file's name
    title: str
    caption: str  # what is drawn, and how to read it
    svg: str


def draw_charts(data: ReportData, baseline: ReportData | None = None) -> list[Chart]:
    """Every picture that there is data for.

    Args:
        data: The slice.
        baseline: Another one to show it against.

    Raises:
        ImportError: matplotlib is missing.
    """
    import matplotlib as mpl  # noqa: PLC0415  # the report extra

    if not data.groups:
        return []
    charts: list[Chart] = []
    with mpl.rc_context(STYLE):
        if data.has_times:
            charts.append(_latency(data))
        charts.append(_distribution(data))
        if data.has_times:
            charts.append(_throughput(data))
        if data.samples:
            charts.append(_machine(data.samples))
        charts.append(_artifacts(data))
        if baseline and baseline.groups:
            charts.append(_against(data, baseline))
    return charts


# --- the pictures ----------------------------------------------------------------------------------------------------


def _latency(data: ReportData) -> Chart:
    figure, (axes,) = _figure()
    scale, unit = _unit(_largest_good(data))
    total = sum(len(group.wall_s) for group in data.groups)
    every = math.ceil(total / SHOWN_POINTS)
    for group, colour, marker, _ in _styled(data.groups):
        x = [
            start for start, failed in zip(group.start_s, group.failed, strict=True) if not failed
        ][::every]
        y = [
            wall * scale
            for wall, failed in zip(group.wall_s, group.failed, strict=True)
            if not failed
        ][::every]
        axes.plot(
            x,
            y,
            marker,
            color=colour,
            markersize=2.6,
            markeredgewidth=0,
            alpha=0.55,
            label=group.label,
        )
    top = _largest_good(data) * scale * 1.06
    _mark_failures(axes, data, scale, top)
    x, y = _block_medians(data)
    if len(x) > 1:
        median_y = [value * scale for value in y]
        axes.plot(
            x,
            median_y,
            "-",
            color=INK,
            marker="o",
            markersize=3.2,
            linewidth=1.8,
            label=f"median of {len(x)} blocks",
        )
    axes.set_ylim(0, top)
    axes.set_xlim(left=0)
    axes.set_xlabel("start of the episode, s after the start of the slice")
    axes.set_ylabel(f"wall clock, {unit}")
    _legend(figure)
    thinned = f" Every {every}th episode is shown, and every failure." if every > 1 else ""
    caption = (
        "Each episode's wall clock over the time at which it started. The line joins medians of"
        " equally many episodes that succeeded; failures are crosses, at the upper edge where they"
        " took longer than any success." + thinned
    )
    return Chart("latency", "Latency over start time", caption, _svg(figure))


def _mark_failures(axes: Any, data: ReportData, scale: float, top: float) -> None:
    x: list[float] = []
    y: list[float] = []
    for group in data.groups:
        for start_s, wall_s, failed in zip(group.start_s, group.wall_s, group.failed, strict=True):
            if failed:
                x.append(start_s)
                y.append(min(wall_s * scale, top * 0.985))
    if x:
        every = math.ceil(len(x) / SHOWN_POINTS)
        axes.plot(
            x[::every],
            y[::every],
            "x",
            color=FAILURE,
            markersize=5,
            markeredgewidth=1.4,
            label=f"failed ({len(x)})",
        )


def _block_medians(data: ReportData) -> tuple[list[float], list[float]]:
    rows = sorted(
        (start_s, wall_s)
        for group in data.groups
        for start_s, wall_s, failed in zip(group.start_s, group.wall_s, group.failed, strict=True)
        if not failed
    )
    blocks = min(BLOCKS, len(rows) // 4)
    edges = [len(rows) * block // blocks for block in range(blocks + 1)] if blocks else []
    parts = [rows[low:high] for low, high in itertools.pairwise(edges)]
    return [median([row[0] for row in part]) for part in parts], [
        median([row[1] for row in part]) for part in parts
    ]


def _distribution(data: ReportData) -> Chart:
    figure, (axes,) = _figure()
    scale, unit = _unit(_largest_good(data))
    for group, colour, marker, dash in _styled(data.groups):
        walls = group.good_walls_s()
        if walls:
            x, y = _ecdf(walls)
            every = max(1, len(x) // 6)
            axes.plot(
                [value * scale for value in x], y, linestyle=dash, color=colour, drawstyle="steps-post", marker=marker,
                markersize=4, markevery=(group.number % every if every > 1 else 0, every), label=group.label,
            )  # fmt: skip
    axes.axhline(50, color=GRID, linewidth=0.9, linestyle=":")
    axes.axhline(95, color=GRID, linewidth=0.9, linestyle=":")
    axes.set_yticks([0, 25, 50, 75, 95])
    axes.set_ylim(0, 101)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"wall clock, {unit}")
    axes.set_ylabel("episodes no slower, %")
    _legend(figure)
    caption = (
        "Of the episodes that succeeded, how many took no longer than so long, for each scenario"
        " row. Where a line crosses 50 % is the row's median, at 95 % its p95; a flat piece"
        " followed by a step is a second mode." + _left_out(data)
    )
    return Chart("distribution", "Distribution of latency", caption, _svg(figure))


def _ecdf(ascending: Sequence[float]) -> tuple[list[float], list[float]]:
    steps = min(len(ascending), SHOWN_STEPS)
    percents = [100 * (step + 1) / steps for step in range(steps)]
    x = [nearest_rank(ascending, percent) for percent in percents]
    return [x[0], *x], [0.0, *percents]


def _throughput(data: ReportData) -> Chart:
    figure, (axes,) = _figure()
    good = [
        end
        for group in data.groups
        for end, failed in zip(group.end_s, group.failed, strict=True)
        if not failed
    ]
    bad = [
        end
        for group in data.groups
        for end, failed in zip(group.end_s, group.failed, strict=True)
        if failed
    ]
    last_s = max([*good, *bad])
    width_s = _nice(last_s / BINS)
    # The last step ends with the slice, and is no shorter than half of the others: a rate of a
    # moment means nothing.
    edges = [*(width_s * place for place in range(max(1, round(last_s / width_s)))), last_s or 1.0]
    good_eps, bad_eps = (_rates(ends, width_s, edges) for ends in (good, bad))
    axes.stairs(
        [a + b for a, b in zip(good_eps, bad_eps, strict=True)],
        edges,
        color=SERIES[0],
        linewidth=1.6,
        label="finished",
    )
    if bad:
        axes.stairs(
            bad_eps,
            edges,
            fill=True,
            facecolor="none",
            edgecolor=FAILURE,
            hatch="////",
            label="of those, failed",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, edges[-1])
    axes.set_xlabel("s after the start of the slice")
    axes.set_ylabel("episodes per s")
    _legend(figure)
    caption = (
        f"Episodes that finished, per second, in steps of {width_s:g} s. It begins at zero, while"
        " the first workers start."
    )
    return Chart("throughput", "Throughput", caption, _svg(figure))


def _rates(ends_s: Sequence[float], width_s: float, edges: Sequence[float]) -> list[float]:
    counts = [0] * (len(edges) - 1)
    for end_s in ends_s:
        counts[min(int(end_s / width_s), len(counts) - 1)] += 1
    return [
        count / (high - low)
        for count, (low, high) in zip(counts, itertools.pairwise(edges), strict=True)
    ]


def _machine(samples: JsonObject) -> Chart:
    figure, (upper, lower) = _figure(rows=2)
    rows: list[JsonObject] = samples["samples"]
    _plot_samples(
        upper, rows, "cpu_percent", 1, color=SERIES[0], linestyle="-", marker="o", label="all cores"
    )
    _plot_cores(upper, rows)
    if any(row.get("steal_percent") for row in rows):
        _plot_samples(
            upper,
            rows,
            "steal_percent",
            1,
            color=FAILURE,
            linestyle=":",
            marker="x",
            label="stolen by the host",
        )
    upper.set_ylim(0, 104)
    upper.set_ylabel("CPU, %")
    _plot_samples(
        lower,
        rows,
        "tree_rss_bytes",
        1e-6,
        color=SERIES[2],
        linestyle="--",
        marker="^",
        label="resident memory",
    )
    lower.set_ylim(bottom=0)
    lower.set_ylabel("memory, MB")
    lower.set_xlabel("s after the start of the slice")
    for axes in (upper, lower):
        axes.set_xlim(left=0)
    _legend(figure)
    why = "" if samples.get("available") else f" No CPU figures: {samples.get('trouble')}."
    caption = (
        "Above, how busy the processors were, the band from the idlest core to the busiest. Below,"
        " the resident memory of the harness and everything under it, pages that several share"
        " counted for each." + why
    )
    return Chart("machine", "Processors and memory", caption, _svg(figure))


def _plot_samples(
    axes: Any, rows: Sequence[JsonObject], name: str, scale: float, **style: Any
) -> None:
    known = [(row["offset_s"], row[name] * scale) for row in rows if row.get(name) is not None]
    if known:
        x, y = zip(*known, strict=True)
        axes.plot(x, y, markersize=3, markevery=max(1, len(x) // 20), **style)


def _plot_cores(axes: Any, rows: Sequence[JsonObject]) -> None:
    known = [
        (row["offset_s"], row["cpu_percent_per_core"])
        for row in rows
        if row.get("cpu_percent_per_core")
    ]
    known = [(offset_s, cores) for offset_s, cores in known if None not in cores]
    if known:
        x = [offset_s for offset_s, _ in known]
        low, high = [min(cores) for _, cores in known], [max(cores) for _, cores in known]
        axes.fill_between(
            x, low, high, color=SERIES[0], alpha=0.22, linewidth=0, label="idlest to busiest core"
        )


def _artifacts(data: ReportData) -> Chart:
    figure, (axes,) = _figure()
    rows = sorted(
        row for group in data.groups for row in zip(group.end_s, group.artifact_bytes, strict=True)
    )  # without times the order is by size within a group, and only the ends are true
    sizes = [size for _, size in rows]
    total = sum(sizes)
    scale, unit = (1e-6, "MB") if total >= 1e6 else (1e-3, "kB")
    step = math.ceil(len(sizes) / SHOWN_STEPS)
    x, y, so_far = [0], [0.0], 0
    for count, size in enumerate(sizes, 1):
        so_far += size
        if count % step == 0 or count == len(sizes):
            x.append(count)
            y.append(so_far * scale)
    axes.plot(
        x,
        y,
        "-",
        color=SERIES[0],
        marker="o",
        markevery=max(1, len(x) // 12),
        markersize=3.4,
        label="artifacts written",
    )
    axes.plot(
        [0, len(sizes)],
        [0, total * scale],
        ":",
        color=INK,
        linewidth=1.2,
        label="if all were of average size",
    )
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, len(sizes))
    axes.set_xlabel("episodes, as they finished")
    axes.set_ylabel(f"run artifacts, {unit}")
    _legend(figure)
    caption = (
        "Bytes of run artifacts, added up. Where the line bends away from the dotted one, episodes"
        " leave more, or less, than before."
    )
    return Chart("artifacts", "Growth of run artifacts", caption, _svg(figure))


def _against(data: ReportData, baseline: ReportData) -> Chart:
    figure, (axes,) = _figure()
    before = {(group.task_ref, group.agent): group for group in baseline.groups}
    pairs = [
        (group, before[group.task_ref, group.agent])
        for group in data.groups
        if (group.task_ref, group.agent) in before
    ]
    pairs = [(new, old) for new, old in pairs if new.good_walls_s() and old.good_walls_s()][
        :SHOWN_GROUPS
    ]
    largest_s = max(
        (nearest_rank(group.good_walls_s(), 95) for pair in pairs for group in pair), default=0.0
    )
    scale, unit = _unit(largest_s)
    for place, (new, old) in enumerate(pairs):
        for percent, shift, marker in ((50, -0.15, "o"), (95, 0.15, "s")):
            ends = [nearest_rank(group.good_walls_s(), percent) * scale for group in (old, new)]
            axes.plot(ends, [place + shift] * 2, "-", color=GRID, linewidth=1)
            first = place == 0
            axes.plot(
                ends[0], place + shift, marker, markerfacecolor="none", color=INK, markersize=6,
                label=f"p{percent}, baseline" if first else None,
            )  # fmt: skip
            axes.plot(
                ends[1],
                place + shift,
                marker,
                color=SERIES[0],
                markersize=5,
                label=f"p{percent}, this slice" if first else None,
            )
    axes.set_yticks(range(len(pairs)), [new.label for new, _ in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"wall clock, {unit}")
    _legend(figure)
    caption = (
        "Median and p95 of each scenario row, hollow in the baseline and filled in this slice. One"
        " slice against one other shows where to look; it decides nothing, since two runs of the"
        " same code differ as well."
    )
    return Chart("baseline", f"Against baseline {baseline.stamp}", caption, _svg(figure))


# --- what they share -------------------------------------------------------------------------------------------------


def _figure(rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415  # the report extra

    figure = Figure(
        figsize=SIZE_INCHES if rows == 1 else (SIZE_INCHES[0], 3.6), layout="constrained"
    )
    figure.patch.set_alpha(0)
    axes = figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]
    for one in axes:
        one.patch.set_alpha(0)
    return figure, axes


def _legend(figure: Any) -> None:
    handles = [
        pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    if handles:
        columns = 1 if max(len(label) for _, label in handles) > 34 else 2
        figure.legend(
            *zip(*handles, strict=True), loc="outside lower left", ncols=columns, handlelength=2.6
        )


def _svg(figure: Any) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415  # the report extra

    buffer = io.BytesIO()
    # Without a date, and with ids made of the salt and the content, equal figures are equal bytes.
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue().decode("utf-8")


def _styled(groups: Sequence[Group]) -> Iterator[tuple[Group, str, str, Any]]:
    yield from zip(groups, SERIES, MARKERS, DASHES, strict=False)


def _left_out(data: ReportData) -> str:
    hidden = len(data.groups) - SHOWN_GROUPS
    return (
        f" The first {SHOWN_GROUPS} rows are shown, {hidden} more are in the table."
        if hidden > 0
        else ""
    )


def _largest_good(data: ReportData) -> float:
    """The longest wall clock of a success, or of anything where nothing succeeded; never 0."""
    good = [walls_s[-1] for group in data.groups if (walls_s := group.good_walls_s())]
    return max(good or [max(group.wall_s) for group in data.groups]) or 1e-9


def _unit(largest_s: float) -> tuple[float, str]:
    return (1.0, "s") if largest_s >= 1 else (1000.0, "ms")


def _nice(width: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))
