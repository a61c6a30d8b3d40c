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
from tracecore.perf.show.charts.drawing import FAILURE, GRID, INK, SERIES
from tracecore.perf.show.charts.slice_charts import draw_charts
from tracecore.perf.show.html import inline_svg, write_html
from tracecore.perf.show.markdown import write_markdown
from tracecore.perf.show.report_data import gather
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


def report_names(stamp: str, charts: Sequence[str]) -> dict[str, str]:
    """The names of a report's files, by what they are."""
    names = {"report": f"perf-report-{stamp}.html", "markdown": f"perf-report-{stamp}.md"}
    return names | {f"chart_{name}": f"perf-report-{stamp}-{name}.svg" for name in charts}


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
    names = report_names(data.stamp, [picture.name for picture in pictures])
    if folder is None:
        folder = archived.folder
    else:
        check_writable(folder)
    paths = {kind: os.path.join(folder, name) for kind, name in names.items()}
    pictures = [replace(one, file=names[f"chart_{one.name}"]) for one in pictures]
    for picture in pictures:
        write_atomic(paths[f"chart_{picture.name}"], picture.svg.encode("utf-8"))
    documents = {"summary": archived.summary, "manifest": archived.manifest}
    page = report_page(data.stamp, documents, archived.metrics, pictures)
    write_atomic(paths["markdown"], write_markdown(page).encode("utf-8"))
    draw = functools.partial(inline_svg, colours=COLOURS)
    write_atomic(paths["report"], write_html(page, draw).encode("utf-8"))
    return paths


def _compared_with(archived: ArchivedSet) -> ArchivedSet | None:
    """The latest slice that this one was compared with, where it is still there."""
    comparison = archived.summary.get("comparison")
    base = comparison.get("base") if isinstance(comparison, dict) else None
    if not isinstance(base, list) or not base or not isinstance(base[-1], dict):
        return None
    try:
        return find_set(str(base[-1].get("path")), archived.folder)
    except InputError:
        return None
