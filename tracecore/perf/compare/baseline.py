"""A slice against archived ones, at the end of its run; whether it may be compared is asked before
its first episode.
"""

from collections.abc import Sequence
from typing import Any, Final

from tracecore.errors import OptionError
from tracecore.exit_codes import EXIT_BREACHED
from tracecore.perf.compare.columns import RunColumns
from tracecore.perf.compare.comparison import compare_runs, exit_code_of
from tracecore.perf.compare.runs import RunRecord, find_mismatches, noise_of, read_runs
from tracecore.perf.compare.work import read_work
from tracecore.perf.documents.rows import Rows
from tracecore.perf.slice.options import JudgeOptions
from tracecore.records import JsonObject

OPTION: Final = "--baseline"


class Baseline:
    """The runs to compare a slice with. Made by :func:`read_baseline`."""

    def __init__(self, runs: Sequence[RunRecord], options: JudgeOptions) -> None:
        self._runs, self._options = runs, options

    def document(
        self, path: str, manifest: JsonObject, summary: JsonObject, rows: Rows, *, is_complete: bool
    ) -> JsonObject:
        """``comparison`` in the summary: as :func:`compare_runs` gives it, with ``breaches`` and
        ``warnings`` as sentences.

        Args:
            path: Where the slice's files lie.
            manifest: Of the slice.
            summary: Of the slice: what was counted in it, and whether its host was busy.
            rows: Of the slice.
            is_complete: Whether it ran to its end: half a slice could pass for a fast one.
        """
        if not is_complete:
            reason = "the slice is not complete, and so not compared with its baseline"
            return {
                "verdict": "not_comparable",
                "headline": "NO ANSWER",
                "answer": reason,
                "legs": [],
                "reasons": [reason],
                "breaches": [],
                "warnings": [reason],
            }
        run = RunRecord(
            path=path,
            stamp=manifest["stamp"],
            manifest=manifest,
            columns=RunColumns(rows),
            work=read_work(path, manifest, summary),
            noise=noise_of(summary),
        )
        document = compare_runs(self._runs, [run], self._options)
        breaches = document["breaches"]
        if not breaches and exit_code_of(document, self._options) == EXIT_BREACHED:
            breaches = [f"an answer is required: {document['answer']}"]
        warnings = [reason for reason in document["reasons"] if reason not in breaches]
        return {**document, "breaches": breaches, "warnings": warnings}


def read_baseline(paths: Sequence[str], manifest: JsonObject, options: JudgeOptions) -> Baseline:
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
    planned = RunRecord("this slice", "", manifest, RunColumns(Rows()))
    mismatches = [one for one in find_mismatches(runs, [planned]) if not one.of_times_alone]
    if mismatches and not options.compare_anyway:
        first = mismatches[0]
        named = ", ".join(mismatch.field for mismatch in mismatches)
        expected = (
            f"{_short(first.new)}, as this slice has; they differ in {named} (--compare-anyway"
            " shows figures nevertheless)"
        )
        raise OptionError(OPTION, first.field, first.base, expected)
    return Baseline(runs, options)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:119] + "…"
