"""The report as Markdown, which code hosts show; its pictures lie beside it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracecore.errors import one_line
from tracecore.perf.judge.verdicts import Answer
from tracecore.perf.show.charts import Chart
from tracecore.perf.show.report_data import ReportData, host_facts_shown
from tracecore.records import JsonObject
from tracecore.units import NONE_TEXT, bytes_text, number_text, seconds_text

REASONS_SHOWN: Final = 20


def markdown_page(data: ReportData, answer: Answer, pictures: Sequence[tuple[Chart, str]]) -> str:
    """The whole page; ``pictures`` are the charts with their files' names."""
    summary = data.archived.summary
    parts = [
        f"# Slice {data.stamp}",
        (
            f"**{'✔' if answer.is_good else '✘'} {answer.headline}** (exit {answer.exit_code})."
            f" {answer.advice}"
        ),
        _list(answer.reasons),
        _list(f"Warning: {warning}" for warning in answer.warnings),
        _table(("", ""), _key_figures(summary)),
        "## Gate",
        answer.gate,
        _thresholds(answer.thresholds),
        *_findings(summary),
        "## Scenario rows",
        _scenario(data),
        *_allowances(data),
        *_charts(pictures),
        *_failures(data, summary),
        "## Host",
        _table(
            ("", ""),
            [(md(name), md(value)) for name, value in host_facts_shown(data.archived.manifest)],
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def md(value: Any) -> str:
    """Text as itself: nothing in it is taken for Markdown, HTML, a table's border, a link or a
    mention.
    """
    text = re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", one_line(str(value)))
    text = (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    )
    text = text.replace("://", "&#58;//")
    return re.sub(r"\b(www)\.", r"\1&#46;", text)


def code(value: Any, *, in_table: bool = True) -> str:
    """Text in a code span, which may itself hold backticks; a table's border is escaped in a table
    alone.
    """
    text = one_line(str(value))
    text = text.replace("|", "\\|") if in_table else text
    ticks = "`" * (max(map(len, re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(value: str) -> str:
    """Text as a block of code."""
    text = one_line(value)
    ticks = "`" * max(3, max(map(len, re.findall(r"`+", text)), default=0) + 1)
    return f"{ticks}sh\n{text}\n{ticks}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {md(line)}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _key_figures(summary: JsonObject) -> list[tuple[str, str]]:
    totals, kept = summary["summary"], summary.get("run_artifacts") or {}
    return [
        ("episodes", _count(summary["episodes"])),
        ("passed", _count(summary["success_count"])),
        ("failed", _count(summary["failure_count"])),
        ("wall clock, p50", _seconds(totals.get("p50_wall_clock_s"))),
        ("wall clock, p95", _seconds(totals.get("p95_wall_clock_s"))),
        ("wall clock, longest", _seconds(summary.get("max_wall_clock_s"))),
        ("throughput", _rate(totals.get("throughput_eps"))),
        ("elapsed", _seconds(summary.get("elapsed_s"))),
        ("workers", _count(totals.get("workers"))),
        (
            "run artifacts",
            f"{_count(kept.get('file_count'))} files, {_bytes(kept.get('total_bytes'))}",
        ),
    ]


def _thresholds(thresholds: Sequence[JsonObject]) -> str:
    if not thresholds:
        return ""
    rows = [
        (
            code(one["text"]),
            _number(one.get("observed")),
            _number(one.get("margin")),
            md(f"{one.get('status')}".replace("_", " ")),
        )
        for one in thresholds
    ]
    return _table(("threshold", "observed", "room left", "status"), rows)


def _findings(summary: JsonObject) -> list[str]:
    findings = summary.get("findings")
    if not isinstance(findings, list):
        return []
    lines = [
        f"- **{md(one.get('severity'))}** {md(one.get('id'))}: {md(one.get('text'))}"
        for one in findings
        if isinstance(one, dict)
    ]
    return ["## Findings", "\n".join(lines) or "Nothing stands out."]


def _scenario(data: ReportData) -> str:
    metrics = {(row.get("task_ref"), row.get("agent")): row for row in data.archived.metrics}
    rows = []
    for group in data.groups:
        row, figures = metrics.get((group.task_ref, group.agent), {}), group.figures()
        rows.append(
            (
                str(group.number),
                code(group.task_ref),
                code(group.agent),
                _count(row.get("run_count")),
                _percent(row.get("success_rate")),
                _seconds(figures["p50_wall_clock_s"]),
                _seconds(figures["p95_wall_clock_s"]),
                f"{_count(row.get('steps_p50'))} of {_count(row.get('steps_ceiling'))}",
                _bytes(row.get("artifact_bytes_avg")),
            )
        )
    return _table(
        (
            "",
            "task",
            "agent",
            "episodes",
            "success",
            "p50",
            "p95",
            "steps, p50",
            "artifact, average",
        ),
        rows,
    )


def _allowances(data: ReportData) -> list[str]:
    return [
        f"Allowed by its row: {code(agent, in_table=False)} on {code(task_ref, in_table=False)} may"
        f" {md(words)}."
        for task_ref, agent, words in data.allowances
    ]


def _charts(pictures: Sequence[tuple[Chart, str]]) -> list[str]:
    blocks = [
        f"### {chart.title}\n\n![{chart.title}]({name})\n\n{md(chart.caption)}"
        for chart, name in pictures
    ]
    return ["## Charts", *blocks] if blocks else []


def _failures(data: ReportData, summary: JsonObject) -> list[str]:
    if not data.failures:
        return []
    reasons = list((summary.get("failure_reasons") or {}).items())[:REASONS_SHOWN]
    blocks = [
        f"Episode {md(one.get('episode'))}, seed {md(one.get('seed'))},"
        f" {code(one.get('agent'), in_table=False)} on {code(one.get('task_ref'), in_table=False)}:"
        f" {code(one.get('error'), in_table=False)}\n\n{fence(str(one.get('repro')))}"
        for one in data.failures
    ]
    shown = (
        f"The first {len(data.failures)} of {summary['failure_count']}, each with the command that"
        " repeats it:"
    )
    return [
        "## Failures",
        _table(("times", "reason"), [(_count(count), code(text)) for text, count in reasons]),
        shown,
        *blocks,
    ]


def _count(value: Any) -> str:
    return f"{value:,}" if _is_number(value) else NONE_TEXT


def _seconds(value: Any) -> str:
    return seconds_text(value) if _is_number(value) else NONE_TEXT


def _bytes(value: Any) -> str:
    return bytes_text(value) if _is_number(value) else NONE_TEXT


def _percent(value: Any) -> str:
    return f"{value * 100:.4g} %" if _is_number(value) else NONE_TEXT


def _rate(value: Any) -> str:
    return f"{value:.1f}/s" if _is_number(value) else NONE_TEXT


def _number(value: Any) -> str:
    return number_text(value) if _is_number(value) else NONE_TEXT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
