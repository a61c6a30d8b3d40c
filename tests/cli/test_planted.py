"""A slow task, planted, against one archived slice and against five: real slices, and every place
in which their verdict is shown.
"""

import json
import pathlib
import shutil
import statistics
import time
from typing import Any

import pytest
from helpers import slices
from helpers.slices import ROOT

TASK = "rate_limited_api"
ROW = f"{TASK}@1"
RUNS = 5
BURNS = {"Python": "for _ in range({}):\n        pass", "C": "sum(range({}))"}
LOOPS = 2_000_000
SETUP = """

_setup = setup


def setup(seed, env):
    {burn}
    _setup(seed, env)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """With five slices of the released code below ``old``."""
    folder = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Its report has fonts loaded, whose files stay open, before the first test begins.
        done = run("--work", "--report", "--repeat", str(RUNS), "--output-dir", "old")
    assert done.exit_code == 0, done.stderr
    return folder


def run(*options: str) -> slices.Done:
    return slices.call("--episodes", "24", "--workers", "2", "--runs-dir", "runs", *options)


def sets_in(folder: pathlib.Path) -> list[str]:
    return sorted(map(str, folder.glob("old/**/perf-summary-*.json")))


def plant(folder: pathlib.Path, kind: str, factor: float) -> str:
    """A folder of tasks in which one takes ``factor`` times the CPU time that it took."""
    tasks = folder / f"{factor}x-{kind}"
    shutil.copytree(ROOT / "tracecore" / "tasks" / TASK, tasks / TASK, dirs_exist_ok=True)
    series = [json.loads(path.read_text()) for path in folder.glob("old/**/perf-series-*.json")]
    cpu_s = statistics.median(
        row["cpu_user_s"] + row["cpu_sys_s"]
        for rows in series
        for row in rows
        if row["task_ref"] == ROW
    )
    begun_s = time.process_time()
    exec(f"def burn():\n    {BURNS[kind].format(LOOPS)}\nburn()")
    loops = round(LOOPS * (factor - 1) * cpu_s / (time.process_time() - begun_s))
    with (tasks / TASK / "setup.py").open("a") as file:
        file.write(SETUP.format(burn=BURNS[kind].format(loops)))
    return str(tasks)


@pytest.mark.slow
@pytest.mark.parametrize("base", [1, RUNS])
@pytest.mark.parametrize(("kind", "factor"), [("Python", 2), ("C", 2)])
def test_a_slow_task_is_named_and_fails_in_every_place(
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    kind: str,
    factor: float,
    base: int,
) -> None:
    monkeypatch.chdir(folder)
    page, outputs = tmp_path / "page.md", tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    where = ["--tasks-dir", plant(folder, kind, factor), "--output-dir", str(tmp_path / "new")]
    done = run("--work", "--report", *where, "--baseline", *sets_in(folder)[:base])
    document: dict[str, Any] = done.document
    comparison = document["summary"]["comparison"]
    report = pathlib.Path(document["artifacts"]["report"]).read_text()
    places = [done.stderr, report, page.read_text(), comparison["answer"]]
    if kind == "C" and base == 1 and comparison["headline"] == "NO ANSWER":
        # What Python does not execute shows by times alone, of which one run cannot always judge.
        assert (done.exit_code, comparison["breaches"]) == (0, [])
        assert all("3 base runs" in place for place in places)
        assert "verdict=no_answer" in outputs.read_text()
        return
    assert (done.exit_code, document["ok"], comparison["headline"]) == (3, False, "FAIL")
    assert [row["row"] for row in comparison["rows"] if row["verdict"] == "regressed"] == [ROW]
    assert all(ROW in place for place in places)
    assert all("FAIL" in place for place in places[:3])
    assert page.read_text().startswith("### Perf: FAIL")
    assert {"verdict=fail", "exit_code=3"} <= set(outputs.read_text().splitlines())
    if kind == "Python":
        assert "task/setup.py:setup" in " ".join(comparison["breaches"])


@pytest.mark.slow
@pytest.mark.parametrize("base", [1, RUNS])
def test_the_same_code_is_never_a_fail(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, base: int
) -> None:
    monkeypatch.chdir(folder)
    out = ["--output-dir", str(tmp_path / "new")]
    done = run("--work", *out, "--baseline", *sets_in(folder)[:base])
    comparison = done.document["summary"]["comparison"]
    assert (done.exit_code, comparison["breaches"]) == (0, [])
    assert [leg["verdict"] for leg in comparison["legs"][:2]] == ["unchanged", "unchanged"]
