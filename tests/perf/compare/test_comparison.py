import pytest
from helpers import slices
from helpers.github import read_command, read_outputs
from helpers.sets import DEFAULTS, TASKS, only, verdicts
from helpers.tables import rows

from tracecore.perf.compare.comparison import compare_paths, exit_code_of
from tracecore.perf.show.comparison_page import show_comparison
from tracecore.perf.slice.options import JudgeOptions
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict, replace


def test_equal_runs_are_unchanged_in_every_row_and_leg(sets):
    document = compare_paths(sets.five(), sets.five(), DEFAULTS)
    assert (document["verdict"], document["headline"]) == ("unchanged", "PASS")
    assert document["answer"] == "no change that matters"
    assert document["reasons"] == ["no change that matters"]
    assert set(verdicts(document).values()) == {"unchanged"}
    assert document["exact"] == {"compared_episodes": 24, "reasons": [], "changes": []}
    legs = {leg["leg"]: leg["verdict"] for leg in document["legs"]}
    assert list(legs) == ["behaviour", "work", "shape", "time"]
    assert legs.pop("work") == "not_asked"
    assert set(legs.values()) == {"unchanged"}
    assert exit_code_of(document, DEFAULTS) == 0


def test_a_slower_task_is_named_and_no_other(sets):
    document = compare_paths(sets.five(), sets.five(slower={TASKS[1]: 1.3}), DEFAULTS)
    assert document["verdict"] == "regressed"
    assert [row["row"] for row in document["rows"] if row["verdict"] == "regressed"] == [TASKS[1]]
    assert document["reasons"][0].startswith(
        f"{TASKS[1]}: CPU time next to the other rows 10.10 to 13.13 ms (+30.0%"
    )
    assert exit_code_of(document, DEFAULTS) == 3
    assert TASKS[1] in show_comparison(document)


def test_what_makes_a_comparison_fail_is_said_before_what_is_no_news(sets):
    scenario = [{**as_dict(row), "agent_hash": "a", "task_hash": "new"} for row in DEFAULT_SCENARIO]
    changed = sets.five(
        slower={TASKS[1]: 1.4}, change=only(6, steps_used=9), manifest={"scenario": scenario}
    )
    document = compare_paths(sets.five(), changed, DEFAULTS)
    assert document["reasons"][0] == document["breaches"][0]
    assert document["reasons"][0].startswith(f"{TASKS[1]}: CPU time")
    assert any("no news" in reason for reason in document["reasons"])


def test_what_slows_all_tasks_is_found_overall_and_names_none(sets):
    document = compare_paths(sets.five(), sets.five(slower=dict.fromkeys(TASKS, 1.3)), DEFAULTS)
    assert document["verdict"] == "regressed"
    assert document["breaches"][0].startswith("overall: CPU time 10.10 to 13.13 ms (+30.0%")
    assert set(verdicts(document, "cpu_adjusted").values()) == {"unchanged"}


def test_a_host_that_is_slow_for_whole_runs_hides_no_slow_task_and_blames_none(sets):
    def on(speed, **changes):
        return sets.write(cpu_s=0.010 * speed, **changes)

    base = [on(speed) for speed in (1.0, 1.4, 0.9, 1.2, 2.3)]
    noisy = (1.1, 0.95, 1.3, 2.0, 1.0)
    slow = compare_paths(base, [on(speed, slower={TASKS[1]: 1.25}) for speed in noisy], DEFAULTS)
    assert [row["row"] for row in slow["rows"] if row["verdict"] == "regressed"] == [TASKS[1]]
    same = compare_paths(base, [on(speed) for speed in noisy], DEFAULTS)
    assert set(verdicts(same, "cpu_adjusted").values()) == {"unchanged"}
    assert same["verdict"] == "inconclusive"  # all of them may have become slower


def test_rows_that_only_look_slower_beside_faster_ones_are_not_blamed(sets):
    faster = sets.five(slower={TASKS[0]: 0.6, TASKS[1]: 0.6})
    document = compare_paths(sets.five(), faster, DEFAULTS)
    assert not [row for row in document["rows"] if row["verdict"] == "regressed"]
    assert [row["verdict"] for row in document["rows"][:2]] == ["improved", "improved"]


def test_a_faster_task_is_improved(sets):
    document = compare_paths(sets.five(), sets.five(slower={TASKS[1]: 0.7}), DEFAULTS)
    assert (document["verdict"], verdicts(document)[TASKS[1]]) == ("improved", "improved")


def test_wall_clock_alone_warns_and_fails_only_when_asked(sets):
    def wait(row):
        return replace(row, wall_clock_s=row.wall_clock_s * 2)

    base, new = sets.five(), sets.five(change=wait)
    document = compare_paths(base, new, DEFAULTS)
    assert document["verdict"] == "unchanged"
    assert any("wall clock" in reason and "warning" in reason for reason in document["reasons"])
    assert compare_paths(base, new, JudgeOptions(gate_on=("cpu", "wall")))["verdict"] == "regressed"


def test_episodes_that_were_cut_short_are_no_latency(sets):
    def cut(row):
        return replace(
            row, cpu_user_s=60.0, success=False, error="slow", termination_reason="timeout"
        )

    change = lambda row: cut(row) if row.episode_index in {1, 5, 9, 13} else row  # noqa: E731
    document = compare_paths(sets.five(), sets.five(change=change), DEFAULTS)
    assert verdicts(document)[TASKS[1]] == "unchanged"
    row = next(row for row in document["rows"] if row["row"] == TASKS[1])
    assert (row["cut_short"], row["verdict"]) == ({"base": 0, "new": 20}, "regressed")


def test_a_row_name_from_elsewhere_ends_no_line(sets):
    evil = only(1, task_ref="x@1\n::error::pwned")
    document = compare_paths([sets.write()], [sets.write(change=evil)], DEFAULTS)
    assert "x@1\\n::error::pwned: new, the base has no such row" in document["reasons"]
    assert not any(line.startswith("::") for line in show_comparison(document).splitlines())


def test_the_command_answers_in_json_in_words_and_to_a_github_job(sets, tmp_path, monkeypatch):
    page, values = tmp_path / "page.md", tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setenv("GITHUB_OUTPUT", str(values))
    sides = [*sets.five(), "--to", *sets.five(slower={TASKS[2]: 1.5})]
    done = slices.call("compare", *sides)
    assert page.read_text("utf-8").startswith("### Perf: FAIL - comparison: regressed")
    assert read_outputs(values.read_text())["verdict"] == "fail"
    commands = [read_command(line) for line in done.stderr.splitlines() if line.startswith("::")]
    assert commands[0][0] == "error"
    assert TASKS[2] in commands[0][2]
    done = slices.call("compare", *sides, "--step-summary", "off")
    document = done.document
    assert (done.exit_code, document["ok"], document["exit_code"]) == (3, False, 3)
    assert document["verdict"] == "regressed"
    assert f"FAIL: worse in shape and time: {TASKS[2]}" in done.stderr.splitlines()[0]
    assert sum(TASKS[2] in line for line in done.stderr.splitlines()) > 2
    assert "::" not in done.stderr
    assert page.read_text("utf-8").count("### Perf") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    rows("""
    compare                           | required: BASE, --to
    compare x                         | required: --to
    compare nowhere --to nowhere      | nowhere: found
    compare x --to y --gate-on luck   | --gate-on: found 'luck', expected some of cpu, wall, rss
    compare x --to y --fast           | '--fast': found no such option
    """),
)
def test_a_wrong_command_is_one_clear_line_and_exit_2(words, complaint):
    done = slices.call(*words.split())
    assert done.exit_code == 2
    assert complaint in done.document["error"]
    assert len(done.stderr.splitlines()) == 1
