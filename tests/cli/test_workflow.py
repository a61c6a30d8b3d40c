"""The workflows that ship with the project: what they run must exist, and the files of a slice must
be kept when it is red.
"""

import re
import shlex
import tomllib

import pytest
import yaml
from helpers.slices import ROOT, script


def read_workflow(name):
    # YAML 1.1 reads the key `on` as true; GitHub does not.
    document = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text("utf-8"))
    return {"on" if key is True else key: value for key, value in document.items()}


@pytest.fixture
def workflow():
    return read_workflow("perf.yml")


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_it_runs_on_pull_requests_on_tags_and_on_demand(workflow):
    assert set(workflow["on"]) == {"pull_request", "push", "workflow_dispatch"}
    assert list(workflow["on"]["push"]) == ["tags"]
    assert workflow["permissions"] == {"contents": "read"}


def test_a_pull_request_is_gated_and_compared_with_its_target(workflow):
    job = workflow["jobs"]["pull-request"]
    assert job["if"] == "github.event_name == 'pull_request'"
    gate, compare = commands(job)[-3:-1]
    assert " --gate " in gate
    assert compare.startswith('python scripts/perf_harness.py ab --base "$BASE"')
    (step,) = [step for step in job["steps"] if step.get("run") == compare]
    assert step["env"] == {"BASE": "origin/${{ github.base_ref }}"}
    assert "!cancelled()" in step["if"]
    # else there is no other commit to compare with
    assert job["steps"][0]["with"]["fetch-depth"] == 0


def test_the_long_slice_has_1000_episodes(workflow):
    job = workflow["jobs"]["long-slice"]
    assert job["if"] == "github.event_name != 'pull_request'"
    assert workflow["on"]["workflow_dispatch"]["inputs"]["episodes"]["default"] == "1000"
    (step,) = [step for step in job["steps"] if "--episodes" in step.get("run", "")]
    assert step["env"]["EPISODES"].endswith("'1000' }}")


@pytest.mark.parametrize("name", ["pull-request", "long-slice"])
def test_files_are_kept_even_when_red(workflow, name):
    job = workflow["jobs"][name]
    last = job["steps"][-1]
    assert last["uses"].startswith("actions/upload-artifact@")
    assert last["if"] == "${{ !cancelled() }}"
    assert "deliverables/perf/" in last["with"]["path"].split()
    assert last["with"]["include-hidden-files"] is True  # the runs lie under a dot
    assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize("name", ["pull-request", "long-slice"])
def test_no_text_from_outside_is_pasted_into_a_shell(workflow, name):
    for command in commands(workflow["jobs"][name]):
        assert "${{" not in command
        assert "|" not in command  # a pipe would hide the exit code


def test_every_option_it_gives_exists(workflow, capsys):
    assert script().main(["--help"]) == 0
    known = capsys.readouterr().out
    for name in ("pull-request", "long-slice"):
        for command in commands(workflow["jobs"][name]):
            words = shlex.split(command)
            if words[1:2] == ["scripts/perf_harness.py"] and words[2].startswith("--"):
                options = [word for word in words if word.startswith("--")]
                found = [re.search(rf"^  {option}\b", known, re.MULTILINE) for option in options]
                assert all(found), options


def test_the_page_is_drawn_and_kept(workflow):
    for name in ("pull-request", "long-slice"):
        job = workflow["jobs"][name]
        assert any("--report" in command for command in commands(job))
        assert "pip install '.[report]'" in commands(job)


def test_a_release_is_held_against_the_archived_set_of_the_last_one(workflow):
    steps = workflow["jobs"]["long-slice"]["steps"]
    (fetch,) = [step for step in steps if step.get("id") == "last"]
    assert fetch["continue-on-error"] is True
    folder = fetch["run"].rpartition("--dir ")[2]
    (gate,) = [step for step in steps if step.get("id") == "gate"]
    assert f"--baseline {folder}" in gate["env"]["BASELINE"]
    assert gate["run"].endswith("$BASELINE")
    archive = workflow["jobs"]["archive"]
    assert (archive["needs"], archive["if"]) == ("long-slice", "github.event_name == 'push'")
    assert archive["permissions"] == {"contents": "write"}


def test_no_answer_is_shown_as_such_and_fails_no_job(workflow):
    for name in ("pull-request", "long-slice"):
        (notice,) = [
            step for step in workflow["jobs"][name]["steps"] if "no_answer" in step.get("if", "")
        ]
        assert notice["run"].startswith('echo "::notice')


def test_work_is_compared_and_the_suite_runs_on_every_python_that_the_package_names(workflow):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [
        line.rpartition(" ")[2] for line in project["classifiers"] if ":: Python :: 3." in line
    ]
    assert workflow["jobs"]["pull-request"]["strategy"]["matrix"]["python"] == named
    suite = read_workflow("tests.yml")["jobs"]["suite"]
    assert suite["strategy"]["matrix"]["python-version"] == named
    assert named[0] == project["requires-python"].removeprefix(">=")


def test_the_suite_runs_as_the_readme_says():
    suite, everything = read_workflow("tests.yml")["jobs"].values()
    (command,) = re.findall(
        r"^python3 -m venv .*pytest.*$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    for run in commands(suite):
        assert run in command
    assert commands(everything) == [".ci/run"]
    assert command in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
