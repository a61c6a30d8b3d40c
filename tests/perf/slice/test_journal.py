import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracecore import clock
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


def test_a_long_row_comes_back_whole(path, make_row):
    long = make_row(1, error="é" * journal_file.BLOCK_BYTES)
    with create_journal(path, HEADER, 3) as journal:
        for row in (make_row(0), long, make_row(2)):
            journal.add(row)
        assert rows_of(journal) == [make_row(0), long, make_row(2)]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3000)), max_size=40))
def test_rows_of_any_size_in_any_order_come_back_and_the_first_of_an_episode_is_kept(
    tmp_path_factory, make_row, entries
):
    path = journal_path(str(tmp_path_factory.mktemp("journal")), "x")
    first = {}
    with create_journal(path, {}, 31, fsync="none") as journal:
        for index, size in entries:
            row = make_row(index, error="x" * size)
            assert journal.add(row) is (index not in first)
            first.setdefault(index, row)
            assert journal.rows == len(first)
        assert rows_of(journal) == [first[index] for index in sorted(first)]


@given(st.text(st.characters(codec=None)), st.floats(0, 1e200))
@example("\ud800", 0.1)
def test_text_and_numbers_survive_exactly(tmp_path_factory, make_row, text, number):
    path = journal_path(str(tmp_path_factory.mktemp("journal")), "x")
    row = make_row(0, error=text, wall_clock_s=number, artifact=None, seed=-5)
    with create_journal(path, {}, 1, fsync="none") as journal:
        journal.add(row)
        assert rows_of(journal) == [row]
    with resume_journal(path, fsync="none") as journal:
        assert rows_of(journal) == [row]


def test_every_line_is_json_of_its_own(path, make_row):
    write_rows(path, [make_row(0), make_row(1)], 2)
    with open(path, "rb") as file:
        about, first, second = map(json.loads, file)
    assert about["header"] == HEADER
    assert about["fields"][:2] == ["episode", "episode_index"]
    assert [first[1], second[1]] == [0, 1]


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
    with resume_journal(path) as journal:
        assert (journal.header, journal.episodes, journal.rows) == (HEADER, 5, 2)
        assert journal.alien_lines == 0
        assert [journal.has(index) for index in range(5)] == [True, False, False, True, False]
        journal.add(make_row(1))
        assert [row.episode_index for row in journal.rows_in_order()] == [0, 1, 3]


def test_a_line_torn_anywhere_is_cut_off_and_written_again(path, make_row):
    write_rows(path, [make_row(0), make_row(1)], 3)
    with open(path, "rb") as file:
        whole = file.read()
    _, first_end, end = line_ends(path)
    for cut in range(first_end + 1, end, 7):
        with open(path, "wb") as file:
            file.write(whole[:cut])
        with resume_journal(path, fsync="none") as journal:
            assert (journal.rows, os.path.getsize(path)) == (1, first_end)
            journal.add(make_row(1))
            assert rows_of(journal) == [make_row(0), make_row(1)]


def test_a_damaged_line_in_the_middle_costs_its_own_episode_alone(path, make_row):
    write_rows(path, [make_row(index) for index in range(4)], 4)
    damage(path, line_ends(path)[1] + 20, b'"')
    with resume_journal(path) as journal:
        assert (journal.rows, journal.alien_lines) == (3, 1)
        assert [journal.has(index) for index in range(4)] == [True, False, True, True]
        journal.add(make_row(1))
        assert rows_of(journal) == [make_row(index) for index in range(4)]


@pytest.mark.parametrize(
    ("tail", "dropped"),
    [(b"\0" * 5000, 5000), (b"\n", 0), (b"[0,garbage]\n", 0), (b"\xff\xfe", 2), (b"[9]\n[9", 2)],
)
def test_a_foreign_tail_harms_no_row(path, make_row, tail, dropped):
    write_rows(path, [make_row(0)], 2)
    end = os.path.getsize(path)
    damage(path, end, tail)
    with resume_journal(path) as journal:
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
    with resume_journal(path) as journal:
        assert rows_of(journal) == [make_row(index) for index in range(3)]


def test_an_episode_that_was_dropped_runs_again_and_its_last_row_counts(path, make_row):
    write_rows(path, [make_row(0), make_row(1)], 2)
    with resume_journal(path) as journal:
        journal.drop(0)
        assert (journal.rows, journal.has(0)) == (1, False)
        journal.add(make_row(0, error="second"))
    with resume_journal(path) as journal:
        assert journal.rows == 2
        assert [row.error for row in journal.rows_in_order()] == ["second", None]


@pytest.mark.parametrize(
    "fields",
    [
        *({"steps_used": "5"}, {"success": 1}, {"episode_s": -1.0}, {"error": []}),
        *({"allow": {"read": 1}}, {"episode": 10**9 + 1, "episode_index": 10**9}),
    ],
)
def test_a_row_that_cannot_be_one_of_the_slice_is_damage(path, make_row, fields):
    write_rows(path, [make_row(0)], 2)
    damage(path, os.path.getsize(path), line_of(make_row(1, **fields)))
    with resume_journal(path) as journal:
        assert (journal.rows, journal.alien_lines) == (1, 1)


ABOUT = {"journal": 2, "began_at": "now", "episodes": 3, "fields": list(journal_file.FIELDS)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((text, "first line") for text in (b"", b"{}\n", b'{"journal":2', b"\0" * 100, b"\n\n")),
        (b'{"a":1,"a":2}\n', "first line"),
        (b"[1,0]\n", "expected a journal's header"),
        ({"episodes": "3"}, "first line.episodes: found '3'"),
        ({"episodes": 10**12}, "first line.episodes: found 1000"),
        ({"episodes": 0}, "first line.episodes: found 0"),
        ({"header": []}, "first line.header: found"),
        ({"journal": 1}, "this version of tracecore writes"),
    ],
)
def test_a_journal_without_a_header_of_this_version_is_refused(path, content, words):
    if isinstance(content, dict):
        content = json.dumps({**ABOUT, "header": {}, **content}).encode() + b"\n"
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(InputError, match=words):
        resume_journal(path)


def test_a_journal_that_holds_something_is_not_started_over(path, make_row):
    write_rows(path, [make_row(0)], 1)
    before = os.path.getsize(path)
    with pytest.raises(InputError, match="resumed, not started"):
        create_journal(path, HEADER, 1)
    assert os.path.getsize(path) == before


def test_two_writers_at_once_are_refused(path):
    with create_journal(path, HEADER, 1):
        for write in (resume_journal, lambda path: create_journal(path, HEADER, 1)):
            with pytest.raises(InputError, match="another run is writing"):
                write(path)
    resume_journal(path).close()


def test_a_folder_or_a_journal_that_is_not_there_is_named(path, tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        create_journal(journal_path(str(tmp_path / "none"), "x"), {}, 1)
    with pytest.raises(InputError, match="No such file"):
        resume_journal(path)


@pytest.mark.parametrize(
    ("error", "is_cut_off"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(28, "No space left on device"), False),
        (KeyboardInterrupt(), True),
    ],
)
def test_a_line_that_breaks_off_is_cut_off_at_once_or_before_the_next(
    path, make_row, monkeypatch, error, is_cut_off
):
    def tear(fd, data):
        os.write(fd, data[:10])
        raise error

    def refuse(*_):
        raise OSError(5, "Input/output error")

    with create_journal(path, HEADER, 2) as journal:
        whole = os.path.getsize(path)
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "write_all", tear)
            if not is_cut_off:
                patch.setattr(os, "ftruncate", refuse)
            with pytest.raises((OutputError, KeyboardInterrupt), match=r"No space left|^$"):
                journal.add(make_row(0))
        if isinstance(error, OSError):
            assert (os.path.getsize(path) == whole, journal.has(0)) == (is_cut_off, False)
        journal.add(make_row(1))
        assert [row.episode_index for row in journal.rows_in_order()] == [1]
    with resume_journal(path) as journal:
        assert (journal.rows, journal.alien_lines) == (1, 0)


@pytest.mark.parametrize(
    ("fsync", "expected"), [("none", 0), ("batch", 1 + 2 + 1 + 1), ("full", 1 + 1100)]
)
def test_durability_is_bought_as_asked(path, make_row, monkeypatch, fsync, expected):
    calls, now_s = [], [0.0]
    monkeypatch.setattr(os, "fdatasync", calls.append)
    monkeypatch.setattr(clock, "monotonic_s", lambda: now_s[0])
    with create_journal(path, HEADER, 1100, fsync=fsync) as journal:
        for index in range(1098):
            journal.add(make_row(index))
        now_s[0] = 1.0  # a batch is over after a second
        journal.add(make_row(1098))
        journal.add(make_row(1099))
    assert len(calls) == expected
    with resume_journal(path) as journal:
        monkeypatch.setattr(os, "fdatasync", lambda _: os.close(10**6))
        with pytest.raises(OutputError, match="Bad file descriptor"):
            journal.sync()
        monkeypatch.undo()


def test_a_removed_journal_leaves_nothing(path, tmp_path):
    journal = create_journal(path, HEADER, 1)
    journal.remove()
    journal.close()
    assert os.listdir(tmp_path) == []


def test_a_row_that_was_changed_under_us_is_lost_and_named(path, make_row):
    with create_journal(path, HEADER, 3) as journal:
        for index in range(3):
            journal.add(make_row(index))
        damage(path, line_ends(path)[1], b"[[")
        assert [row.episode_index for row in journal.rows_in_order()] == [0, 2]
        assert (journal.lost, journal.rows, journal.has(1)) == ([1], 2, False)


def test_rows_say_which_part_of_the_slice_they_ran_in(path, make_row):
    write_rows(path, [make_row(0), make_row(1)], 4)
    for row in (None, None, make_row(3)):  # a resumption that finishes nothing is no part
        with resume_journal(path) as journal:
            assert row is None or journal.add(row)
    with resume_journal(path) as journal:
        assert journal.alien_lines == 0
        journal.add(make_row(2))
        assert [row.part for row in journal.rows_in_order()] == [0, 0, 2, 1]
        assert len(journal.parts) == 3
