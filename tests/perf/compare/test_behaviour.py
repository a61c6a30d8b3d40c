"""What episodes of the same row did, exactly: one run each suffices, and any change counts."""

import pytest
from helpers.sets import DEFAULTS, TASKS, only

from tracecore.perf.compare.comparison import compare_paths, exit_code_of
from tracecore.perf.slice.options import JudgeOptions
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict, replace


def failed(error, reason="logic_failure"):
    return only(5, success=False, error=error, termination_reason=reason)


def changes_of(base, new):
    document = compare_paths([base], [new], DEFAULTS)
    return document["exact"]["changes"], document


def test_an_episode_that_fails_now_is_a_regression_of_its_row(sets):
    changes, document = changes_of(sets.write(), sets.write(change=failed("lost its way")))
    assert document["verdict"] == "regressed"
    assert (changes[0]["row"], changes[0]["quantity"]) == (TASKS[1], "success")
    assert (changes[0]["changed"], changes[0]["compared"]) == (1, 6)
    assert changes[0]["examples"] == ({"seed": 16, "base": True, "new": False},)
    assert exit_code_of(document, DEFAULTS) == 3


@pytest.mark.parametrize(
    ("base", "new", "found"),
    [
        (failed("lost"), None, [("success", "improved")]),
        (failed("this"), failed("that"), [("failure_reason", "regressed")]),
        # how long a timeout took is no other reason
        (failed("timed out after 0.51", "timeout"), failed("timed out after 0.52", "timeout"), []),
    ],
)
def test_an_episode_that_fails_no_more_is_an_improvement_and_another_reason_none(
    sets, base, new, found
):
    changes, _ = changes_of(sets.write(change=base), sets.write(change=new))
    assert [(change["quantity"], change["verdict"]) for change in changes] == found
    for change in changes[:1]:
        old, now = change["examples"][0]["base"], change["examples"][0]["new"]
        assert (old, now) in {(False, True), ("this", "that")}


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("steps_used", 5, 6), ("tool_calls_used", 4, 5), ("llm_trace_entries", 2, 1),
        ("prompt_bytes", 30, 31), ("tokens_used", 50, 10**30),
        ("trace_hash", f"sha256:{8:064x}", "sha256:other"),
        ("artifact_hash", f"sha256:{7:064x}", "sha256:other"),
    ],
)  # fmt: skip
def test_any_change_of_behaviour_is_reported_and_fails(sets, field, old, new):
    sides = [sets.write()], [sets.write(change=only(7, **{field: new}))]
    document = compare_paths(*sides, DEFAULTS)
    (change,) = document["exact"]["changes"]
    assert (change["quantity"], change["changed"]) == (field, 1)
    assert change["examples"] == ({"seed": 28, "base": old, "new": new},)
    assert document["verdict"] == "regressed"
    accepted = compare_paths(*sides, JudgeOptions(accept_changes=True))
    assert accepted["verdict"] == "inconclusive"
    assert len(accepted["exact"]["changes"]) == 1


def test_artifact_hashes_are_compared_within_one_commit_alone(sets):
    identity = {"name": "tracecore", "version": "0.1.0", "git_sha": "b" * 40, "dirty": False}
    other = sets.write(
        change=lambda row: replace(row, artifact_hash="sha256:other"),
        manifest={"runtime_identity": identity},
    )
    assert changes_of(sets.write(), other)[0] == []


def test_other_behaviour_of_a_changed_task_is_reported_and_not_judged(sets):
    rows = [{**as_dict(row), "agent_hash": "a", "task_hash": "new"} for row in DEFAULT_SCENARIO]
    new = sets.write(change=only(7, steps_used=9), manifest={"scenario": rows})
    (change,), document = changes_of(sets.write(), new)
    assert (change["verdict"], change["gates"]) == ("not_comparable", False)
    assert document["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("grown_bytes", "found"),
    [
        (lambda index: index % 7 - 3, set()),
        (lambda _: 20, {("unchanged", False)}),
        (lambda _: 60, {("regressed", True)}),
    ],
)
def test_a_few_bytes_more_are_no_change_and_six_percent_are(sets, grown_bytes, found):
    def grow(row):
        return replace(row, artifact_bytes=row.artifact_bytes + grown_bytes(row.episode_index))

    changes, _ = changes_of(sets.write(), sets.write(change=grow))
    assert {(change["verdict"], change["gates"]) for change in changes} == found


def test_base_runs_that_disagree_prove_nothing_and_new_ones_that_do_are_a_regression(sets):
    same, other = [sets.write()], [sets.write(), sets.write(change=only(7, trace_hash="x"))]
    (change,) = compare_paths(other, same, DEFAULTS)["exact"]["changes"]
    assert change["verdict"] == "inconclusive"
    document = compare_paths(same, other, DEFAULTS)
    assert "do not agree among themselves" in document["reasons"][0]
    assert document["verdict"] == "regressed"
