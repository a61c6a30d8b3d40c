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
from tracecore.perf.compare.comparison import Turns, compare_runs
from tracecore.perf.compare.runs import read_runs
from tracecore.perf.compare.worktrees import Side
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict, replace


def in_turns(base, new, **turns):
    return compare_runs(read_runs(base), read_runs(new), DEFAULTS, Turns(**turns))


def two(sets, **changes):
    return [sets.write(cpu_s=0.010 * factor, **changes) for factor in (0.99, 1.01)]


def test_a_screen_moves_where_a_gating_time_does_by_more_than_the_lower_floor(sets):
    quiet = in_turns(two(sets), two(sets, slower={TASKS[1]: 1.04}))
    assert subjects_that_moved(quiet) == []
    slower = in_turns(two(sets), two(sets, slower={TASKS[1]: 1.15}))
    assert subjects_that_moved(slower) == [f"{TASKS[1]} cpu_adjusted moved by +15.0%"]
    faster = in_turns(two(sets), two(sets, slower={TASKS[1]: 0.9}))
    assert subjects_that_moved(faster) == [f"{TASKS[1]} cpu_adjusted moved by -10.0%"]


def settled(base, new):
    return in_turns(base, new, revise=settle)


def test_a_screen_that_did_not_move_settles_times_and_leaves_behaviour_as_it_is(sets):
    quiet = settled(two(sets), two(sets))
    assert (quiet["verdict"], len(quiet["reasons"])) == ("unchanged", 1)
    assert {row["verdict"] for row in quiet["rows"]} == {"unchanged"}
    changed = settled(two(sets), two(sets, change=only(5, steps_used=9)))
    assert changed["verdict"] == "regressed"
    found = [row["verdict"] for row in changed["rows"]]
    assert found == ["unchanged", "regressed", "unchanged", "unchanged"]
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
    assert subjects_that_moved(in_turns(base, new)) == []
    uncounted = two(sets, slower={TASKS[1]: 1.08})
    assert subjects_that_moved(in_turns(base, uncounted)) != []
    grown = two(sets, slower={TASKS[1]: 1.08}, work=work_of(lines={TASKS[1]: 1.01}))
    assert subjects_that_moved(in_turns(base, grown)) != []


@pytest.mark.parametrize(("noise", "moved"), [(0.05, 0), (0.08, 0), (0.30, 1)])
def test_a_screen_of_identical_code_settles_times_unless_twice_as_much_would_not_show(
    sets, noise, moved
):
    def run(factor):
        return sets.write(work=work_of(), slower={TASKS[1]: factor})

    screen = in_turns([run(1), run(1 + noise)], [run(1 + 2 * noise), run(1)])
    assert len(subjects_that_moved(screen)) == moved
    assert not moved or "too noisy a screen" in subjects_that_moved(screen)[0]
    document = settled([run(1), run(1.15)], [run(1.4), run(1)])
    assert document["legs"][2]["verdict"] == "no_gross_change"


class Runner:
    """Gives made-up runs, in which one task of the working tree is slower now and then."""

    def __init__(self, sets, slow_stages):
        self.sets, self.slow_stages, self.runs = sets, slow_stages, []

    def run(self, side, _episodes, stage, **_options):
        number = sum(name == (side.name, stage) for name in self.runs)
        self.runs.append((side.name, stage))
        stage = "confirmation" if stage.startswith("round") and number else stage.split()[0]
        is_slow = side.name == "work" and stage in self.slow_stages
        factor = 1.3 + len(self.runs) / 1000 if is_slow else 1 + len(self.runs) / 10000
        return read_runs([self.sets.write(slower={TASKS[1]: factor}, work=work_of())])[0]

    def write(self, text):
        pass


@pytest.mark.parametrize(
    ("slow_stages", "stage", "headline"),
    [
        ({}, "screen", "PASS"),
        ({"screen"}, "rounds", "PASS"),
        ({"screen", "round"}, "confirmation", "PASS"),
        ({"screen", "round", "confirmation"}, "confirmation", "FAIL"),
    ],
)
def test_what_time_alone_shows_must_show_in_every_stage(sets, slow_stages, stage, headline):
    base, work = (Side(name, "/clone", "/clone", "a" * 40) for name in ("base", "work"))
    document = compare_sides(AbOptions(base="main"), Runner(sets, slow_stages), base, work)
    assert (document["stage"], document["headline"]) == (stage, headline)


def test_a_null_control_runs_the_base_against_itself_and_is_kept(sets):
    base, work = (Side(name, "/clone", "/clone", "a" * 40) for name in ("base", "work"))
    options = AbOptions(base="main", null_control=True)
    document = compare_sides(options, Runner(sets, {"screen", "round"}), base, work)
    assert document["null_control"]["fired"] is False


def test_behaviour_that_changed_in_the_screen_alone_counts(sets):
    base, new = read_runs(sets.five()), read_runs(sets.five())
    changed = sets.write(change=only(5, success=False, error="now and then"))
    good, bad = read_runs([sets.write()]), read_runs([changed])
    for seen, verdict in (((good, bad), "regressed"), ((good, good), "unchanged")):
        assert compare_runs(base, new, DEFAULTS, Turns(seen=seen))["verdict"] == verdict


def test_power_is_told_for_all_rows_of_a_scenario_longer_than_the_warm_up(sets):
    class Runner:
        lines = ()

        def run(self, _side, episodes, _stage, **_options):
            rows = [{**as_dict(DEFAULT_SCENARIO[0]), "seed": 1000 * number} for number in range(20)]
            return read_runs([sets.write(episodes=episodes, manifest={"scenario": rows})])[0]

        def write(self, text):
            self.lines += (text,)

    runner, side = Runner(), Side("base", "/clone", "/clone", "a" * 40)
    compare_sides(AbOptions(base="main", rounds=5, episodes=40), runner, side, side)
    assert "cannot reach significance in 21 tests" in runner.lines[0]


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
    assert judge_null(base, read_runs(sets.five(slower={TASKS[0]: 0.7})), DEFAULTS)["fired"]
    new = read_runs(sets.five(slower={TASKS[1]: 1.3}))
    assert compare_runs(base, new, DEFAULTS)["verdict"] == "regressed"
    voided = compare_runs(base, new, DEFAULTS, Turns(revise=give_no_answer))
    assert (voided["verdict"], voided["breaches"]) == ("inconclusive", [])
    assert {one["verdict"] for one in voided["decisions"]} == {"inconclusive"}
    assert "noisy host" in voided["reasons"][0]
    broken = read_runs(sets.five(change=only(5, steps_used=9)))
    document = compare_runs(base, broken, DEFAULTS, Turns(revise=give_no_answer))
    assert document["verdict"] == "regressed"
