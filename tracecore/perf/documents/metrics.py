"""The metrics of a slice: one row per task and agent, as a function over its rows. No clock, no
disk.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import add
from typing import Final

from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import (
    PERCENTILE_METHOD,
    count_texts,
    model_figures,
    percentile,
    ratio,
)
from tracecore.records import JsonObject
from tracecore.stats import nearest_rank

P99_EPISODES: Final = 500  # of a row; with fewer, its p99 is one of the very slowest
TIMES: Final = frozenset(
    {
        "p50_wall_clock_s",
        "p95_wall_clock_s",
        "p99_wall_clock_s",
        "max_wall_clock_s",
        "p50_cpu_s",
        "peak_rss_bytes",
    }
)


def metrics_document(rows: Rows) -> list[JsonObject]:
    """The document of ``perf-metrics-<stamp>.json``; groups stand in the order of appearance."""
    return [
        {"task_ref": task_ref, "agent": agent, **_group(rows, rows.places(group))}
        for group, (agent, task_ref) in enumerate(rows.groups)
    ]


def _group(rows: Rows, places: Sequence[int]) -> JsonObject:
    """The figures of one agent on one task: everything but their names."""
    count, timed = len(places), rows.timed(places)
    walls_s = rows.pick("wall_clock_s", timed)
    ascending_s = sorted(walls_s)
    cpus_s = sorted(map(add, rows.pick("cpu_user_s", timed), rows.pick("cpu_sys_s", timed)))
    repeated, reproduced = _repeats(rows, places)
    sizes = rows.pick("artifact_bytes", places)
    failed = [place for place in places if not rows["success"][place]]
    return {
        "run_count": count,
        "success_rate": (count - len(failed)) / count,
        "reproducibility_rate": ratio(reproduced, repeated),
        "repeated_inputs": repeated,
        **_steps(rows, places, "steps"),
        **_steps(rows, places, "tool_calls"),
        "percentile_method": PERCENTILE_METHOD,
        "failure_taxonomy": count_texts(rows, "failure_type", failed),
        "termination_taxonomy": count_texts(rows, "termination_reason", list(places)),
        "avg_wall_clock_s": ratio(sum(walls_s), len(timed)),
        "artifact_bytes_avg": sum(sizes) / count,
        "artifact_bytes_max": max(sizes),
        "llm_trace_entries_total": sum(rows.pick("llm_trace_entries", places)),
        "prompt_bytes_total": sum(rows.pick("prompt_bytes", places)),
        "completion_bytes_total": sum(rows.pick("completion_bytes", places)),
        "tokens_used_total": sum(rows.pick("tokens_used", places)),
        **model_figures(rows, places, timed),
        "p50_wall_clock_s": percentile(ascending_s, 50),
        "p95_wall_clock_s": percentile(ascending_s, 95),
        "p99_wall_clock_s": percentile(ascending_s, 99) if len(timed) >= P99_EPISODES else None,
        "max_wall_clock_s": max(walls_s, default=None),
        "p50_cpu_s": percentile(cpus_s, 50) or None,
        "peak_rss_bytes": max(rows.pick("peak_rss_bytes", places)) or None,
    }


def _steps(rows: Rows, places: Sequence[int], name: str) -> JsonObject:
    used = sorted(rows.pick(f"{name}_used", places))
    return {
        f"{name}_p50": nearest_rank(used, 50),
        f"{name}_p95": nearest_rank(used, 95),
        f"{name}_ceiling": max(rows.pick(f"{name}_budget", places)),
    }


def _repeats(rows: Rows, places: Sequence[int]) -> tuple[int, int]:
    """How many seeds ran more than once, and for how many of those all hashes agree."""
    seeds, hashes = rows["seed"], rows["artifact_hash"]
    repeated = reproduced = 0
    for _, same in groupby(sorted(places, key=seeds.__getitem__), key=seeds.__getitem__):
        first, *others = [hashes[place] for place in same]
        if others:
            repeated += 1
            reproduced += all(other == first for other in others)
    return repeated, reproduced
