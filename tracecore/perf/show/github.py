"""A slice or a comparison as a GitHub job shows it: the summary of the job, annotations on its log,
and outputs for later steps.

Nothing here changes how a slice ends: what cannot be written is reported on stderr.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tracecore.errors import one_line
from tracecore.files import SHARED
from tracecore.perf.compare.wording import UNITS
from tracecore.perf.judge.verdicts import word_of
from tracecore.perf.show.comparison_page import comparison_in, comparison_page, headline_of
from tracecore.perf.show.markdown import write_markdown_within
from tracecore.perf.show.page import Page
from tracecore.perf.show.slice_page import job_page
from tracecore.record import record
from tracecore.records import JsonObject

SUMMARY_BYTES_MOST: Final = 900_000  # GitHub drops the whole page of a step beyond 1024 KiB
HEADING_LEVEL: Final = 3
ANNOTATIONS_MOST: Final = 5  # of a kind; GitHub shows ten per step, and other steps have some
OFF: Final = "off"
COMMAND_ESCAPES: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})


@record
class JobView:
    """What a job shows."""

    page: Callable[[], Page]
    errors: Sequence[str]  # annotations
    warnings: Sequence[str]
    outputs: Mapping[str, object]  # for later steps


def view_of_slice(
    summary: JsonObject,
    manifest: JsonObject,
    rows: Sequence[JsonObject],
    paths: Mapping[str, str],
) -> JobView:
    """What the job that runs a slice shows of it.

    Args:
        summary: The summary document with its verdict.
        manifest: The manifest document.
        rows: The figures of its scenario rows: the metrics document.
        paths: Of the perf files, by what they are.
    """
    verdict = summary["verdict"]
    findings = (one["text"] for one in summary["findings"] if one["severity"] != "info")
    return JobView(
        page=lambda: job_page(summary, manifest, rows, paths),
        errors=verdict["reasons"] if verdict["exit_code"] else (),
        warnings=[*verdict["warnings"], *findings],
        outputs={
            "verdict": word_of(summary, verdict["exit_code"]).lower().replace(" ", "_"),
            "exit_code": verdict["exit_code"],
            "regressions": len(verdict["breaches"]),
            **paths,
        },
    )


def view_of_comparison(document: JsonObject) -> JobView:
    """What a job shows of a comparison: of what ``ab`` or ``compare`` writes to stdout."""
    comparison = comparison_in(document)
    warnings = [
        f"{one['row']}: {UNITS[one['metric']][0]} {100 * (one['ratio'] - 1):+.1f}%"
        for one in comparison.get("decisions", ())
        if one["warns"]
    ]
    return JobView(
        page=lambda: comparison_page(document),
        errors=(comparison.get("breaches") or document["reasons"]) if document["exit_code"] else (),
        warnings=warnings,
        outputs={
            "verdict": headline_of(document).lower().replace(" ", "_"),
            "comparison": document["verdict"],
            "exit_code": document["exit_code"],
            "regressions": len(comparison.get("breaches", ())),
            **({"folder": document["folder"]} if "folder" in document else {}),
        },
    )


def show_in_job(view: JobView, step_summary: str | None, write_line: Callable[[str], None]) -> None:
    """Write page, annotations and outputs, each where it is asked for.

    Args:
        view: What is shown.
        step_summary: A file for the page, ``off`` for nothing of all this, or None for what the
            environment asks for.
        write_line: Takes annotations and complaints for stderr: stdout holds one JSON object, and
            GitHub reads both streams.
    """
    if step_summary == OFF:
        return
    if path := step_summary or os.environ.get("GITHUB_STEP_SUMMARY"):
        page = write_markdown_within(view.page(), SUMMARY_BYTES_MOST, HEADING_LEVEL)
        _append(path, page, write_line)
    if os.environ.get("GITHUB_STEP_SUMMARY") or os.environ.get("GITHUB_ACTIONS") == "true":
        for line in (*annotations("error", view.errors), *annotations("warning", view.warnings)):
            write_line(line)
    if path := os.environ.get("GITHUB_OUTPUT"):
        _append(path, output_lines(view.outputs), write_line)


def _append(path: str, text: str, write_line: Callable[[str], None]) -> None:
    try:
        # Opened without waiting: a pipe that nothing reads would hold the slice for ever.
        always = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        with open(os.open(path, always, SHARED), "ab") as file:
            os.set_blocking(file.fileno(), True)
            file.write(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", error)
        write_line(f"perf_harness: {one_line(path)}: cannot be written: {reason}")


def annotations(kind: str, messages: Sequence[str]) -> list[str]:
    """Workflow commands of one kind, five at most: the last is a count where there are more."""
    shown = list(messages[:ANNOTATIONS_MOST])
    if len(messages) > ANNOTATIONS_MOST:
        more = len(messages) - ANNOTATIONS_MOST + 1
        shown[-1] = f"and {more} more, in the summary"
    return [f"::{kind} title=perf::{message.translate(COMMAND_ESCAPES)}" for message in shown]


def output_lines(values: Mapping[str, object]) -> str:
    """Lines for ``GITHUB_OUTPUT``."""
    # A line break in a value would begin another output.
    return "".join(f"{name}={one_line(str(value))}\n" for name, value in values.items())
