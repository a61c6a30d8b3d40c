from typing import Any

import pytest
from helpers.rows import make_row

from tracecore import canon
from tracecore.perf.documents.rows import Rows
from tracecore.perf.judge.aggregates import ThresholdStatus, aggregate, evaluate
from tracecore.perf.judge.thresholds import parse_threshold
from tracecore.records import EpisodeResult

FIELDS = (
    *("wall_clock_s", "success", "task_ref", "agent", "seed"),
    *("error", "tokens_used", "failure_type", "artifact"),
)
PATHS = (
    "episodes", "failure_count", "summary.p95_wall_clock_s", "interrupted",
    "failure_types.timeout", "run_artifacts.root", "system_samples.cpu_percent",
)  # fmt: skip


def judge(text: str, rows: list[EpisodeResult], summary: dict | None = None) -> ThresholdStatus:
    threshold = parse_threshold(text, "--threshold", paths=PATHS, fields=FIELDS)
    return evaluate(threshold, {"episodes": len(rows), **(summary or {})}, Rows(rows))


def row(**fields: Any) -> EpisodeResult:
    good = {"task_ref": "a@1", "agent": "x.py", "seed": 0, "wall_clock_s": 1.0, "tokens_used": 0}
    return make_row(**{**good, **fields})


WALLS = [row(wall_clock_s=wall) for wall in (3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0)]
MIXED = [
    row(success=True),
    row(success=False, error="it broke", failure_type="timeout", tokens_used=7),
    row(task_ref="b@2", success=True, tokens_used=5, seed=-1),
    row(task_ref="b@2", success=True, agent="y, z.py"),
]


@pytest.mark.parametrize(
    ("aggregate", "observed"),
    [
        ("avg", 31 / 8), ("min", 1), ("max", 9), ("sum", 31), ("count", 8), ("rate", 1),
        ("med", 3), ("p(0)", 1), ("p(50)", 3), ("p(75)", 5), ("p(95)", 9), ("p(100)", 9),
    ],
)  # fmt: skip
def test_each_aggregate_says_what_its_name_says(aggregate: str, observed: float):
    assert judge(f"wall_clock_s:{aggregate} >= 0", WALLS).observed == observed


@pytest.mark.parametrize(
    ("expression", "observed"),
    [
        ("success:rate", 0.75),
        ("success:count", 3),
        ("success:avg", 0.75),
        ("success{task_ref=a@1}:rate", 0.5),
        ("success{task_ref=b@2,seed=-1}:count", 1),
        ('success{agent="y, z.py"}:count', 1),
        ("tokens_used{success=false}:sum", 7),
        ("tokens_used:count", 2),
        ("error:count", 1),
        ("error:rate", 0.25),
        ("error{failure_type=null}:count", 0),
        ("wall_clock_s{failure_type=timeout}:count", 1),
    ],
)
def test_rows_are_selected_and_counted(expression: str, observed: float):
    assert judge(f"{expression} >= 0", MIXED).observed == observed


@pytest.mark.parametrize(
    ("condition", "status", "margin"),
    [
        ("> 3", "passed", 1), ("> 4", "failed", 0), ("> 5", "failed", -1),
        (">= 4", "passed", 0), (">= 5", "failed", -1),
        ("< 5", "passed", 1), ("< 4", "failed", 0), ("<= 4", "passed", 0), ("<= 3", "failed", -1),
        ("== 4", "passed", 0), ("== 5", "failed", -1), ("!= 5", "passed", 1), ("!= 4", "failed", 0),
    ],
)  # fmt: skip
def test_the_margin_is_the_room_that_is_left(condition: str, status: str, margin: float):
    result = judge(f"failure_count {condition}", [row()], {"failure_count": 4})
    assert (result.status, result.margin, result.observed) == (status, margin, 4)


@pytest.mark.parametrize(
    "text",
    [
        "wall_clock_s{task_ref=c@1}:count == 0",  # this task did not run
        "success{agent=other.py,success=false}:count == 0",
        "wall_clock_s{task_ref=c@1}:max < 100",
        "wall_clock_s{failure_type=logic_failure}:max < 100",
        "wall_clock_s{failure_type=logic_failure}:rate < 1",
        "tokens_used{failure_type=logic_failure}:sum < 1",
        "error:max < 1",  # text has no largest
        "artifact:p(95) < 1",
        "summary.p95_wall_clock_s < 100",  # null below
        "system_samples.cpu_percent < 100",  # not there at all
        "run_artifacts.root != 1",  # text
        "failure_count != 1",
    ],
)
def test_no_data_fails_and_never_passes(text: str):
    document = {
        "summary": {"p95_wall_clock_s": None},
        "system_samples": None,
        "run_artifacts": {"root": "runs"},
    }
    result = judge(text, MIXED, document)
    assert (result.status, result.observed, result.margin) == ("no_data", None, None)


@pytest.mark.parametrize(
    "text", ["failure_count == 0", "episodes < 1", "error:count == 0", "success:rate <= 1"]
)
def test_a_slice_in_which_nothing_finished_passes_nothing(text: str):
    assert judge(text, [], {"failure_count": 0}).status == "no_data"


@pytest.mark.parametrize(
    ("text", "summary", "status"),
    [
        ("success{success=false}:count == 0", {}, "passed"),
        ("failure_types.timeout == 0", {"failure_types": {"logic_failure": 2}}, "passed"),
        ("failure_types.timeout == 0", {"failure_types": {"timeout": 2}}, "failed"),
        ("failure_types.timeout == 0", {}, "no_data"),
        ("interrupted == 0", {"interrupted": True}, "failed"),
        ("interrupted == 0", {"interrupted": False}, "passed"),
        ("failure_count > -1", {"failure_count": -(10**400)}, "failed"),
    ],
)
def test_that_nothing_of_a_kind_happened_is_an_answer_and_a_truth_value_a_number(
    text, summary, status
):
    assert judge(text, [row()], summary).status == status


def test_a_number_that_no_double_holds_still_fails_and_can_be_written_down():
    rows = [row(tokens_used=10**400), row(tokens_used=10**400)]
    for name in ("sum", "max", "avg", "p(95)"):
        result = judge(f"tokens_used:{name} < 1_000_000", rows)
        assert result.status == "failed"
        assert canon.encode([result.observed, result.margin])


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        ("success=true", 2), ("success=1", 0), ("seed=-1", 1), ("seed=01", 0),
        ("wall_clock_s=0.5", 1), ("wall_clock_s=.5", 0), ("error=null", 2), ("error=no", 1),
        ("failure_type=timeout", 1), ("artifact=null", 1), ("tokens_used=" + "9" * 40, 1),
    ],
)  # fmt: skip
def test_a_selector_writes_values_as_json_does(selector: str, count: int):
    rows = [
        row(seed=-1, artifact=None, tokens_used=int("9" * 40)),
        row(wall_clock_s=0.5),
        row(seed=1, error="no", failure_type="timeout"),
    ]
    fields = (*FIELDS, "episode")
    threshold = parse_threshold(f"episode{{{selector}}}:count > 9", "x", paths=(), fields=fields)
    assert (aggregate(threshold, Rows(rows)) or 0) == count
