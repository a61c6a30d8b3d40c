import pytest
from helpers.sets import DEFAULTS, TASKS, only

from tracecore.perf.compare.comparison import (
    compare_paths,
    exit_code_of,
)
from tracecore.perf.slice.options import JudgeOptions
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict, replace


def test_one_run_each_suffices_for_behaviour(sets):
    failed = only(5, success=False, error="lost its way", termination_reason="logic_failure")
    document = compare_paths([sets.write()], [sets.write(change=failed)], DEFAULTS)
    assert document["verdict"] == "regressed"
    change = document["exact"]["changes"][0]
    assert (change["row"], change["quantity"], change["changed"], change["compared"]) == (
        TASKS[1],
        "success",
        1,
        6,
    )
    assert change["examples"] == ({"seed": 16, "base": True, "new": False},)
    assert exit_code_of(document, DEFAULTS) == 3


def test_a_success_that_was_a_failure_is_an_improvement(sets):
    failed = only(5, success=False, error="lost its way", termination_reason="logic_failure")
    document = compare_paths([sets.write(change=failed)], [sets.write()], DEFAULTS)
    assert [change["verdict"] for change in document["exact"]["changes"]] == ["improved"]


def test_another_reason_to_fail_is_a_regression_with_both_texts(sets):
    base, new = (
        only(5, success=False, error=text, termination_reason="logic_failure")
        for text in ("this", "that")
    )
    document = compare_paths([sets.write(change=base)], [sets.write(change=new)], DEFAULTS)
    (change,) = document["exact"]["changes"]
    assert (change["quantity"], change["examples"][0]["base"], change["examples"][0]["new"]) == (
        "failure_reason",
        "this",
        "that",
    )


def test_how_long_a_timeout_took_is_no_other_reason(sets):
    base, new = (
        only(5, success=False, error=f"timed out after {after}", termination_reason="timeout")
        for after in ("0.51", "0.52")
    )
    assert (
        compare_paths([sets.write(change=base)], [sets.write(change=new)], DEFAULTS)["exact"][
            "changes"
        ]
        == []
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps_used", 6),
        ("tool_calls_used", 5),
        ("llm_trace_entries", 1),
        ("prompt_bytes", 31),
        ("tokens_used", 10**30),
        ("trace_hash", "sha256:other"),
        ("artifact_hash", "sha256:other"),
    ],
)
def test_any_change_of_behaviour_is_reported_and_fails(sets, field, value):
    base, new = sets.write(), sets.write(change=only(7, **{field: value}))
    document = compare_paths([base], [new], DEFAULTS)
    assert [(change["quantity"], change["changed"]) for change in document["exact"]["changes"]] == [
        (field, 1)
    ]
    assert document["verdict"] == "regressed"
    accepted = compare_paths([base], [new], JudgeOptions(accept_changes=True))
    assert accepted["verdict"] == "inconclusive"
    assert len(accepted["exact"]["changes"]) == 1


def test_a_changed_hash_is_shown_as_it_stands_in_the_series(sets):
    new = sets.write(change=only(7, trace_hash="sha256:other"))
    (change,) = compare_paths([sets.write()], [new], DEFAULTS)["exact"]["changes"]
    assert change["examples"] == ({"seed": 28, "base": f"sha256:{8:064x}", "new": "sha256:other"},)


def test_artifact_hashes_are_compared_within_one_commit_alone(sets):
    other = {
        "runtime_identity": {
            "name": "tracecore",
            "version": "0.1.0",
            "git_sha": "b" * 40,
            "dirty": False,
        }
    }
    new = sets.write(change=lambda row: replace(row, artifact_hash="sha256:other"), manifest=other)
    assert compare_paths([sets.write()], [new], DEFAULTS)["exact"]["changes"] == []


def test_other_behaviour_of_a_changed_task_is_told_and_not_judged(sets):
    rows = [{**as_dict(row), "agent_hash": "a", "task_hash": "new"} for row in DEFAULT_SCENARIO]
    new = sets.write(change=only(7, steps_used=9), manifest={"scenario": rows})
    document = compare_paths([sets.write()], [new], DEFAULTS)
    assert [(change["verdict"], change["gates"]) for change in document["exact"]["changes"]] == [
        ("not_comparable", False)
    ]
    assert document["verdict"] == "inconclusive"


def test_a_few_bytes_more_are_no_change_and_six_percent_are(sets):
    def grow(by):
        return lambda row: replace(row, artifact_bytes=row.artifact_bytes + by(row.episode_index))

    base = sets.write()
    jitter = compare_paths([base], [sets.write(change=grow(lambda index: index % 7 - 3))], DEFAULTS)
    assert jitter["exact"]["changes"] == []
    grown = compare_paths([base], [sets.write(change=grow(lambda _: 60))], DEFAULTS)
    assert {change["verdict"] for change in grown["exact"]["changes"]} == {"regressed"}
    little = compare_paths([base], [sets.write(change=grow(lambda _: 20))], DEFAULTS)
    assert {(change["verdict"], change["gates"]) for change in little["exact"]["changes"]} == {
        ("unchanged", False)
    }


def test_base_runs_that_disagree_among_themselves_prove_nothing(sets):
    document = compare_paths(
        [sets.write(), sets.write(change=only(7, steps_used=9))], [sets.write()], DEFAULTS
    )
    assert [change["verdict"] for change in document["exact"]["changes"]] == ["inconclusive"]


def test_new_runs_that_disagree_among_themselves_are_a_regression(sets):
    document = compare_paths(
        [sets.write()], [sets.write(), sets.write(change=only(7, trace_hash="x"))], DEFAULTS
    )
    assert "do not agree among themselves" in document["reasons"][0]
    assert document["verdict"] == "regressed"
