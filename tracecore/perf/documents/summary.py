"""The summary of a slice: a function over its rows. No clock, no disk.

Percentiles are nearest-rank: always a value that was measured.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tracecore.errors import one_line
from tracecore.perf.documents.rows import CRASHES, TIMEOUTS, Rows
from tracecore.record import field, record
from tracecore.records import JsonObject
from tracecore.stats import nearest_rank

PERCENTILE_METHOD: Final = "nearest-rank"
# texts kept apart; agents write them, so that their number has no end by itself
DISTINCT_REASONS: Final = 200
OTHER_REASONS: Final = "(other reasons)"
REASON_CHARACTERS: Final = 300
NO_TYPE: Final = "(none given)"


@record
class SliceFacts:
    """What a summary holds that is in no row."""

    episodes_requested: int = 0  # how many were asked for
    workers: int = 0  # episodes in flight
    runs_root: str = ""  # the folder of the run artifacts
    # as ``SystemSampler.sample`` gives them
    system_samples: JsonObject = field(default_factory=lambda: {"available": False})
    elapsed_s: float | None = None  # wall clock of the whole run; null where it is not known
    # how many ran in that time, if not all
    episodes_run: int | None = None
    interrupted: bool = False  # whether it was stopped before its end


def summary_document(rows: Rows, facts: SliceFacts) -> JsonObject:
    """The document of ``perf-summary-<stamp>.json``; averages and percentiles of nothing are null.

    Wall clocks are those of episodes that came to an end of their own: timeouts and crashes are
    counted instead.
    """
    total, passed = len(rows), sum(rows["success"])
    timed = rows.timed(range(total))
    walls_s = sorted(rows.pick("wall_clock_s", timed))
    ran = total if facts.episodes_run is None else facts.episodes_run
    endings = count_texts(rows, "termination_reason", range(total))
    models = model_figures(rows, range(total), timed)
    return {
        "summary": {
            "total": total,
            "passed": passed,
            "failed": total - passed,
            "workers": facts.workers,
            "p50_wall_clock_s": percentile(walls_s, 50),
            "p95_wall_clock_s": percentile(walls_s, 95),
            "percentile_method": PERCENTILE_METHOD,
            "success_rate": ratio(passed, total),
            "throughput_eps": ran / facts.elapsed_s if ran and facts.elapsed_s else None,
        },
        "episodes": total,
        "episodes_requested": facts.episodes_requested,
        "interrupted": facts.interrupted,
        "success_count": passed,
        "failure_count": total - passed,
        "timeouts": sum(endings.get(reason, 0) for reason in TIMEOUTS),
        "crashes": sum(endings.get(reason, 0) for reason in CRASHES),
        "elapsed_s": facts.elapsed_s,
        "max_wall_clock_s": max(walls_s, default=None),
        "failure_reasons": _failure_reasons(rows),
        "failure_types": count_texts(rows, "failure_type", failed_places(rows)),
        "termination_reasons": endings,
        "run_artifacts": _run_artifacts(rows, facts.runs_root),
        "system_samples": facts.system_samples,
        "telemetry_verbosity": _telemetry(rows),
        **({"models": models} if models else {}),
    }


def _run_artifacts(rows: Rows, root: str) -> JsonObject:
    none = rows.number_of("artifact", None)
    kept = [
        size
        for name, size in zip(rows["artifact"], rows["artifact_bytes"], strict=True)
        if name != none
    ]
    return {
        "root": root,
        "file_count": len(kept),
        "total_bytes": sum(kept),
        "avg_bytes": ratio(sum(kept), len(kept)),
    }


def _telemetry(rows: Rows) -> JsonObject:
    total, sizes = len(rows), rows["artifact_bytes"]
    entries = sum(rows["llm_trace_entries"])
    return {
        "artifact_bytes_total": sum(sizes),
        "artifact_bytes_avg": ratio(sum(sizes), total),
        "artifact_bytes_max": max(sizes, default=None),
        "llm_trace_entries_total": entries,
        "llm_trace_entries_avg": ratio(entries, total),
        "prompt_bytes_total": sum(rows["prompt_bytes"]),
        "completion_bytes_total": sum(rows["completion_bytes"]),
        "tokens_used_total": sum(rows["tokens_used"]),
    }


def model_figures(rows: Rows, places: Sequence[int], timed: Sequence[int]) -> JsonObject:
    """What the episodes at ``places`` asked of models, and the wall clocks of those that are
    ``timed`` without the waiting for them, which is not the agent's; nothing where no model was
    called.
    """
    calls = sum(rows.pick("model_calls", places))
    if not calls:
        return {}
    walls_s, waits_s = rows["wall_clock_s"], rows["model_wait_s"]
    own_s = sorted(max(0.0, walls_s[place] - waits_s[place]) for place in timed)
    return {
        "model_calls_total": calls,
        "model_bytes_total": sum(rows.pick("model_bytes", places)),
        "model_wait_s_total": sum(waits_s[place] for place in places),
        "p50_computing_s": percentile(own_s, 50),
        "p95_computing_s": percentile(own_s, 95),
    }


def failed_places(rows: Rows) -> list[int]:
    """Of the episodes that failed."""
    return [place for place, success in enumerate(rows["success"]) if not success]


def count_texts(rows: Rows, name: str, places: "list[int] | range") -> dict[str, int]:
    """How often each text of a column is there at ``places``, as JSON holds it."""
    column = rows[name]
    counts = Counter(column[place] for place in places)
    return by_count(
        Counter({rows.text(name, number) or NO_TYPE: count for number, count in counts.items()})
    )


def _failure_reasons(rows: Rows) -> dict[str, int]:
    errors, endings = rows["error"], rows["termination_reason"]
    found = Counter((errors[place], endings[place]) for place in failed_places(rows))
    none = rows.number_of("error", None)
    reasons: Counter[str] = Counter()
    for (error, ending), count in found.items():
        text = "" if error == none else rows.text("error", error)
        text = text or (rows.text("termination_reason", ending) if text == "" else None)
        reason = OTHER_REASONS if text is None else reason_text(text)
        if reason not in reasons and len(reasons) >= DISTINCT_REASONS:
            reason = OTHER_REASONS
        reasons[reason] += count
    return by_count(reasons)


def reason_text(text: str) -> str:
    """Why a failed episode failed: one line that is safe to print, of 300 characters at most."""
    text = text[: REASON_CHARACTERS + 1]
    if not text.isprintable():  # most are, and escaping costs a call per character
        text = one_line(text)
    return text if len(text) <= REASON_CHARACTERS else text[: REASON_CHARACTERS - 1] + "…"


def by_count(counts: Counter[str]) -> dict[str, int]:
    """The counts as JSON holds them: largest first, equal ones by name, so that equal slices read
    the same.
    """
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def percentile(ascending: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile, or None where there are no values."""
    return nearest_rank(ascending, percent) if ascending else None


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, or None where there is no whole."""
    return part / whole if whole else None
