"""The report of a slice: pictures, a page for a browser, and a page for a code host. Needs
matplotlib.

Everything on the pages is read from the perf files, so that a report can be made again, later and
elsewhere, and comes out the same.
"""

import functools
import os
from collections.abc import Sequence
from typing import Final

from tracecore.errors import InputError
from tracecore.files import write_atomic
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.documents.files import check_writable
from tracecore.perf.show.charts.by_row import draw_artifacts, draw_baseline, draw_distribution
from tracecore.perf.show.charts.drawing import FAILURE, GRID, INK, SERIES, STYLE
from tracecore.perf.show.charts.over_time import (
    draw_in_flight,
    draw_latency,
    draw_machine,
    draw_throughput,
)
from tracecore.perf.show.html import inline_svg, write_html
from tracecore.perf.show.markdown import write_markdown
from tracecore.perf.show.page import Page, Picture
from tracecore.perf.show.report_data import ReportData, gather
from tracecore.perf.show.slice_page import report_page
from tracecore.record import replace

# In the page's own dark and light, lines may be further from the ground than colours that must do
# for both.
COLOURS: Final = {
    INK: "ink",
    GRID: "grid",
    FAILURE: "bad",
    **{colour: f"s{place}" for place, colour in enumerate(SERIES, 1)},
}


def find_set(given: str, output_dir: str) -> ArchivedSet:
    """The one set that is meant by a stamp in ``output_dir``, or by a path.

    Raises:
        InputError: There is none, or several.
    """
    beside = os.path.join(output_dir, f"perf-summary-{given}.json")
    zipped = os.path.join(output_dir, f"perf-artifacts-{given}.zip")
    is_stamp = given.replace("-", "").replace("_", "").isalnum()
    path = next((path for path in (beside, zipped) if is_stamp and os.path.exists(path)), given)
    sets = read_sets(path)
    if len(sets) > 1:
        raise InputError(path, "", f"{len(sets)} slices", "one slice: name its summary or its zip")
    return sets[0]


def write_report(
    archived: ArchivedSet, folder: str | None = None, baseline: ArchivedSet | None = None
) -> dict[str, str]:
    """Write the report of a slice.

    Args:
        archived: The slice.
        folder: Where to; None for where the slice lies.
        baseline: A slice to draw it against; None for the one that it was compared with.

    Returns:
        The paths, by what they are.

    Raises:
        InputError: The slice's files cannot be trusted, or ``folder`` cannot be made.
        OutputError: A file could not be written.
    """
    data = gather(archived)
    baseline = baseline or _compared_with(archived)
    pictures = draw_charts(data, gather(baseline) if baseline else None)
    if folder is None:
        folder = archived.folder
    else:
        check_writable(folder)
    name = f"perf-report-{archived.stamp}"
    pictures = [replace(one, file=f"{name}-{one.name}.svg") for one in pictures]
    documents = {"summary": archived.summary, "manifest": archived.manifest}
    page = report_page(archived.stamp, documents, archived.metrics, pictures)
    return write_page(page, pictures, os.path.join(folder, name))


def write_page(page: Page, pictures: Sequence[Picture], path: str) -> dict[str, str]:
    """Write a page as ``<path>.html`` and ``<path>.md``, and its pictures beside them; their paths,
    by what they are.
    """
    html = write_html(page, functools.partial(inline_svg, colours=COLOURS))
    texts = {
        "report": (f"{path}.html", html),
        "markdown": (f"{path}.md", write_markdown(page)),
        **{
            f"chart_{one.name}": (os.path.join(os.path.dirname(path), one.file), one.svg)
            for one in pictures
        },
    }
    for file, text in texts.values():
        write_atomic(file, text.encode("utf-8", "backslashreplace"))
    return {kind: file for kind, (file, _) in texts.items()}


def _compared_with(archived: ArchivedSet) -> ArchivedSet | None:
    """The latest slice that this one was compared with, where it is still there."""
    try:
        return find_set(str(archived.summary["comparison"]["base"][-1]["path"]), archived.folder)
    except (InputError, LookupError, TypeError):  # of another form, or there was no comparison
        return None


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
