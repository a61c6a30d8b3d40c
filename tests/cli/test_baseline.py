"""A real slice, held against a real one at its end."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from helpers.rows import as_series

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "scripts" / "perf_harness.py"


def run(cwd, *options, output="new"):
    command = [
        sys.executable,
        str(SCRIPT),
        "--episodes",
        "4",
        "--workers",
        "2",
        "--output-dir",
        output,
        "--runs-dir",
        "runs",
    ]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, cwd=cwd
    )
    return done, json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    done, _ = run(folder, output="old")
    assert done.returncode == 0, done.stderr
    return folder


def summary_of(folder, document):
    return json.loads((folder / document["artifacts"]["summary"]).read_text())


def test_the_same_again_is_exit_0_and_says_what_one_run_cannot_tell(folder):
    done, document = run(folder, "--baseline", "old")
    assert done.returncode == 0, done.stderr
    comparison = summary_of(folder, document)["comparison"]
    assert comparison["exact"] == {"compared_episodes": 4, "reasons": [], "changes": []}
    assert (comparison["verdict"], comparison["breaches"]) == ("inconclusive", [])


def test_other_behaviour_than_the_baselines_is_exit_3_with_the_reason(folder):
    (series,) = (folder / "old").glob("perf-series-*.json")
    good = series.read_text()
    rows = json.loads(good)
    rows[2]["steps_used"] += 1
    try:
        series.write_bytes(as_series(rows))
        done, document = run(folder, "--baseline", "old")
        waived, _ = run(folder, "--baseline", "old", "--no-gate")
    finally:
        series.write_text(good)
    assert (done.returncode, document["ok"]) == (3, False)
    assert "rate_limited_chain@1: steps used changed in 1 of 1 episodes" in document["reasons"][0]
    assert waived.returncode == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--baseline", "nowhere"], "nowhere: found"),
        (
            ["--baseline", "old", "--strict-spec"],
            "--baseline: strict_spec: found 'False', expected True, as this slice has",
        ),
    ],
)
def test_a_baseline_that_cannot_be_used_is_exit_2_before_anything_runs(folder, options, said):
    before = sorted(path.name for path in folder.rglob("*"))
    done, document = run(folder, *options, output="old")
    assert done.returncode == 2
    assert said in document["error"]
    assert sorted(path.name for path in folder.rglob("*")) == before


def plant(folder, line):
    """The bundled task under a folder of tasks, slowed down by a line of its setup."""
    task = folder / "slow" / "rate_limited_api"
    shutil.rmtree(task.parent, ignore_errors=True)
    shutil.copytree(SCRIPT.parent.parent / "tracecore" / "tasks" / "rate_limited_api", task)
    with (task / "setup.py").open("a") as file:
        file.write(
            f"\n\n_setup = setup\n\n\ndef setup(seed, env):\n    {line}\n    _setup(seed, env)\n"
        )
    return ["--tasks-dir", str(task.parent)]


def test_a_task_made_slow_in_python_fails_against_one_run_in_every_place(folder, tmp_path):
    page = tmp_path / "page.md"
    run(folder, "--work", output="counted")
    slow = plant(tmp_path, "for _ in range(100_000): pass")
    asked = ["--work", "--baseline", "counted", "--step-summary", str(page)]
    done, document = run(folder, *asked, *slow)
    comparison = document["summary"]["comparison"]
    assert (done.returncode, comparison["headline"]) == (3, "FAIL")
    assert comparison["answer"] == "worse in work: rate_limited_api@1"
    assert comparison["work"][0]["grew"][0]["function"] == "setup"
    assert page.read_text("utf-8").startswith("### Perf: FAIL")
    assert "compared    FAIL" in done.stderr
    assert "rate_limited_api@1: Python lines" in document["reasons"][0]
    same, document = run(folder, *asked)
    assert (same.returncode, document["summary"]["comparison"]["headline"]) == (0, "NO ANSWER")
    assert page.read_text("utf-8").count("### Perf: NO ANSWER") == 1
    assert "compared    NO ANSWER" in same.stderr
