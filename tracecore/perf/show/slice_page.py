"""What there is to know of a slice, in the order in which it is asked: made from its documents, and
shown on a terminal, in the summary of a job and as a report.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tracecore.errors import one_line
from tracecore.perf.documents.archive import ArchivedSet
from tracecore.perf.judge.verdicts import Answer, answer_of
from tracecore.perf.show.comparison_page import STATUSES, comparison_sections
from tracecore.perf.show.page import (
    Badge,
    Block,
    Bullets,
    Code,
    Fact,
    Facts,
    Line,
    Page,
    Picture,
    Section,
    Sentence,
    sections_of,
)
from tracecore.perf.show.sections import (
    allowances,
    episode_cards,
    failed_episodes,
    failure_reasons,
    findings,
    gate,
    job_commands,
    key_figures,
    no_findings,
    scenario_rows,
    thresholds,
)
from tracecore.perf.show.terminal import LOG_WIDTH, write_text
from tracecore.records import JsonObject
from tracecore.units import NONE_TEXT, bytes_text

REASONS_SHOWN: Final = 5  # of failures, on a terminal
RUN_FACTS: Final = (
    *("generated_at", "machine_class", "strict_spec", "start_method", "timeout", "keep_runs"),
)


# --- the three pages


def human_summary(
    summary: JsonObject,
    paths: Mapping[str, str],
    *,
    stamp: str,
    next_command: str | None = None,
    width: int = LOG_WIDTH,
    has_colour: bool = False,
) -> str:
    """The slice in a few lines for a terminal; no line ends the text.

    Args:
        summary: The summary document.
        paths: Of the perf files, by what they are.
        stamp: Of the slice.
        next_command: What can be typed now to finish the slice.
        width: Columns of the terminal.
        has_colour: Whether verdicts and failures are coloured.
    """
    files = {kind: path for kind, path in paths.items() if not kind.startswith("chart_")}
    following = {"next": next_command} if next_command else {}
    answer = answer_of(summary)
    word = (_badge(answer), "" if answer.is_good else f" (exit {answer.exit_code})")
    verdict = Bullets((word, *_answers(answer), *_warnings(summary)))
    sections = sections_of(
        Section("figures", "", (Facts(key_figures(summary).facts[1:]),)),
        Section("failures", "", failure_reasons(summary, REASONS_SHOWN)),
        Section("finding", "", findings(summary)),
        *comparison_sections(summary.get("comparison")),
        Section("verdict", "", (verdict,)) if summary.get("verdict") else None,
        Section("files", "", _files(files | following)),
    )
    lines = write_text(sections, width, has_colour=has_colour)
    return f"{_headline(summary, stamp)}\n{lines}".rstrip("\n")


def job_page(
    summary: JsonObject,
    manifest: JsonObject,
    rows: Sequence[JsonObject],
    paths: Mapping[str, str],
) -> Page:
    """The slice for the summary of a job: what fails first, details folded away."""
    answer = answer_of(summary)
    first, *others = answer.reasons or ("",)
    return Page(
        title=f"Perf: {answer.word} - {first}",
        answer=_badge(answer),
        about=(),
        lead=(Bullets((*others, answer.times, *_warnings(summary))),),
        sections=sections_of(
            Section("gate", "", tuple(thresholds(answer, only_broken=True))),
            *comparison_sections(summary.get("comparison")),
            Section("failures", "", (*failure_reasons(summary), *job_commands(summary))),
            Section("findings", "", findings(summary)),
            Section("scenario", "All scenario rows", scenario_rows(rows), is_folded=True),
            Section("host", "Host and files", (_host(manifest), *_files(paths)), is_folded=True),
        ),
    )


def report_page(archived: ArchivedSet, pictures: Sequence[Picture]) -> Page:
    """The slice as a report."""
    summary, manifest = archived.summary, archived.manifest
    answer = answer_of(summary)
    return Page(
        title=f"Slice {archived.stamp}",
        answer=_badge(answer),
        about=_about(summary, manifest),
        lead=(
            Sentence(f"{answer.headline}. {answer.advice}"),
            Bullets((*_answers(answer), *_warnings(summary))),
        ),
        sections=sections_of(
            Section("figures", "Key figures", (key_figures(summary),)),
            Section("gate", "Gate", gate(answer, summary)),
            *comparison_sections(summary.get("comparison")),
            Section(
                "findings",
                "Findings",
                findings(summary, with_commands=True) or no_findings(summary),
            ),
            Section(
                "scenario",
                "Scenario rows",
                (*scenario_rows(archived.metrics), *allowances(manifest)),
            ),
            Section("charts", "Charts", tuple(pictures)),
            Section("failures", "Failed episodes", failed_episodes(summary)),
            Section("slowest", "Slowest episodes", episode_cards(summary, "slowest")),
            Section("host", "Host and run", (_host(manifest),)),
        ),
    )


# --- the verdict


def _headline(summary: JsonObject, stamp: str) -> str:
    totals = summary["summary"]
    words = f"slice {stamp}: {totals['passed']} passed, {totals['failed']} failed"
    finished, requested = summary["episodes"], summary["episodes_requested"]
    if summary["interrupted"]:
        return f"{words}, interrupted after {finished} of {requested}"
    return words if finished == requested else f"{words}, incomplete: {finished} of {requested}"


def _badge(answer: Answer) -> Badge:
    return Badge(STATUSES.get(answer.word, "plain"), answer.word)


def _answers(answer: Answer) -> tuple[str, ...]:
    """The two answers, of correctness and of times; where the slice is bad, every reason."""
    correctness = (answer.correctness,) if answer.is_good else answer.reasons
    return *correctness, answer.times


def _warnings(summary: JsonObject) -> tuple[Line, ...]:
    """Those that the section on the comparison does not have."""
    shown = (summary.get("comparison") or {}).get("reasons") or ()
    warnings = [warning for warning in answer_of(summary).warnings if warning not in shown]
    return tuple((Badge("warn", "warning:"), f" {warning}") for warning in warnings)


def _about(summary: JsonObject, manifest: JsonObject) -> tuple[Line, ...]:
    """Commit, date, machine, and what the slice was compared with."""
    identity = manifest.get("runtime_identity") or {}
    sha = str(identity.get("git_sha") or "")
    changed = " with uncommitted changes" if identity.get("dirty") else ""
    base = (summary.get("comparison") or {}).get("base") or ()
    more = f" and {len(base) - 1} more" if len(base) > 1 else ""
    lines: tuple[Line, ...] = (
        f"tracecore {identity.get('version', NONE_TEXT)}",
        ("commit ", Code(sha[:12]), changed) if sha else "",
        _date_text(str(manifest.get("generated_at") or "")),
        str(manifest.get("machine_class") or ""),
        *(
            (
                f"compared with {run.get('stamp')}{more}, commit ",
                Code(str(run.get("git_sha") or NONE_TEXT)[:12]),
            )
            for run in base[:1]
        ),
    )
    return tuple(filter(None, lines))


def _date_text(utc: str) -> str:
    """``25 November 2026, 20:07 UTC``; anything else as it is."""
    try:
        at = dt.datetime.strptime(utc[:16], "%Y-%m-%dT%H:%M")  # noqa: DTZ007
    except ValueError:
        return utc
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


# --- host and files


def _host(manifest: JsonObject) -> Facts:
    """Where and how the slice ran."""
    facts: JsonObject = {name: manifest[name] for name in RUN_FACTS if name in manifest}
    identity, host = manifest.get("runtime_identity") or {}, manifest.get("host") or {}
    facts |= {f"runtime_{name}": value for name, value in identity.items()}
    facts |= {
        name: value for name, value in host.items() if name not in identity and name not in facts
    }
    return Facts(
        tuple(Fact(_fact_name(name), _fact_text(name, value)) for name, value in facts.items())
    )


def _fact_name(name: str) -> str:
    words = name.replace("_", " ").removesuffix(" bytes")
    return f"{words}, s" if name == "timeout" else words


def _fact_text(name: str, value: Any) -> str:
    match value:
        case None | []:
            return NONE_TEXT
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_fact_text("", one) for one in value)
        case dict():
            return ", ".join(f"{key} {_fact_text(key, one)}" for key, one in value.items())
        case int() | float() if name.endswith("_bytes"):
            return bytes_text(value)
        case int() | float():
            return f"{value:.10g}"
        case _:
            return str(value)


def _files(paths: Mapping[str, str]) -> tuple[Block, ...]:
    facts = tuple(Fact(kind, Code(one_line(path))) for kind, path in paths.items())
    return (Facts(facts),) if facts else ()
