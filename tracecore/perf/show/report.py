"""The report of a slice: pictures, a page for a browser, and a page for a code host. Needs the
``report`` extra.

Everything on the pages is read from the perf files, so that a report can be made again, later and
elsewhere, and comes out the same. Text that agents and tasks have had a hand in is escaped wherever
it stands.
"""

import importlib.util
import json
import os
import re
from collections.abc import Sequence
from typing import Any, Final

from tracecore.errors import InputError, OptionError, one_line
from tracecore.files import write_atomic
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.documents.files import check_writable
from tracecore.perf.judge.verdicts import Answer, answer_of
from tracecore.perf.show.charts import FAILURE, GRID, INK, SERIES, Chart, draw_charts
from tracecore.perf.show.report_data import ReportData, gather, host_facts_shown
from tracecore.perf.show.report_markdown import markdown_page
from tracecore.units import NONE_TEXT, Unit, figure_text

TEMPLATE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "report.html.j2")
EXTRAS: Final = ("matplotlib", "jinja2")

# What a page may do: show itself. Whatever slips through every escape can neither run nor load nor
# send anything.
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action"
    " 'none'"
)

# In the page's own dark and light, lines may be further from the ground than colours that must do
# for both.
COLOURS: Final = {
    INK: "ink",
    GRID: "grid",
    FAILURE: "bad",
    **{colour: f"s{place}" for place, colour in enumerate(SERIES, 1)},
}


def check_extra(option: str) -> None:
    """Find out before anything runs whether reports can be made.

    Raises:
        OptionError: What they need is not installed.
    """
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        expected = "the report extra: pip install 'tracecore[report]'"
        raise OptionError(option, "", f"no {' and no '.join(missing)}", expected)


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
    """Write the report of a slice into ``folder``, or where the slice lies; gives the paths, by
    what they are.

    Raises:
        InputError: The slice's files cannot be trusted, or ``folder`` cannot be made.
        OutputError: A file could not be written.
    """
    data = gather(archived)
    charts = draw_charts(data, gather(baseline) if baseline else None)
    names = report_names(data.stamp, [chart.name for chart in charts])
    if folder is None:
        folder = archived.folder
    else:
        check_writable(folder)
    paths = {kind: os.path.join(folder, name) for kind, name in names.items()}
    for chart in charts:
        write_atomic(paths[f"chart_{chart.name}"], chart.svg.encode("utf-8"))
    answer = answer_of(data.archived.summary)
    pictures = [(chart, names[f"chart_{chart.name}"]) for chart in charts]
    write_atomic(paths["markdown"], markdown_page(data, answer, pictures).encode("utf-8"))
    write_atomic(paths["report"], html_page(data, answer, charts).encode("utf-8"))
    return paths


# --- the page for a browser ------------------------------------------------------------------------------------------


def html_page(data: ReportData, answer: Answer, charts: Sequence[Chart]) -> str:
    """The page: one file that loads nothing and runs nothing."""
    import jinja2  # noqa: PLC0415  # the report extra
    from markupsafe import Markup  # noqa: PLC0415  # comes with Jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with open(TEMPLATE, encoding="utf-8") as file:
        template = environment.from_string(file.read())
    figures = Figures(data)
    return template.render(
        data=data,
        stamp=data.stamp,
        summary=data.archived.summary,
        manifest=data.archived.manifest,
        host=host_facts_shown(data.archived.manifest),
        metrics=data.archived.metrics,
        answer=answer,
        charts=[(chart, Markup(inline_svg(chart))) for chart in charts],  # noqa: S704  # drawn here, of outlines and numbers
        figure=figures.figure,
        swatches=[f"var(--s{place})" for place in range(1, len(SERIES) + 1)],
        policy=POLICY,
    )


def _printable(value: Any) -> Any:
    """What the template is about to write: text without characters that move or reorder what stands
    around them.
    """
    return one_line(value) if type(value) is str else value


class Figures:
    """Numbers for the page, each with the place that it was read from and its exact value beside
    what is shown.
    """

    def __init__(self, data: ReportData) -> None:
        self._documents = {
            "summary": data.archived.summary,
            "metrics": data.archived.metrics,
            "manifest": data.archived.manifest,
            "series": [group.figures() for group in data.groups],
        }

    def figure(self, kind: Unit, *path: str | int) -> Any:
        """The number at ``path``, such as ``"summary", "summary", "total"``, as markup; a dash for
        null.

        ``kind`` is one of count, seconds, duration, bytes, percent, rate and number.
        """
        from markupsafe import Markup  # noqa: PLC0415  # comes with Jinja2

        value: Any = self._documents
        for step in path:
            value = _step(value, step)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Markup('<span class="none" title="not known">{}</span>').format(NONE_TEXT)
        return Markup('<data value="{}" data-path="{}">{}</data>').format(
            json.dumps(value), json.dumps(path), figure_text(kind, value)
        )


def _step(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def inline_svg(chart: Chart) -> str:
    """The picture as part of a page: without what only a file of its own needs, ids of its own, the
    page's colours.
    """
    svg = chart.svg[chart.svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\bid=\"", f'id="{chart.name}-', svg)
    svg = re.sub(r"(xlink:href=\"#|url\(#)", rf"\g<1>{chart.name}-", svg)
    for colour, name in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    # The view box alone gives the proportions; the page gives the width.
    svg = re.sub(r"<svg ([^>]*?)\b(?:width|height)=\"[^\"]*\" ?", r"<svg \1", svg, count=1)
    svg = re.sub(r"<svg ([^>]*?)\b(?:width|height)=\"[^\"]*\" ?", r"<svg \1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-labelledby="title-{chart.name}" ', 1)
