"""The truth of a slice: one line on disk per finished episode. Every perf file is a projection of
it.

``.perf-journal-<stamp>.jsonl`` lies in the output folder, under a dot so that it never passes for a
published file::

    {"journal": 2, "began_at": "...", "episodes": 24, "fields": ["episode", ...], "header": {...}}
    [1, 0, "agents/toy_agent.py", ...]
    {"part": 1, "began_at": "..."}
    [4, 3, ...]

Rows stand in the order in which episodes ended, as lists, which are half the bytes of objects. A
line of a part stands before the first row of each resumption. There is one writer, which holds a
lock on the file, and each line is one append: what a killed harness can leave behind is one torn
line at the end, which does not parse. Lines of others are passed over and counted.
"""

import contextlib
import os
from array import array
from collections.abc import Iterator
from typing import Final, Literal, Self

from tracecore import clock
from tracecore.errors import InputError, OutputError, as_output_error
from tracecore.files import SHARED, write_all, write_atomic_stream
from tracecore.perf.slice.journal_file import (
    BLOCK_BYTES,
    LONGEST_LINE_BYTES,
    OPEN_FLAGS,
    PART,
    blocks_of,
    header_line,
    line_of,
    lock,
    open_begun,
    parse_part,
    parse_row,
    read_header,
    row_values,
)
from tracecore.records import EpisodeResult, JsonObject

Fsync = Literal["none", "batch", "full"]

BATCH_ROWS: Final = 500  # under "batch", what a power cut may cost: so many rows,
BATCH_S: Final = 1.0  # or the rows of so many seconds
ABSENT: Final = -1


def create_journal(
    path: str,
    header: JsonObject,
    episodes: int,
    *,
    fsync: Fsync = "batch",
) -> "Journal":
    """A new journal at ``path``, where there is nothing yet, or an empty file that reserves the
    name.

    Args:
        path: As :func:`journal_path` makes it.
        header: What the rows depend on; JSON, given back as it is when the journal is opened again.
        episodes: Of the whole slice; every row's index lies below.
        fsync: When rows are made to survive a power cut: never, every 500 rows or second, or each.
            A killed process loses nothing under any of them.

    Raises:
        InputError: It is being written by another process, or holds something.
        OutputError: It could not be written.
    """
    with as_output_error(path), contextlib.ExitStack() as undoing:
        fd = os.open(path, OPEN_FLAGS | os.O_CREAT, SHARED)
        undoing.callback(os.close, fd)
        lock(fd, path)
        if os.fstat(fd).st_size:
            raise InputError(path, "", "a journal", "none: that slice can be resumed, not started")
        journal = Journal(path, fd, header, episodes, fsync=fsync)
        journal._append(header_line(journal.parts[0], episodes, header))  # noqa: SLF001 - as below
        if fsync != "none":
            journal.sync()
        undoing.pop_all()
    return journal


def resume_journal(path: str, *, fsync: Fsync = "batch") -> "Journal":
    """Open the journal of an unfinished slice, to read its rows and add the missing ones.

    A line that is torn at the end is cut off, and lines that are no rows are passed over: those
    episodes run again.

    Raises:
        InputError: There is no such journal, its first line is damaged, or another process is
            writing it.
        OutputError: It could not be read or cut.
    """
    fd = open_begun(path)
    with as_output_error(path), contextlib.ExitStack() as undoing:
        undoing.callback(os.close, fd)
        lock(fd, path)
        about, end = read_header(fd, path)
        journal = Journal(path, fd, about["header"], about["episodes"], fsync=fsync)
        journal.parts = [about["began_at"]]
        journal._recover(end)  # noqa: SLF001  # the two functions that make a Journal belong to it
        undoing.pop_all()
    return journal


class Journal:
    """An open journal: one writer, any number of passes over its rows; 12 bytes per episode.

    The file is not believed to be as it was left: what others append is passed over, and a row that
    does not read back is lost, and counted. Made by the two functions above.

    Attributes:
        path: The file.
        header: What the rows depend on.
        rows: How many episodes have one.
        alien_lines: How often others wrote into it.
        parts: When each part of the slice began, UTC: the first, and each resumption with a row.
        lost: Indices of episodes whose rows did not read back; they count as having none.
    """

    def __init__(
        self,
        path: str,
        fd: int,
        header: JsonObject,
        episodes: int,
        *,
        fsync: Fsync,
    ) -> None:
        self.path, self.header, self.episodes, self.rows = path, header, episodes, 0
        self._fd, self._fsync = fd, fsync
        self._offsets = array("q", [ABSENT]) * episodes  # where each episode's line begins
        self._lengths = array("I", [0]) * episodes  # of it, newline included
        self._end = 0  # behind the last whole line
        self._torn = False  # a part of a line of ours may lie behind it
        self.alien_lines, self.parts = 0, [clock.utc_text()]
        self._has_begun = True  # the part that is running now stands in the file
        self.lost: list[int] = []
        self._unsynced_rows, self._synced_at_s = 0, clock.monotonic_s()

    def add(self, row: EpisodeResult) -> bool:
        """Append a finished episode; False, and nothing written, if it already has a row.

        Raises:
            ValueError: Its index is not of this slice, or a number in it is NaN or infinite.
            OutputError: It could not be written, as on a full disk. The journal holds what it held
                before.
        """
        index = row.episode_index
        if self.has(index):
            return False
        if not self._has_begun:
            self._begin_part()
        values = list(row_values(row))
        values[PART] = len(self.parts) - 1
        line = line_of(values)
        self._append(line)
        self._place(index, self._end - len(line), len(line))
        self._unsynced_rows += 1
        if self._fsync != "none" and self._is_sync_due():
            self.sync()
        return True

    def has(self, index: int) -> bool:
        """Whether the episode has a row."""
        if not 0 <= index < self.episodes:
            raise ValueError(f"episode {index} of a slice of {self.episodes}")
        return self._offsets[index] != ABSENT

    def drop(self, index: int) -> None:
        """Count the episode as having no row, so that it is run again."""
        self._offsets[index] = ABSENT
        self.rows -= 1

    def missing(self) -> Iterator[int]:
        """The episodes that have no row."""
        return (index for index, offset in enumerate(self._offsets) if offset == ABSENT)

    def rows_in_order(self) -> Iterator[EpisodeResult]:
        """Every row, by episode index, each read back from the file.

        A row that was damaged there is given up: its index joins ``lost``, and ``has`` denies it.

        Raises:
            OSError: The file cannot be read.
        """
        for index, offset in enumerate(self._offsets):
            if offset == ABSENT:
                continue
            row = parse_row(self.path, os.pread(self._fd, self._lengths[index], offset))
            if row is None or row.episode_index != index:
                self.drop(index)
                self.lost.append(index)
            else:
                yield row

    def sync(self) -> None:
        """Make every row so far survive a power cut.

        Raises:
            OutputError: The operating system could not promise it.
        """
        with as_output_error(self.path):
            os.fdatasync(self._fd)
        self._unsynced_rows, self._synced_at_s = 0, clock.monotonic_s()

    def close(self, *, sync: bool = True) -> None:
        """Let go of the file and its lock; closing twice is fine. ``sync`` makes it durable first,
        if it is to be.

        Raises:
            OutputError: The last rows may not survive a power cut; the file is closed all the same.
        """
        if self._fd < 0:
            return
        try:
            if sync and self._fsync != "none" and self._unsynced_rows:
                self.sync()
        finally:
            os.close(self._fd)
            self._fd = -1

    def restore(self) -> None:
        """Put the file back under its name if it has been removed from there; as well as that can
        be done.
        """
        if os.path.exists(self.path):
            return
        with contextlib.suppress(OSError, OutputError):
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            write_atomic_stream(self.path, blocks_of(self._fd, self._end))

    def remove(self) -> None:
        """Delete the file and close it: the slice is complete and published, and there is nothing
        left to resume.
        """
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.close(sync=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _begin_part(self) -> None:
        self.parts.append(clock.utc_text())
        self._append(line_of({"part": len(self.parts) - 1, "began_at": self.parts[-1]}))
        self._has_begun = True

    def _append(self, line: bytes) -> None:
        if self._torn:
            self._cut_back()
        self._step_over_aliens()
        # until the line is whole: also an interrupt between two system calls leaves a torn one
        self._torn = True
        try:
            write_all(self._fd, line)
        except OSError as error:
            with contextlib.suppress(OutputError):
                self._cut_back()
            raise OutputError(self.path, error) from error
        self._end += len(line)
        self._torn = False

    def _place(self, index: int, offset: int, length: int) -> None:
        self.rows += not self.has(index)
        self._offsets[index], self._lengths[index] = offset, length

    def _step_over_aliens(self) -> None:
        """Begin behind what others have appended, or at the end of what they have cut off."""
        size = os.fstat(self._fd).st_size
        if size == self._end:
            return
        self.alien_lines += 1
        with as_output_error(self.path):
            # on a line of its own, whatever half a line theirs may be
            write_all(self._fd, b"\n")
        self._end = size + 1

    def _cut_back(self) -> None:
        with as_output_error(self.path):
            os.ftruncate(self._fd, self._end)
        self._torn = False

    def _is_sync_due(self) -> bool:
        return (
            self._fsync == "full"
            or self._unsynced_rows >= BATCH_ROWS
            or clock.monotonic_s() - self._synced_at_s >= BATCH_S
        )

    def _recover(self, end: int) -> None:
        """Find every row from offset ``end`` on, and cut off half a line at the end of the file."""
        with open(self._fd, "rb", buffering=BLOCK_BYTES, closefd=False) as file:
            file.seek(end)
            while line := file.readline(LONGEST_LINE_BYTES):
                row = parse_row(self.path, line)
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE_BYTES:
                    os.ftruncate(self._fd, end)
                    break
                if row is None or row.episode_index >= self.episodes:
                    self.alien_lines += line != b"\n" and not self._take_part(line)
                else:
                    # The last counts: an episode whose artifact was lost has run again.
                    self._place(row.episode_index, end, len(line))
                end += len(line)
        self._end, self._has_begun = end, False

    def _take_part(self, line: bytes) -> bool:
        """Note the part that a line begins; False if it begins none."""
        about = parse_part(self.path, line)
        if about is None or about["part"] != len(self.parts):
            return False
        self.parts.append(about["began_at"])
        return True
