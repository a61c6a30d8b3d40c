import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore.perf.documents.metrics import metrics_document
from tracecore.perf.documents.rows import Rows


def rows_of(rows):
    return metrics_document(Rows(rows))


def test_one_row_per_task_and_agent_in_order_of_appearance(make_row):
    assert rows_of([]) == []
    inputs = [("b@1", "x.py"), ("a@1", "x.py"), ("b@1", "other.py"), ("b@1", "x.py")]
    rows = rows_of(
        make_row(index, task_ref=task, agent=agent, seed=index % 3)
        for index, (task, agent) in enumerate(inputs)
    )
    groups = [(row["task_ref"], row["agent"], row["run_count"]) for row in rows]
    assert groups == [("b@1", "x.py", 2), ("a@1", "x.py", 1), ("b@1", "other.py", 1)]
    # seed 0 again on the first alone
    assert [row["repeated_inputs"] for row in rows] == [1, 0, 0]
    assert [row["reproducibility_rate"] for row in rows] == [0.0, None, None]


def test_a_group_is_summed_up(make_row):
    failed = {"failure_type": "timeout", "termination_reason": "timeout", "error": "no"}
    rows = rows_of(
        [
            make_row(0, wall_clock_s=0.5, steps_used=3, tool_calls_used=2),
            make_row(
                1, wall_clock_s=1.0, steps_used=9, tool_calls_used=7, artifact_bytes=3000, **failed
            ),
            make_row(2, wall_clock_s=1.5, steps_used=4, tool_calls_used=4),
        ]
    )
    assert rows == [
        {
            "task_ref": "filesystem_hidden_config@1",
            "agent": "agents/toy_agent.py",
            "run_count": 3,
            "success_rate": 2 / 3,
            "reproducibility_rate": None,
            "repeated_inputs": 0,
            "steps_p50": 4,
            "steps_p95": 9,
            "steps_ceiling": 20,
            "tool_calls_p50": 4,
            "tool_calls_p95": 7,
            "tool_calls_ceiling": 40,
            "percentile_method": "nearest-rank",
            "failure_taxonomy": {"timeout": 1},
            "termination_taxonomy": {"success": 2, "timeout": 1},
            "avg_wall_clock_s": 1.0,
            "artifact_bytes_avg": 5000 / 3,
            "artifact_bytes_max": 3000,
            "llm_trace_entries_total": 6,
            "prompt_bytes_total": 90,
            "completion_bytes_total": 120,
            "tokens_used_total": 150,
            "p50_wall_clock_s": 0.5,
            "p95_wall_clock_s": 1.5,
            "p99_wall_clock_s": None,
            "max_wall_clock_s": 1.5,
            "p50_cpu_s": None,
            "peak_rss_bytes": None,
        }
    ]


def test_a_success_has_no_place_among_the_failures(make_row):
    [row] = rows_of([make_row(0), make_row(1, error="no", failure_type=None)])
    assert row["failure_taxonomy"] == {"(none given)": 1}


SEEDS = st.integers(-3, 8) | st.sampled_from([2**62, 2**64 - 5])


@given(st.lists(st.tuples(SEEDS, st.sampled_from("abc")), min_size=1, max_size=60))
def test_repeats_are_counted_as_a_dict_of_lists_would(make_row, episodes):
    hashes: dict[int, list[str]] = {}
    for seed, hash_ in episodes:
        hashes.setdefault(seed, []).append(hash_)
    repeated = [seen for seen in hashes.values() if len(seen) > 1]
    reproduced = sum(len(set(seen)) == 1 for seen in repeated)
    [row] = rows_of(make_row(0, seed=seed, artifact_hash=hash_) for seed, hash_ in episodes)
    assert row["repeated_inputs"] == len(repeated)
    assert row["reproducibility_rate"] == (reproduced / len(repeated) if repeated else None)


def test_times_are_of_episodes_that_came_to_an_end_of_their_own(make_row):
    rows = [make_row(n, wall_clock_s=n + 1.0, cpu_user_s=0.1, cpu_sys_s=0.2) for n in range(4)]
    timeout = make_row(4, wall_clock_s=99.0, error="slow", termination_reason="timeout")
    [row] = rows_of([*rows, timeout])
    assert (row["p50_wall_clock_s"], row["p95_wall_clock_s"], row["max_wall_clock_s"]) == (2, 4, 4)
    assert row["p50_cpu_s"] == pytest.approx(0.3)
    [nothing] = rows_of([timeout])
    assert [nothing[name] for name in row if name.endswith("wall_clock_s")] == [None] * 5
    assert (nothing["p50_cpu_s"], nothing["peak_rss_bytes"]) == (None, None)
