"""How pictures are drawn: the same bytes for the same data and the same version of matplotlib.

To be read in light and in dark, in grey, and on a telephone: no background, colours of middle
brightness, every line with a dash and a marker of its own, letters as outlines. Needs matplotlib.
"""

import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from tracecore.perf.show.page import Picture
from tracecore.perf.show.report_data import ReportData

T = TypeVar("T")

INK: Final = "#757b84"  # as far from white as from black
GRID: Final = "#757b85"  # a shade apart, so that a page can give it a colour of its own
FAILURE: Final = "#d64545"
SERIES: Final = (
    *("#3b7dd8", "#c4720e", "#2a9160", "#9a63c9"),
    *("#c8527f", "#1690a8", "#97713d", "#6b7f2a"),
)
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "h", "*")
DASHES: Final[tuple[Any, ...]] = (
    *("-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2))),
)
SHOWN_GROUPS: Final = len(SERIES)
SHOWN_POINTS: Final = 1500  # of a scatter; beyond it, every k-th, and all failures
SHOWN_STEPS: Final = 300  # of a distribution
WIDTH_INCHES: Final = 5.0
HEIGHT_INCHES: Final = 2.9  # without the legend
LEGEND_ROW_INCHES: Final = 0.19
LEGEND_MARKER: Final = 6.0  # points: markers of a scatter are too small to be distinguished
LONG_TAIL: Final = 10.0  # times the median: beyond it a linear axis shows the tail alone

STYLE: Final[Any] = {
    "svg.hashsalt": "tracecore",
    "svg.fonttype": "path",
    "text.parse_math": False,  # what others have named may hold a dollar sign
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same outlines everywhere
    "font.size": 10,
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
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "path.simplify": False,
}


def figure_with_axes(rows: int = 1) -> tuple[Any, Any]:
    """A figure without a ground, and its axes from the top."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # the report extra

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]
    for one in axes:
        one.patch.set_alpha(0)
    return figure, axes


def picture(figure: Any, name: str, title: str, caption: str) -> Picture:
    """The figure with its legend, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415  # the report extra

    _add_legend(figure)
    buffer = io.BytesIO()
    # Without a date, and with ids made of the salt and the content, equal figures are equal bytes.
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None})
    return Picture(name, title, caption, buffer.getvalue().decode("utf-8"))


def _add_legend(figure: Any) -> None:
    handles = [
        pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    if not handles:
        return
    columns = 1 if max(len(label) for _, label in handles) > 28 else 2
    rows = math.ceil(len(handles) / columns)
    figure.set_size_inches(WIDTH_INCHES, HEIGHT_INCHES + LEGEND_ROW_INCHES * rows)
    legend = figure.legend(
        *zip(*handles, strict=True), loc="outside lower left", ncols=columns, handlelength=2.6
    )
    for handle in legend.legend_handles:
        if hasattr(handle, "set_markersize"):
            handle.set_markersize(max(handle.get_markersize(), LEGEND_MARKER))
            handle.set_alpha(1)


def plot_points(axes: Any, points: Sequence[tuple[float, float]], **style: Any) -> None:
    """Draw a line through points, which may be none."""
    axes.plot([x for x, _ in points], [y for _, y in points], **style)


def styled(rows: Iterable[T]) -> Iterator[tuple[T, str, str, Any]]:
    """The rows that are shown, each with its colour, marker and dash."""
    return zip(rows, SERIES, MARKERS, DASHES, strict=False)


def left_out(data: ReportData) -> str:
    """The sentence on rows that are not shown."""
    hidden = len(data.groups) - SHOWN_GROUPS
    shown = f" The first {SHOWN_GROUPS} rows are shown; the table has {hidden} more."
    return shown if hidden > 0 else ""


def is_long_tailed(ascending: Sequence[float]) -> bool:
    """Whether the largest value would press all others together on a linear axis."""
    middle = ascending[len(ascending) // 2] if ascending else 0.0
    return middle > 0 and ascending[-1] > LONG_TAIL * middle


def set_log_scale(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis from ``low`` to ``high`` with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    set_scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    set_scale("log")
    axis.set_view_interval(low, high, ignore=True)
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def good_walls_s(data: ReportData) -> list[float]:
    """Of all episodes that succeeded, ascending."""
    return sorted(itertools.chain.from_iterable(group.good_walls_s for group in data.groups))


def largest_good_s(data: ReportData) -> float:
    """The longest wall clock of a success, or of anything where nothing succeeded; never 0."""
    good = [group.good_walls_s[-1] for group in data.groups if group.good_walls_s]
    return max(good or [max(group.wall_s) for group in data.groups]) or 1e-9


def time_unit(largest_s: float) -> tuple[float, str]:
    """The factor from seconds to the unit of an axis, and that unit."""
    return (1.0, "s") if largest_s >= 1 else (1000.0, "ms")


def round_up(width: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if width <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))
