import json
import math

import pytest

from tracecore.perf.documents.rows import Rows, series_chunks
from tracecore.perf.slice.journal_file import FIELDS
from tracecore.record import as_dict
from tracecore.records import Usage


def document_of(rows):
    return b"".join(series_chunks(rows))


def test_there_is_one_row_per_line_and_any_text_comes_back(make_row):
    lines = document_of([make_row(0), make_row(1, error="a\ud800\né")]).decode().splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    rows = [json.loads(line.rstrip(",")) for line in lines[1:-1]]
    assert [(row["episode"], row["error"]) for row in rows] == [(1, None), (2, "a\ud800\né")]
    assert json.loads(document_of([])) == []
    with pytest.raises(ValueError, match="JSON compliant"):
        document_of([make_row(0, episode_s=float("nan"))])


def test_the_fields_of_the_contract_come_first(make_row):
    [row] = json.loads(document_of([make_row(6, error="no")]))
    assert list(row.items())[:13] == [
        ("episode", 7),
        ("episode_index", 6),
        ("agent", "agents/toy_agent.py"),
        ("task_ref", "filesystem_hidden_config@1"),
        ("seed", 48),
        ("success", False),
        ("wall_clock_s", 0.25),
        ("error", "no"),
        ("artifact_bytes", 1000),
        ("llm_trace_entries", 2),
        ("prompt_bytes", 30),
        ("completion_bytes", 40),
        ("tokens_used", 50),
    ]


def test_the_rest_says_where_time_went_and_what_was_left(make_row):
    usage = Usage(1 / 3, 0.1, 0.2, 0.3, 0.4, 0.5, 6, 7, 2, 9, 3, 1234)
    [row] = json.loads(document_of([make_row(0, episode_s=0.125, **as_dict(usage))]))
    assert dict(list(row.items())[13:]) == {
        "termination_reason": "success",
        "failure_type": None,
        "steps_used": 5,
        "steps_budget": 20,
        "tool_calls_used": 4,
        "tool_calls_budget": 40,
        "run_id": "0" * 32,
        "artifact": "0" * 32 + ".json",
        "artifact_hash": "sha256:" + "0" * 64,
        "trace_hash": "sha256:" + "0" * 63 + "1",
        "episode_s": 0.125,
        "start_offset_s": 0.1,
        "end_offset_s": 0.2,
        "queue_wait_s": 0.3,
        "cpu_user_s": 0.4,
        "cpu_sys_s": 0.5,
        "peak_rss_bytes": 6,
        "worker": 7,
        "attempt": 2,
        "leaked_processes": 9,
        "slot": 3,
        "page_faults": 1234,
        "part": 0,
        "model_calls": 0,
        "model_bytes": 0,
        "model_wait_s": 0.0,
    }
    assert row["wall_clock_s"] == 1 / 3


def test_a_table_has_every_field_of_its_rows(make_row):
    rows = [make_row(0), make_row(1, error="no", artifact=None, host="n1", seed=-7)]
    table = Rows()
    assert list(table.take(iter(rows))) == rows
    assert len(table) == 2
    for name in FIELDS:
        values = [getattr(row, name) for row in rows]
        if name not in {"allow", "model_limits", "work"}:
            is_text = table.is_text(name)
            expected = [table.number_of(name, value) for value in values] if is_text else values
            assert list(table[name]) == expected
    assert table.failures == [rows[1]]
    assert table.text("error", table["error"][1]) == "no"
    assert table.text("host", table["host"][0]) is None


@pytest.mark.parametrize("value", [0, 2**15, -(2**15) - 1, 2**31, 2**63, -(10**40)])
def test_a_column_holds_whole_numbers_of_any_size(make_row, value):
    table = Rows(make_row(n, tokens_used=tokens) for n, tokens in enumerate([1, value, 2]))
    assert list(table["tokens_used"]) == [1, value, 2]
    assert list(table.pick("tokens_used", [2, 1])) == [2, value]


def test_a_million_rows_fit_into_two_hundred_megabytes(make_row):
    table = Rows(
        make_row(n, error=f"error {n}", wall_clock_s=n / 7, peak_rss_bytes=n * 10**6)
        for n in range(2000)
    )
    assert sum(len(column) * column.itemsize for column in table._columns.values()) < 2000 * 200


def test_groups_stand_in_the_order_of_appearance(make_row):
    table = Rows(make_row(n, task_ref=task) for n, task in enumerate(["b@1", "a@1", "b@1"]))
    assert [task for _agent, task in table.groups] == ["b@1", "a@1"]
    assert [list(table.places(group)) for group in (0, 1)] == [[0, 2], [1]]


def test_what_the_clock_or_a_crash_ended_has_no_latency(make_row):
    reasons = ["success", "timeout", "agent_crashed", "episode_crashed", "logic_failure"]
    table = Rows(make_row(n, termination_reason=reason) for n, reason in enumerate(reasons))
    assert list(table.is_cut_off()) == [0, 1, 1, 1, 0]
    assert list(map(math.isnan, table.latencies_s())) == [False, True, True, True, False]
