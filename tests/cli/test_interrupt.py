"""Ctrl-C and SIGTERM at any moment: what had finished is written, nothing is left running, and the
slice can be finished.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import time
from collections.abc import Iterator

import pytest
from helpers import slices
from helpers.faults import PLAIN_TASK
from helpers.slices import (
    PATIENCE_S,
    Slice,
    journals,
    let_go,
    read_files,
    start,
    strays,
    wait_for_no_orphans,
    wait_until,
    write_held_slice,
)

pytestmark = pytest.mark.usefixtures("adopting")
MANY = ("--episodes", "4000", "--workers", "2")
ONE_OF_THREE = [
    signal.SIGTERM,
    *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGINT, signal.SIGHUP)),
]
SLEEPERS = ("--episodes", "20", "--workers", "4", "--tasks-dir", str(PLAIN_TASK.parent))


def interrupt(harness: Slice, number: int = signal.SIGINT) -> slices.Done:
    """Signal it, and see that it exits and leaves nothing running."""
    harness.signal(number)
    done = harness.wait()
    wait_for_no_orphans()
    return done


@pytest.mark.parametrize("number", ONE_OF_THREE)
def test_what_had_finished_is_written_and_the_printed_command_runs_the_rest(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, number: int
) -> None:
    options = write_held_slice(tmp_path, free=6, episodes=10)
    harness = start(harness_clone, tmp_path, *options, "--timeout", "120.3456789")
    harness.wait_for_rows(6)
    done = interrupt(harness, number)

    assert done.exit_code == 130
    files = read_files(tmp_path / "out", done.document["stamp"])
    assert files["manifest"]["interrupted"] is True
    assert len(files["series"]) == files["summary"]["episodes"] == 6
    assert files["summary"]["run_artifacts"]["file_count"] == 6
    assert done.document["ok"] is False
    assert done.resume_words[:2] == ["--resume", done.document["stamp"]]
    assert (len(journals(tmp_path)), strays(tmp_path)) == (1, [])
    assert "Traceback" not in done.stderr

    let_go(tmp_path)
    rest = slices.run(harness_clone, tmp_path, *done.resume_words)

    assert rest.exit_code == 0, rest.stderr
    files = read_files(tmp_path / "out", done.document["stamp"])
    assert (len(files["series"]), files["manifest"]["interrupted"]) == (10, False)
    assert len(list((tmp_path / "runs").iterdir())) == 10
    assert journals(tmp_path) == []


def test_episodes_that_wait_do_not_delay_the_end(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    scenario = slices.write_scenario(
        tmp_path, "sleeps in act", "ignores every signal and loops", bundled=False
    )
    harness = start(harness_clone, tmp_path, *SLEEPERS, "--scenario", scenario)
    wait_until(lambda: any(path.stat().st_size for path in journals(tmp_path)))
    time.sleep(1.0)  # the first episodes wait by then, or are on their way to it
    done = interrupt(harness)
    assert done.exit_code == 130
    assert read_files(tmp_path / "out", done.document["stamp"])["series"] == []


def test_ctrl_c_in_a_terminal_reaches_all_and_harms_none(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    harness = start(harness_clone, tmp_path, *MANY)
    harness.wait_for_artifacts(3)
    os.killpg(harness.process.pid, signal.SIGINT)  # as a terminal does: the whole group
    done = harness.wait()
    assert done.exit_code == 130
    assert "Traceback" not in done.stderr
    wait_for_no_orphans()


@pytest.mark.parametrize("delay_s", [0.01, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_second_ctrl_c_ends_it_at_once_and_loses_nothing(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, delay_s: float
) -> None:
    harness = start(harness_clone, tmp_path, *write_held_slice(tmp_path, free=6, episodes=10))
    harness.wait_for_rows(6)
    (journal,) = journals(tmp_path)
    harness.signal(signal.SIGINT)
    time.sleep(delay_s)
    harness.signal(signal.SIGTERM)
    done = harness.wait()
    wait_for_no_orphans()

    assert done.exit_code == 130
    assert journal.read_bytes().count(b"\n") > 6
    before = {path.name: path.read_bytes() for path in (tmp_path / "runs").glob("[0-9a-f]*.json")}
    let_go(tmp_path)
    rest = slices.run(harness_clone, tmp_path, *done.resume_words)
    assert rest.exit_code == 0, rest.stderr
    assert rest.document["summary"]["episodes"] == 10
    after = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    assert {name: after[name] for name in before} == before
    assert strays(tmp_path) == []


@pytest.mark.slow
def test_a_signal_at_any_moment_of_its_life_is_answered(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """While it plans, starts workers, runs, and writes: a short slice is signalled ever later until
    it is done first.
    """
    draw = random.Random(20)
    for attempt in range(int(os.environ.get("TRACECORE_TEST_SIGNALS", "3"))):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        harness = start(harness_clone, folder, "--episodes", "24", "--workers", "2")
        time.sleep(draw.uniform(0.0, 2.0))
        done = interrupt(harness, signal.SIGINT)
        assert done.exit_code in {0, 130, -signal.SIGINT}, done.stderr
        assert strays(folder) == []
        if done.exit_code == 0:
            assert (
                read_files(folder / "out", done.document["stamp"])["manifest"]["interrupted"]
                is False
            )
        elif done.stdout and "stamp" in done.document:
            rest = slices.run(harness_clone, folder, *done.resume_words)
            assert rest.exit_code == 0, rest.stderr
            assert len(read_files(folder / "out", done.document["stamp"])["series"]) == 24


def test_nohup_is_not_overruled_and_a_terminal_that_goes_away_twice_is_one_wish(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "nohup").mkdir()
    deaf = start(
        harness_clone,
        tmp_path / "nohup",
        *write_held_slice(tmp_path, free=1, episodes=2),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    deaf.wait_for_artifacts(1)
    deaf.signal(signal.SIGHUP)
    let_go(tmp_path)
    assert deaf.wait().exit_code == 0

    harness = start(harness_clone, tmp_path, *MANY)
    harness.wait_for_artifacts(3)
    harness.signal(signal.SIGHUP)
    time.sleep(0.02)  # two of a kind at once would be one
    harness.signal(signal.SIGHUP)
    done = harness.wait()
    assert done.exit_code == 130
    assert read_files(tmp_path / "out", done.document["stamp"])["manifest"]["interrupted"] is True
    wait_for_no_orphans()


@pytest.mark.parametrize("signals", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stderr_that_nobody_reads_does_not_keep_it_from_ending(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, signals: int
) -> None:
    with full_pipe() as write_fd:
        options = write_held_slice(tmp_path, free=2, episodes=4)
        harness = start(harness_clone, tmp_path, *options, stderr=write_fd)
        harness.wait_for_rows(1)
        time.sleep(0.3)  # it is held by a line of progress by now
        for _ in range(signals):
            harness.signal(signal.SIGINT)
            time.sleep(0.1)
        assert harness.process.wait(PATIENCE_S) == 130
        assert harness.process.stdout is not None
        harness.process.stdout.close()
    assert len(journals(tmp_path)) == 1
    wait_for_no_orphans()


def make_full_pipe() -> tuple[int, int]:
    """Both ends of a pipe into which nothing more goes: to read, to write."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_fd, b" " * 4096)
    os.set_blocking(write_fd, True)
    return read_fd, write_fd


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    """The write end of a pipe that is full, and that nobody reads."""
    read_fd, write_fd = make_full_pipe()
    try:
        yield write_fd
    finally:
        os.close(write_fd)
        os.close(read_fd)


def ignores(pid: int, number: int) -> bool:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", ONE_OF_THREE)
def test_a_signal_when_all_is_written_changes_nothing(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    """The harness is held at the very end by a full pipe, and signalled there."""
    read_fd, write_fd = make_full_pipe()
    harness = start(harness_clone, tmp_path, "--episodes", "2", "--workers", "1", stdout=write_fd)
    os.close(write_fd)
    assert harness.process.stderr is not None
    # the last it says before it answers
    while b" samples " not in harness.process.stderr.readline():
        assert harness.process.poll() is None
    wait_until(lambda: ignores(harness.process.pid, number))
    harness.signal(number)
    with os.fdopen(read_fd, "rb") as answer:
        assert json.loads(answer.read())["ok"] is True
    harness.process.communicate()
    assert harness.process.returncode == 0
