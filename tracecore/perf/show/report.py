"""The report of a slice: pictures, a page for a browser, and a page for a code host. Needs
matplotlib.

Everything on the pages is read from the perf files, so that a report can be made again, later and
elsewhere, and comes out the same.
"""

import os
from collections.abc import Sequence

from tracecore.errors import InputError
from tracecore.files import write_atomic
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.documents.files import check_writable
from tracecore.perf.show.charts.by_row import draw_artifacts, draw_baseline, draw_distribution
from tracecore.perf.show.charts.drawing import STYLE
from tracecore.perf.show.charts.over_time import (
    draw_in_flight,
    draw_latency,
    draw_machine,
    draw_throughput,
)
from tracecore.perf.show.html import write_html
from tracecore.perf.show.markdown import write_markdown
from tracecore.perf.show.page import Page, Picture
from tracecore.perf.show.report_data import ReportData, gather
from tracecore.perf.show.slice_page import report_page
from tracecore.record import replace


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
    name = f"perf-report-{archived.stamp}"
    if folder is not None:
        check_writable(folder)
    pictures = [replace(one, file=f"{name}-{one.name}.svg") for one in pictures]
    return write_page(
        report_page(archived, pictures), pictures, os.path.join(folder or archived.folder, name)
    )


def write_page(page: Page, pictures: Sequence[Picture], path: str) -> dict[str, str]:
    """Write a page as ``<path>.html`` and ``<path>.md``, and its pictures beside them; their paths,
    by what they are.
    """
    texts = {
        "report": (f"{path}.html", write_html(page)),
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
        return [
            draw_latency(data),
            draw_distribution(data),
            draw_throughput(data),
            draw_in_flight(data),
            *([draw_machine(data.samples)] if data.samples else []),
            draw_artifacts(data),
            *([draw_baseline(data, baseline)] if baseline and baseline.groups else []),
        ]
