import json

import pytest

from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import (
    DISTINCT_REASONS,
    OTHER_REASONS,
    SliceFacts,
    summary_document,
)

SAMPLES = {"available": False}


def document_of(rows, **changes):
    arguments = {
        "episodes_requested": 3,
        "workers": 2,
        "runs_root": "runs",
        "system_samples": SAMPLES,
        "elapsed_s": 2.0,
    }
    return summary_document(Rows(rows), SliceFacts(**{**arguments, **changes}))


def test_a_slice_is_summed_up(make_row):
    rows = [
        make_row(0, wall_clock_s=0.3),
        make_row(
            1, wall_clock_s=0.1, error="no", failure_type="timeout", termination_reason="timeout"
        ),
        make_row(2, wall_clock_s=0.2, artifact_bytes=500),
    ]
    assert document_of(rows) == {
        "summary": {
            "total": 3,
            "passed": 2,
            "failed": 1,
            "workers": 2,
            "p50_wall_clock_s": 0.2,
            "p95_wall_clock_s": 0.3,
            "percentile_method": "nearest-rank",
            "success_rate": 2 / 3,
            "throughput_eps": 1.5,
        },
        "episodes": 3,
        "episodes_requested": 3,
        "interrupted": False,
        "success_count": 2,
        "failure_count": 1,
        "timeouts": 1,
        "crashes": 0,
        "elapsed_s": 2.0,
        "max_wall_clock_s": 0.3,
        "failure_reasons": {"no": 1},
        "failure_types": {"timeout": 1},
        "termination_reasons": {"success": 2, "timeout": 1},
        "run_artifacts": {
            "root": "runs",
            "file_count": 3,
            "total_bytes": 2500,
            "avg_bytes": 2500 / 3,
        },
        "system_samples": SAMPLES,
        "telemetry_verbosity": {
            "artifact_bytes_total": 2500,
            "artifact_bytes_avg": 2500 / 3,
            "artifact_bytes_max": 1000,
            "llm_trace_entries_total": 6,
            "llm_trace_entries_avg": 2.0,
            "prompt_bytes_total": 90,
            "completion_bytes_total": 120,
            "tokens_used_total": 150,
        },
    }


@pytest.mark.parametrize(
    ("reason", "count"),
    [("timeout", "timeouts"), ("agent_crashed", "crashes"), ("episode_crashed", "crashes")],
)
def test_what_was_cut_off_or_died_is_counted_and_is_no_latency(make_row, reason, count):
    rows = [
        make_row(0, wall_clock_s=0.1),
        make_row(1, wall_clock_s=180.0, error="x", termination_reason=reason),
    ]
    document = document_of(rows)
    assert document[count] == 1
    assert document["max_wall_clock_s"] == document["summary"]["p95_wall_clock_s"] == 0.1
    assert (document["episodes"], document["failure_count"]) == (2, 1)
    nothing_left = document_of(rows[1:])
    assert nothing_left["max_wall_clock_s"] is nothing_left["summary"]["p50_wall_clock_s"] is None
    assert nothing_left["episodes"] == 1


def test_an_empty_slice_has_nulls_and_no_crash():
    document = document_of([], elapsed_s=None)
    json.dumps(document, allow_nan=False)
    figures = document["summary"]
    assert document["episodes"] == figures["total"] == 0
    assert figures["p50_wall_clock_s"] is figures["success_rate"] is None
    assert figures["throughput_eps"] is document["max_wall_clock_s"] is None
    assert document["run_artifacts"]["avg_bytes"] is None
    assert document["telemetry_verbosity"]["artifact_bytes_max"] is None


def test_what_was_not_kept_is_no_file_and_what_did_not_run_now_is_not_in_the_rate(make_row):
    rows = [make_row(0, error="b"), *(make_row(n, artifact=None, error="c") for n in (1, 2))]
    document = document_of([*rows, make_row(3, error="a")], episodes_run=1, interrupted=True)
    counted = {"file_count": 2, "total_bytes": 2000, "avg_bytes": 1000.0}
    assert document["run_artifacts"] == {"root": "runs", **counted}
    assert document["telemetry_verbosity"]["artifact_bytes_total"] == 4000
    assert (document["summary"]["throughput_eps"], document["interrupted"]) == (0.5, True)
    assert list(document["failure_reasons"].items()) == [("c", 2), ("a", 1), ("b", 1)]


def test_reasons_are_one_short_printable_line(make_row):
    rows = [
        make_row(0, error="a\nb\x1b[31m"),
        make_row(1, error="x" * 1000),
        make_row(2, error="\n" * 1000),
        make_row(3, error="é" * 300),
        make_row(4, success=False, termination_reason="episode_crashed"),
    ]
    reasons = document_of(rows)["failure_reasons"]
    assert "a\\nb\\x1b[31m" in reasons
    assert "x" * 299 + "…" in reasons
    assert "é" * 300 in reasons
    assert "episode_crashed" in reasons
    assert all(text.isprintable() and len(text) <= 300 for text in reasons)


def test_the_number_of_reasons_has_an_end(make_row):
    rows = [make_row(index, error=f"reason {index % 500}") for index in range(1000)]
    reasons = document_of(rows)["failure_reasons"]
    assert len(reasons) == DISTINCT_REASONS + 1
    assert sum(reasons.values()) == 1000
    assert reasons[OTHER_REASONS] == 600
