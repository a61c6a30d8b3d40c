import json
import pathlib
import re

import pytest
from helpers.gates import read_gate
from helpers.sets import work_of
from helpers.tables import rows

from tracecore.errors import ThresholdError
from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.findings.findings import Circumstances, findings_document
from tracecore.perf.judge.abort import AbortWatch
from tracecore.perf.judge.aggregates import evaluate
from tracecore.perf.judge.gate import (
    Gate,
    builtin_expressions,
    check_selectors,
    series_fields,
    summary_paths,
)
from tracecore.perf.judge.thresholds import leaf_paths
from tracecore.perf.judge.verdicts import Evidence, judge, verdict_document
from tracecore.perf.slice.second_runs import Determinism


def summary_of(rows, *, asked=None, interrupted=False, determinism=None):
    table = Rows(rows)
    determinism = (determinism or Determinism()).document()
    facts = SliceFacts(
        episodes_requested=len(rows) if asked is None else asked,
        workers=2,
        elapsed_s=1.0,
        interrupted=interrupted,
    )
    found = findings_document(table, Circumstances(determinism=determinism))
    return {**summary_document(table, facts), "determinism": determinism, **found}


def statuses_of(gate, rows, document):
    table = Rows(rows)
    return tuple(evaluate(threshold, document, table) for threshold in gate.thresholds)


def verdict_of(gate, rows, **changes):
    document = summary_of(rows, **changes)
    return judge(document, Evidence(statuses_of(gate, rows, document)))


CHECKED = Determinism(requested=4, checked=4)


# --- what is read


@pytest.mark.parametrize(
    ("asked", "episodes", "second_runs", "texts"),
    [
        ({}, 24, 0, []),
        ({"work": True}, 24, 4, []),
        ({"work": True, "verify_determinism": 2}, 3, 3, ["determinism.differing == 0"]),
        ({"verify_determinism": 7}, 24, 7, ["determinism.differing == 0"]),
        ({"verify_determinism": 7}, 5, 5, ["determinism.differing == 0"]),
        ({"gate": True}, 24, 4, [*builtin_expressions(24), "determinism.differing == 0"]),
        ({"gate": True}, 2, 2, [*builtin_expressions(2), "determinism.differing == 0"]),
        ({"gate": True, "verify_determinism": 0}, 24, 0, list(builtin_expressions(24))),
        ({"gate": True, "no_gate": True}, 24, 0, []),
    ],
)
def test_what_gates_and_how_many_episodes_run_twice_is_as_asked(
    make_row, asked, episodes, second_runs, texts
):
    gate = read_gate(episodes=episodes, **asked)
    assert gate.episodes_to_verify(episodes, 4) == second_runs
    assert [threshold.text for threshold in gate.thresholds] == texts
    assert verdict_of(Gate(), [make_row(0)]).exit_code == 0


def test_the_small_profile_is_the_promised_one_up_to_100_episodes():
    assert builtin_expressions(24) == (
        "failure_count == 0",
        "max_wall_clock_s <= 15",
        "run_artifacts.total_bytes <= 2000000",
        "run_artifacts.avg_bytes <= 150_000",
    )
    for episodes, limit in ((1, 2_000_000), (48, 4_000_000), (100, 8_333_333)):
        assert f"run_artifacts.total_bytes <= {limit}" in builtin_expressions(episodes)
        assert read_gate(episodes=episodes, gate=True).profile == "small"
    assert read_gate(episodes=101, gate=True).profile == "large"


def test_bytes_are_counted_as_written_where_not_all_files_are_kept():
    texts = builtin_expressions(24, keep_runs="none")
    assert "telemetry_verbosity.artifact_bytes_total <= 2000000" in texts
    assert not [text for text in texts if text.startswith("run_artifacts")]


def test_the_large_profile_asks_for_the_default_slices_success_and_no_trends():
    assert builtin_expressions(1000) == (
        "summary.success_rate >= 0.862",  # Wilson's interval of 24 successes in 24
        "finding_counts.late_drift == 0",
        "finding_counts.artifact_growth_nonlinear == 0",
        "finding_counts.memory_growth == 0",
    )


def test_files_and_expressions_add_up_with_the_profile(tmp_path: pathlib.Path):
    path = tmp_path / "gate.toml"
    path.write_text('thresholds = ["episodes >= 3"]')
    gate = read_gate(episodes=24, gate=True, files=[str(path)], expressions=["failure_count <= 2"])
    texts = [threshold.text for threshold in gate.thresholds]
    assert texts[-2:] == ["episodes >= 3", "failure_count <= 2"]
    assert texts[0] == "failure_count == 0"


def test_no_gate_takes_everything_off_but_still_tells_a_mistake():
    gate = read_gate(
        episodes=24,
        gate=True,
        no_gate=True,
        expressions=["failure_count == 0"],
        verify_determinism=2,
    )
    assert gate.thresholds == ()
    assert gate.episodes_to_verify(24, 4) == 2
    assert read_gate(episodes=24, gate=True, no_gate=True).episodes_to_verify(24, 4) == 0
    with pytest.raises(ThresholdError):
        read_gate(episodes=24, no_gate=True, expressions=["failure_count = 0"])


@pytest.mark.parametrize(
    "path",
    [
        "elapsed_s",
        "finding_counts.late_drift",
        "determinism.differing",
        "summary.throughput_eps",
        "system_samples.cpu_percent",
        "work.lines",
    ],
)
def test_what_is_known_at_the_end_alone_cannot_end_a_slice(tmp_path: pathlib.Path, path):
    file = tmp_path / "gate.toml"
    file.write_text(f'[[threshold]]\nexpr = "{path} <= 1"\nabort = true\n')
    with pytest.raises(ThresholdError, match="known while the slice runs"):
        read_gate(episodes=24, files=[str(file)])


def test_every_number_that_a_summary_can_have_may_be_named(make_row):
    rows = [make_row(index, error="no" if index % 3 else None) for index in range(120)]
    document = summary_of(rows, determinism=Determinism(requested=1, checked=1))
    counted_by_name = ("failure_reasons.",)
    assert {path for path in leaf_paths(document) if not path.startswith(counted_by_name)} <= set(
        summary_paths()
    )
    assert {"wall_clock_s", "task_ref", "peak_rss_bytes", "artifact_hash"} <= set(series_fields())


# --- the verdict


def test_a_good_slice_says_so(make_row):
    gate = read_gate(episodes=4, gate=True)
    verdict = verdict_of(gate, [make_row(index) for index in range(4)], determinism=CHECKED)
    assert (verdict.exit_code, verdict.exit_codes) == (0, (0,))
    assert verdict.reasons == (
        "All 4 episodes succeeded.",
        "5 of 5 thresholds hold.",
        "Times were not judged: no baseline was given.",
    )
    assert [status["status"] for status in verdict.thresholds] == ["passed"] * 5


@pytest.mark.parametrize(
    ("expression", "artifact_bytes", "margin", "words"),
    rows("""
    run_artifacts.avg_bytes <= 900   | 1000       | -100      | 1 kB of 900 B, off by 100 B.
    artifact_bytes:max <= 2_000_000  | 2_000_001  | -1        | 2 MB of 2 MB, off by 1 B.
    artifact_bytes:max <= 150_000    | 12_345_678 | -12195678 | 12.3 MB of 150 kB, off by 12.2 MB.
    artifact_bytes:avg < 0.5         | 1          | -0.5      | 1 B of 0.5 B, off by 0.5 B.
    artifact_bytes:max > 7           | 7          | 0         | 7 B against 7 B, LIMIT
    artifact_bytes:max != 7          | 7          | 0         | 7 B against 7 B, LIMIT
    artifact_bytes:count >= 2        | 7          | -1        | 1 against 2, off by 1.
    success:rate > 1                 | 7          | 0         | 100 % against 100 %, LIMIT
    """),
)
def test_a_breach_is_exit_3_with_its_figures_in_their_units(
    make_row, expression, artifact_bytes, margin, words
):
    words = words.replace("LIMIT", "which is the limit itself.")
    row = make_row(0, artifact_bytes=int(artifact_bytes))
    verdict = verdict_of(read_gate(episodes=1, expressions=[expression]), [row])
    assert (verdict.exit_code, verdict.breaches) == (3, verdict.reasons)
    assert verdict.reasons == (f"{expression} does not hold: {words}",)
    (status,) = verdict.thresholds
    assert (status["margin"], status["status"]) == (float(margin), "failed")


def test_a_warning_gates_nothing(tmp_path: pathlib.Path, make_row):
    file = tmp_path / "gate.toml"
    file.write_text('[[threshold]]\nexpr = "episodes > 3"\nseverity = "warn"\n')
    verdict = verdict_of(read_gate(episodes=1, files=[str(file)]), [make_row(0)])
    assert verdict.exit_code == 0
    assert verdict.warnings == ("episodes > 3 does not hold: 1 against 3, off by 2.",)


@pytest.mark.parametrize("text", ["determinism.differing == 0", "finding_counts.late_drift == 0"])
def test_what_has_no_data_breaches_and_is_said_to(make_row, text):
    verdict = verdict_of(read_gate(episodes=1, expressions=[text]), [make_row(0)])
    assert verdict.exit_code == 3
    assert verdict.reasons == (f"{text} has no data to judge, which counts as a breach.",)


def test_an_empty_or_interrupted_slice_never_passes(make_row):
    verdict = verdict_of(read_gate(episodes=24, gate=True), [], asked=24)
    assert verdict.exit_codes == (5, 3)
    assert {status["status"] for status in verdict.thresholds} == {"no_data"}
    assert verdict_of(Gate(), [], asked=24).exit_code == 5
    interrupted = verdict_of(Gate(), [make_row(0)], asked=2, interrupted=True)
    assert interrupted.exit_codes == (130, 5)
    assert interrupted.reasons[0] == "The slice was interrupted after 1 of 2 episodes."


def test_the_gravest_exit_code_is_given_and_all_are_told(make_row):
    rows = [make_row(0, error="broke")]
    document = summary_of(rows, asked=3, interrupted=True)
    statuses = statuses_of(read_gate(episodes=3, gate=True), rows, document)
    verdict = judge(document, Evidence(statuses, trouble="no worker could be kept alive"))
    assert (verdict.exit_code, verdict.exit_codes) == (4, (4, 130, 5, 1, 3))
    assert verdict.reasons[0] == "The run could not go on: no worker could be kept alive."
    assert "1 of 1 episodes failed; most often (1): broke." in verdict.reasons


def test_an_aborted_slice_is_incomplete_and_names_what_ended_it(make_row):
    document = summary_of([make_row(0)], asked=9)
    verdict = judge(document, Evidence(aborted="failure_count == 0"))
    assert verdict.exit_code == 5
    assert verdict.reasons == (
        "The threshold failure_count == 0 ended the slice after 1 of 9 episodes.",
    )


def test_a_comparison_adds_its_breaches_and_warnings(make_row):
    evidence = Evidence(breaches=("CPU time regressed.",), warnings=("Wall clock may have.",))
    verdict = judge(summary_of([make_row(0)]), evidence)
    assert verdict.exit_code == 3
    assert verdict.reasons == verdict.breaches == ("CPU time regressed.",)
    assert verdict.warnings == ("Wall clock may have.",)


def test_the_block_of_the_summary_is_json(make_row):
    gate = read_gate(episodes=1, gate=True)
    block = verdict_document(verdict_of(gate, [make_row(0)]), gate)
    assert json.loads(json.dumps(block, allow_nan=False)) == block
    assert (block["profile"], block["gate_off"], block["exit_codes"]) == ("small", False, [3])
    names = {"text", "observed", "limit", "margin", "status", "severity"}
    assert set(block["thresholds"][0]) == names


# --- while it runs


def abort_gate(tmp_path: pathlib.Path, text: str, delay: int = 0):
    file = tmp_path / "gate.toml"
    file.write_text(f'[[threshold]]\nexpr = "{text}"\nabort = true\ndelay_episodes = {delay}\n')
    return read_gate(episodes=1000, files=[str(file)]).thresholds


def episodes_until_abort(thresholds, rows, episodes=1000):
    watch = AbortWatch(thresholds, episodes)
    return next((count for count, row in enumerate(rows, 1) if watch.add(row)), None)


@pytest.mark.parametrize(
    ("expression", "delay", "first_bad", "ended"),
    [
        ("failure_count == 0", 0, 4, 5),
        ("success:rate >= 0.9", 0, 4, 5),
        ("failure_count == 0", 7, 0, 7),
        ("wall_clock_s{task_ref=other@1}:max <= 1", 0, 0, None),  # no data yet
    ],
)
def test_an_aborting_threshold_ends_the_slice_at_the_first_breach_after_its_delay(
    tmp_path, make_row, expression, delay, first_bad, ended
):
    rows = [make_row(index, error="no" if index == first_bad else None) for index in range(10)]
    assert episodes_until_abort(abort_gate(tmp_path, expression, delay), rows) == ended


@pytest.mark.parametrize(("first_bad", "ended"), [(500, range(501, 507)), (999, [1000])])
def test_a_long_slice_is_looked_at_often_enough_and_at_its_end(
    tmp_path, make_row, first_bad, ended
):
    rows = [make_row(k, error="no" if k >= first_bad else None) for k in range(1000)]
    assert episodes_until_abort(abort_gate(tmp_path, "failure_count == 0"), rows) in ended


def test_thresholds_without_abort_are_not_watched(make_row):
    watch = AbortWatch(read_gate(episodes=24, expressions=["failure_count == 0"]).thresholds, 24)
    assert not watch.is_watching
    assert watch.add(make_row(0, error="no")) is None


# --- what a threshold may bound besides


def judged(expression, summary):
    gate = read_gate(episodes=4, expressions=[expression])
    return evaluate(gate.thresholds[0], {"episodes": 4, **summary}, Rows())


@pytest.mark.parametrize(
    ("expression", "observed"),
    [
        ("work.lines{task_ref=rate_limited_api@1} <= 7_000", 5800),
        ("work.lines <= 7_000", 11_600),
        ("work.calls:min <= 7_000", 1060),
        ("work.page_faults:sum <= 7_000", 4800),
        ("work.messages:avg <= 7_000", 20),
        ("work.bytes_written{agent=agents/toy_agent.py} <= 7_000", 9000),
        ("work.lines{seed=99} <= 7_000", None),
    ],
)
def test_counted_work_can_be_bounded_of_one_scenario_row_or_of_all(expression, observed):
    work = work_of(lines={"filesystem_hidden_config@1": 2.16})
    assert judged(expression, {"work": work}).observed == observed
    assert judged(expression, {}).status == "no_data"


def test_cpu_time_and_page_faults_of_episodes_can_be_bounded(make_row):
    gate = read_gate(episodes=1, expressions=["cpu_s:max <= 1", "page_faults:max <= 1"])
    rows = Rows([make_row(0, cpu_user_s=0.5, cpu_sys_s=0.25, page_faults=1780)])
    found = [evaluate(one, {"episodes": 1}, rows).observed for one in gate.thresholds]
    assert found == [0.75, 1780]


ROWS = [
    ("agents/toy_agent.py", "filesystem_hidden_config@1", 42),
    ("a.py", "rate_limited_api@1", 7),
]


@pytest.mark.parametrize(
    ("selector", "nearest"),
    [
        ("task_ref=rate_limited_apj@1", "did you mean rate_limited_api@1?"),
        ("agent=agents/toy_agnt.py", "did you mean agents/toy_agent.py?"),
        ("agent=a.py,task_ref=filesystem_hidden_config@1", "go together"),
        ("seed=43", "seeds of the scenario"),
        ("seed=46", "seeds of the scenario"),  # of episode 5, and 4 are asked for
        ("seed=044", "seeds of the scenario"),
        ("seed=many", "seeds of the scenario"),
        ("agent=a.py,seed=42", "go together"),
    ],
)
def test_a_selector_that_no_episode_matches_is_refused_with_the_nearest(selector, nearest):
    gate = read_gate(episodes=4, expressions=[f"wall_clock_s{{{selector}}}:max <= 1"])
    with pytest.raises(ThresholdError, match=re.escape(nearest)):
        check_selectors(gate.thresholds, ROWS, 4)


@pytest.mark.parametrize(
    "selector",
    ["task_ref=rate_limited_api@1", "seed=42", "seed=44", "agent=a.py,seed=10", "success=true"],
)
def test_a_selector_that_an_episode_matches_is_taken(selector):
    gate = read_gate(episodes=4, expressions=[f"wall_clock_s{{{selector}}}:max <= 1"])
    check_selectors(gate.thresholds, ROWS, 4)


def test_a_seed_is_found_in_any_number_of_episodes_without_a_look_at_each():
    episodes = 10**15
    last = ROWS[0][2] + len(ROWS) * ((episodes - 1) // len(ROWS))
    gate = read_gate(episodes=4, expressions=[f"wall_clock_s{{seed={last}}}:max <= 1"])
    check_selectors(gate.thresholds, ROWS, episodes)
    assert summary_paths() is summary_paths()  # made once, whatever number of thresholds is read
    assert series_fields() is series_fields()
