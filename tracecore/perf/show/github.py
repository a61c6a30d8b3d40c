"""A slice as GitHub shows it: the job's summary page, annotations on its log, and outputs for later
steps.

Nothing here changes how a slice ends: what cannot be written is said on stderr.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tracecore.errors import one_line
from tracecore.perf.show.console import Console
from tracecore.perf.show.exports import Group, ScenarioFigures
from tracecore.records import JsonObject
from tracecore.stats import nearest_rank
from tracecore.units import bytes_text, number_text, seconds_text

SUMMARY_BYTES_MOST: Final = 900_000  # GitHub drops the whole page of a step beyond 1024 KiB
COUNT_BYTES: Final = 100  # room for saying how many rows there was no room for
ROWS_SHOWN: Final = 20
FINDINGS_SHOWN: Final = 20
CELL_CHARACTERS: Final = 200
ANNOTATIONS_MOST: Final = 5  # of a kind; GitHub shows ten per step, and other steps have some
OFF: Final = "off"


def tell_github(
    summary: JsonObject,
    figures: ScenarioFigures,
    manifest: JsonObject,
    paths: Mapping[str, str],
    step_summary: str | None,
    console: Console,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Write the page, annotations and outputs as far as GitHub, or ``--step-summary``, asks for
    them.

    Args:
        summary: The summary document with its verdict.
        figures: Of each scenario.
        manifest: The manifest document.
        paths: Of the perf files, by what they are.
        step_summary: A file for the page, ``off`` for nothing of all this, or None for what the
            environment says.
        console: Annotations go there: stdout holds one JSON object, and GitHub reads both streams.
        environ: The environment; this process's own unless a test says otherwise.
    """
    write_where_asked(
        step_summary,
        console.say,
        environ,
        page=lambda: step_summary_page(summary, figures, manifest, paths),
        annotations=lambda: annotations(summary),
        outputs=lambda: outputs(summary, paths),
    )


def write_where_asked(
    step_summary: str | None,
    say: Callable[[str], None],
    environ: Mapping[str, str] | None,
    *,
    page: Callable[[], str],
    annotations: Callable[[], list[str]],
    outputs: Callable[[], str],
) -> None:
    """Make and write each of the three as far as the environment, or ``--step-summary``, asks for
    it; ``say`` takes lines.
    """
    environ = os.environ if environ is None else environ
    if step_summary == OFF:
        return
    if page_path := step_summary or environ.get("GITHUB_STEP_SUMMARY"):
        append_to(page_path, page(), say)
    if environ.get("GITHUB_STEP_SUMMARY") or environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations():
            say(line)
    if environ.get("GITHUB_OUTPUT"):
        append_to(environ["GITHUB_OUTPUT"], outputs(), say)


def append_to(path: str, text: str, say: Callable[[str], None]) -> None:
    """Append to a page or to the outputs; where that is not possible, ``say`` is told so."""
    try:
        with open(path, "ab") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        say(
            f"perf_harness: {one_line(path)}: cannot be written:"
            f" {getattr(error, 'strerror', error)}"
        )


# --- the page --------------------------------------------------------------------------------------------------------


def step_summary_page(
    summary: JsonObject,
    figures: ScenarioFigures,
    manifest: JsonObject,
    paths: Mapping[str, str],
    *,
    bytes_most: int = SUMMARY_BYTES_MOST,
) -> str:
    """The page in GitHub's Markdown: what fails first, details folded away; of the latter, rows are
    dropped if need be.
    """
    top = "\n".join(
        [
            _headline(summary),
            *_broken_table(summary),
            *_failure_table(summary),
            *_finding_list(summary),
        ]
    )
    rows = [_scenario_row(name, group) for name, group in figures.groups().items()]
    tail = "\n".join(["", *_host_lines(manifest), *file_lines(paths), "", "</details>", ""])
    head = [
        "<details><summary>All scenarios, host and files</summary>",
        "",
        "| scenario | episodes | failures | wall median | wall p95 | CPU median | peak RSS |",
        "|---|---|---|---|---|---|---|",
    ]
    return page_with_rows(
        [top, "", *head], rows, "scenarios, in the metrics file", tail, bytes_most
    )


def page_with_rows(
    top: Sequence[str], rows: Sequence[str], what: str, tail: str, bytes_most: int
) -> str:
    """A page with as many of ``rows`` as there is room for; of others it says how many, and that
    they are ``what``.
    """
    room = bytes_most - size_of("\n".join([*top, tail])) - size_of(what) - COUNT_BYTES
    kept: list[str] = []
    for row in rows:
        room -= size_of(row) + 1
        if room < 0:
            return "\n".join([*top, *kept, "", f"and {len(rows) - len(kept)} more {what}", tail])
        kept.append(row)
    return "\n".join([*top, *kept, tail])


def size_of(text: str) -> int:
    """How many bytes ``text`` takes in a page."""
    return len(text.encode("utf-8", "backslashreplace"))


def _headline(summary: JsonObject) -> str:
    verdict = summary["verdict"]
    word = "PASS" if verdict["exit_code"] == 0 else "FAIL"
    first, *others = (escape(reason) for reason in verdict["reasons"])
    return "\n".join(
        [f"### Perf: {word} - {first}", "", *(f"- {reason}" for reason in others[:ROWS_SHOWN]), ""]
    )


def _broken_table(summary: JsonObject) -> list[str]:
    broken = [
        threshold
        for threshold in summary["verdict"]["thresholds"]
        if threshold["status"] != "passed"
    ]
    if not broken:
        return []
    rows = [
        f"| {escape(threshold['text'])} | {_number(threshold['observed'])} |"
        f" {_number(threshold['limit'])} | {_number(threshold['margin'])} |"
        f" {threshold['status'].replace('_', ' ')} | {threshold['severity']} |"
        for threshold in broken[:ROWS_SHOWN]
    ]
    head = [
        "| threshold | observed | limit | margin | status | severity |",
        "|---|---|---|---|---|---|",
    ]
    return [*head, *rows, *more_rows(broken), ""]


def _failure_table(summary: JsonObject) -> list[str]:
    reasons = list(summary["failure_reasons"].items())
    if not reasons:
        return []
    rows = [f"| {escape(text)} | {count} |" for text, count in reasons[:ROWS_SHOWN]]
    repros = [f"- {code(failure['repro'])}" for failure in summary["failures"][:3]]
    return [
        "| failure | episodes |",
        "|---|---|",
        *rows,
        *more_rows(reasons),
        "",
        "To repeat one:",
        "",
        *repros,
        "",
    ]


def _finding_list(summary: JsonObject) -> list[str]:
    shown = summary["findings"][:FINDINGS_SHOWN]
    return [
        f"- **{finding['id']}** ({finding['severity']}): {escape(finding['text'])}"
        for finding in shown
    ]


def more_rows(rows: Sequence[object]) -> list[str]:
    """How many rows a table does not show."""
    return [f"\nand {len(rows) - ROWS_SHOWN} more"] if len(rows) > ROWS_SHOWN else []


def _scenario_row(name: str, group: Group) -> str:
    asked = [(group.walls_s, 50), (group.walls_s, 95), (group.cpus_s, 50)]
    times = [
        seconds_text(nearest_rank(readings, percent)) if readings else ""
        for readings, percent in asked
    ]
    cells = [
        escape(name),
        str(group.episodes),
        str(group.failures),
        *times,
        bytes_text(group.peak_rss_bytes),
    ]
    return f"| {' | '.join(cells)} |"


def _host_lines(manifest: JsonObject) -> list[str]:
    host, identity = manifest["host"], manifest["runtime_identity"]
    machine = (
        f"{escape(str(host['cpu_model']))}, {host['cpus_usable']} usable CPUs,"
        f" {escape(str(host['kernel']))}"
    )
    return [
        "",
        f"- host: {machine}, Python {host['python_version']}",
        (
            f"- tracecore {identity['version']}, commit {identity['git_sha']};"
            f" {manifest['workers']} workers"
        ),
    ]


def file_lines(paths: Mapping[str, str]) -> list[str]:
    return [f"- {kind}: {code(path)}" for kind, path in paths.items()]


def escape(text: str) -> str:
    """``text`` as one table cell: nothing in it is Markdown or HTML, or ends the cell or the line."""
    text = one_line(text)
    text = text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + c if c in "\\`|*_[]~$" else c for c in text)


def code(text: str) -> str:
    """``text`` as code that can be copied: the fence is longer than any run of backticks inside."""
    text = one_line(text)
    fence = "`"
    while fence in text:
        fence += "`"
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _number(value: float | None) -> str:
    return "no data" if value is None else number_text(value)


# --- annotations and outputs -----------------------------------------------------------------------------------------


def annotations(summary: JsonObject) -> list[str]:
    """Workflow commands: an error per reason of a bad verdict, a warning per warning and finding;
    five of each at most.
    """
    verdict = summary["verdict"]
    errors = verdict["reasons"] if verdict["exit_code"] else []
    warnings = [
        *verdict["warnings"],
        *(finding["text"] for finding in summary["findings"] if finding["severity"] != "info"),
    ]
    return [*commands("error", errors), *commands("warning", warnings)]


def commands(kind: str, messages: Sequence[str]) -> list[str]:
    """Annotations of one kind, five at most, the last of them a count where there are more."""
    shown = list(messages[:ANNOTATIONS_MOST])
    if len(messages) > ANNOTATIONS_MOST:
        shown = [
            *messages[: ANNOTATIONS_MOST - 1],
            f"and {len(messages) - ANNOTATIONS_MOST + 1} more, in the summary",
        ]
    return [f"::{kind} title=perf::{_escape_command(message)}" for message in shown]


def _escape_command(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def outputs(summary: JsonObject, paths: Mapping[str, str]) -> str:
    """Lines for ``GITHUB_OUTPUT``: the verdict, the exit code, how many gates are broken, and where
    the files are.
    """
    verdict = summary["verdict"]
    values = {
        "verdict": "pass" if verdict["exit_code"] == 0 else "fail",
        "exit_code": verdict["exit_code"],
        "regressions": len(verdict["breaches"]),
        **paths,
    }
    return output_lines(values.items())


def output_lines(values: Iterable[tuple[str, object]]) -> str:
    """Lines for ``GITHUB_OUTPUT``."""
    # A line break in a value would begin another output.
    return "".join(f"{name}={one_line(str(value))}\n" for name, value in values)
