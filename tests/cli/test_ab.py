"""The working tree against a commit, for real: small clones made of this package, real runs, real
signals. What is asserted follows from behaviour and counted work; what a clock measured may be
judged either way.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from typing import Any

import pytest
from helpers.slices import commit_all, descendants, git, is_alive, wait_until

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
    for _ in range(100_000):
        pass
    _setup(seed, env)
"""
BROKEN = """

class Agent:
    def reset(self, task_spec): raise ValueError('broken')
    def observe(self, observation): pass
    def act(self): return {}
"""
SHORT = ("--episodes", "4", "--rounds", "1")


@pytest.fixture
def clone(harness_clone: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A clone of one commit, with a short scenario, and beside it an empty folder for what is
    temporary.
    """
    folder = tmp_path / "clone"
    shutil.copytree(harness_clone, folder)
    (tmp_path / "tmp").mkdir()
    (folder / "short.toml").write_text(SCENARIO)
    (folder / ".gitignore").write_text("__pycache__/\n.agent_bench/\ndeliverables/\n")
    commit_all(folder)
    return folder


def start(clone: pathlib.Path, *options: str, base: str = "main", **more: Any) -> Any:
    script = str(clone / "scripts" / "perf_harness.py")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "TMPDIR": str(clone.parent / "tmp")}
    command = [sys.executable, script, "ab", "--base", base, "--scenario", "short.toml", *options]
    return subprocess.Popen(command, **{"cwd": clone, "env": environment, **streams, **more})


def run(clone: pathlib.Path, *options: str, **more: Any) -> tuple[dict[str, Any], str]:
    """The document of a comparison, which leaves nothing behind, and what it said on stderr."""
    process = start(clone, *options, **more)
    stdout, stderr = process.communicate()
    document = json.loads(stdout)
    assert process.returncode == document["exit_code"]
    assert_nothing_is_left(clone)
    return document, stderr


def assert_nothing_is_left(clone: pathlib.Path) -> None:
    assert list((clone.parent / "tmp").iterdir()) == []
    if (clone / ".git").exists():
        assert len(git(clone, "worktree", "list").splitlines()) == 1


@pytest.mark.slow
def test_a_task_that_got_slow_makes_it_exit_3_and_is_the_only_one_whose_work_grew(
    clone: pathlib.Path,
) -> None:
    with (clone / "tracecore" / "tasks" / "rate_limited_api" / "setup.py").open("a") as file:
        file.write(BURN)
    document, stderr = run(clone, *SHORT)
    assert (document["exit_code"], document["verdict"]) == (3, "regressed"), stderr
    assert document["new"]["dirty"] is True
    assert {change["row"] for change in document["comparison"]["work"]} == {"rate_limited_api@1"}
    assert re.search(r"worse in [a-z ]+: .*rate_limited_api@1", stderr), stderr


@pytest.mark.slow
def test_identical_code_differs_in_nothing_but_time_and_surroundings_disturb_nothing(
    clone: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    hook = clone / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", "index.other")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    document, stderr = run(clone, *SHORT, "--output-dir", str(tmp_path / "kept"))
    monkeypatch.undo()

    # Times of a busy host may look worse; nothing else may.
    assert document["exit_code"] in {0, 3}, stderr
    comparison = document["comparison"]
    assert comparison["exact"] == {"compared_episodes": 4, "reasons": [], "changes": []}
    assert comparison["work"] == []
    verdicts = {leg["leg"]: leg["verdict"] for leg in comparison["legs"]}
    assert (verdicts["behaviour"], verdicts["work"]) == ("unchanged", "unchanged")
    sha = git(clone, "rev-parse", "HEAD").strip()
    assert document["base"]["git_sha"] == document["new"]["git_sha"] == sha
    assert not (clone / "hook-ran").exists()
    # of the comparison; the runs that it consists of tell nothing
    page = (tmp_path / "summary.md").read_text("utf-8")
    assert page.startswith("### Perf: ")
    assert "comparison against main: " in page.splitlines()[0]
    assert page.count("### Perf") == 1

    (folder,) = (tmp_path / "kept").iterdir()
    assert document["folder"] == str(folder)
    assert json.loads((folder / "comparison.json").read_text()) == document
    kept = sorted(path.name for path in folder.iterdir() if path.is_dir())
    turns = ["warm-up-base", "warm-up-work"]
    turns += ["screen-base", "screen-work", "screen-work", "screen-base"]
    assert kept[:6] == [f"{number:03d}-{turn}" for number, turn in enumerate(turns, 1)]
    assert len(list(folder.glob("*/perf-summary-*.json"))) == len(kept)


@pytest.mark.slow
def test_changed_behaviour_is_found_in_the_screen(clone: pathlib.Path) -> None:
    with (clone / "tracecore" / "agents" / "toy_agent.py").open("a") as file:
        file.write(BROKEN)
    document, _ = run(clone, *SHORT)
    assert (document["exit_code"], document["verdict"]) == (3, "regressed")
    changed = "filesystem_hidden_config@1: success changed in 2 of 2 episodes"
    assert changed in document["reasons"][0]


@pytest.mark.slow
def test_the_working_tree_is_taken_as_it_is(clone: pathlib.Path) -> None:
    (clone / "new.toml").write_text(SCENARIO)  # untracked
    (clone / "short.toml").unlink()  # deleted
    (clone / "deliverables").mkdir()
    (clone / "deliverables" / "huge").write_text("ignored")
    commit_all(clone, "Rename")
    (clone / "new.toml").rename(clone / "newer.toml")
    for scenario, side in (("newer.toml", "base"), ("new.toml", "work")):
        document, _ = run(clone, "--scenario", scenario, *SHORT)
        assert document["exit_code"] == 2
        words = (f"the {side} side", scenario, "No such file or directory")
        assert [word for word in words if word not in document["error"]] == []


@pytest.mark.slow
def test_an_interrupted_comparison_leaves_nothing_behind_and_gives_no_verdict(
    clone: pathlib.Path,
) -> None:
    process = start(clone, "--episodes", "5000")
    while not process.stderr.readline().startswith("screen"):
        assert process.poll() is None
    while not list((clone.parent / "tmp").glob("*/runs/*.json")):  # in the midst of episodes
        assert process.poll() is None
    below = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate()
    assert process.returncode == json.loads(stdout)["exit_code"] == 130
    assert "verdict" not in json.loads(stdout)
    assert_nothing_is_left(clone)
    assert below
    wait_until(lambda: not any(map(is_alive, below)))


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("no-such-branch", "--base: found 'no-such-branch"),
        ("--output=/tmp/x", "'--output': found no such option"),
        ("main:short.toml", "--base: found 'main:short.toml"),
        ("empty", "scripts/perf_harness.py"),
        ("", "not a git repository"),
    ],
    ids=["no branch", "an option", "no commit", "a commit without the harness", "no clone"],
)
def test_what_cannot_be_compared_is_exit_2_and_one_line(
    clone: pathlib.Path, base: str, words: str
) -> None:
    if base == "empty":
        git(clone, "rm", "-q", "scripts/perf_harness.py", "--cached")
        git(clone, "commit", "-q", "-m", "Remove")
        git(clone, "tag", "empty")
        git(clone, "reset", "-q", "HEAD~1")
    elif not base:
        shutil.rmtree(clone / ".git")
    document, stderr = run(clone, base=base or "main")
    assert (document["exit_code"], document["ok"]) == (2, False)
    assert words in document["error"]
    assert len(stderr.splitlines()) == 1


def test_a_relative_scenario_is_that_of_the_folder_in_which_it_was_started(
    clone: pathlib.Path,
) -> None:
    document, _ = run(clone, cwd=clone / "tracecore")  # where there is no short.toml, on both sides
    assert document["exit_code"] == 2
    assert "short.toml" in document["error"]
