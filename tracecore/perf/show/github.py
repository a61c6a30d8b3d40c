"""A slice or a comparison as a GitHub job shows it: the summary of the job, annotations on its log,
and outputs for later steps.

Nothing here changes how a slice ends: what cannot be written is reported on stderr.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tracecore.errors import one_line
from tracecore.files import SHARED
from tracecore.perf.compare.wording import UNITS
from tracecore.perf.judge.verdicts import word_of
from tracecore.perf.show.comparison_page import comparison_in, comparison_page, headline_of
from tracecore.perf.show.console import Console
from tracecore.perf.show.markdown import write_markdown_within
from tracecore.perf.show.page import Page
from tracecore.perf.show.slice_page import job_page
from tracecore.record import record
from tracecore.records import JsonObject

SUMMARY_BYTES_MOST: Final = 900_000  # GitHub drops the whole page of a step beyond 1024 KiB
HEADING_LEVEL: Final = 3
ANNOTATIONS_MOST: Final = 5  # of a kind; GitHub shows ten per step, and other steps have some
OFF: Final = "off"


@record
class Telling:
    """What a job is to show."""

    page: Callable[[], Page]
    errors: Sequence[str]  # annotations
    warnings: Sequence[str]
    outputs: Mapping[str, object]  # for later steps


def tell_github(
    summary: JsonObject,
    metrics: Sequence[JsonObject],
    manifest: JsonObject,
    paths: Mapping[str, str],
    step_summary: str | None,
    console: Console,
) -> None:
    """Show a slice in the job that runs it, as far as the environment or ``--step-summary`` asks.

    Args:
        summary: The summary document with its verdict.
        metrics: The metrics document.
        manifest: The manifest document.
        paths: Of the perf files, by what they are.
        step_summary: A file for the page, ``off`` for nothing of all this, or None for what the
            environment asks for.
        console: For annotations: stdout holds one JSON object, and GitHub reads both streams.
    """
    telling = slice_telling(summary, manifest, metrics, paths)
    write_where_asked(telling, step_summary, console.say)


def slice_telling(
    summary: JsonObject,
    manifest: JsonObject,
    rows: Sequence[JsonObject],
    paths: Mapping[str, str],
) -> Telling:
    """What a job shows of a slice; ``rows`` are the figures of its scenario rows."""
    verdict = summary["verdict"]
    findings = (one["text"] for one in summary["findings"] if one["severity"] != "info")
    return Telling(
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


def tell_github_of_comparison(
    document: JsonObject, step_summary: str | None, say: Callable[[str], None]
) -> None:
    """Show a comparison in the job that made it.

    Args:
        document: What ``ab`` or ``compare`` writes to stdout.
        step_summary: As for a slice.
        say: Takes a line for stderr.
    """
    write_where_asked(comparison_telling(document), step_summary, say)


def comparison_telling(document: JsonObject) -> Telling:
    """What a job shows of a comparison."""
    comparison = comparison_in(document)
    warnings = [
        f"{one['row']}: {UNITS[one['metric']][0]} {100 * (one['ratio'] - 1):+.1f}%"
        for one in comparison.get("decisions", ())
        if one["warns"]
    ]
    bad = comparison.get("breaches") or document["reasons"] if document["exit_code"] else ()
    return Telling(
        page=lambda: comparison_page(document),
        errors=bad,
        warnings=warnings,
        outputs={
            "verdict": headline_of(document).lower().replace(" ", "_"),
            "comparison": document["verdict"],
            "exit_code": document["exit_code"],
            "regressions": len(comparison.get("breaches", ())),
            **({"folder": document["folder"]} if "folder" in document else {}),
        },
    )


def write_where_asked(
    telling: Telling, step_summary: str | None, say: Callable[[str], None]
) -> None:
    """Write page, annotations and outputs, each where it is asked for; ``say`` takes lines."""
    if step_summary == OFF:
        return
    if path := step_summary or os.environ.get("GITHUB_STEP_SUMMARY"):
        page = write_markdown_within(telling.page(), SUMMARY_BYTES_MOST, HEADING_LEVEL)
        _append(path, page, say)
    if os.environ.get("GITHUB_STEP_SUMMARY") or os.environ.get("GITHUB_ACTIONS") == "true":
        for line in (
            *annotations("error", telling.errors),
            *annotations("warning", telling.warnings),
        ):
            say(line)
    if path := os.environ.get("GITHUB_OUTPUT"):
        _append(path, output_lines(telling.outputs.items()), say)


def _append(path: str, text: str, say: Callable[[str], None]) -> None:
    try:
        # Opened without waiting: a pipe that nothing reads would hold the slice for ever.
        always = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        with open(os.open(path, always, SHARED), "ab") as file:
            os.set_blocking(file.fileno(), True)
            file.write(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", error)
        say(f"perf_harness: {one_line(path)}: cannot be written: {reason}")


def annotations(kind: str, messages: Sequence[str]) -> list[str]:
    """Workflow commands of one kind, five at most: the last is a count where there are more."""
    shown = list(messages[:ANNOTATIONS_MOST])
    if len(messages) > ANNOTATIONS_MOST:
        more = len(messages) - ANNOTATIONS_MOST + 1
        shown[-1] = f"and {more} more, in the summary"
    return [f"::{kind} title=perf::{_escape_command(message)}" for message in shown]


def _escape_command(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def output_lines(values: Iterable[tuple[str, object]]) -> str:
    """Lines for ``GITHUB_OUTPUT``."""
    # A line break in a value would begin another output.
    return "".join(f"{name}={one_line(str(value))}\n" for name, value in values)
