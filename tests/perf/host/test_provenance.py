import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from helpers.slices import ROOT, commit_all, git

ASK = """
import json
from tracecore.perf.host import provenance
print(json.dumps([provenance.git_state(), provenance.git_trouble()]))
"""
UNKNOWN = {"git_sha": None, "dirty": None}


def ask(folder: pathlib.Path, **environment: str) -> tuple[dict[str, object], str | None]:
    """What the package in ``folder`` knows of itself, asked from elsewhere: its state, and why that
    is not known.
    """
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, "-c", ASK], check=True, stdout=subprocess.PIPE, cwd="/", env=environ
    )
    state, trouble = json.loads(done.stdout)
    return state, trouble


@pytest.fixture
def package(tmp_path: pathlib.Path) -> pathlib.Path:
    host = pathlib.Path("perf", "host")
    (tmp_path / "tracecore" / host).mkdir(parents=True)
    names = ("__init__.py", "perf/__init__.py", host / "__init__.py", host / "provenance.py")
    for name in (*names, "record.py", "records.py"):
        shutil.copy(ROOT / "tracecore" / name, tmp_path / "tracecore" / name)
    return tmp_path


@pytest.fixture
def clone(package: pathlib.Path) -> pathlib.Path:
    commit_all(package)
    return package


def test_a_package_whose_commit_is_not_known_knows_why(package: pathlib.Path) -> None:
    assert ask(package) == (UNKNOWN, "the package lies in no clone of git")
    git(package, "init", "-q")
    for environment, words in (
        ({}, "git rev-parse: fatal: "),
        ({"PATH": "/nowhere"}, "git cannot be run: "),
    ):
        state, trouble = ask(package, **environment)
        assert state == UNKNOWN
        assert trouble is not None
        assert trouble.startswith(words)


def test_a_package_that_was_built_in_a_clone_has_its_commit(package: pathlib.Path) -> None:
    built_from = package / "tracecore" / "built_from.json"
    built_from.write_text(json.dumps({"git_sha": "a" * 40, "dirty": False}))
    assert ask(package) == ({"git_sha": "a" * 40, "dirty": False}, None)
    for damaged in ("[]", "{}", "{", '{"git_sha": null, "dirty": null}'):
        built_from.write_text(damaged)
        assert ask(package)[0] == UNKNOWN


def test_a_commit_is_known_and_whether_its_files_were_changed(clone: pathlib.Path) -> None:
    (clone / "another").write_text("a file that git does not know changes nothing")
    sha = git(clone, "rev-parse", "HEAD")
    assert ask(clone) == ({"git_sha": sha, "dirty": False}, None)
    (clone / "tracecore" / "__init__.py").write_text("changed = True\n")
    assert ask(clone) == ({"git_sha": sha, "dirty": True}, None)


def test_what_leads_git_to_another_repository_is_not_obeyed(
    clone: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    sha = git(clone, "rev-parse", "HEAD")
    listed = git(clone, "rev-parse", "--local-env-vars").splitlines()
    led_away = {
        name: str(other / ".git")
        for name in listed
        if "CONFIG" not in name and name != "GIT_INTERNAL_SUPER_PREFIX"
    }
    assert {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"} <= set(led_away)
    assert ask(clone, **led_away) == ({"git_sha": sha, "dirty": False}, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder away")
def test_a_clone_of_another_owner_is_refused_in_gits_words_or_allowed_by_its_variables(
    clone: pathlib.Path,
) -> None:
    sha = git(clone, "rev-parse", "HEAD")
    os.chown(clone, 65534, 65534)
    os.chown(clone / ".git", 65534, 65534)
    state, trouble = ask(clone)
    assert state == UNKNOWN
    assert trouble is not None
    assert f"git config --global --add safe.directory {clone}" in trouble
    assert len(trouble.splitlines()) == 1
    allowed = {"COUNT": "1", "KEY_0": "safe.directory", "VALUE_0": str(clone)}
    answer = ask(clone, **{f"GIT_CONFIG_{name}": value for name, value in allowed.items()})
    assert answer == ({"git_sha": sha, "dirty": False}, None)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a clone")
def test_agents_and_tasks_have_the_same_bytes_in_every_checkout(tmp_path: pathlib.Path) -> None:
    checkout = tmp_path / "checkout"
    command = ["git", "clone", "-q", "--depth=1", "-c", "core.autocrlf=true", f"file://{ROOT}"]
    subprocess.run([*command, str(checkout)], check=True)
    for folder in ("agents", "tasks"):
        for path in (checkout / "tracecore" / folder).rglob("*.*"):
            assert b"\r\n" not in path.read_bytes(), path
