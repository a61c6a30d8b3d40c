"""The series of a slice: every episode, in order, streamed row by row. No clock, no disk."""

import json
from collections.abc import Iterable, Iterator
from typing import Protocol

from tracecore.records import EpisodeResult, JsonObject

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode


class Reducer(Protocol):
    """Something that takes rows one by one."""

    def add(self, row: EpisodeResult) -> None: ...


def feed(rows: Iterable[EpisodeResult], *reducers: Reducer) -> Iterator[EpisodeResult]:
    """Pass the rows on, giving each to every reducer on the way: one pass over the journal serves
    all documents.
    """
    for row in rows:
        for reducer in reducers:
            reducer.add(row)
        yield row


def series_chunks(rows: Iterable[EpisodeResult]) -> Iterator[bytes]:
    """The document of ``perf-series-<stamp>.json`` in pieces: a JSON list, one row per line.

    Args:
        rows: By episode index.
    """
    between = b"[\n"
    for row in rows:
        # A lone surrogate, which UTF-8 cannot hold, leaves as its JSON escape.
        yield between + _encode(series_row(row)).encode("utf-8", "backslashreplace")
        between = b",\n"
    yield b"[]\n" if between == b"[\n" else b"\n]\n"


def series_row(row: EpisodeResult) -> JsonObject:
    """One episode as the series tells it."""
    usage = row.usage
    return {
        "episode": row.index + 1,
        "episode_index": row.index,
        "agent": row.agent,
        "task_ref": row.task_ref,
        "seed": row.seed,
        "success": row.success,
        "wall_clock_s": usage.wall_clock_s,
        "error": row.error,
        "artifact_bytes": row.artifact_bytes,
        "llm_trace_entries": row.llm_trace_entries,
        "prompt_bytes": row.prompt_bytes,
        "completion_bytes": row.completion_bytes,
        "tokens_used": row.tokens_used,
        "termination_reason": row.termination_reason,
        "failure_type": row.failure_type,
        "steps_used": row.steps_used,
        "steps_budget": row.steps_budget,
        "tool_calls_used": row.tool_calls_used,
        "tool_calls_budget": row.tool_calls_budget,
        "run_id": row.run_id,
        "artifact": row.artifact_name,
        "artifact_hash": row.artifact_hash,
        "trace_hash": row.trace_hash,
        "episode_s": row.episode_s,
        "start_offset_s": usage.start_offset_s,
        "end_offset_s": usage.end_offset_s,
        "queue_wait_s": usage.queue_wait_s,
        "cpu_user_s": usage.cpu_user_s,
        "cpu_sys_s": usage.cpu_sys_s,
        "peak_rss_bytes": usage.peak_rss_bytes,
        "worker": usage.worker,
        "attempt": usage.attempt,
        "leaked_processes": usage.leaked_processes,
        **({} if row.allow is None else {"allow": row.allow}),
        **({} if row.host is None else {"host": row.host}),
    }
