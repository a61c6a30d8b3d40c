import pytest
from helpers.sets import DEFAULTS, TASKS, only, work_of

from tracecore.perf.compare.ab import (
    AbOptions,
    compare_sides,
    give_no_answer,
    judge_null,
    run_rounds,
    settle,
    subjects_that_moved,
)
from tracecore.perf.compare.comparison import (
    CompareOptions,
    compare_paths,
    compare_runs,
)
from tracecore.perf.compare.runs import read_runs
from tracecore.perf.compare.worktrees import Side
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict, replace

TURNS = CompareOptions(in_turns=True)


def two(sets, **changes):
    return [sets.write(cpu_s=0.010 * factor, **changes) for factor in (0.99, 1.01)]


def test_a_screen_moves_where_a_gating_time_does_by_more_than_the_lower_floor(sets):
    quiet = compare_paths(two(sets), two(sets, slower={TASKS[1]: 1.04}), TURNS)
    assert subjects_that_moved(quiet) == []
    slower = compare_paths(two(sets), two(sets, slower={TASKS[1]: 1.15}), TURNS)
    assert subjects_that_moved(slower) == [f"{TASKS[1]} cpu_adjusted +15.0%"]
    faster = compare_paths(two(sets), two(sets, slower={TASKS[1]: 0.9}), TURNS)
    assert subjects_that_moved(faster) == [f"{TASKS[1]} cpu_adjusted -10.0%"]


def settled(base, new):
    return compare_runs(read_runs(base), read_runs(new), TURNS, revise=settle)


def test_a_screen_that_did_not_move_settles_times_and_leaves_behaviour_as_it_is(sets):
    quiet = settled(two(sets), two(sets))
    assert (quiet["verdict"], len(quiet["reasons"])) == ("unchanged", 1)
    assert {row["verdict"] for row in quiet["rows"]} == {"unchanged"}
    changed = settled(two(sets), two(sets, change=only(5, steps_used=9)))
    assert changed["verdict"] == "regressed"
    assert [row["verdict"] for row in changed["rows"]] == [
        "unchanged",
        "regressed",
        "unchanged",
        "unchanged",
    ]
    assert "steps used changed" in changed["reasons"][0]


def test_a_screen_without_times_that_gate_settles_nothing(sets):
    def slow(row):
        return (
            replace(row, success=False, error="slow", termination_reason="timeout")
            if row.task_ref == TASKS[1]
            else row
        )

    document = settled(two(sets, change=slow), two(sets, change=slow))
    assert document["verdict"] == "inconclusive"
    assert [row["verdict"] for row in document["rows"]].count("unchanged") == 3
    assert document["legs"][3]["sentence"] == f"no time that gates could be compared in {TASKS[1]}"


def test_where_no_work_changed_a_screen_moves_by_the_upper_floor_alone(sets):
    base, new = two(sets, work=work_of()), two(sets, work=work_of(), slower={TASKS[1]: 1.08})
    assert subjects_that_moved(compare_paths(base, new, TURNS)) == []
    uncounted = two(sets, slower={TASKS[1]: 1.08})
    assert subjects_that_moved(compare_paths(base, uncounted, TURNS)) != []
    grown = two(sets, slower={TASKS[1]: 1.08}, work=work_of(lines={TASKS[1]: 1.01}))
    assert subjects_that_moved(compare_paths(base, grown, TURNS)) != []


def test_work_that_grew_fails_from_the_screen_without_any_time_that_moved(sets):
    document = settled(two(sets, work=work_of()), two(sets, work=work_of(lines={TASKS[1]: 2})))
    assert (document["verdict"], document["headline"]) == ("regressed", "FAIL")
    assert document["answer"] == f"worse in work: {TASKS[1]}"


def test_behaviour_that_changed_in_the_screen_alone_counts(sets):
    base, new = read_runs(sets.five()), read_runs(sets.five())
    seen = (
        read_runs([sets.write()]),
        read_runs([sets.write(change=only(5, success=False, error="now and then"))]),
    )
    assert compare_runs(base, new, DEFAULTS, seen=seen)["verdict"] == "regressed"
    assert compare_runs(base, new, DEFAULTS, seen=(seen[0], seen[0]))["verdict"] == "unchanged"


def test_power_is_told_for_all_rows_of_a_scenario_longer_than_the_warm_up(sets):
    class Runner:
        said = ()

        def run(self, _side, episodes, _stage, **_options):
            rows = [{**as_dict(DEFAULT_SCENARIO[0]), "seed": 1000 * number} for number in range(20)]
            return read_runs([sets.write(episodes=episodes, manifest={"scenario": rows})])[0]

        def say(self, text):
            self.said += (text,)

    runner, side = Runner(), Side("base", "/clone", "/clone", "a" * 40)
    compare_sides(AbOptions(base="main", rounds=5, episodes=40), runner, side, side)
    assert "cannot reach significance in 21 tests" in runner.said[0]


@pytest.mark.parametrize(
    ("null_control", "order"),
    [
        (False, "base work work base base work"),
        (True, "base work base base work base base work base"),
    ],
)
def test_rounds_mirror_each_other_so_that_a_drift_of_the_host_falls_on_both_sides(
    null_control, order
):
    class Runner:
        ran = ()

        def run(self, side, *_episodes_and_stage):
            self.ran += (side,)
            return len(self.ran)

    runner = Runner()
    runs = run_rounds(
        AbOptions(base="main", rounds=3, null_control=null_control), runner, "base", "work"
    )
    assert " ".join(runner.ran) == order
    assert [len(side) for side in runs] == [3, 3, 3 * null_control]
    assert all(
        runner.ran[number - 1] == side
        for side, numbers in zip(("base", "work", "base"), runs, strict=True)
        for number in numbers
    )


def test_base_against_base_that_differs_voids_times_and_not_behaviour(sets):
    base = read_runs(sets.five())
    assert not judge_null(base, read_runs(sets.five()), DEFAULTS)["fired"]
    fired = judge_null(base, read_runs(sets.five(slower={TASKS[0]: 0.7})), DEFAULTS)
    assert fired["fired"]
    slow = compare_paths(sets.five(), sets.five(slower={TASKS[1]: 1.3}), DEFAULTS)
    base, new = read_runs(sets.five()), read_runs(sets.five(slower={TASKS[1]: 1.3}))
    voided = compare_runs(base, new, DEFAULTS, revise=give_no_answer)
    assert (slow["verdict"], voided["verdict"], voided["breaches"]) == (
        "regressed",
        "inconclusive",
        [],
    )
    assert {one["verdict"] for one in voided["decisions"]} == {"inconclusive"}
    assert "noisy host" in voided["reasons"][0]
    broken = read_runs(sets.five(change=only(5, steps_used=9)))
    assert compare_runs(base, broken, DEFAULTS, revise=give_no_answer)["verdict"] == "regressed"
