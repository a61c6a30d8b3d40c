"""What a killed harness left is removed, and nothing that a live one may be using."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from tracecore.perf.documents.files import reserve_stamp
from tracecore.perf.slice.cleanup import (
    RESERVED_S,
    remove_doubtful_artifacts,
    remove_stray_documents,
    remove_unowned,
    second_runs_path,
)
from tracecore.perf.slice.journal import create_journal
from tracecore.perf.slice.journal_file import journal_path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

STAMP = "20260101T000000Z"
# Holds the journal of the slice in the folder it is given until it is killed.
OWNER = """\
import sys, time
from tracecore.perf.slice.journal import create_journal
from tracecore.perf.slice.journal_file import journal_path
journal = create_journal(journal_path(sys.argv[1], sys.argv[2]), {}, 4)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner(tmp_path: pathlib.Path):
    """A harness at work in another process, as far as its journal shows."""
    command = [sys.executable, "-c", OWNER, str(tmp_path), STAMP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def second_runs(folder: pathlib.Path) -> pathlib.Path:
    path = pathlib.Path(second_runs_path(str(folder), STAMP))
    path.mkdir()
    (path / "0.json").touch()
    return path


def make_old(path: str) -> None:
    then = time.time() - RESERVED_S - 10
    os.utime(path, (then, then))


def test_second_runs_stay_as_long_as_their_harness_lives_and_go_when_it_was_killed(
    tmp_path: pathlib.Path, owner
):
    left = second_runs(tmp_path)
    assert remove_unowned(str(tmp_path)) == 0
    assert (left / "0.json").exists()
    owner.kill()
    owner.wait()
    assert remove_unowned(str(tmp_path)) == 1
    assert not left.exists()
    assert os.path.getsize(journal_path(str(tmp_path), STAMP)) > 0  # it can be resumed


def test_a_link_in_the_place_of_second_runs_is_left_alone(tmp_path: pathlib.Path):
    create_journal(journal_path(str(tmp_path), STAMP), {}, 4).close()
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "file").touch()
    os.symlink(folder, second_runs_path(str(tmp_path), STAMP))
    assert remove_unowned(str(tmp_path)) == 0
    assert (folder / "file").exists()


def test_the_slice_that_is_resumed_alone_removes_second_runs_without_a_journal(
    tmp_path: pathlib.Path,
):
    left = second_runs(tmp_path)
    assert remove_unowned(str(tmp_path)) == remove_unowned(str(tmp_path / "gone")) == 0
    assert left.exists()
    assert remove_stray_documents(str(tmp_path), STAMP) == 1
    assert not left.exists()


def test_an_empty_journal_goes_when_its_harness_cannot_be_about_to_begin_it(tmp_path: pathlib.Path):
    path = journal_path(str(tmp_path), reserve_stamp(str(tmp_path)))
    assert remove_unowned(str(tmp_path)) == 0
    make_old(path)
    assert remove_unowned(str(tmp_path)) == 1
    assert not os.path.exists(path)
    # a harness that was only stopped makes its journal anew, and one with a first line stays
    with create_journal(path, {"slice_id": "x"}, 4) as journal:
        assert journal.header == {"slice_id": "x"}
    make_old(path)
    assert remove_unowned(str(tmp_path)) == 0
    assert os.path.getsize(path) > 0


def test_failures_that_no_row_has_are_removed_and_successes_stand(tmp_path: pathlib.Path) -> None:
    contents = {
        "succeeded": '{"success": true}',
        "failed": '{"success": false}',
        "garbled": '{"success": tr',
        "foreign": "[1]",
        "another": '{"success": false}',
    }
    for name, text in contents.items():
        (tmp_path / f"{name}.json").write_text(text)
    doubtful = ["succeeded", "failed", "garbled", "foreign", "never begun"]
    assert remove_doubtful_artifacts(str(tmp_path), doubtful) == 3
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["another", "succeeded"]
    assert remove_doubtful_artifacts(str(tmp_path / "gone"), ["a"]) == 0
