"""A harness that is killed at any moment leaves nothing running and nothing torn, and the slice can
be finished.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import time
from typing import Any

import pytest
from helpers import slices
from helpers.faults import PLAIN_TASK
from helpers.slices import (
    descendants,
    journals,
    kill_all,
    read_files,
    start,
    strays,
    substance,
    wait_for_no_orphans,
)

from tracecore.descendants import become_subreaper, children_of, send_signal
from tracecore.perf.slice.journal_file import FIELDS

pytestmark = pytest.mark.usefixtures("adopting")
KILLS = int(os.environ.get("TRACECORE_TEST_KILLS", "4"))
EPISODES = 12


Killed = tuple[pathlib.Path, list[str], str]  # its folder, its options, its stamp


@pytest.fixture
def options(tmp_path: pathlib.Path) -> list[str]:
    """A slice of good and bad agents; its scenario lies beside the folder it runs in."""
    return options_of(slices.write_scenario(tmp_path, *slices.BAD_AGENTS))


def options_of(scenario: str, tasks_dir: str = str(PLAIN_TASK.parent)) -> list[str]:
    shape = ["--episodes", str(EPISODES), "--workers", "2"]
    return [*shape, "--tasks-dir", tasks_dir, "--scenario", scenario]


def finish(clone: pathlib.Path, folder: pathlib.Path, options: list[str]) -> dict[str, Any]:
    """Resume the slice if it has begun, else run it; what came out, but for times and ids."""
    begun = [path for path in journals(folder) if path.stat().st_size]
    for path in set(journals(folder)) - set(begun):
        path.unlink()  # killed before its first line was written: there is nothing to resume
    stamps = [path.name[len(".perf-journal-") : -len(".jsonl")] for path in begun]
    done = slices.run(clone, folder, *options, *(["--resume", stamps[0]] if stamps else []))
    assert done.exit_code == 1, done.stderr  # the bad agents fail, as they should
    return substance(read_files(folder / "out", done.document["stamp"]), folder / "runs")


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_it_equals_a_slice_that_was_not(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, options: list[str]
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    begun_s = time.monotonic()
    expected = finish(harness_clone, whole, options)
    took_s = time.monotonic() - begun_s
    assert expected["file_count"] == len(expected["artifacts"]) == EPISODES
    seed = int(os.environ.get("TRACECORE_TEST_SEED", "7"))
    draw = random.Random(seed)
    for attempt in range(KILLS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        harness = start(harness_clone, folder, *options)
        time.sleep(draw.uniform(0.15, took_s))
        everybody = draw.random() < 0.5
        if everybody and harness.process.poll() is None:
            # The harness first, or it would replace the others; they have not noticed yet.
            below = descendants(harness.process.pid)
            os.kill(harness.process.pid, signal.SIGKILL)
            kill_all(draw.sample(below, draw.randint(0, len(below))))
        harness.kill()
        wait_for_no_orphans()
        torn = [path for path in harness.artifacts() if not path.read_bytes().endswith(b"}\n")]
        assert torn == []
        if len(list((folder / "out").glob("perf-summary-*"))) == 1 and not journals(folder):
            continue  # it had just finished
        assert finish(harness_clone, folder, options) == expected, (
            f"attempt {attempt} of seed {seed}"
        )
        assert strays(folder) == []
        assert journals(folder) == []


def test_harness_and_workers_that_die_in_the_same_instant_leave_no_episode_and_no_agent(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    scenario = slices.write_scenario(tmp_path, "sleeps in act", "leaves a thread", bundled=False)
    task = ["--tasks-dir", str(PLAIN_TASK.parent), "--scenario", scenario]
    harness = start(harness_clone, tmp_path, "--episodes", "4", "--workers", "2", *task)
    harness.wait_for_artifacts(1)
    above = [harness.process.pid, *children_of(harness.process.pid)]
    # stopped first: none of them notices that another is dead
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in above:
            send_signal(pid, number)
    harness.kill()
    wait_for_no_orphans()


def interrupted(
    clone: pathlib.Path, folder: pathlib.Path, options: list[str], after: int = 5
) -> str:
    """Kill a slice when some episodes have ended; the stamp to resume."""
    harness = start(clone, folder, *options)
    harness.wait_for_rows(after)
    (journal,) = journals(folder)
    harness.kill()
    wait_for_no_orphans()
    return journal.name[len(".perf-journal-") : -len(".jsonl")]


@pytest.fixture(scope="module")
def killed_once(
    harness_clone: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, str]:
    """A folder with a scenario and a slice of it that was killed, and the stamp of that."""
    base = tmp_path_factory.mktemp("killed")
    _, tasks_dir = slices.write_held_task(base, free=6)
    options = options_of(slices.write_scenario(base, *slices.BAD_AGENTS), tasks_dir)
    (base / "killed").mkdir()
    become_subreaper()
    stamp = interrupted(harness_clone, base / "killed", options)
    become_subreaper(yes=False)
    slices.let_go(base)
    return base, stamp


@pytest.fixture
def killed(killed_once: tuple[pathlib.Path, str], tmp_path: pathlib.Path) -> Killed:
    """A slice that was killed, for one test alone."""
    base, stamp = killed_once
    shutil.copytree(base / "killed", tmp_path / "killed")
    scenario = shutil.copy(base / "scenario.json", tmp_path)
    tasks = shutil.copytree(base / "tasks", tmp_path / "tasks")
    return tmp_path / "killed", options_of(scenario, str(tasks)), stamp


def test_resuming_refuses_files_that_changed_meanwhile_and_names_them(
    harness_clone: pathlib.Path, killed: Killed, tmp_path: pathlib.Path
) -> None:
    folder, options, stamp = killed
    journal = journals(folder)[0].read_bytes()
    rows = json.loads((tmp_path / "scenario.json").read_text())
    agent = pathlib.Path(rows[-1]["agent"])
    for path, words in (
        (agent, f"scenario[{len(rows) - 1}].agent_hash: found"),
        (tmp_path / "tasks" / "plain" / "task.toml", "scenario[2].task_hash: found"),
    ):
        text = path.read_text()
        path.write_text(text + "\n# changed\n")
        done = slices.run(harness_clone, folder, *options, "--resume", stamp)
        path.write_text(text)
        assert done.exit_code == 2, done.stderr
        assert words in done.document["error"]
        assert journals(folder)[0].read_bytes() == journal


def test_a_row_of_another_slice_is_refused_before_anything_runs(
    harness_clone: pathlib.Path, killed: Killed
) -> None:
    folder, options, stamp = killed
    (journal,) = journals(folder)
    journal_of_two = journal.read_bytes()
    values = json.loads(journal_of_two.splitlines()[1])
    values[0], values[1] = EPISODES, EPISODES - 1
    values[FIELDS.index("run_id")] = "0" * 32
    journal_of_two += json.dumps(values).encode() + b"\n"
    journal.write_bytes(journal_of_two)

    done = slices.run(harness_clone, folder, *options, "--resume", stamp)

    assert done.exit_code == 2, done.stderr
    assert f"row of episode {EPISODES}: run_id: found '{'0' * 32}'" in done.document["error"]
    assert journal.read_bytes() == journal_of_two


def test_what_was_torn_or_lost_is_run_again_and_nothing_else(
    harness_clone: pathlib.Path, killed: Killed
) -> None:
    """The last line of the journal is torn; of the artifacts one is gone and one is cut."""
    folder, options, stamp = killed
    (journal,) = journals(folder)
    lines = journal.read_bytes().splitlines(keepends=True)
    run_ids = [json.loads(line)[FIELDS.index("run_id")] for line in lines[1:]]
    gone, cut, *kept, torn = [folder / "runs" / f"{run_id}.json" for run_id in run_ids]
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-9])
    before = {path: path.read_bytes() for path in (torn, *kept)}
    written_ns = {path: path.stat().st_mtime_ns for path in kept}

    done = slices.run(harness_clone, folder, *options, "--resume", stamp)

    assert done.exit_code == 1, done.stderr
    assert f"1 run artifacts have vanished: {gone.name}; 1 run artifacts are not" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == written_ns
    assert len(list((folder / "runs").iterdir())) == EPISODES
    for path, content in before.items():
        artifact, earlier = json.loads(path.read_bytes()), json.loads(content)
        assert artifact["artifact_hash"] == earlier["artifact_hash"]
        assert artifact == earlier or not earlier["success"]  # never written twice
    assert all(json.loads(path.read_bytes())["run_id"] == path.stem for path in (gone, cut))
    assert journals(folder) == []


def test_a_slice_can_be_resumed_by_one_harness_at_a_time(
    harness_clone: pathlib.Path, killed: Killed
) -> None:
    folder, options, stamp = killed
    both = [start(harness_clone, folder, *options, "--resume", stamp) for _ in range(2)]
    ends = sorted([one.wait() for one in both], key=lambda done: done.exit_code)
    assert [done.exit_code for done in ends] in ([1, 2], [1, 4]), [done.stderr for done in ends]
    assert len(list((folder / "runs").iterdir())) == EPISODES


@pytest.mark.parametrize("stamp", ["../x", "a b", "x" * 300, "20260131T120000Z\n", "/etc"])
def test_a_stamp_that_is_none_is_refused_by_name(stamp: str) -> None:
    done = slices.call("--resume", stamp)
    assert done.exit_code == 2
    assert "--resume" in done.document["error"]


def test_a_slice_that_never_was_cannot_be_resumed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = slices.call("--resume", "20260131T120000Z")
    assert done.exit_code == 2
    assert "journal" in done.document["error"]
