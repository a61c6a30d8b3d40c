"""Verdicts through the real script: exit codes, the summary's blocks, and what is left on disk."""

import json
import os
import pathlib
import signal

import pytest
from helpers import slices
from helpers.folders import write_task
from helpers.slices import ROOT

FOLDERS = ("--tasks-dir", "tasks", "--output-dir", "out", "--runs-dir", "runs")
FILES = {
    "setup.py": "def setup(seed, env):\n    env.set_hidden_state('seed', seed)\n",
    "validate.py": "def validate(env):\n    return {'ok': env.exists('/app/done')}\n",
}
ACTIONS = {
    "steady": "def finish():\n    ENV.write_file('/app/done', 'x')\n    return {'ok': True}\n",
    "random": (
        "import os\ndef finish():\n    ENV.write_file('/app/done', 'x')\n    return {'ok': True,"
        " 'token': os.urandom(8).hex()}\n"
    ),
    "failing": "def finish():\n    return {'ok': True}\n",
    "odd_seeds_fail": (
        "def finish():\n"
        "    if ENV.get_hidden_state('seed') % 2 == 0:\n        ENV.write_file('/app/done', 'x')\n"
        "    return {'ok': True}\n"
    ),
}
AGENT = """\
class Agent:
    def reset(self, task_spec): pass
    def observe(self, observation): pass
    def act(self): return {"type": "finish", "args": {}}
"""
SLOW_AGENT = AGENT.replace('return {"type"', 'import time; time.sleep(30); return {"type"')


@pytest.fixture
def bench(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """Runs slices in a folder with the tasks above; gives how it ended, stdout's object and the
    summary.
    """
    for task_id, actions in ACTIONS.items():
        code = f"def set_env(env):\n    global ENV\n    ENV = env\n\n{actions}"
        write_task(tmp_path / "tasks" / task_id, {**FILES, "actions.py": code})
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "slow.py").write_text(SLOW_AGENT)
    (tmp_path / "steady.json").write_text(json.dumps(rows("steady")))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GITHUB_")]:
        monkeypatch.delenv(name)

    def run(*options: str, scenario=("steady",), environ=None):
        scenario_rows = [row for task_id in scenario for row in rows(task_id)]
        (tmp_path / "s.json").write_text(json.dumps(scenario_rows))
        with monkeypatch.context() as patch:
            for name, value in (environ or {}).items():
                patch.setenv(name, value)
            done = slices.call(*FOLDERS, "--scenario", "s.json", "--workers", "1", *options)
        path = done.document.get("artifacts", {}).get("summary")
        summary = json.loads((tmp_path / path).read_text()) if path else None
        return done, done.document, summary

    run.folder = tmp_path
    return run


def rows(task_id, agent="agent.py"):
    return [{"agent": agent, "task_ref": f"{task_id}@1", "seed": 0}]


def status_of(summary, text):
    (status,) = [status for status in summary["verdict"]["thresholds"] if status["text"] == text]
    return status


def test_a_good_slice_passes_the_built_in_gate_and_leaves_no_second_artifact(bench):
    done, answer, summary = bench("--episodes", "6", "--gate")
    assert done.exit_code == answer["exit_code"] == summary["verdict"]["exit_code"] == 0
    found = {"requested": 1, "checked": 1, "differing": 0, "differences": []}
    assert summary["determinism"] == found
    assert summary["episodes"] == len(os.listdir(bench.folder / "runs")) == 6
    assert [name for name in os.listdir(bench.folder / "out") if name.startswith(".")] == []


def test_a_breached_threshold_is_exit_3_and_one_sentence(bench):
    done, answer, summary = bench("--episodes", "3", "--threshold", "run_artifacts.avg_bytes <= 10")
    assert done.exit_code == 3
    assert answer["ok"] is False
    (reason,) = summary["verdict"]["reasons"]
    assert reason.startswith("run_artifacts.avg_bytes <= 10 does not hold: ")
    assert reason in done.stderr
    status = status_of(summary, "run_artifacts.avg_bytes <= 10")
    assert status["status"] == "failed"
    assert status["margin"] == status["limit"] - status["observed"]


def test_a_failed_episode_is_exit_1_even_where_a_threshold_is_broken(bench):
    done, _, summary = bench("--episodes", "4", "--gate", scenario=["odd_seeds_fail"])
    assert done.exit_code == 1
    assert summary["verdict"]["exit_codes"] == [1, 3]
    assert [failure["episode"] for failure in summary["failures"]] == [2, 4]
    assert summary["failures"][0]["repro"].endswith(
        "run --agent agent.py --task odd_seeds_fail@1 --seed 1 --tasks-dir tasks"
    )


def test_no_data_fails(bench):
    texts = ("finding_counts.late_drift == 0", "determinism.differing == 0")
    asked = [word for text in texts for word in ("--threshold", text)]
    done, _, summary = bench("--episodes", "2", *asked)
    assert done.exit_code == 3
    for text in texts:
        found = {"text": text, "observed": None, "limit": 0, "margin": None}
        assert status_of(summary, text) == {**found, "status": "no_data", "severity": "fail"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "failure_cuont == 0"], "did you mean failure_count?"),
        (["--threshold", "failure_count = 0"], "--threshold: column"),
        (["--threshold", "__import__('os').system('touch pwned') == 0"], "--threshold: column"),
        (["--thresholds", "missing.toml"], "missing.toml"),
        (["--thresholds", "bad.toml"], "bad.toml: threshold[0].expr: column 1: found 'fail_count'"),
        (["--no-gate", "--threshold", "nonsense"], "--threshold"),
    ],
)
def test_a_wrong_threshold_is_exit_2_before_anything_runs(bench, options, words):
    (bench.folder / "bad.toml").write_text('[[threshold]]\nexpr = "fail_count == 0"\n')
    done, answer, _ = bench("--episodes", "2", *options)
    assert done.exit_code == 2
    assert words in answer["error"]
    assert not (bench.folder / "out").exists()
    assert not (bench.folder / "runs").exists()
    assert not (bench.folder / "pwned").exists()


def test_an_aborting_threshold_stops_the_slice_which_can_be_finished_without_its_gate(bench):
    (bench.folder / "gate.toml").write_text(
        '[[threshold]]\nexpr = "failure_count == 0"\nabort = true\ndelay_episodes = 3\n'
    )
    gated = ("--episodes", "40", "--thresholds", "gate.toml")
    done, answer, summary = bench(*gated, scenario=["failing"])
    assert done.exit_code == 5
    assert summary["verdict"]["exit_codes"] == [5, 1, 3]
    assert summary["verdict"]["reasons"][0].startswith(
        "The threshold failure_count == 0 ended the slice after "
    )
    assert 3 <= summary["episodes"] < 40
    series = json.loads((bench.folder / answer["artifacts"]["series"]).read_text())
    assert len(series) == summary["episodes"]
    assert "--resume" in done.stderr
    again, _, summary = bench(*gated, "--resume", answer["stamp"], scenario=["failing"])
    assert again.exit_code == 5
    assert summary["episodes"] < 40
    rest = ("--episodes", "40", "--no-gate", "--resume", answer["stamp"])
    finished, _, summary = bench(*rest, scenario=["failing"])
    assert (finished.exit_code, summary["episodes"]) == (1, 40)


def test_a_task_that_does_something_else_each_time_is_found_with_step_and_field(bench):
    done, _, summary = bench(
        "--episodes", "6", "--verify-determinism", "4", scenario=["steady", "random"]
    )
    assert done.exit_code == 3
    determinism = summary["determinism"]
    assert (determinism["requested"], determinism["checked"], determinism["differing"]) == (4, 4, 2)
    assert {difference["task_ref"] for difference in determinism["differences"]} == {"random@1"}
    assert {
        (difference["step"], difference["field"]) for difference in determinism["differences"]
    } == {(1, "result.token")}
    (finding,) = [
        finding for finding in summary["findings"] if finding["id"] == "determinism_mismatch"
    ]
    assert "first differs in step 1, result.token" in finding["text"]
    assert "--task random@1" in finding["repro"]
    assert summary["episodes"] == len(os.listdir(bench.folder / "runs")) == 6


def test_timeouts_are_counted_and_are_no_latency(bench):
    (bench.folder / "agent.py").write_text(SLOW_AGENT)
    done, _, summary = bench("--episodes", "2", "--timeout", "0.3", "--verify-determinism", "1")
    assert done.exit_code == 1
    assert (summary["timeouts"], summary["crashes"]) == (2, 0)
    assert summary["max_wall_clock_s"] is summary["summary"]["p95_wall_clock_s"] is None
    found = {"requested": 1, "checked": 0, "differing": None, "differences": []}
    assert summary["determinism"] == found


def test_an_interrupted_slice_is_exit_130_and_its_thresholds_do_not_save_it(bench):
    (bench.folder / "agent.py").write_text(SLOW_AGENT)
    harness = slices.start(
        ROOT, bench.folder, *FOLDERS, "--scenario", "steady.json", "--gate", "--episodes", "2"
    )
    slices.wait_until(lambda: slices.descendants(harness.process.pid))
    harness.signal(signal.SIGINT)
    done = harness.wait()
    answer = done.document
    assert done.exit_code == 130
    verdict = json.loads((bench.folder / answer["artifacts"]["summary"]).read_text())["verdict"]
    assert verdict["exit_codes"][0] == 130
    assert {status["status"] for status in verdict["thresholds"]} == {"no_data"}


def test_formats_and_the_github_files_are_written(bench):
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(bench.folder / "page.md"),
        "GITHUB_OUTPUT": str(bench.folder / "outputs"),
    }
    (bench.folder / "page.md").write_text("what stood there before\n")
    options = ["--episodes", "4", "--emit", "github-benchmark,bmf", "--threshold", "episodes > 9"]
    done, answer, _ = bench(*options, environ=environ)
    assert done.exit_code == 3
    out = bench.folder / "out"
    assert answer["artifacts"]["bmf"] == "out/perf-bencher.json"
    assert "steady@1" in json.loads((out / "perf-bencher.json").read_text())
    names = [
        entry["name"] for entry in json.loads((out / "perf-github-benchmark.json").read_text())
    ]
    assert "steady@1 / wall median" in names
    page = (bench.folder / "page.md").read_text()
    assert page.startswith(
        "what stood there before\n### Perf: FAIL - episodes &gt; 9 does not hold"
    )
    assert "::error title=perf::episodes > 9 does not hold: 4 against 9, off by 5." in done.stderr
    assert "exit_code=3\n" in (bench.folder / "outputs").read_text()
    assert done.stdout.count("\n") == 1


def test_step_summary_off_silences_github(bench):
    page = bench.folder / "page.md"
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    asked = ("--threshold", "episodes > 9", "--step-summary", "off")
    done, _, _ = bench("--episodes", "1", *asked, environ=environ)
    assert "::error" not in done.stderr
    assert not page.exists()


def test_a_page_that_cannot_be_written_changes_nothing_but_stderr(bench):
    done, answer, _ = bench("--episodes", "1", "--step-summary", "no/such/folder/page.md")
    assert (done.exit_code, answer["ok"]) == (0, True)
    assert "no/such/folder/page.md: cannot be written: No such file or directory" in done.stderr
