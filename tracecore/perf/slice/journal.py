"""The truth of a slice: one line on disk per finished episode. Every perf file is a projection of
it.

``.perf-journal-<stamp>.jsonl`` lies in the output folder, under a dot so that it never passes for a
published file::

    [{"journal":1,"episodes":24,"fields":["index",...],"usage_fields":[...],"header":{...}},"0a1b2c3d"]
    [0,"5f...","agents/toy_agent.py",...,[0.021,...],"77c0ffee"] [3,...]

Rows stand in the order in which episodes ended. They are lists, not objects: half the bytes and
half the time. Each line ends with its own crc32, and counts when it ends in a newline and its
checksum holds. There is one writer, which holds a lock on the file, and each line is one append:
what a killed harness can leave behind is one torn line at the end, and resuming cuts it off.
"""

import contextlib
import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterator
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Literal, Self

from tracecore import clock
from tracecore.errors import InputError, OutputError
from tracecore.files import SHARED, write_all, write_atomic_stream
from tracecore.record import field_names, record
from tracecore.records import EpisodeResult, JsonObject, Usage

try:
    import fcntl
except ImportError:  # a platform without it: two writers are kept apart by their stamps alone
    fcntl = None  # type: ignore[assignment]

Fsync = Literal["none", "batch", "full"]

FORMAT: Final = 1
BATCH_ROWS: Final = 500  # under "batch", what a power cut may cost: so many rows,
BATCH_S: Final = 1.0  # or the rows of so many seconds
BLOCK_BYTES: Final = 1 << 18  # read at once when rows are read back
# of a block, what lies before the row that was asked for: rows are nearly in order
BEHIND_BYTES: Final = 1 << 16
LONGEST_LINE_BYTES: Final = 1 << 24  # anything longer is no line of ours
ABSENT: Final = -1
JOURNAL_BEGIN: Final = ".perf-journal-"
JOURNAL_END: Final = ".jsonl"

_FIELDS: Final = list(field_names(EpisodeResult))
_USAGE_FIELDS: Final = list(field_names(Usage))
_own_values = attrgetter(*_FIELDS[:-1])  # the last one is `usage`, which is a list of its own
_usage_values = attrgetter(*_USAGE_FIELDS)
_encode = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


@record
class Recovery:
    """What was found when a journal was opened again."""

    rows: int  # episodes that need not run again
    duplicates: int  # further rows of an episode that already had one; the first counts
    dropped_lines: int  # lines cut off, a torn one included
    dropped_bytes: int


def journal_path(folder: str, stamp: str) -> str:
    """Where the journal of the slice with this stamp lies."""
    return os.path.join(folder, JOURNAL_BEGIN + stamp + JOURNAL_END)


def create_journal(
    path: str,
    header: JsonObject,
    episodes: int,
    *,
    fsync: Fsync = "batch",
    monotonic_s: Callable[[], float] = clock.monotonic_s,
) -> "Journal":
    """A new journal at ``path``, where there is nothing yet, or an empty file that reserves the
    name.

    Args:
        path: As :func:`journal_path` makes it.
        header: What the rows depend on; JSON, given back as it is when the journal is opened again.
        episodes: Of the whole slice; every row's index lies below.
        fsync: When rows are made to survive a power cut: never, every 500 rows or second, or each.
            A killed process loses nothing under any of them.
        monotonic_s: Tells when a second is over.

    Raises:
        InputError: It is being written by another process, or holds something.
        OutputError: It could not be written.
    """
    fd = _open(path, os.O_CREAT)
    journal = Journal(path, fd, header, episodes, fsync=fsync, monotonic_s=monotonic_s)
    try:
        _lock(fd, path)
        _check_empty(fd, path)
        journal._start()  # noqa: SLF001  # the two functions that make a Journal belong to it
    except BaseException as error:
        journal.close(sync=False)
        if isinstance(error, OSError):
            raise OutputError(path, error) from error
        raise
    return journal


def resume_journal(
    path: str, *, fsync: Fsync = "batch", monotonic_s: Callable[[], float] = clock.monotonic_s
) -> tuple["Journal", Recovery]:
    """Open the journal of an unfinished slice, to read its rows and add the missing ones.

    Everything from the first line on that is torn or damaged is cut off, and reported: those
        episodes run again.

    Raises:
        InputError: There is no such journal, its first line is damaged, or another process is
            writing it.
        OutputError: It could not be read or cut.
    """
    try:
        fd = _open(path, 0)
    except OutputError as error:
        raise InputError(
            path, "", error.cause.strerror, "the journal of an unfinished slice"
        ) from error
    try:
        _lock(fd, path)
        header, episodes, end = _read_header(fd, path)
        journal = Journal(path, fd, header, episodes, fsync=fsync, monotonic_s=monotonic_s)
        recovery = journal._recover(end)  # noqa: SLF001  # the two functions that make a Journal belong to it
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError):
            raise OutputError(path, error) from error
        raise
    return journal, recovery


class Journal:
    """An open journal: one writer, any number of passes over its rows. 8 bytes of memory per
    episode.

    Made by :func:`create_journal` and :func:`resume_journal`.

    Attributes:
        path: The file.
        header: What the rows depend on, as given when it was created.
        episodes: Of the whole slice.
        rows: How many episodes have one.
    """

    def __init__(
        self,
        path: str,
        fd: int,
        header: JsonObject,
        episodes: int,
        *,
        fsync: Fsync,
        monotonic_s: Callable[[], float],
    ) -> None:
        self.path, self.header, self.episodes, self.rows = path, header, episodes, 0
        self._fd, self._fsync, self._monotonic_s = fd, fsync, monotonic_s
        # where in the file each episode's line begins
        self._offsets = array("q", [ABSENT]) * episodes
        self._end = 0  # behind the last whole line
        self._torn = False  # something may lie behind it
        self._unsynced_rows, self._synced_at_s = 0, monotonic_s()

    def add(self, row: EpisodeResult) -> bool:
        """Append a finished episode; False, and nothing written, if it already has a row.

        Raises:
            ValueError: Its index is not of this slice, or a number in it is NaN or infinite.
            OutputError: It could not be written, as on a full disk. The journal holds what it held
                before.
        """
        index = row.index
        if self.has(index):
            return False
        self._append(_line(row_values(row)), index)
        self._unsynced_rows += 1
        if self._fsync != "none" and self._is_sync_due():
            self.sync()
        return True

    def has(self, index: int) -> bool:
        """Whether the episode has a row."""
        if not 0 <= index < self.episodes:
            raise ValueError(f"episode {index} of a slice of {self.episodes}")
        return self._offsets[index] != ABSENT

    def rows_in_order(self) -> Iterator[EpisodeResult]:
        """Every row, by episode index; reads the file once, in large blocks, and holds one of them.

        Raises:
            InputError: A line is no row: the file was changed, or is of another version.
            OSError: The file cannot be read.
        """
        block, block_at = "", 0
        for offset in self._offsets:
            if offset == ABSENT:
                continue
            start = offset - block_at
            end = block.find("\n", start) if start >= 0 else -1
            if end < 0:
                block_at = max(0, offset - BEHIND_BYTES)
                start = offset - block_at
                block, end = self._read_block(block_at, start)
            yield self._parse_row(block[start:end])

    def sync(self) -> None:
        """Make every row so far survive a power cut.

        Raises:
            OutputError: The operating system could not promise it.
        """
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            raise OutputError(self.path, error) from error
        self._unsynced_rows, self._synced_at_s = 0, self._monotonic_s()

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
            blocks = range(0, self._end, BLOCK_BYTES)
            write_atomic_stream(
                self.path,
                (_read_at(self._fd, at, min(BLOCK_BYTES, self._end - at)) for at in blocks),
            )

    def remove(self) -> None:
        """Delete the file and close it: the slice is complete and published, and there is nothing
        left to resume.
        """
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.close(sync=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        about = {
            "journal": FORMAT,
            "episodes": self.episodes,
            "fields": _FIELDS,
            "usage_fields": _USAGE_FIELDS,
        }
        self._append(_line([{**about, "header": self.header}]), None)
        if self._fsync != "none":
            self.sync()

    def _append(self, line: bytes, index: int | None) -> None:
        if self._torn:
            self._cut_back()
        # until the line is whole: also an interrupt between two system calls leaves a torn one
        self._torn = True
        try:
            write_all(self._fd, line)
        except OSError as error:
            with contextlib.suppress(OutputError):
                self._cut_back()
            raise OutputError(self.path, error) from error
        if index is not None:
            self._offsets[index] = self._end
            self.rows += 1
        self._end += len(line)
        self._torn = False

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._end)
        except OSError as error:
            raise OutputError(self.path, error) from error
        self._torn = False

    def _is_sync_due(self) -> bool:
        return (
            self._fsync == "full"
            or self._unsynced_rows >= BATCH_ROWS
            or self._monotonic_s() - self._synced_at_s >= BATCH_S
        )

    def _recover(self, end: int) -> Recovery:
        """Find every row from offset ``end`` on, and cut off what follows the last good line."""
        self._end = end
        duplicates = dropped_lines = 0
        with open(self._fd, "rb", buffering=BLOCK_BYTES, closefd=False) as file:
            file.seek(end)
            while (
                index := _index_of(line := file.readline(LONGEST_LINE_BYTES), self.episodes)
            ) is not None:
                if self._offsets[index] == ABSENT:
                    self._offsets[index] = self._end
                    self.rows += 1
                else:
                    duplicates += 1
                self._end += len(line)
            dropped_bytes = os.fstat(self._fd).st_size - self._end
            if dropped_bytes:
                dropped_lines = _count_lines(file, line)
                os.ftruncate(self._fd, self._end)
        return Recovery(self.rows, duplicates, dropped_lines, dropped_bytes)

    def _read_block(self, at: int, start: int) -> tuple[str, int]:
        """The text from offset ``at`` on, long enough to hold the whole line at ``start``; and
        where that line ends.
        """
        size = BLOCK_BYTES
        while True:
            # Lines are ASCII, so that a place in the text is a place in the file; the parser
            # refuses anything else.
            block = _read_at(self._fd, at, size).decode("ascii", "replace")
            end = block.find("\n", start)
            if end >= 0 or len(block) < size:
                return block, end if end >= 0 else len(block)
            size *= 2

    def _parse_row(self, line: str) -> EpisodeResult:
        try:
            return row_from(_decode(line)[0][:-1])
        except (ValueError, TypeError, LookupError) as error:
            raise InputError(
                self.path, "", line, "the row of an episode, as this version writes it"
            ) from error


# What ends every line, checksum and newline included: `,"0a1b2c3d"]\n`. The checksum covers what
# precedes it.
_SEAL_BYTES: Final = 13


def row_values(row: EpisodeResult) -> list[Any]:
    """A row as a list that JSON holds, in the order of its fields."""
    return [*_own_values(row), _usage_values(row.usage)]


def row_from(values: list[Any]) -> EpisodeResult:
    """The row that :func:`row_values` made a list of; takes that list over.

    Raises:
        TypeError: There are too few or too many values.
    """
    values[-1] = Usage(*values[-1])
    return EpisodeResult(*values)


def _line(values: list[Any]) -> bytes:
    body = _encode(values)[:-1].encode("ascii")
    return b'%b,"%08x"]\n' % (body, zlib.crc32(body))


def _is_whole(line: bytes) -> bool:
    return line[-_SEAL_BYTES:] == b',"%08x"]\n' % zlib.crc32(line[:-_SEAL_BYTES])


def _index_of(line: bytes, episodes: int) -> int | None:
    """The index in a row's line; None if it is not whole, or no row of this slice."""
    if not _is_whole(line):
        return None
    digits = line[1 : line.index(b",")]
    return int(digits) if digits.isdigit() and len(digits) < 19 and int(digits) < episodes else None


def _count_lines(file: Any, first: bytes) -> int:
    """How many lines ``first`` and the rest of the file make, the last one with or without a
    newline.
    """
    lines, block = 0, first
    while block:
        lines, last = lines + block.count(b"\n"), block
        block = file.read(BLOCK_BYTES)
    return lines if last.endswith(b"\n") else lines + 1


def _read_header(fd: int, path: str) -> tuple[JsonObject, int, int]:
    """The caller's header, how many episodes the slice has, and where its rows begin."""
    with open(fd, "rb", closefd=False) as file:
        line = file.readline(LONGEST_LINE_BYTES)
    if not _is_whole(line) or not line.startswith(b"[{"):
        raise InputError(
            path, "first line", line[:80], "a journal's header, whole and with its checksum"
        )
    about = json.loads(line)[0]
    written = {name: about.get(name) for name in ("journal", "fields", "usage_fields")}
    if written != {"journal": FORMAT, "fields": _FIELDS, "usage_fields": _USAGE_FIELDS}:
        raise InputError(
            path, "first line", written, "the fields of a row that this version of tracecore writes"
        )
    return about["header"], about["episodes"], len(line)


def _open(path: str, flags: int) -> int:
    always = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, always | flags, SHARED)
    except OSError as error:
        raise OutputError(path, error) from error


def _check_empty(fd: int, path: str) -> None:
    if os.fstat(fd).st_size:
        raise InputError(path, "", "a journal", "none: that slice can be resumed, not started")


def _lock(fd: int, path: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            path, "", "a journal that another run is writing", "one that nobody writes"
        ) from error
    except OSError:
        return  # a file system without locks: no worse than a platform without them


def _read_at(fd: int, offset: int, size: int) -> bytes:
    # seek and read, not pread, which Windows lacks; appends go to the end of the file wherever it
    # stands.
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)
