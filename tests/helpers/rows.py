"""Rows of episodes that never ran."""

import json
from collections.abc import Iterable
from typing import Any

from tracecore.records import EpisodeResult


def make_row(
    index: int = 0, *, wall_clock_s: float = 0.25, error: str | None = None, **changes: object
) -> EpisodeResult:
    """A row as a good episode leaves it, or with ``error`` a failed one; ``changes`` replace any
    field.
    """
    fields = {
        "episode": index + 1,
        "episode_index": index,
        "run_id": f"{index:032x}",
        "agent": "agents/toy_agent.py",
        "task_ref": "filesystem_hidden_config@1",
        "seed": 42 + index,
        "success": error is None,
        "termination_reason": "success" if error is None else "logic_failure",
        "failure_type": None if error is None else "logic_failure",
        "error": error,
        "steps_used": 5,
        "steps_budget": 20,
        "tool_calls_used": 4,
        "tool_calls_budget": 40,
        "artifact_hash": f"sha256:{index:064x}",
        "trace_hash": f"sha256:{index + 1:064x}",
        "artifact": f"{index:032x}.json",
        "artifact_bytes": 1000,
        "llm_trace_entries": 2,
        "prompt_bytes": 30,
        "completion_bytes": 40,
        "tokens_used": 50,
        "episode_s": wall_clock_s / 2,
        "wall_clock_s": wall_clock_s,
        "start_offset_s": index * 0.1,
        "end_offset_s": index * 0.1 + wall_clock_s,
        **changes,
    }
    return EpisodeResult(**fields)


def as_series(rows: Iterable[dict[str, Any]]) -> bytes:
    """The document of a series, with a row on every line."""
    return ("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n").encode()
