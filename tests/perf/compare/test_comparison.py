import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from helpers.github import read_command, read_outputs, read_tables

from tracecore.errors import InputError
from tracecore.perf.compare.ab import (
    AbOptions,
    compare_sides,
    judge_null,
    run_rounds,
    settle_by_screen,
    subjects_that_moved,
    void,
)
from tracecore.perf.compare.baseline import read_baseline
from tracecore.perf.compare.comparison import (
    CompareOptions,
    compare_paths,
    compare_runs,
    exit_code_of,
)
from tracecore.perf.compare.runs import read_runs
from tracecore.perf.compare.wording import tell
from tracecore.perf.compare.worktrees import Side
from tracecore.perf.documents.files import write_documents, write_series
from tracecore.perf.documents.metrics import Metrics
from tracecore.perf.documents.rows import feed, series_chunks
from tracecore.perf.documents.summary import Summary
from tracecore.perf.show.comparison_page import comparison_page
from tracecore.perf.show.github import comparison_telling, output_lines
from tracecore.perf.show.markdown import write_markdown_within
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO
from tracecore.record import as_dict, replace
from tracecore.records import Usage

SCRIPT = pathlib.Path(__file__).parents[3] / "scripts" / "perf_harness.py"
TASKS = [row.task_ref for row in DEFAULT_SCENARIO]
HOST = {"cpu_model": "Fast CPU", "cpus_usable": 2, "machine": "x86_64", "python_version": "3.11.7"}
DEFAULTS = CompareOptions()
SAME_BUT_DIFFERENT = "the same agent and task behave differently"


class Sets:
    """Writes complete sets of a made-up host, one folder each."""

    def __init__(self, tmp_path, make_row):
        self._tmp_path, self._make_row, self._count = tmp_path, make_row, 0

    def write(
        self,
        *,
        cpu_s=0.010,
        slower=None,
        episodes=24,
        change=None,
        manifest=None,
        summary=None,
        compress=False,
    ):
        self._count += 1
        folder, stamp = self._tmp_path / f"set{self._count}", f"s{self._count}"
        folder.mkdir()
        rows = [self._row(index, cpu_s, slower or {}) for index in range(episodes)]
        rows = [change(row) if change else row for row in rows]
        reduced, metrics = Summary(), Metrics()
        write_series(str(folder), stamp, series_chunks(feed(rows, reduced, metrics)), fsync=False)
        document = reduced.document(
            episodes_requested=episodes,
            workers=2,
            runs_root="r",
            system_samples={},
            elapsed_s=1.0,
            episodes_run=episodes,
        )
        write_documents(
            str(folder),
            stamp,
            manifest={
                "episodes": episodes,
                "workers": 2,
                "strict_spec": False,
                "scenario": [
                    {**as_dict(row), "agent_hash": "sha256:a", "task_hash": "sha256:t"}
                    for row in DEFAULT_SCENARIO
                ],
                "machine_class": "x86_64-2cpu-16gib-py3.11-0a1b2c3d",
                "host": HOST,
                "runtime_identity": {
                    "name": "tracecore",
                    "version": "0.1.0",
                    "git_sha": "a" * 40,
                    "dirty": False,
                },
                **(manifest or {}),
            },
            summary={**document, **(summary or {})},
            metrics=metrics.document(),
            compress=compress,
            fsync=False,
        )
        return str(folder)

    def _row(self, index, cpu_s, slower):
        place = index % len(DEFAULT_SCENARIO)
        scenario = DEFAULT_SCENARIO[place]
        spent_s = cpu_s * slower.get(scenario.task_ref, 1.0) * (1 + index % 3 / 100)
        usage = Usage(
            spent_s * 1.5,
            cpu_user_s=spent_s * 0.6,
            cpu_sys_s=spent_s * 0.4,
            peak_rss_bytes=15 << 20,
        )
        return self._make_row(
            index,
            agent=scenario.agent,
            task_ref=scenario.task_ref,
            seed=scenario.seed + index,
            usage=usage,
        )

    def five(self, **changes):
        """Five runs that differ a little, as runs do."""
        return [
            self.write(cpu_s=0.010 * factor, **changes)
            for factor in (0.99, 0.995, 1.0, 1.005, 1.01)
        ]


@pytest.fixture
def sets(tmp_path, make_row):
    return Sets(tmp_path, make_row)


def verdicts(document, metric="cpu"):
    return {one["row"]: one["verdict"] for one in document["decisions"] if one["metric"] == metric}


def only(index, **changes):
    return lambda row: replace(row, **changes) if row.index == index else row


def test_equal_runs_are_unchanged_in_every_row(sets):
    document = compare_paths(sets.five(), sets.five(), DEFAULTS)
    assert document["verdict"] == "unchanged"
    assert set(verdicts(document).values()) == {"unchanged"}
    assert document["exact"] == {"compared_episodes": 24, "reasons": [], "changes": []}
    assert exit_code_of(document, DEFAULTS) == 0


def test_equal_runs_have_a_reason_to_be_called_so(sets):
    assert compare_paths(sets.five(), sets.five(), DEFAULTS)["reasons"] == [
        (
            "behaviour is the same in 24 episodes, and each of 5 figures that gate stays within its"
            " floor"
        )
    ]


def test_a_slower_task_is_named_and_no_other(sets):
    document = compare_paths(sets.five(), sets.five(slower={TASKS[1]: 1.3}), DEFAULTS)
    assert document["verdict"] == "regressed"
    assert [row["row"] for row in document["rows"] if row["verdict"] == "regressed"] == [TASKS[1]]
    assert document["reasons"][0].startswith(
        f"{TASKS[1]}: CPU time next to the other rows 10.10 to 13.13 ms (+30.0%"
    )
    assert exit_code_of(document, DEFAULTS) == 3
    assert TASKS[1] in tell(document)


def test_what_makes_a_comparison_fail_is_said_before_what_is_no_news(sets):
    rows = [{**as_dict(row), "agent_hash": "a", "task_hash": "new"} for row in DEFAULT_SCENARIO]
    changed = sets.five(
        slower={TASKS[1]: 1.4}, change=only(6, steps_used=9), manifest={"scenario": rows}
    )
    document = compare_paths(sets.five(), changed, DEFAULTS)
    assert document["reasons"][0] == document["breaches"][0]
    assert document["reasons"][0].startswith(f"{TASKS[1]}: CPU time")
    assert any("no news" in reason for reason in document["reasons"])


def test_a_faster_task_is_improved(sets):
    document = compare_paths(sets.five(), sets.five(slower={TASKS[1]: 0.7}), DEFAULTS)
    assert document["verdict"] == "improved"
    assert verdicts(document)[TASKS[1]] == "improved"


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
    document = compare_paths(
        sets.five(), sets.five(slower={TASKS[0]: 0.6, TASKS[1]: 0.6}), DEFAULTS
    )
    assert not [row for row in document["rows"] if row["verdict"] == "regressed"]
    assert [row["verdict"] for row in document["rows"][:2]] == ["improved", "improved"]


def test_wall_clock_alone_warns_and_fails_only_when_asked(sets):
    def wait(row):
        return replace(row, usage=replace(row.usage, wall_clock_s=row.usage.wall_clock_s * 2))

    base, new = sets.five(), sets.five(change=wait)
    document = compare_paths(base, new, DEFAULTS)
    assert document["verdict"] == "unchanged"
    assert any("wall clock" in reason and "warning" in reason for reason in document["reasons"])
    assert (
        compare_paths(base, new, CompareOptions(gate_on=("cpu", "wall")))["verdict"] == "regressed"
    )


def test_one_run_each_says_nothing_of_time_and_says_so(sets):
    document = compare_paths([sets.write()], [sets.write(cpu_s=0.1)], DEFAULTS)
    assert document["verdict"] == "inconclusive"
    assert "underpowered: 1 run against 1" in document["reasons"][0]
    assert document["power"]["runs_needed"] == 5
    assert exit_code_of(document, DEFAULTS) == 0
    assert exit_code_of(document, CompareOptions(require_conclusive=True)) == 3


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
    accepted = compare_paths([base], [new], CompareOptions(accept_changes=True))
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
        return lambda row: replace(row, artifact_bytes=row.artifact_bytes + by(row.index))

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


def test_slices_of_different_length_share_their_first_episodes(sets):
    document = compare_paths(sets.five(episodes=24), sets.five(episodes=40), DEFAULTS)
    assert document["exact"] == {"compared_episodes": 24, "reasons": [], "changes": []}
    assert [(row["compared_episodes"], row["only_in_new"]) for row in document["rows"]] == [
        (6, 4)
    ] * 4
    assert document["verdict"] == "unchanged"


def test_episodes_that_were_cut_short_are_no_latency(sets):
    def cut(row):
        usage = replace(row.usage, cpu_user_s=60.0)
        return replace(row, usage=usage, success=False, error="slow", termination_reason="timeout")

    change = lambda row: cut(row) if row.index in {1, 5, 9, 13} else row  # noqa: E731
    document = compare_paths(sets.five(), sets.five(change=change), DEFAULTS)
    assert verdicts(document)[TASKS[1]] == "unchanged"
    row = next(row for row in document["rows"] if row["row"] == TASKS[1])
    assert (row["cut_short"], row["verdict"]) == ({"base": 0, "new": 20}, "regressed")


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (
            {
                "machine_class": "x86_64-4cpu-16gib-py3.11-ffffffff",
                "host": {**HOST, "cpus_usable": 4},
            },
            "machine_class",
        ),
        ({"workers": 4}, "workers"),
        ({"strict_spec": True}, "strict_spec"),
        ({"scenario": [as_dict(DEFAULT_SCENARIO[0])]}, "scenario"),
    ],
)
def test_what_is_not_alike_is_not_compared_and_named(sets, manifest, field):
    base, new = sets.five(), [sets.write(cpu_s=0.1, manifest=manifest) for _ in range(5)]
    document = compare_paths(base, new, DEFAULTS)
    assert (document["verdict"], document["gates"]) == ("not_comparable", False)
    assert document["differences"][0]["field"] == field
    assert field in document["reasons"][0]
    assert exit_code_of(document, DEFAULTS) == 2
    anyway = CompareOptions(compare_anyway=True)
    shown = compare_paths(base, new, anyway)
    assert shown["verdict"] == "not_comparable"
    assert next(one["ratio"] for one in shown["decisions"]) == pytest.approx(10, rel=0.05)
    assert not any(one["gates"] for one in shown["decisions"])
    assert exit_code_of(shown, anyway) == 0


def test_two_machine_classes_are_refused_by_name_and_the_differing_facts_told(sets):
    other = {
        "machine_class": "x86_64-4cpu-16gib-py3.11-ffffffff",
        "host": {**HOST, "cpus_usable": 4},
    }
    document = compare_paths([sets.write()], [sets.write(manifest=other)], DEFAULTS)
    text = tell(document)
    assert "x86_64-2cpu-16gib-py3.11-0a1b2c3d" in text
    assert "x86_64-4cpu-16gib-py3.11-ffffffff" in text
    assert "host.cpus_usable is 2 on the base side and 4" in text


def test_a_row_name_from_elsewhere_ends_no_line(sets):
    evil = only(1, task_ref="x@1\n::error::pwned")
    document = compare_paths([sets.write()], [sets.write(change=evil)], DEFAULTS)
    assert "x@1\\n::error::pwned: new, the base has no such row" in document["reasons"]
    assert not any(line.startswith("::") for line in tell(document).splitlines())


def test_scenarios_that_differ_are_told_by_the_first_row_in_which_they_part(sets):
    rows = [as_dict(DEFAULT_SCENARIO[0]) | {"seed": 42 + 1000 * number} for number in range(3000)]
    other = sets.write(manifest={"scenario": [*rows[:1], *map(as_dict, DEFAULT_SCENARIO[1:])]})
    (reason,) = compare_paths([sets.write(manifest={"scenario": rows})], [other], DEFAULTS)[
        "reasons"
    ]
    assert (
        reason
        == "not comparable: scenario is agents/toy_agent.py on filesystem_hidden_config@1 from seed"
        " 1042 in row 2 of 3000 on the base side and agents/rate_limit_agent.py on"
        " rate_limited_api@1 from seed 11 in row 2 of 4 on the new"
    )
    (reason,) = compare_paths(
        [sets.write(manifest={"scenario": rows[:1]})], [sets.write()], DEFAULTS
    )["reasons"]
    assert "nothing in row 2 of 1 on the base side" in reason


def test_the_facts_in_which_runs_of_one_side_differ_are_told_too(sets):
    other = {
        "machine_class": "x86_64-4cpu-16gib-py3.11-ffffffff",
        "host": {**HOST, "cpus_usable": 4},
    }
    document = compare_paths([sets.write(), sets.write(manifest=other)], [sets.write()], DEFAULTS)
    assert {"field": "host.cpus_usable", "base": "2, 4", "new": 2} in document["differences"]


def test_sets_of_no_known_class_are_not_comparable_either(sets):
    unknown = {"machine_class": None}
    document = compare_paths(
        [sets.write(manifest={"host": {}}), sets.write()],
        [sets.write(manifest={"workers": 2})],
        DEFAULTS,
    )
    assert document["verdict"] != "not_comparable"
    with pytest.raises(InputError, match="machine_class"):
        compare_paths([sets.write(manifest=unknown)], [sets.write()], DEFAULTS)


def test_runs_of_one_side_must_agree_among_themselves_too(sets):
    document = compare_paths(
        [sets.write(), sets.write(manifest={"workers": 3})], [sets.write()], DEFAULTS
    )
    assert document["differences"][0] == {"field": "workers", "base": "2, 3", "new": "2"}


@pytest.mark.parametrize(
    ("summary", "field"),
    [({"interrupted": True}, "interrupted"), ({"episodes_requested": 48}, "episodes: found 24")],
)
def test_an_unfinished_slice_is_no_run_to_compare(sets, summary, field):
    with pytest.raises(InputError, match=field):
        read_runs([sets.write(summary=summary)])


def test_an_empty_slice_is_no_run_to_compare(sets):
    with pytest.raises(InputError, match="episodes: found 0"):
        read_runs([sets.write(episodes=0)])


def test_a_zip_compares_as_its_files_do(sets):
    folder = pathlib.Path(sets.write(compress=True))
    (bundle,) = folder.glob("*.zip")
    document = compare_paths([str(bundle)], [str(folder)], DEFAULTS)
    assert document["exact"] == {"compared_episodes": 24, "reasons": [], "changes": []}


def test_copies_of_one_run_are_one_run(sets, tmp_path):
    copies = [sets.write(compress=True)]
    copies += [shutil.copytree(copies[0], tmp_path / f"copy{number}") for number in range(4)]
    bundles = [str(bundle) for copy in copies for bundle in pathlib.Path(copy).glob("*.zip")]
    slow = sets.five(slower=dict.fromkeys(TASKS, 1.5))
    document = compare_paths([*map(str, copies), *bundles], slow, DEFAULTS)
    assert len(document["base"]) == 1
    assert document["verdict"] == "inconclusive"
    assert compare_paths(sets.five(), slow, DEFAULTS)["verdict"] == "regressed"


def test_a_run_that_stands_on_both_sides_is_told(sets):
    runs = sets.five()
    assert (
        "2 runs stand on both sides"
        in compare_paths(runs, [*sets.five(), *runs[:2]], DEFAULTS)["reasons"][-1]
    )
    assert "both sides" not in compare_paths(runs, sets.five(), DEFAULTS)["reasons"]


def two(sets, **changes):
    return [sets.write(cpu_s=0.010 * factor, **changes) for factor in (0.99, 1.01)]


def test_a_screen_moves_where_a_gating_time_does_by_more_than_the_lower_floor(sets):
    quiet = compare_paths(two(sets), two(sets, slower={TASKS[1]: 1.04}), DEFAULTS)
    assert subjects_that_moved(quiet) == []
    slower = compare_paths(two(sets), two(sets, slower={TASKS[1]: 1.15}), DEFAULTS)
    assert subjects_that_moved(slower) == [f"{TASKS[1]} cpu_adjusted +15.0%"]
    faster = compare_paths(two(sets), two(sets, slower={TASKS[1]: 0.9}), DEFAULTS)
    assert subjects_that_moved(faster) == [f"{TASKS[1]} cpu_adjusted -10.0%"]


def test_a_screen_that_did_not_move_settles_times_and_leaves_behaviour_as_it_is(sets):
    quiet = settle_by_screen(compare_paths(two(sets), two(sets), DEFAULTS))
    assert (quiet["verdict"], len(quiet["reasons"])) == ("unchanged", 1)
    assert {row["verdict"] for row in quiet["rows"]} == {"unchanged"}
    changed = settle_by_screen(
        compare_paths(two(sets), two(sets, change=only(5, steps_used=9)), DEFAULTS)
    )
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

    document = settle_by_screen(
        compare_paths(two(sets, change=slow), two(sets, change=slow), DEFAULTS)
    )
    assert (
        document["verdict"],
        [row["verdict"] for row in document["rows"]].count("unchanged"),
    ) == ("inconclusive", 3)
    assert document["reasons"][0] == f"no time that gates could be compared in {TASKS[1]}"


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

        def run(self, _side, episodes, _stage):
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
    voided = void(slow, fired["reasons"])
    assert (slow["verdict"], voided["verdict"], voided["breaches"]) == (
        "regressed",
        "inconclusive",
        [],
    )
    assert {one["verdict"] for one in voided["decisions"]} == {"inconclusive"}
    assert "noisy host" in voided["reasons"][-1]
    broken = compare_paths(sets.five(), sets.five(change=only(5, steps_used=9)), DEFAULTS)
    assert void(broken, [])["verdict"] == "regressed"


def planned(sets, **changes):
    """The manifest of a slice that is about to begin on the host of the sets."""
    return {**read_runs([sets.write()])[0].manifest, **changes}


def finish(baseline, sets, manifest, *, is_complete=True, **changes):
    for index in range(24):
        row = sets._row(index, 0.010, {})
        baseline.add(replace(row, **(changes if index == 5 else {})))
    return baseline.document("here", "now", manifest, is_complete=is_complete)


def test_a_slice_that_does_as_its_baseline_did_has_no_breach(sets):
    manifest = planned(sets)
    document = finish(read_baseline([sets.write()], manifest, DEFAULTS), sets, manifest)
    assert (document["verdict"], document["breaches"]) == ("inconclusive", [])
    assert "underpowered" in document["warnings"][0]


def test_a_slice_that_behaves_otherwise_than_its_baseline_breaches_in_a_sentence(sets):
    manifest = planned(sets)
    document = finish(
        read_baseline([sets.write()], manifest, DEFAULTS), sets, manifest, steps_used=9
    )
    assert document["verdict"] == "regressed"
    assert document["breaches"] == [
        (
            f"{TASKS[1]}: steps used changed in 1 of 6 episodes (seed 16: 5 to 9): regressed;"
            f" {SAME_BUT_DIFFERENT}"
        )
    ]


def test_without_an_answer_a_slice_breaches_only_where_that_is_asked(sets):
    manifest = planned(sets)
    strict = CompareOptions(require_conclusive=True)
    assert finish(read_baseline([sets.write()], manifest, strict), sets, manifest)["breaches"]


def test_half_a_slice_is_not_compared(sets):
    manifest = planned(sets)
    document = finish(
        read_baseline([sets.write()], manifest, DEFAULTS), sets, manifest, is_complete=False
    )
    assert (document["verdict"], document["breaches"]) == ("not_comparable", [])
    assert "not complete" in document["warnings"][0]


def test_a_baseline_of_another_machine_class_is_refused_before_anything_runs(sets):
    manifest = planned(
        sets, machine_class="x86_64-4cpu-16gib-py3.11-ffffffff", host={**HOST, "cpus_usable": 4}
    )
    with pytest.raises(
        InputError,
        match=r"--baseline: machine_class: found 'x86_64-2cpu.*differ in .*host\.cpus_usable",
    ):
        read_baseline([sets.write()], manifest, DEFAULTS)
    anyway = CompareOptions(compare_anyway=True)
    worse = {"steps_used": 9, "artifact_bytes": 10**6, "success": False, "error": "worse"}
    shown = finish(read_baseline([sets.write()], manifest, anyway), sets, manifest, **worse)
    assert (shown["verdict"], shown["breaches"]) == ("not_comparable", [])
    assert {"success", "steps_used", "artifact_bytes"} == {
        change["quantity"] for change in shown["exact"]["changes"]
    }


def run_script(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_the_command_answers_in_json_and_in_words_with_its_exit_code(sets, tmp_path):
    slow = sets.five(slower={TASKS[2]: 1.5})
    done = run_script("compare", *sets.five(), "--to", *slow, cwd=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["ok"], document["exit_code"], document["verdict"]) == (
        3,
        False,
        3,
        "regressed",
    )
    assert done.stderr.startswith("compared: regressed\n")
    assert TASKS[2] in done.stderr.splitlines()[1]


# --- in a GitHub job


def page_of(document, bytes_most=900_000):
    return write_markdown_within(comparison_page(document), bytes_most, 3)


def compared(base, new, options=DEFAULTS):
    document = compare_paths(base, new, options)
    return {
        "ok": not exit_code_of(document, options),
        "exit_code": exit_code_of(document, options),
        **document,
    }


def test_the_page_of_a_comparison_names_what_got_worse_first_and_folds_the_rest(sets):
    document = compared(sets.five(), sets.five(slower={TASKS[1]: 1.3}))
    page = page_of(document)
    assert page.startswith("### Perf: FAIL - comparison: regressed\n")
    (header, worse), (_, every) = read_tables(page)
    assert header == ["scenario row", "metric", "base", "new", "change", "95% interval", "verdict"]
    named = [row for row in worse if row[-1] == "**✘ regressed**"]
    assert [row[0].strip("`") for row in named] == [TASKS[1]]
    assert named[0][2:5] == ["10.10 ms", "13.13 ms", "+30.0%"]
    assert len(every) == len(document["decisions"])
    assert page.index("| scenario row") < page.index("<details>")
    assert page.count("<details>") == page.count("</details>") == 2


def test_the_page_of_the_working_tree_against_a_commit_names_the_commit(sets):
    comparison = compared(sets.five(), sets.five())
    document = {
        **comparison,
        "base": {"ref": "release|1", "git_sha": "a" * 40},
        "comparison": comparison,
    }
    page = page_of(document)
    assert page.startswith("### Perf: PASS - comparison against release\\|1: unchanged\n")
    assert f"| base | 5 runs, commit {'a' * 40}" in page


def test_changed_behaviour_is_a_table_whose_texts_end_no_cell(sets):
    change = only(
        1,
        success=False,
        termination_reason="logic_failure",
        failure_type="logic_failure",
        error="a|b <img>\n`c`",
    )
    page = page_of(compared([sets.write()], [sets.write(change=change)]))
    tables = read_tables(page)
    (behaviour,) = [body for header, body in tables if header[1] == "behaviour"]
    assert {row[2] for row in behaviour} == {"1 of 6"}
    assert "<img" not in page


def test_runs_that_cannot_be_compared_fail_by_name(sets):
    document = compared([sets.write()], [sets.write(manifest={"machine_class": "another"})])
    page = page_of(document)
    assert page.startswith("### Perf: FAIL - comparison: not comparable\n")
    assert "machine\\_class" in page
    telling = comparison_telling(document)
    assert list(telling.errors) == document["reasons"]
    assert read_outputs(output_lines(telling.outputs.items())) == {
        "verdict": "fail",
        "comparison": "not_comparable",
        "exit_code": "2",
        "regressions": "0",
    }


def test_a_page_that_would_be_too_large_loses_figures_first(sets):
    page = page_of(compared(sets.five(), sets.five(slower={TASKS[1]: 1.3})), bytes_most=3500)
    assert len(page.encode()) <= 3500
    assert "more figures" in page
    assert page.rstrip().endswith("</details>")


def test_the_command_tells_a_github_job_or_who_asks_for_it(sets, tmp_path, monkeypatch):
    page, values = tmp_path / "page.md", tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setenv("GITHUB_OUTPUT", str(values))
    sides = [*sets.five(), "--to", *sets.five(slower={TASKS[2]: 1.5})]
    done = run_script("compare", *sides, cwd=tmp_path)
    assert page.read_text("utf-8").startswith("### Perf: FAIL - comparison: regressed")
    assert read_outputs(values.read_text())["verdict"] == "fail"
    commands = [read_command(line) for line in done.stderr.splitlines() if line.startswith("::")]
    assert commands[0][0] == "error"
    assert TASKS[2] in commands[0][2]
    said = run_script("compare", *sides, "--step-summary", "off", cwd=tmp_path).stderr
    assert "::" not in said
    assert page.read_text("utf-8").count("### Perf") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "BASE: found nothing"),
        (["x"], "--to: found nothing"),
        (["nowhere", "--to", "nowhere"], "nowhere: found"),
        (
            ["x", "--to", "y", "--gate-on", "luck"],
            "--gate-on: found 'luck', expected some of cpu, wall, rss",
        ),
        (["x", "--to", "y", "--fast"], "'--fast': found an argument that no option takes"),
    ],
)
def test_a_wrong_command_is_one_clear_line_and_exit_2(tmp_path, arguments, said):
    done = run_script("compare", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in json.loads(done.stdout)["error"]
    assert len(done.stderr.splitlines()) == 1
