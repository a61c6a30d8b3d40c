"""The sections of a slice's page: key figures, gate, findings, episodes, scenario rows."""

import os
from collections.abc import Sequence
from typing import Any, Final

from tracecore.perf.judge.verdicts import Answer, unit_of_threshold
from tracecore.perf.show.page import (
    ROWS_SHOWN,
    Badge,
    Block,
    Bullets,
    Card,
    Cards,
    Code,
    Fact,
    Facts,
    Figure,
    Line,
    Sentence,
    Soft,
    Status,
    Swatch,
    Table,
    first_rows,
)
from tracecore.perf.slice.commands import show_command
from tracecore.records import JsonObject
from tracecore.units import Unit

EPISODES_SHOWN: Final = 10  # of a list of single episodes
SWATCHES: Final = 8  # colours of rows
JOB_COMMANDS: Final = 3  # of failed episodes in the summary of a job
STATUSES: Final[dict[str, Badge]] = {
    "passed": Badge("good", "holds"),
    "failed": Badge("bad", "broken"),
    "no_data": Badge("bad", "no data"),
}
SEVERITIES: Final[dict[str, Status]] = {"info": "plain", "warn": "warn", "warning": "warn"}
# What an agent may do beyond the rule, and where the manifest has it.
ALLOWED: Final = (("read", "read"), ("reach", "network"))


# --- figures and gate


def _figure(unit: Unit, summary: JsonObject, *path: str) -> Figure:
    value: Any = summary
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return Figure(unit, value, ("summary", *path))


def key_figures(summary: JsonObject) -> Facts:
    totals, kept = summary["summary"], summary.get("run_artifacts") or {}
    passed, failed, total = (
        _figure("count", summary, "summary", name) for name in ("passed", "failed", "total")
    )
    wall_clock = Fact(
        "wall clock",
        ("p50 ", _figure("seconds", summary, "summary", "p50_wall_clock_s")),
        (
            *("p95 ", _figure("seconds", summary, "summary", "p95_wall_clock_s")),
            *(", longest ", _figure("seconds", summary, "max_wall_clock_s")),
        ),
    )
    throughput = Fact(
        "throughput",
        (_figure("rate", summary, "summary", "throughput_eps"),),
        (
            *("on ", _figure("count", summary, "summary", "workers"), " workers, "),
            *(_figure("duration", summary, "elapsed_s"), " in all"),
        ),
    )
    artifacts = Fact(
        "artifacts",
        (_figure("bytes", summary, "run_artifacts", "total_bytes"),),
        (
            *(_figure("count", summary, "run_artifacts", "file_count"), " files, "),
            *(_figure("bytes", summary, "run_artifacts", "avg_bytes"), " each, in "),
            Code(str(kept.get("root"))),
        ),
    )
    calls, tokens = (
        _figure("count", summary, "telemetry_verbosity", name)
        for name in ("llm_trace_entries_total", "tokens_used_total")
    )
    waited, own = (
        _figure("seconds", summary, "models", name)
        for name in ("model_wait_s_total", "p50_computing_s")
    )
    # A slow model is not the agent's fault.
    computing = Fact("computing", ("p50 ", own), ("without ", waited, " waited for models"))
    facts = (
        (True, Fact("episodes", (passed, " passed"), (failed, " failed, ", total, " in all"))),
        (totals.get("p50_wall_clock_s") is not None, wall_clock),
        (totals.get("throughput_eps") is not None, throughput),
        (kept.get("file_count"), artifacts),
        (calls.value, Fact("model calls", (calls,), ("tokens: ", tokens))),
        (summary.get("models"), computing),
    )
    return Facts(tuple(fact for is_known, fact in facts if is_known), are_key=True)


def gate(answer: Answer, summary: JsonObject) -> tuple[Block, ...]:
    blocks: list[Block] = [Sentence(answer.gate), *thresholds(answer)]
    checked, asked, differing = (
        _figure("count", summary, "determinism", name)
        for name in ("checked", "requested", "differing")
    )
    if asked.value:
        blocks.append(
            Sentence((*("Run a second time: ", checked, " of ", asked), " episodes; of those, ",
                      differing, " came out otherwise."))
        )  # fmt: skip
    return tuple(blocks)


def thresholds(answer: Answer, *, only_broken: bool = False) -> tuple[Block, ...]:
    rows: list[tuple[Line, ...]] = []
    for place, one in enumerate(answer.thresholds):
        unit = unit_of_threshold(one["text"])
        figures = [
            Figure(unit, one.get(name), ("summary", "verdict", "thresholds", place, name))
            for name in ("observed", "limit", "margin")
        ]
        status = STATUSES.get(str(one.get("status")), Badge("plain", str(one.get("status"))))
        warns = ", warns only" if one.get("severity") == "warn" else ""
        if not (only_broken and one.get("status") == "passed"):
            rows.append((Code(one["text"]), *figures, (status, warns)))
    head = ("threshold", "observed", "limit", "room left", "status")
    title, most = ("Broken thresholds", ROWS_SHOWN) if only_broken else ("Thresholds", len(rows))
    return first_rows(rows, title, head, most=most)


# --- findings and failures


def findings(summary: JsonObject, *, with_commands: bool = False) -> tuple[Block, ...]:
    """What stands out, each with the command that shows it again where there is room for that."""
    cards = [
        Card(
            (Badge(SEVERITIES.get(str(one.get("severity")), "bad"), str(one.get("id"))),),
            str(one.get("text")),
            (str(one["repro"]),) if with_commands and one.get("repro") else (),
        )
        for one in summary.get("findings", ())
    ]
    return (Cards(tuple(cards)),) if cards else ()


def no_findings(summary: JsonObject) -> tuple[Block, ...]:
    return (Sentence("Nothing stands out."),) if summary.get("findings") == [] else ()


def failure_reasons(summary: JsonObject, most: int = ROWS_SHOWN) -> tuple[Block, ...]:
    """Why episodes failed, the most frequent first."""
    rows = [
        (Figure("count", count, ("summary", "failure_reasons", text)), text)
        for text, count in sorted(
            summary.get("failure_reasons", {}).items(), key=lambda item: -item[1]
        )
    ]
    return first_rows(rows, "Reasons of failures", ("times", "reason"), "in the summary file", most)


def job_commands(summary: JsonObject) -> tuple[Block, ...]:
    commands = [Code(one["repro"]) for one in summary.get("failures", ())[:JOB_COMMANDS]]
    return (Sentence("To repeat one:"), Bullets(tuple(commands))) if commands else ()


def failed_episodes(summary: JsonObject) -> tuple[Block, ...]:
    cards = episode_cards(summary, "failures")
    if not cards:
        return ()
    total = _figure("count", summary, "failure_count")
    shown = min(len(summary["failures"]), EPISODES_SHOWN)
    return (*failure_reasons(summary), Sentence((f"The first {shown} of ", total, ":")), *cards)


def episode_cards(summary: JsonObject, name: str) -> tuple[Block, ...]:
    """The episodes that a list of the summary has, each with what to type to see its artifact and
    to repeat it.
    """
    cards = []
    root = str((summary.get("run_artifacts") or {}).get("root") or "")
    for number, one in enumerate((summary.get(name) or ())[:EPISODES_SHOWN]):
        place, kept = ("summary", name, number, "wall_clock_s"), one.get("artifact")
        wall = (" ", Figure("seconds", one["wall_clock_s"], place)) if "wall_clock_s" in one else ()
        what = Soft(f" {one['agent']} on {one['task_ref']}, seed {one['seed']}")
        look = (show_command(os.path.join(root, kept)),) if kept else ()
        cards.append(
            Card(
                line=(f"Episode {one['episode']}", *wall, what),
                detail=Code(one["error"]) if one.get("error") else "",
                commands=(*look, one["repro"]),
            )
        )
    return (Cards(tuple(cards)),) if cards else ()


# --- scenario rows


def scenario_rows(rows: Sequence[JsonObject]) -> tuple[Block, ...]:
    """One line per task and agent; columns that no row has anything in are left out."""
    columns: list[tuple[str, Unit, str]] = [
        ("episodes", "count", "run_count"),
        ("success", "percent", "success_rate"),
        ("p50", "seconds", "p50_wall_clock_s"),
        ("p95", "seconds", "p95_wall_clock_s"),
        ("p99", "seconds", "p99_wall_clock_s"),
        ("longest", "seconds", "max_wall_clock_s"),
        ("computing, p50", "seconds", "p50_computing_s"),
        ("CPU, p50", "seconds", "p50_cpu_s"),
        ("peak memory", "bytes", "peak_rss_bytes"),
        ("steps, p50", "count", "steps_p50"),
        ("of", "count", "steps_ceiling"),
        ("artifact, average", "bytes", "artifact_bytes_avg"),
        ("same hash again", "percent", "reproducibility_rate"),
    ]
    shown = [one for one in columns if any(row.get(one[2]) is not None for row in rows)]
    cells = [
        (
            Swatch(number) if number <= SWATCHES else str(number),
            Code(str(row["task_ref"])),
            Code(str(row["agent"])),
            *(Figure(unit, row.get(key), ("metrics", number - 1, key)) for _, unit, key in shown),
        )
        for number, row in enumerate(rows, 1)
    ]
    if not cells:
        return ()
    head = ("", "task", "agent", *(name for name, _, _ in shown))
    return (
        Sentence(Soft("Percentiles are nearest-rank, of episodes that ended by themselves.")),
        Table("Scenario rows", head, tuple(cells), "scenario rows, in the metrics file"),
    )


def allowances(manifest: JsonObject) -> tuple[Block, ...]:
    """What scenario rows allow their agents beyond the rule."""
    found: dict[Line, None] = dict.fromkeys(
        ("Allowed by its row: ", Code(row["agent"]), " on ", Code(row["task_ref"]), _may(allow))
        for row in manifest["scenario"]
        if (allow := row.get("allow"))
    )
    return (Bullets(tuple(found)),) if found else ()


def _may(allow: JsonObject) -> str:
    words = (f"{verb} {what}" for verb, key in ALLOWED for what in allow.get(key, ()))
    return f" may {', '.join(words)}."
