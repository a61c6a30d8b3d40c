"""One run against one, and one against several: which legs answer, and what they take to."""

import pytest
from helpers.sets import DEFAULTS, TASKS, only, work_of

from tracecore.perf.compare.comparison import Turns, compare_paths, compare_runs, exit_code_of
from tracecore.perf.compare.runs import read_runs
from tracecore.perf.slice.options import JudgeOptions
from tracecore.record import replace


def legs_of(document):
    return {leg["leg"]: leg["verdict"] for leg in document["legs"]}


def test_one_run_each_answers_behaviour_and_work_and_what_it_takes_for_the_rest(sets):
    document = compare_paths([sets.write(work=work_of())], [sets.write(work=work_of())], DEFAULTS)
    assert legs_of(document) == {
        "behaviour": "unchanged",
        "work": "unchanged",
        "shape": "inconclusive",
        "time": "inconclusive",
    }
    assert (document["verdict"], document["headline"]) == ("inconclusive", "NO ANSWER")
    assert document["answer"] == (
        "no answer on shape and time; it takes 3 base runs;"
        " 3 base runs for gross changes, 5 runs against 5 for +10%"
    )
    assert exit_code_of(document, DEFAULTS) == 0
    assert exit_code_of(document, JudgeOptions(require_conclusive=True)) == 3


@pytest.mark.parametrize("runs", [1, 5])
@pytest.mark.parametrize("factor", [2, 5])
def test_a_task_that_python_makes_slower_fails_by_work_against_any_number_of_runs(
    sets, runs, factor
):
    base = [sets.write(cpu_s=0.01 + number / 1e4, work=work_of()) for number in range(runs)]
    slow = {TASKS[1]: factor}
    document = compare_paths(base, [sets.write(slower=slow, work=work_of(lines=slow))], DEFAULTS)
    assert (document["headline"], exit_code_of(document, DEFAULTS)) == ("FAIL", 3)
    assert [row["row"] for row in document["rows"] if row["verdict"] == "regressed"] == [TASKS[1]]
    assert "task/setup.py:setup 5,000 to" in " ".join(document["breaches"])


@pytest.mark.parametrize(
    ("runs", "factor", "leg"),
    [(1, 1.5, None), (1, 2, "time"), (1, 5.1, "time"), (5, 1.15, "shape"), (5, 1.5, "shape")],
)
def test_a_task_that_c_makes_slower_shows_by_its_times(sets, runs, factor, leg):
    base = sets.five(work=work_of()) if runs == 5 else [sets.write(work=work_of())]
    new = [sets.write(slower={TASKS[1]: factor}, work=work_of())]
    document = compare_paths(base, new, DEFAULTS)
    assert exit_code_of(document, DEFAULTS) == (3 if leg else 0)
    if leg:
        assert document["answer"] == f"worse in {leg}: {TASKS[1]}"
    else:
        assert document["headline"] == "NO ANSWER"
        assert "it takes 3 base runs" in document["answer"]


def test_all_rows_of_one_run_that_are_twice_as_slow_may_be_the_host(sets):
    document = compare_paths([sets.write()], [sets.write(cpu_s=0.020)], DEFAULTS)
    assert (document["headline"], exit_code_of(document, DEFAULTS)) == ("NO ANSWER", 0)
    assert "it may be the host, which moves all rows, that changed" in " ".join(document["reasons"])


def test_one_run_against_five_alike_has_no_gross_change_and_that_is_not_called_unchanged(sets):
    document = compare_paths(sets.five(work=work_of()), [sets.write(work=work_of())], DEFAULTS)
    assert (document["verdict"], document["headline"]) == ("no_gross_change", "PASS")
    assert legs_of(document)["shape"] == "unchanged"
    assert document["answer"].startswith(
        "no change in behaviour and work and shape; no gross change (from +"
    )
    assert "5 runs against 5 show +10%" in document["answer"]
    assert exit_code_of(document, JudgeOptions(require_conclusive=True)) == 3


def test_a_noisy_host_takes_times_to_no_answer_and_never_to_pass(sets):
    finding = {"id": "noisy_host", "severity": "warn", "text": "the load was 6"}
    noisy = sets.write(summary={"findings": [finding]})
    document = compare_paths(sets.five(), [noisy], DEFAULTS)
    assert (document["verdict"], legs_of(document)["time"]) == ("inconclusive", "inconclusive")
    assert "the load was 6" in document["legs"][3]["sentence"]
    in_turns = compare_runs(read_runs(sets.five()), read_runs([noisy]), DEFAULTS, Turns())
    assert legs_of(in_turns)["time"] == "unchanged"


@pytest.mark.parametrize("nothing", [{"cpu_user_s": 0.0, "cpu_sys_s": 0.0}, {"peak_rss_bytes": 0}])
def test_a_measurement_of_nothing_is_missing_and_never_small(sets, nothing):
    def lose(row):
        return replace(row, **nothing)

    document = compare_paths(sets.five(change=lose), sets.five(), DEFAULTS)
    metric = "rss" if "peak_rss_bytes" in nothing else "cpu"
    assert metric not in {one["metric"] for one in document["decisions"]}
    if metric == "cpu":
        assert (document["verdict"], legs_of(document)["time"]) == ("inconclusive", "inconclusive")
    one_lost = sets.five(change=lambda row: lose(row) if row.episode_index == 5 else row)
    document = compare_paths(one_lost, sets.five(), DEFAULTS)
    assert document["verdict"] == "unchanged"
    assert metric in {one["metric"] for one in document["decisions"]}


def test_accepted_changes_of_behaviour_excuse_no_work_and_no_time(sets):
    accept = JudgeOptions(accept_changes=True)
    changed = only(5, steps_used=9)
    base = sets.five(work=work_of())
    accepted = compare_paths(base, sets.five(work=work_of(), change=changed), accept)
    assert (accepted["headline"], legs_of(accepted)["behaviour"]) == ("PASS", "unchanged")
    assert accepted["legs"][0]["sentence"] == f"changed in {TASKS[1]}"
    more = sets.five(work=work_of(lines={TASKS[1]: 1.3}), change=changed)
    assert compare_paths(base, more, accept)["answer"] == f"worse in work: {TASKS[1]}"
    slower = sets.five(work=work_of(), slower={TASKS[1]: 1.3}, change=changed)
    assert compare_paths(base, slower, accept)["headline"] == "FAIL"


def test_the_table_has_behaviour_work_cpu_and_wall_of_every_row(sets):
    base, new = sets.five(work=work_of()), sets.five(work=work_of(lines={TASKS[1]: 2}))
    table = {row["row"]: row for row in compare_paths(base, new, DEFAULTS)["table"]}
    assert list(table) == TASKS
    assert table[TASKS[0]] == {
        "row": TASKS[0],
        "behaviour": "same in 6",
        "work": "5,800 lines, the same",
        "cpu": "10.10 to 10.10 ms +0.0% (+0.0% next to the others)",
        "wall": "15.15 to 15.15 ms +0.0% (+0.0% next to the others)",
    }
    assert table[TASKS[1]]["work"] == "5,800 to 10,800 lines +86.2%"
