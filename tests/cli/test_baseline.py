"""A real slice, held against a real one at its end. How times of one run against one are judged
decides nothing here: they are those of a busy host.
"""

import json
import pathlib
import shutil
from typing import Any

import pytest
from helpers import slices
from helpers.rows import as_series

SLOW = """

_setup = setup


def setup(seed, env):
    for _ in range(100_000): pass
    _setup(seed, env)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """With a slice in ``old``, whose work was counted."""
    folder = tmp_path_factory.mktemp("baseline")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("--work", "--output-dir", "old").exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def _here(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(*options: str) -> slices.Done:
    folders = () if "--output-dir" in options else ("--output-dir", "new")
    return slices.call(
        "--episodes", "4", "--workers", "2", "--runs-dir", "runs", *folders, *options
    )


def comparison_of(done: slices.Done) -> dict[str, Any]:
    """The comparison in the summary, with the verdict of each leg in the place of the leg."""
    path = pathlib.Path(done.document["artifacts"]["summary"])
    found = json.loads(path.read_text())["comparison"]
    return {**found, "legs": {leg["leg"]: leg["verdict"] for leg in found["legs"]}}


def test_the_same_again_does_the_same_with_the_same_work(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    done = run("--work", "--baseline", "old", "--step-summary", str(page))
    comparison = comparison_of(done)
    assert comparison["exact"] == {"compared_episodes": 4, "reasons": [], "changes": []}
    assert comparison["work"] == []
    assert (comparison["legs"]["behaviour"], comparison["legs"]["work"]) == ("unchanged",) * 2
    headline = comparison["headline"]
    assert done.exit_code == (3 if headline == "FAIL" else 0), done.stderr
    assert page.read_text("utf-8").count(f"### Perf: {headline}") == 1
    assert f"compared    {headline}" in done.stderr


def test_other_behaviour_than_the_baselines_is_exit_3_with_the_reason(
    folder: pathlib.Path,
) -> None:
    shutil.copytree(folder / "old", folder / "other")
    (series,) = (folder / "other").glob("perf-series-*.json")
    rows = json.loads(series.read_text())
    rows[2]["steps_used"] += 1
    series.write_bytes(as_series(rows))
    done = run("--baseline", "other")
    assert (done.exit_code, done.document["ok"]) == (3, False)
    changed = "rate_limited_chain@1: steps used changed in 1 of 1 episodes"
    assert changed in done.document["reasons"][0]
    assert run("--baseline", "other", "--no-gate").exit_code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--baseline", "nowhere"], "nowhere: found"),
        (
            ["--baseline", "old", "--strict-spec"],
            "--baseline: strict_spec: found 'False', expected True, as this slice has",
        ),
    ],
)
def test_a_baseline_that_cannot_be_used_is_exit_2_before_anything_runs(
    folder: pathlib.Path, options: list[str], words: str
) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    done = run(*options, "--output-dir", "old")
    assert done.exit_code == 2
    assert words in done.document["error"]
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_a_task_made_slow_in_python_fails_against_one_run_in_every_place(
    tmp_path: pathlib.Path,
) -> None:
    task = tmp_path / "tasks" / "rate_limited_api"
    shutil.copytree(slices.ROOT / "tracecore" / "tasks" / "rate_limited_api", task)
    with (task / "setup.py").open("a") as file:
        file.write(SLOW)
    page = tmp_path / "page.md"
    asked = ("--work", "--baseline", "old", "--step-summary", str(page))
    done = run(*asked, "--tasks-dir", str(task.parent))
    comparison = comparison_of(done)
    assert (done.exit_code, comparison["headline"]) == (3, "FAIL")
    assert comparison["answer"].startswith("worse in work")
    assert {change["row"] for change in comparison["work"]} == {"rate_limited_api@1"}
    assert comparison["work"][0]["grew"][0]["function"] == "setup"
    assert page.read_text("utf-8").startswith("### Perf: FAIL")
    assert "compared    FAIL" in done.stderr
    assert "rate_limited_api@1: Python lines" in done.document["reasons"][0]
