"""The working tree against a commit, for real: small clones made of this package, real runs, real
signals.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
SCENARIO = """\
[[scenario]]
agent = "agents/toy_agent.py"
task_ref = "filesystem_hidden_config@1"
seed = 42

[[scenario]]
agent = "agents/rate_limit_agent.py"
task_ref = "rate_limited_api@1"
seed = 11
"""
BURN = """

_setup = setup


def setup(seed, env):
    total = 0
    for number in range(600_000):
        total += number
    _setup(seed, env)
"""


def git(clone, *arguments):
    command = [
        "git",
        "-C",
        str(clone),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path):
    """A clone of one commit: the script and the package, and a short scenario."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "tracecore", folder / "tracecore")
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "perf_harness.py", folder / "scripts")
    (folder / "short.toml").write_text(SCENARIO)
    (folder / ".gitignore").write_text("__pycache__/\n.agent_bench/\ndeliverables/\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Begin")
    return folder


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def command(clone, *arguments, base="main"):
    script = str(clone / "scripts" / "perf_harness.py")
    return [sys.executable, script, "ab", "--base", base, "--scenario", "short.toml", *arguments]


def run(clone, scratch, *arguments, base="main", cwd=None):
    environment = {**os.environ, "TMPDIR": str(scratch)}
    done = subprocess.run(
        command(clone, *arguments, base=base),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd or clone,
        env=environment,
    )
    return done, json.loads(done.stdout)


def slow_down(clone, task="rate_limited_api"):
    file = clone / "tracecore" / "tasks" / task / "setup.py"
    file.write_text(file.read_text() + BURN)


def assert_nothing_is_left(clone, scratch):
    assert list(scratch.iterdir()) == []
    assert len(git(clone, "worktree", "list").splitlines()) == 1


@pytest.mark.slow
def test_a_slow_task_makes_it_exit_3_and_is_the_only_one_named(clone, scratch):
    slow_down(clone)
    done, document = run(clone, scratch, "--episodes", "8", "--rounds", "4")
    assert (done.returncode, document["exit_code"], document["ok"]) == (3, 3, False), done.stderr
    assert (document["verdict"], document["stage"], document["new"]["dirty"]) == (
        "regressed",
        "rounds",
        True,
    )
    named = [row["row"] for row in document["comparison"]["rows"] if row["verdict"] == "regressed"]
    assert named == ["rate_limited_api@1"]
    assert re.search(r"worse in [a-z ]+: rate_limited_api@1", done.stderr), done.stderr
    assert_nothing_is_left(clone, scratch)


@pytest.mark.slow
def test_identical_code_exits_0_with_the_commit_named(clone, scratch):
    done, document = run(clone, scratch, cwd=clone / "tracecore")
    # the scenario's path is relative to where the user stands, on both sides
    assert done.returncode == 2
    assert "short.toml" in document["error"]
    done, document = run(clone, scratch, "--episodes", "8", "--rounds", "4")
    assert done.returncode == 0, done.stderr
    assert (
        document["base"]["git_sha"]
        == document["new"]["git_sha"]
        == git(clone, "rev-parse", "HEAD").strip()
    )
    assert document["comparison"]["exact"] == {"compared_episodes": 8, "reasons": [], "changes": []}
    assert_nothing_is_left(clone, scratch)


def test_changed_behaviour_is_found_in_the_screen_without_any_rounds(clone, scratch):
    agent = clone / "tracecore" / "agents" / "toy_agent.py"
    agent.write_text(
        agent.read_text()
        + "\n\nclass Agent:\n    def reset(self, task_spec): raise ValueError('broken')\n"
        "    def observe(self, observation): pass\n    def act(self): return {}\n"
    )
    _, document = run(clone, scratch, "--episodes", "8", "--rounds", "1")
    assert (document["exit_code"], document["verdict"]) == (3, "regressed")
    assert (
        "filesystem_hidden_config@1: success changed in 4 of 4 episodes" in document["reasons"][0]
    )


@pytest.mark.slow
def test_the_working_tree_is_taken_as_it_is(clone, scratch):
    (clone / "new.toml").write_text(SCENARIO)  # untracked
    (clone / "short.toml").unlink()  # deleted
    (clone / "deliverables").mkdir()
    (clone / "deliverables" / "huge").write_text("ignored")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "Rename")
    shutil.copy(clone / "new.toml", clone / "newer.toml")
    (clone / "new.toml").unlink()
    done, document = run(clone, scratch, "--scenario", "newer.toml", "--episodes", "4")
    assert done.returncode == 2  # the base side has no such file
    assert "the base side" in document["error"]
    assert "newer.toml" in document["error"]
    assert "No such file or directory" in document["error"]
    done, document = run(clone, scratch, "--scenario", "new.toml", "--episodes", "4")
    assert "the work side" in document["error"]
    assert_nothing_is_left(clone, scratch)


@pytest.mark.slow
def test_the_sets_of_all_runs_stay_where_that_is_asked(clone, scratch, tmp_path):
    done, document = run(clone, scratch, "--episodes", "4", "--output-dir", str(tmp_path / "kept"))
    assert done.returncode in {0, 3}, done.stderr
    (folder,) = (tmp_path / "kept").iterdir()
    assert document["folder"] == str(folder)
    assert json.loads((folder / "comparison.json").read_text()) == document
    turns = [
        "warm-up-base",
        "warm-up-work",
        "screen-base",
        "screen-work",
        "screen-work",
        "screen-base",
    ]
    kept = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert kept[:6] == [f"{number:03d}-{turn}" for number, turn in enumerate(turns, 1)]
    assert len(list(folder.glob("*/perf-summary-*.json"))) == len(kept)
    assert_nothing_is_left(clone, scratch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_an_interrupted_comparison_leaves_nothing_behind_and_gives_no_verdict(
    clone, scratch, number
):
    process = subprocess.Popen(
        command(clone, "--episodes", "5000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=clone,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    for line in process.stderr:
        if line.startswith("screen"):
            break
    time.sleep(0.5)  # it may be anywhere by then: starting workers, or in the midst of episodes
    process.send_signal(number)
    stdout, _ = process.communicate()
    assert process.returncode == 130
    assert json.loads(stdout)["exit_code"] == 130
    assert "verdict" not in json.loads(stdout)
    assert_nothing_is_left(clone, scratch)
    assert (
        subprocess.run(["pgrep", "-f", str(scratch)], capture_output=True, check=False).stdout
        == b""
    )


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("no-such-branch", "--base: found 'no-such-branch"),
        ("--output=/tmp/x", "'--output': found no such option"),
        ("main:short.toml", "--base: found 'main:short.toml"),
    ],
)
def test_a_base_that_is_no_commit_is_exit_2(clone, scratch, base, said):
    done, document = run(clone, scratch, base=base)
    assert done.returncode == 2
    assert said in document["error"]
    assert len(done.stderr.splitlines()) == 1
    assert_nothing_is_left(clone, scratch)


def test_a_base_without_the_harness_is_exit_2(clone, scratch):
    git(clone, "rm", "-q", "scripts/perf_harness.py", "--cached")
    git(clone, "commit", "-q", "-m", "Remove")
    git(clone, "tag", "empty")
    git(clone, "reset", "-q", "HEAD~1")
    done, document = run(clone, scratch, base="empty")
    assert done.returncode == 2
    assert "scripts/perf_harness.py" in document["error"]
    assert_nothing_is_left(clone, scratch)


def test_outside_of_a_clone_it_is_exit_2(clone, scratch):
    shutil.rmtree(clone / ".git")
    done, document = run(clone, scratch)
    assert (done.returncode, document["ok"]) == (2, False)
    assert "not a git repository" in document["error"]


@pytest.mark.slow
def test_a_hook_that_calls_it_and_a_ci_runner_disturb_nothing(
    clone, scratch, monkeypatch, tmp_path
):
    hook = clone / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", "index.other")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    environment = {**os.environ, "TMPDIR": str(scratch)}
    done = subprocess.run(
        command(clone, "--episodes", "4"),
        capture_output=True,
        text=True,
        cwd=clone,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (clone / "hook-ran").exists()
    page = (tmp_path / "summary.md").read_text("utf-8")
    # So few runs of the same code give no answer on time, or that nothing changed.
    assert re.match(r"### Perf: (PASS|NO ANSWER) - comparison against main: ", page), page
    # of the comparison; the runs that it consists of tell nothing
    assert page.count("### Perf") == 1
