"""Disks that are full, removed or read-only, and a machine that refuses descriptors and
processes.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import resource
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import slices
from helpers.slices import (
    journals,
    let_go,
    read_files,
    start,
    strays,
    wait_for_no_orphans,
    write_held_slice,
)

pytestmark = pytest.mark.usefixtures("adopting")
EPISODES = 8
PR_CAPBSET_DROP, CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 24, 21, 24


@contextlib.contextmanager
def small_disk(path: pathlib.Path, options: str) -> Iterator[None]:
    """A file system with little room; only root may mount it."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "small", path]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def remount(path: pathlib.Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)


@pytest.fixture
def options(tmp_path: pathlib.Path) -> list[str]:
    """A slice of which all episodes are free to run."""
    return write_held_slice(tmp_path, free=EPISODES, episodes=EPISODES)


def check_stopped(done: slices.Done, words: str) -> None:
    assert done.exit_code == 4, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    wait_for_no_orphans()


def check_resumed(
    clone: pathlib.Path, folder: pathlib.Path, stopped: slices.Done, **more: Any
) -> None:
    done = slices.run(clone, folder, *stopped.resume_words, **more)
    assert done.exit_code == 0, done.stderr
    files = read_files(folder / "out", done.document["stamp"])
    assert len(files["series"]) == files["summary"]["success_count"] == EPISODES
    assert (journals(folder), strays(folder)) == ([], [])


@pytest.mark.parametrize(
    ("where", "disk"),
    [
        ("runs", "size=16k"),
        ("out", "size=16k"),
        pytest.param("runs", "nr_inodes=6", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_stops_the_slice_and_room_lets_it_go_on(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, options: list[str], where: str, disk: str
) -> None:
    with small_disk(tmp_path / where, disk):
        stopped = slices.run(harness_clone, tmp_path, *options)
        check_stopped(stopped, "No space left on device")
        assert len(journals(tmp_path)) == 1
        assert 0 < len(list((tmp_path / "runs").glob("*.json"))) <= EPISODES
        for path in (tmp_path / "runs").glob("*.json"):
            json.loads(path.read_bytes())
        remount(tmp_path / where, "size=64m,nr_inodes=100000")
        check_resumed(harness_clone, tmp_path, stopped)


@pytest.mark.slow
def test_a_runs_folder_that_turns_read_only_stops_the_slice(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with small_disk(tmp_path / "runs", "size=64m"):
        harness = start(harness_clone, tmp_path, *write_held_slice(tmp_path, 4, EPISODES))
        harness.wait_for_artifacts(4)
        remount(tmp_path / "runs", "ro")
        let_go(tmp_path)
        stopped = harness.wait()
        check_stopped(stopped, "Read-only file system")
        remount(tmp_path / "runs", "rw")
        check_resumed(harness_clone, tmp_path, stopped)


@pytest.mark.parametrize("where", ["runs", "out"])
def test_a_folder_that_is_removed_stops_the_slice_and_keeps_its_journal(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, where: str
) -> None:
    harness = start(harness_clone, tmp_path, *write_held_slice(tmp_path, 4, EPISODES))
    harness.wait_for_rows(4)
    (tmp_path / where).rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    let_go(tmp_path)
    stopped = harness.wait()
    check_stopped(stopped, "No such file or directory")
    assert journals(tmp_path)[0].stat().st_size > 500
    done = slices.run(harness_clone, tmp_path, *stopped.resume_words)
    assert done.exit_code == 0, done.stderr
    assert ("run artifacts have vanished" in done.stderr) == (where == "runs")
    assert len(read_files(tmp_path / "out", done.document["stamp"])["series"]) == EPISODES


def test_a_limit_on_file_size_is_told_like_a_full_disk(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, options: list[str]
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))

    stopped = slices.run(harness_clone, tmp_path, *options, preexec_fn=limit)
    check_stopped(stopped, "File too large")


@pytest.mark.parametrize(
    "descriptors", [*(pytest.param(few, marks=pytest.mark.slow) for few in (6, 12)), 20]
)
def test_few_descriptors_either_suffice_or_are_told(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, options: list[str], descriptors: int
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    done = slices.run(harness_clone, tmp_path, *options, preexec_fn=limit)
    if done.exit_code == 0:
        assert len(list((tmp_path / "runs").iterdir())) == EPISODES
        return
    assert done.exit_code in {2, 4}, done.stderr
    assert "Too many open files" in done.stderr
    assert "Traceback" not in done.stderr
    assert strays(tmp_path) == []
    # Under a commit that was not known, no other run would give the same hashes.
    if "--resume" in done.stderr and "the commit is not known" not in done.stderr:
        check_resumed(harness_clone, tmp_path, done)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may become somebody whose processes are counted"
)
@pytest.mark.parametrize("count", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_a_refused_process_is_told_and_blamed_on_no_episode(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path, options: list[str], count: int
) -> None:
    user = 54_321 + count  # nobody else's: the limit counts all processes of a user

    def become_limited() -> None:
        for capability in (CAP_SYS_ADMIN, CAP_SYS_RESOURCE):  # who has one of them is not limited
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NPROC, (count, count))
        os.setresuid(user, 0, 0)  # whose processes are counted; what files it may use stays

    # Without git in either run: where it is refused a process, the commit is not known, and another
    # commit than the first run's is another slice.
    env = {**os.environ, "PATH": ""}
    done = slices.run(harness_clone, tmp_path, *options, preexec_fn=become_limited, env=env)
    if done.exit_code == 0:
        return
    assert done.exit_code == 4, done.stderr
    assert "Resource temporarily unavailable" in done.stderr
    for path in (tmp_path / "runs").glob("*.json"):
        assert json.loads(path.read_bytes())["success"] is True
    if journals(tmp_path):
        check_resumed(harness_clone, tmp_path, done, env=env)


@pytest.mark.parametrize("name", ["a file", "x" * 300])
@pytest.mark.parametrize("option", ["--runs-dir", "--output-dir"])
def test_what_is_no_folder_is_refused_by_name_before_anything_runs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    folders = {"--runs-dir": "runs", "--output-dir": "out", option: name}
    done = slices.call(*(word for pair in folders.items() for word in pair))
    assert done.exit_code == 2
    assert name[:3] in done.document["error"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_stdout_that_is_kept_on_a_full_disk_is_told(
    harness_clone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with open("/dev/full", "wb") as full:
        done = slices.run(harness_clone, tmp_path, "--episodes", "2", "--workers", "1", stdout=full)
    assert done.exit_code == 4
    assert "perf_harness: stdout: cannot be written: No space left on device" in done.stderr
    assert len(list((tmp_path / "out").glob("perf-summary-*.json"))) == 1
    assert journals(tmp_path) == []
    wait_for_no_orphans()
