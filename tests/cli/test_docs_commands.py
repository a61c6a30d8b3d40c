"""Every command that README and docs show is typed here in the order of its page, as it stands but
for the number of episodes; or the test that runs it is named.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from helpers.pages import PAGES, lines_of
from helpers.slices import ROOT

EPISODES = "12"
# Pages and commands that are run elsewhere, and where.
ELSEWHERE_PAGES = {
    "tasks-and-agents.md": "tests/cli/test_docs.py",
    "real-agents.md": "tests/gateway/test_sdks.py",
    "cluster.md": "tests/cli/test_cluster.py",
    "contributing.md": ".ci/run",
}
ELSEWHERE = {
    "python3 -m venv ": ".ci/run",
    ".venv/bin/pip install ": ".ci/run",
    ".venv/bin/python -m pytest ": ".ci/run",
    "python -m pip install ": "tests/test_packaging.py",
    "python scripts/dev/baseline.py make": "tests/cli/test_baseline.py",
    "python scripts/dev/baseline.py check": ".ci/run",
    "python scripts/perf_harness.py ab ": "tests/cli/test_ab.py",
    "python scripts/perf_harness.py --resume": "tests/cli/test_resume.py",
}
# Where a comparison or a gate looks at times, a busy machine may have its say.
MAY_FAIL = re.compile(r" compare | --gate\b| --baseline ")


def commands_of(page: str) -> list[str]:
    lines = [re.sub(r"\s+#.*", "", line) for line in lines_of(page)]
    parts = [part for line in lines for part in re.split(r"\s&&\s", line)]
    return [part.strip() for part in parts if part.strip()]


def run_here(page: str) -> list[str]:
    """The commands of a page that are run by this file."""
    if page in ELSEWHERE_PAGES:
        return []
    return [one for one in commands_of(page) if not one.startswith(tuple(ELSEWHERE))]


@pytest.fixture
def place(harness_clone: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder in which the commands find what they name."""
    (tmp_path / "scripts").symlink_to(harness_clone / "scripts")
    (tmp_path / "tracecore").symlink_to(harness_clone / "tracecore")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def type_in(place: pathlib.Path, command: str) -> subprocess.CompletedProcess[str]:
    artifacts = sorted((place / ".agent_bench" / "runs").glob("*.json"))
    command = re.sub(r"--episodes \d+", f"--episodes {EPISODES}", command)
    if artifacts:
        command = command.replace("<run_id>", artifacts[0].stem)
    search = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
    return subprocess.run(
        ["sh", "-c", command],
        cwd=place,
        env={**os.environ, "PATH": search},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_place_that_is_named_for_commands_run_elsewhere_is_there() -> None:
    assert all(
        (ROOT / place).exists() for place in {*ELSEWHERE.values(), *ELSEWHERE_PAGES.values()}
    )
    typed = [command for page in PAGES for command in commands_of(page)]
    assert all(any(one.startswith(start) for one in typed) for start in ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in sorted(PAGES) if run_here(page)])
def test_each_command_of_a_page_does_what_it_is_for(place: pathlib.Path, page: str) -> None:
    for command in run_here(page):
        done = type_in(place, command)
        codes = {0, 3} if MAY_FAIL.search(command) else {0}
        assert done.returncode in codes, (command, done.stderr)


@pytest.mark.slow
def test_the_output_that_the_readme_shows_is_the_one_there_is(place: pathlib.Path) -> None:
    (command,) = (one for one in run_here("README.md") if "perf_harness" in one)
    shown = PAGES["README.md"].partition("On the terminal:\n\n```text\n")[2].partition("\n```")[0]
    found = {without_figures(line) for line in type_in(place, command).stderr.splitlines()}
    # Findings are the machine's.
    shown = re.sub(r"^  finding .*\n(?: {14}.*\n)*", "", shown, flags=re.MULTILINE)
    lines = [line for line in shown.splitlines() if line.strip() != "…"]
    assert len(lines) > 8
    assert [line for line in lines if without_figures(line) not in found] == []


def without_figures(line: str) -> str:
    """A line with every number, with the unit that goes with its size, as one sign."""
    line = re.sub(r"\d{8}T\d{6}Z", "#", line)
    return re.sub(r"\d[\d.,]*( ?(ms|s|kB|MB|B)\b)?", "#", line)
