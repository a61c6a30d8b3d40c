import json
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
ASK = "import json; from tracecore.perf.host import provenance; print(json.dumps(provenance.git_state()))"


def git(folder: pathlib.Path, *arguments: str) -> str:
    command = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        *arguments,
    ]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def state_of(folder: pathlib.Path) -> dict[str, object]:
    """What the package in ``folder`` says of itself, asked from elsewhere."""
    environ = {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", ASK], check=True, stdout=subprocess.PIPE, cwd="/", env=environ
    )
    return dict(json.loads(done.stdout))


@pytest.fixture
def package(tmp_path: pathlib.Path) -> pathlib.Path:
    host = pathlib.Path("perf", "host")
    (tmp_path / "tracecore" / host).mkdir(parents=True)
    names = ("__init__.py", "perf/__init__.py", host / "__init__.py", host / "provenance.py")
    for name in (*names, "record.py", "records.py"):
        shutil.copy(ROOT / "tracecore" / name, tmp_path / "tracecore" / name)
    return tmp_path


def test_a_package_outside_of_a_checkout_has_no_commit(package: pathlib.Path) -> None:
    assert state_of(package) == {"git_sha": None, "dirty": None}


def test_a_checkout_without_a_commit_has_none(package: pathlib.Path) -> None:
    git(package, "init", "-q")
    assert state_of(package) == {"git_sha": None, "dirty": None}


def test_a_commit_is_told_and_whether_its_files_were_changed(package: pathlib.Path) -> None:
    git(package, "init", "-q")
    git(package, "add", "-A")
    git(package, "commit", "-q", "-m", "all")
    (package / "another").write_text("a file that git does not know changes nothing")
    sha = git(package, "rev-parse", "HEAD")
    assert state_of(package) == {"git_sha": sha, "dirty": False}
    (package / "tracecore" / "__init__.py").write_text("changed = True\n")
    assert state_of(package) == {"git_sha": sha, "dirty": True}
