"""Surroundings that are odd: other harnesses, clocks that jump, strange folders, and psutil missing
or broken.
"""

import json
import os
import pathlib
import shutil
import time

import pytest
from helpers import slices
from helpers.faults import PLAIN_TASK, write_agent
from helpers.slices import journals, read_files, start, strays

pytestmark = pytest.mark.usefixtures("adopting")
EPISODES = 4


def options(folder: pathlib.Path, *, tasks_dir: pathlib.Path = PLAIN_TASK.parent) -> list[str]:
    write_agent(None, folder / "good.py")
    (folder / "scenario.json").write_text(json.dumps([{"agent": "good.py", "task_ref": "plain@1"}]))
    shape = ["--episodes", str(EPISODES), "--workers", "2", "--scenario", "scenario.json"]
    return [*shape, "--tasks-dir", str(tasks_dir)]


def test_two_harnesses_in_the_same_second_over_the_same_folders_are_both_right(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    while time.time() % 1 > 0.1:
        time.sleep(0.01)
    given = options(tmp_path)
    running = [start(harness_clone, tmp_path, *given) for _ in range(2)]
    ends = [one.wait() for one in running]

    assert [done.exit_code for done in ends] == [0] * 2, [done.stderr for done in ends]
    stamps = {done.document["stamp"] for done in ends}
    assert len(stamps) == 2
    for stamp in stamps:
        files = read_files(tmp_path / "out", stamp)
        assert len(files["series"]) == files["summary"]["run_artifacts"]["file_count"] == EPISODES
    assert len(list((tmp_path / "runs").iterdir())) == 2 * EPISODES
    assert (journals(tmp_path), strays(tmp_path)) == ([], [])


def test_a_clock_that_is_set_back_harms_no_duration(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    backwards = tmp_path / "backwards" / "tracecore_test_clock.py"
    backwards.parent.mkdir()
    for name in ("tracecore", "scripts"):
        shutil.copytree(harness_clone / name, tmp_path / "clone" / name)
    # Every process of the slice has a wall clock that runs backwards, a minute with each look at
    # it.
    clock = tmp_path / "clone" / "tracecore" / "clock.py"
    clock.write_text(
        clock.read_text()
        + "\n_looks = 0\n\n\ndef _backwards():\n    global _looks\n    _looks += 1\n"
        + "    return 1_700_000_000.0 - 60.0 * _looks\n\n\ntime.time = _backwards\n"
    )
    done = slices.run(tmp_path / "clone", tmp_path, *options(tmp_path))
    assert done.exit_code == 0, done.stderr
    files = read_files(tmp_path / "out", done.document["stamp"])
    assert all(0 < row["wall_clock_s"] < 60 for row in files["series"])
    for path in (tmp_path / "runs").iterdir():
        artifact = json.loads(path.read_bytes())
        assert 0 <= artifact["wall_clock_elapsed_s"] < 60
        assert artifact["completed_at"] < artifact["started_at"]  # the clock did go back


def test_folders_with_odd_names_behind_symlinks_work(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "with space/quo'te\"s/Straße-日本/new\nline/-dash/%s{0}$HOME/\udcff"
    for name in ("runs", "out", "tasks", "clone"):
        (folder / f"real {name}").mkdir(parents=True)
        (folder / name).symlink_to(folder / f"real {name}")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PLAIN_TASK, folder / "tasks" / "plain", ignore=ignore)
    for name in ("tracecore", "scripts"):
        shutil.copytree(harness_clone / name, folder / "clone" / name)
    done = slices.run(folder / "clone", folder, *options(folder, tasks_dir=folder / "tasks"))
    assert done.exit_code == 0, done.stderr
    assert len(list((folder / "real runs").iterdir())) == EPISODES
    assert len(read_files(folder / "out", done.document["stamp"])["series"]) == EPISODES


@pytest.mark.parametrize(
    "psutil",
    [
        "raise ImportError('none here')",
        pytest.param("raise OSError('broken')", marks=pytest.mark.slow),
        "def cpu_percent(): return 1.0\ndef virtual_memory(): raise OSError('gone mid-run')",
    ],
)
def test_psutil_missing_broken_or_raising_leaves_its_samples_null_and_nothing_else(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, psutil: str
) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "psutil.py").write_text(psutil)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "fake")}
    done = slices.run(harness_clone, tmp_path, *options(tmp_path), env=environment)
    assert done.exit_code == 0, done.stderr
    samples = read_files(tmp_path / "out", done.document["stamp"])["summary"]["system_samples"]
    assert samples["available"] is False
    assert {value for key, value in samples.items() if key != "available"} == {None}


@pytest.mark.parametrize("field", ["agent", "task_ref"])
@pytest.mark.parametrize(
    "value", ["../../etc/passwd", "/etc/passwd", "a\nb", "a\0b", "x" * 300, "."]
)
def test_names_that_are_none_are_refused_by_name_before_anything_runs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"agent": "agents/toy_agent.py", "task_ref": "filesystem_hidden_config@1", field: value}
    (tmp_path / "scenario.json").write_text(json.dumps([row]))
    done = slices.call("--scenario", "scenario.json", "--runs-dir", "runs")
    assert done.exit_code == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("runs/*"))
