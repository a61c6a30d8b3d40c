import errno
import os
import pathlib
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tracecore import files
from tracecore.errors import OutputError

CREATE_ONE = """
import sys
from tracecore.files import create_atomic
sys.stdin.read()  # everybody starts at once, when the test closes the pipes
print(create_atomic(sys.argv[1], sys.argv[2].encode() * 10_000))
"""
REPLACE_FOREVER = """
import sys
from tracecore.files import write_atomic
print("ready", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_atomic(sys.argv[1], letter * 100_000)
"""


def names_in(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fsync", [False, True])
def test_a_written_file_replaces_the_one_before_it_and_leaves_nothing_else(
    tmp_path: pathlib.Path, fsync: bool
):
    path = tmp_path / "summary.json"
    for data in (b"one", b"", b"three" * 100_000):
        files.write_atomic(str(path), data, fsync=fsync)
        assert path.read_bytes() == data
    assert names_in(tmp_path) == ["summary.json"]


@pytest.mark.parametrize("fsync", [False, True])
def test_a_created_file_is_never_replaced(tmp_path: pathlib.Path, fsync: bool):
    path = tmp_path / "run.json"
    assert files.create_atomic(str(path), b"first", fsync=fsync) is True
    assert files.create_atomic(str(path), b"second", fsync=fsync) is False
    assert path.read_bytes() == b"first"
    assert names_in(tmp_path) == ["run.json"]


def test_a_file_without_a_folder_in_its_name_goes_where_we_are(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    files.write_atomic("here.json", b"x", fsync=True)
    assert files.create_atomic("there.json", b"y", fsync=True)
    assert names_in(tmp_path) == ["here.json", "there.json"]


def test_files_can_be_read_by_others_as_far_as_the_umask_lets_them(tmp_path: pathlib.Path):
    before = os.umask(0o022)
    try:
        files.write_atomic(str(tmp_path / "open"), b"x")
        os.umask(0o077)
        files.write_atomic(str(tmp_path / "closed"), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o600


def test_of_many_processes_that_create_one_file_exactly_one_wins(tmp_path: pathlib.Path):
    path = tmp_path / "run.json"
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE_ONE, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.close()
        rival.stdin = None
    answers = [rival.communicate()[0].strip() for rival in rivals]
    assert sorted(answers) == ["False"] * 5 + ["True"]
    assert path.read_bytes() == str(answers.index("True")).encode() * 10_000
    assert names_in(tmp_path) == ["run.json"]


def test_a_reader_never_sees_half_a_file(tmp_path: pathlib.Path):
    path = tmp_path / "live.json"
    path.write_bytes(b"a" * 100_000)
    with subprocess.Popen(
        [sys.executable, "-c", REPLACE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            seen = set()
            while len(seen) < 2:
                seen.add(path.read_bytes())
            seen |= {path.read_bytes() for _ in range(300)}
        finally:
            writer.kill()
    assert seen == {b"a" * 100_000, b"b" * 100_000}


@pytest.mark.parametrize("write", [files.write_atomic, files.create_atomic])
@pytest.mark.parametrize("place", ["missing/x.json", "file/x.json"])
def test_a_folder_that_is_none_is_told_with_path_and_cause(
    tmp_path: pathlib.Path, write, place: str
):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError) as raised:
        write(str(tmp_path / place), b"x")
    assert raised.value.path == str(tmp_path / place)
    assert raised.value.cause.errno in {errno.ENOENT, errno.ENOTDIR}
    assert names_in(tmp_path) == ["file"]


def test_a_folder_in_the_files_place_is_told_and_stays(tmp_path: pathlib.Path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match="taken: cannot be written"):
        files.write_atomic(str(tmp_path / "taken"), b"x")
    assert files.create_atomic(str(tmp_path / "taken"), b"x") is False
    assert names_in(tmp_path) == ["taken"]


def test_a_symlink_is_replaced_and_not_followed(tmp_path: pathlib.Path):
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    (tmp_path / "link").symlink_to(target)
    assert files.create_atomic(str(tmp_path / "link"), b"new") is False
    files.write_atomic(str(tmp_path / "link"), b"new")
    assert target.read_bytes() == b"untouched"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def test_all_is_written_however_little_is_taken_at_once_and_a_full_disk_leaves_the_old_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "summary.json"
    real_write, room = os.write, 12

    def write_a_part(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= 3
        return real_write(fd, bytes(data)[:3])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write_a_part)
        files.write_atomic(str(path), b"012345678")
        with pytest.raises(OutputError, match="No space left on device"):
            files.write_atomic(str(path), b"new content")
    assert path.read_bytes() == b"012345678"
    assert names_in(tmp_path) == ["summary.json"]


def test_a_file_may_be_read_and_sought_while_it_is_filled(tmp_path: pathlib.Path):
    def fill(fd: int) -> None:
        files.write_all(fd, b"0123456789")
        os.lseek(fd, 4, os.SEEK_SET)
        assert os.read(fd, 2) == b"45"
        files.write_all(fd, b"!")

    files.fill_atomic(str(tmp_path / "x"), fill)
    assert (tmp_path / "x").read_bytes() == b"012345!789"


@pytest.mark.parametrize("sizes", [[], [0], [1, 2, 3], [70_000], [65_535, 1, 1], [1000] * 200])
def test_a_stream_is_written_whole_and_in_order(tmp_path: pathlib.Path, sizes: list[int]):
    chunks = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    files.write_atomic_stream(str(tmp_path / "x"), iter(chunks))
    assert (tmp_path / "x").read_bytes() == b"".join(chunks)
    assert names_in(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_stream_that_breaks_off_changes_nothing(tmp_path: pathlib.Path, error):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def broken() -> Iterator[bytes]:
        yield b"x" * 100_000
        assert path.read_bytes() == b"old"  # as a process finds it that is killed half way
        raise error

    with pytest.raises(error):
        files.write_atomic_stream(str(path), broken())
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["x"]


def test_no_descriptor_is_left_open(tmp_path: pathlib.Path):
    before = sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    if before is None:
        pytest.skip("this system does not list a process's descriptors")
    files.write_atomic(str(tmp_path / "x"), b"x", fsync=True)
    files.create_atomic(str(tmp_path / "x"), b"x", fsync=True)
    with pytest.raises(OutputError):
        files.write_atomic(str(tmp_path), b"x")
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_synced_is_no_failed_write(tmp_path, monkeypatch, number):
    refuse_folders(monkeypatch, number)
    path = str(tmp_path / "a.json")
    files.write_atomic(path, b"{}", fsync=True)
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_whose_sync_fails_is(tmp_path, monkeypatch):
    refuse_folders(monkeypatch, errno.EIO)
    with pytest.raises(OutputError, match="Input/output error"):
        files.write_atomic(str(tmp_path / "a.json"), b"{}", fsync=True)


def refuse_folders(monkeypatch, number):
    fsync = os.fsync

    def refuse(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
