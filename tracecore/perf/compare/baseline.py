"""A slice against archived ones, at the end of its run; whether it may be compared is asked before
its first episode.
"""

from collections.abc import Sequence
from typing import Any, Final

from tracecore.errors import OptionError
from tracecore.perf.compare.columns import RunColumns
from tracecore.perf.compare.comparable import find_differences
from tracecore.perf.compare.comparison import CompareOptions, compare_runs
from tracecore.perf.compare.runs import RunRecord, read_runs
from tracecore.perf.documents.rows import series_row
from tracecore.records import EpisodeResult, JsonObject

OPTION: Final = "--baseline"


class Baseline:
    """The runs to compare with, and the columns of the one that is running: a reducer of its rows.

    Made by :func:`read_baseline`.
    """

    def __init__(self, runs: Sequence[RunRecord], options: CompareOptions) -> None:
        self._runs, self._options = runs, options
        self._columns = RunColumns()

    def add(self, row: EpisodeResult) -> None:
        """Take one finished episode; rows come by episode index."""
        self._columns.add(series_row(row))

    def document(
        self, path: str, stamp: str, manifest: JsonObject, *, is_complete: bool
    ) -> JsonObject:
        """``comparison`` in the summary: as :func:`compare_runs` gives it, with ``breaches`` and
        ``warnings`` as sentences.

        Args:
            path: Where the slice's files lie.
            stamp: Of the slice.
            manifest: Of the slice.
            is_complete: Whether it ran to its end: half a slice could pass for a fast one.
        """
        if not is_complete:
            reason = "the slice is not complete, and so not compared with its baseline"
            return {
                "verdict": "not_comparable",
                "reasons": [reason],
                "breaches": [],
                "warnings": [reason],
            }
        run = RunRecord(path, stamp, manifest, self._columns)
        document = compare_runs(self._runs, [run], self._options)
        breaches = document["breaches"]
        if document["verdict"] == "inconclusive" and self._options.require_conclusive:
            breaches = ["compared with the baseline: inconclusive, and an answer is required"]
        warnings = [reason for reason in document["reasons"] if reason not in breaches]
        return {**document, "breaches": breaches, "warnings": warnings}


def read_baseline(paths: Sequence[str], manifest: JsonObject, options: CompareOptions) -> Baseline:
    """The runs to compare a slice with that is about to begin.

    Args:
        paths: Summaries, zips or folders.
        manifest: What the slice's manifest will hold: at least machine class, host, scenario,
            workers and strictness.
        options: How strict the comparison is.

    Raises:
        InputError: One cannot be read or is not complete, or the slice would not be comparable with
            them; the differing fields are named.
    """
    runs = read_runs(paths)
    planned = RunRecord("this slice", "", manifest, RunColumns())
    differences = find_differences(runs, [planned])
    if differences and not options.compare_anyway:
        first = differences[0]
        named = ", ".join(difference.field for difference in differences)
        expected = (
            f"{_short(first.new)}, as this slice has; they differ in {named} (--compare-anyway"
            " shows figures nevertheless)"
        )
        raise OptionError(OPTION, first.field, first.base, expected)
    return Baseline(runs, options)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:119] + "…"
