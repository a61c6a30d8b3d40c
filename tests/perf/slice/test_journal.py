import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys

import pytest
from helpers.slices import ROOT
from hypothesis import given
from hypothesis import strategies as st

from tracecore.errors import InputError, OutputError
from tracecore.perf.slice import journal as journal_module
from tracecore.perf.slice import journal_file
from tracecore.perf.slice.journal import create_journal, resume_journal
from tracecore.perf.slice.journal_file import journal_path
from tracecore.record import replace

HEADER = {
    "slice_id": "20260101T000000Z",
    "scenario": [{"agent": "a.py", "seed": 7}],
    "timeout_s": 1.5,
}


@pytest.fixture
def path(tmp_path):
    return journal_path(str(tmp_path), "20260101T000000Z")


def write_rows(path, rows, episodes):
    with create_journal(path, HEADER, episodes) as journal:
        for row in rows:
            journal.add(row)


def line_ends(path):
    with open(path, "rb") as file:
        ends, at = [], 0
        for line in file:
            at += len(line)
            ends.append(at)
    return ends


def damage(path, offset, data=b"#"):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def rows_of(journal):
    """Its rows, whichever part of the slice each ran in."""
    return [replace(row, part=0) for row in journal.rows_in_order()]


def line_of(row):
    return journal_file.line_of(list(journal_file.row_values(row)))


def test_it_never_passes_for_a_published_file():
    assert journal_path("out", "20260101T000000Z") == "out/.perf-journal-20260101T000000Z.jsonl"


def test_rows_added_in_any_order_come_back_by_index(path, make_row):
    order = list(range(500))
    random.Random(3).shuffle(order)
    with create_journal(path, HEADER, 500) as journal:
        for index in order:
            assert journal.add(make_row(index))
        assert journal.rows == 500
        assert rows_of(journal) == [make_row(index) for index in range(500)]


def test_rows_can_be_read_while_others_are_still_to_come(path, make_row):
    with create_journal(path, HEADER, 3) as journal:
        journal.add(make_row(2))
        assert [row.episode_index for row in journal.rows_in_order()] == [2]
        journal.add(make_row(0))
        assert [row.episode_index for row in journal.rows_in_order()] == [0, 2]


def test_a_long_row_comes_back_whole(path, make_row):
    long = make_row(1, error="é" * journal_file.BLOCK_BYTES)
    with create_journal(path, HEADER, 3) as journal:
        for row in (make_row(0), long, make_row(2)):
            journal.add(row)
        assert rows_of(journal) == [make_row(0), long, make_row(2)]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3000)), max_size=40))
def test_rows_of_any_size_in_any_order_come_back(tmp_path_factory, make_row, entries):
    path = journal_path(str(tmp_path_factory.mktemp("journal")), "x")
    first = {}
    with create_journal(path, {}, 31, fsync="none") as journal:
        for index, size in entries:
            row = a_row(make_row, index, "x" * size)
            assert journal.add(row) is (index not in first)
            first.setdefault(index, row)
        assert rows_of(journal) == [first[index] for index in sorted(first)]


def a_row(make_row, index, error, number=0.1):
    return make_row(index, error=error, wall_clock_s=number, artifact=None, seed=-5)


@given(st.text(st.characters(codec=None)), st.floats(0, 1e200))
def test_text_and_numbers_survive_exactly(tmp_path_factory, make_row, text, number):
    path = journal_path(str(tmp_path_factory.mktemp("journal")), "x")
    row = a_row(make_row, 0, text, number)
    with create_journal(path, {}, 1, fsync="none") as journal:
        journal.add(row)
    journal = resume_journal(path, fsync="none")
    with journal:
        assert rows_of(journal) == [row]


def test_lone_surrogates_survive(path, make_row):
    with create_journal(path, HEADER, 1) as journal:
        journal.add(make_row(0, error="\ud800"))
        assert [row.error for row in journal.rows_in_order()] == ["\ud800"]


def test_every_line_is_json_of_its_own(path, make_row):
    write_rows(path, [make_row(0), make_row(1)], 2)
    with open(path, "rb") as file:
        about, first, second = map(json.loads, file)
    assert about["header"] == HEADER
    assert about["fields"][:2] == ["episode", "episode_index"]
    assert [first[1], second[1]] == [0, 1]


def test_the_first_row_of_an_episode_is_kept(path, make_row):
    with create_journal(path, HEADER, 2) as journal:
        assert journal.add(make_row(1)) is True
        assert journal.add(make_row(1, error="late")) is False
        assert [row.error for row in journal.rows_in_order()] == [None]


@pytest.mark.parametrize("index", [-1, 2, 10**12])
def test_an_index_outside_the_slice_is_refused(path, make_row, index):
    with (
        create_journal(path, HEADER, 2) as journal,
        pytest.raises(ValueError, match="of a slice of 2"),
    ):
        journal.add(make_row(index))


def test_a_nan_is_refused_and_leaves_no_line(path, make_row):
    with create_journal(path, HEADER, 2) as journal:
        with pytest.raises(ValueError, match="JSON compliant"):
            journal.add(make_row(0, episode_s=float("nan")))
        assert not journal.has(0)
        assert len(line_ends(path)) == 1


def test_resuming_gives_header_rows_and_what_is_missing(path, make_row):
    write_rows(path, [make_row(3), make_row(0)], 5)
    journal = resume_journal(path)
    with journal:
        assert (journal.header, journal.episodes, journal.rows) == (HEADER, 5, 2)
        assert journal.alien_lines == 0
        assert [journal.has(index) for index in range(5)] == [True, False, False, True, False]
        journal.add(make_row(1))
        assert [row.episode_index for row in journal.rows_in_order()] == [0, 1, 3]


def test_a_line_torn_anywhere_is_cut_off_and_written_again(path, make_row, tmp_path):
    write_rows(path, [make_row(0), make_row(1)], 3)
    with open(path, "rb") as file:
        whole = file.read()
    _, first_end, end = line_ends(path)
    for cut in range(first_end + 1, end):
        with open(path, "wb") as file:
            file.write(whole[:cut])
        journal = resume_journal(path, fsync="none")
        with journal:
            assert (journal.rows, os.path.getsize(path)) == (1, first_end)
            journal.add(make_row(1))
            assert rows_of(journal) == [make_row(0), make_row(1)]
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_a_damaged_line_in_the_middle_costs_its_own_episode_alone(path, make_row):
    write_rows(path, [make_row(index) for index in range(4)], 4)
    damage(path, line_ends(path)[1] + 20, b'"')
    journal = resume_journal(path)
    with journal:
        assert (journal.rows, journal.alien_lines) == (3, 1)
        assert [journal.has(index) for index in range(4)] == [True, False, True, True]
        journal.add(make_row(1))
        assert rows_of(journal) == [make_row(index) for index in range(4)]


@pytest.mark.parametrize(
    ("tail", "dropped"),
    [
        (b"\0" * 5000, 5000),
        (b"\n", 0),
        (b"[0,garbage]\n", 0),
        (b"\xff\xfe", 2),
        (b"{}\n", 0),
        (b"[9]\n[9", 2),
    ],
)
def test_a_foreign_tail_harms_no_row(path, make_row, tail, dropped):
    write_rows(path, [make_row(0)], 2)
    end = os.path.getsize(path)
    damage(path, end, tail)
    journal = resume_journal(path)
    with journal:
        assert journal.rows == 1
        assert os.path.getsize(path) == end + len(tail) - dropped
        journal.add(make_row(1))
        assert rows_of(journal) == [make_row(0), make_row(1)]


@pytest.mark.parametrize("line", [b"garbage\n", b'{"half', b"[1,0]\n[2,1]\n", b"\0"])
def test_lines_of_others_are_passed_over_while_the_slice_runs_and_after(path, make_row, line):
    with create_journal(path, HEADER, 3) as journal:
        for index in range(3):
            journal.add(make_row(index))
            with open(path, "ab") as alien:
                alien.write(line)
        assert rows_of(journal) == [make_row(index) for index in range(3)]
        assert (journal.alien_lines, journal.lost) == (2, [])
    journal = resume_journal(path)
    with journal:
        assert journal.rows == 3
        assert rows_of(journal) == [make_row(index) for index in range(3)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps_used", "5"),
        ("success", 1),
        ("episode_s", -1.0),
        ("error", []),
        ("allow", {"read": 1}),
    ],
)
def test_a_row_with_a_field_of_another_type_is_none(path, make_row, field, value):
    write_rows(path, [make_row(0), make_row(1, **{field: value})], 2)
    journal = resume_journal(path)
    journal.close()
    assert (journal.rows, journal.alien_lines) == (1, 1)


def test_an_episode_that_was_dropped_runs_again_and_its_last_row_counts(path, make_row):
    write_rows(path, [make_row(0), make_row(1)], 2)
    with resume_journal(path) as journal:
        journal.drop(0)
        assert (journal.rows, journal.has(0)) == (1, False)
        journal.add(make_row(0, error="second"))
    with resume_journal(path) as journal:
        assert journal.rows == 2
        assert [row.error for row in journal.rows_in_order()] == ["second", None]


def test_a_row_of_an_episode_beyond_the_slice_is_damage(path, make_row):
    write_rows(path, [make_row(0)], 2)
    damage(
        path,
        os.path.getsize(path),
        line_of(make_row(10**9)),
    )
    journal = resume_journal(path)
    journal.close()
    assert (journal.rows, journal.alien_lines) == (1, 1)


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b'{"journal":2', b"\0" * 100, b"\n\n", b'{"a":1,"a":2}\n']
)
def test_a_journal_without_a_whole_header_is_refused(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(InputError, match=r"first line.*: found .*, expected "):
        resume_journal(path)


@pytest.mark.parametrize(
    ("field", "value"), [("episodes", "3"), ("episodes", 10**12), ("episodes", 0), ("header", [])]
)
def test_a_header_with_a_wrong_field_is_refused(path, field, value):
    about = {
        "journal": 2,
        "began_at": "now",
        "episodes": 3,
        "fields": list(journal_file.FIELDS),
        "header": {},
    }
    with open(path, "wb") as file:
        file.write(json.dumps({**about, field: value}).encode() + b"\n")
    with pytest.raises(InputError, match=f"first line.{field}: found "):
        resume_journal(path)


def test_a_row_in_the_place_of_the_header_is_refused(path, make_row):
    with open(path, "wb") as file:
        file.write(line_of(make_row(0)))
    with pytest.raises(InputError, match="expected a journal's header"):
        resume_journal(path)


def test_a_journal_of_another_version_is_refused(path, make_row, monkeypatch):
    monkeypatch.setattr(journal_file, "FORMAT", 1)
    write_rows(path, [make_row(0)], 1)
    monkeypatch.undo()
    with pytest.raises(InputError, match="this version of tracecore writes"):
        resume_journal(path)


def test_no_journal_at_all_is_an_input_error(path):
    with pytest.raises(InputError, match="No such file"):
        resume_journal(path)


def test_a_journal_that_holds_something_is_not_started_over(path, make_row):
    write_rows(path, [make_row(0)], 1)
    before = os.path.getsize(path)
    with pytest.raises(InputError, match="resumed, not started"):
        create_journal(path, HEADER, 1)
    assert os.path.getsize(path) == before


def test_two_writers_at_once_are_refused(path):
    with create_journal(path, HEADER, 1):
        with pytest.raises(InputError, match="another run is writing"):
            resume_journal(path)
        with pytest.raises(InputError, match="another run is writing"):
            create_journal(path, HEADER, 1)
    journal = resume_journal(path)
    journal.close()


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        create_journal(journal_path(str(tmp_path / "none"), "x"), {}, 1)


def write_until_full(path, make_row, results):
    """In a process of its own, because the limit stays: files may grow by half a line from here."""
    with create_journal(path, HEADER, 3, fsync="none") as journal:
        journal.add(make_row(0))
        whole = os.path.getsize(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 100, resource.RLIM_INFINITY))
        try:
            journal.add(make_row(1))
        except OutputError as error:
            results.send((str(error), os.path.getsize(path) == whole, journal.has(1)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.add(make_row(2))
        results.send([row.episode_index for row in journal.rows_in_order()])


def test_a_full_disk_leaves_the_journal_as_it_was(path, make_row):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=write_until_full, args=(path, make_row, theirs)
    )
    process.start()
    theirs.close()
    message, was_cut_back, has_row = ours.recv()
    assert path in message
    assert "File too large" in message
    assert (was_cut_back, has_row) == (True, False)
    assert ours.recv() == [0, 2]
    process.join()
    ours.close()
    journal = resume_journal(path)
    journal.close()
    assert (journal.rows, journal.alien_lines) == (2, 0)


def test_a_line_that_could_not_be_cut_off_at_once_is_cut_off_before_the_next(
    path, make_row, monkeypatch
):
    def tear(fd, data):
        os.write(fd, data[:10])
        raise OSError(28, "No space left on device")

    def refuse(*_):
        raise OSError(5, "Input/output error")

    with create_journal(path, HEADER, 2) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "write_all", tear)
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(OutputError, match="No space left"):
                journal.add(make_row(0))
        journal.add(make_row(1))
        assert [row.episode_index for row in journal.rows_in_order()] == [1]
    journal = resume_journal(path)
    journal.close()
    assert (journal.rows, journal.alien_lines) == (1, 0)


def test_an_interrupt_in_the_middle_of_a_line_harms_no_later_one(path, make_row, monkeypatch):
    def interrupt(fd, data):
        os.write(fd, data[:10])
        raise KeyboardInterrupt

    with create_journal(path, HEADER, 2) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "write_all", interrupt)
            with pytest.raises(KeyboardInterrupt):
                journal.add(make_row(0))
        journal.add(make_row(1))
        assert [row.episode_index for row in journal.rows_in_order()] == [1]


WRITER = """
import sys
from tracecore.perf.slice.journal import create_journal
sys.path.insert(0, sys.argv[2])
from helpers.rows import make_row
journal = create_journal(sys.argv[1], {}, 1_000_000)
for index in range(1_000_000):
    journal.add(make_row(index))
    if index == 200:
        print("going", flush=True)
"""


def test_a_killed_writer_loses_at_most_the_line_it_was_writing(path):
    command = [sys.executable, "-c", WRITER, path, str(ROOT / "tests")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"going\n"
        process.send_signal(signal.SIGKILL)
    journal = resume_journal(path)
    with journal:
        assert journal.rows > 200
        assert journal.alien_lines == 0
        assert [row.episode_index for row in journal.rows_in_order()] == list(range(journal.rows))


def count_syncs(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    return calls


@pytest.mark.parametrize(
    ("fsync", "expected"), [("none", 0), ("batch", 1 + 2 + 1), ("full", 1 + 1100)]
)
def test_durability_is_bought_as_asked(path, make_row, monkeypatch, fsync, expected):
    calls = count_syncs(monkeypatch)
    with create_journal(path, HEADER, 1100, fsync=fsync, monotonic_s=lambda: 0.0) as journal:
        for index in range(1100):
            journal.add(make_row(index))
    assert len(calls) == expected


def test_a_batch_is_over_after_a_second(path, make_row, monkeypatch):
    now_s = [0.0]
    calls = count_syncs(monkeypatch)
    with create_journal(path, HEADER, 9, fsync="batch", monotonic_s=lambda: now_s[0]) as journal:
        calls.clear()
        journal.add(make_row(0))
        assert not calls
        now_s[0] = 1.0
        journal.add(make_row(1))
        assert len(calls) == 1
        journal.add(make_row(2))
        assert len(calls) == 1


def test_a_sync_that_fails_is_told(path, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    with create_journal(path, HEADER, 1) as journal:
        monkeypatch.setattr(os, "fdatasync", refuse)
        with pytest.raises(OutputError, match="Input/output error"):
            journal.sync()


def test_a_removed_journal_leaves_nothing(path, tmp_path):
    journal = create_journal(path, HEADER, 1)
    journal.remove()
    journal.close()
    assert os.listdir(tmp_path) == []


def test_nothing_stays_open(path, make_row):
    before = sorted(os.listdir("/proc/self/fd"))
    write_rows(path, [make_row(0)], 1)
    journal = resume_journal(path)
    journal.close()
    with pytest.raises(InputError):
        create_journal(path, HEADER, 1)
    damage(path, 0)
    with pytest.raises(InputError):
        resume_journal(path)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_row_that_was_changed_under_us_is_lost_and_named(path, make_row):
    with create_journal(path, HEADER, 3) as journal:
        for index in range(3):
            journal.add(make_row(index))
        damage(path, line_ends(path)[1], b"[[")
        assert [row.episode_index for row in journal.rows_in_order()] == [0, 2]
        assert (journal.lost, journal.rows, journal.has(1)) == ([1], 2, False)


def test_rows_say_which_part_of_the_slice_they_ran_in(path, make_row):
    write_rows(path, [make_row(0), make_row(1)], 4)
    for _ in range(2):  # a resumption that finishes nothing is no part
        journal = resume_journal(path)
        journal.close()
    journal = resume_journal(path)
    with journal:
        journal.add(make_row(3))
    journal = resume_journal(path)
    with journal:
        assert journal.alien_lines == 0
        journal.add(make_row(2))
        assert [row.part for row in journal.rows_in_order()] == [0, 0, 2, 1]
        assert len(journal.parts) == 3
