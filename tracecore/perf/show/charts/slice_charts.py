"""The pictures of a slice that there is data for."""

from tracecore.perf.show.charts.by_row import draw_artifacts, draw_baseline, draw_distribution
from tracecore.perf.show.charts.drawing import STYLE
from tracecore.perf.show.charts.over_time import (
    draw_in_flight,
    draw_latency,
    draw_machine,
    draw_throughput,
)
from tracecore.perf.show.page import Picture
from tracecore.perf.show.report_data import ReportData


def draw_charts(data: ReportData, baseline: ReportData | None = None) -> list[Picture]:
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
    with mpl.rc_context(STYLE):
        pictures = [
            draw(data)
            for draw in (draw_latency, draw_distribution, draw_throughput, draw_in_flight)
        ]
        if data.samples:
            pictures.append(draw_machine(data.samples))
        pictures.append(draw_artifacts(data))
        if baseline and baseline.groups:
            pictures.append(draw_baseline(data, baseline))
    return pictures
