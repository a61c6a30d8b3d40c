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
import json
import os
from array import array
from collections.abc import Callable, Iterator
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Literal, Self

from tracecore import clock
from tracecore.errors import InputError, OutputError
from tracecore.files import SHARED, write_all, write_atomic_stream
from tracecore.record import field_names, record
from tracecore.records import EpisodeResult, JsonObject
from tracecore.strict import COUNT, OBJECT, TEXT, check_fields, parse_json, read_row

try:
    import fcntl
except ImportError:  # a platform without it: two writers are kept apart by their stamps alone
    fcntl = None  # type: ignore[assignment]

Fsync = Literal["none", "batch", "full"]

FORMAT: Final = 2
BATCH_ROWS: Final = 500  # under "batch", what a power cut may cost: so many rows,
BATCH_S: Final = 1.0  # or the rows of so many seconds
BLOCK_BYTES: Final = 1 << 18  # copied at once
LONGEST_LINE_BYTES: Final = 1 << 24  # anything longer is no line of ours
ABSENT: Final = -1
EPISODES_MOST: Final = 10_000_000  # of a slice
JOURNAL_BEGIN: Final = ".perf-journal-"
JOURNAL_END: Final = ".jsonl"

FIELDS: Final = field_names(EpisodeResult)
row_values: Final = attrgetter(*FIELDS)  # in the order of FIELDS
_PART: Final = FIELDS.index("part")
_HEADER_KINDS: Final = {"episodes": COUNT, "began_at": TEXT, "header": OBJECT}
_PART_KINDS: Final = {"part": COUNT, "began_at": TEXT}

_encode = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode


@record
class Recovery:
    """What was found when a journal was opened again."""

    rows: int  # episodes that need not run again
    duplicates: int  # further rows of an episode that already had one; the first counts
    alien_lines: int  # that are no rows of this slice, and stay where they are
    dropped_bytes: int  # of a torn line at the end, which is cut off


def journal_path(folder: str, stamp: str) -> str:
    """Where the journal of the slice with this stamp lies."""
    return os.path.join(folder, JOURNAL_BEGIN + stamp + JOURNAL_END)


def unfinished_stamps(folder: str) -> list[str]:
    """The stamps of the slices in ``folder`` that can be finished, oldest first: each has a journal
    that has begun.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(
            entry.name[len(JOURNAL_BEGIN) : -len(JOURNAL_END)]
            for entry in entries
            if entry.name.startswith(JOURNAL_BEGIN)
            and entry.name.endswith(JOURNAL_END)
            and entry.stat().st_size
        )
    return []


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

    A line that is torn at the end is cut off, and lines that are no rows are passed over: those
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
        about, end = _read_header(fd, path)
        journal = Journal(
            path, fd, about["header"], about["episodes"], fsync=fsync, monotonic_s=monotonic_s
        )
        journal.parts = [about["began_at"]]
        recovery = journal._recover(end)  # noqa: SLF001  # the two functions that make a Journal belong to it
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError):
            raise OutputError(path, error) from error
        raise
    return journal, recovery


class Journal:
    """An open journal: one writer, any number of passes over its rows. 12 bytes of memory per
    episode.

    The file is not believed to be as it was left: what others append is passed over, and a row that
    does not read back as it was written is lost, and counted.

    Made by :func:`create_journal` and :func:`resume_journal`.

    Attributes:
        path: The file.
        header: What the rows depend on, as given when it was created.
        episodes: Of the whole slice.
        rows: How many episodes have one.
        alien_lines: How often others had written into the file.
        parts: When each part of the slice began, UTC: the first, and every resumption that had a
            row.
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
        monotonic_s: Callable[[], float],
    ) -> None:
        self.path, self.header, self.episodes, self.rows = path, header, episodes, 0
        self._fd, self._fsync, self._monotonic_s = fd, fsync, monotonic_s
        # where in the file each episode's line begins
        self._offsets = array("q", [ABSENT]) * episodes
        self._lengths = array("I", [0]) * episodes  # of it, newline included
        self._end = 0  # behind the last whole line
        self._torn = False  # a part of a line of ours may lie behind it
        self.alien_lines, self.parts = 0, [clock.utc_text()]
        self._has_begun = True  # the part that is running now stands in the file
        self.lost: list[int] = []
        self._unsynced_rows, self._synced_at_s = 0, monotonic_s()

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
        values[_PART] = len(self.parts) - 1
        self._append(_line(values), index)
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
        """Every row, by episode index, each read back from the file.

        A row that was damaged there is given up: its index joins ``lost``, and ``has`` denies it.

        Raises:
            OSError: The file cannot be read.
        """
        for index, offset in enumerate(self._offsets):
            if offset == ABSENT:
                continue
            row = self._parse_row(_read_at(self._fd, offset, self._lengths[index]))
            if row is None or row.episode_index != index:
                self._offsets[index] = ABSENT
                self.rows -= 1
                self.lost.append(index)
            else:
                yield row

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
            "began_at": self.parts[0],
            "episodes": self.episodes,
            "fields": list(FIELDS),
        }
        self._append(_line({**about, "header": self.header}), None)
        if self._fsync != "none":
            self.sync()

    def _begin_part(self) -> None:
        self.parts.append(clock.utc_text())
        about = {"part": len(self.parts) - 1, "began_at": self.parts[-1]}
        self._append(_line(about), None)
        self._has_begun = True

    def _append(self, line: bytes, index: int | None) -> None:
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
        if index is not None:
            self._offsets[index], self._lengths[index] = self._end, len(line)
            self.rows += 1
        self._end += len(line)
        self._torn = False

    def _step_over_aliens(self) -> None:
        """Begin behind what others have appended, or at the end of what they have cut off."""
        size = os.fstat(self._fd).st_size
        if size == self._end:
            return
        self.alien_lines += 1
        try:
            # on a line of its own, whatever half a line theirs may be
            write_all(self._fd, b"\n")
        except OSError as error:
            raise OutputError(self.path, error) from error
        self._end = size + 1

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
        """Find every row from offset ``end`` on, and cut off half a line at the end of the file."""
        duplicates = alien_lines = dropped_bytes = 0
        with open(self._fd, "rb", buffering=BLOCK_BYTES, closefd=False) as file:
            file.seek(end)
            while line := file.readline(LONGEST_LINE_BYTES):
                row = self._parse_row(line)
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE_BYTES:
                    dropped_bytes = len(line)
                    os.ftruncate(self._fd, end)
                    break
                if row is None or row.episode_index >= self.episodes:
                    alien_lines += line != b"\n" and not self._take_part(line)
                elif self._offsets[row.episode_index] != ABSENT:
                    duplicates += 1
                else:
                    self._offsets[row.episode_index] = end
                    self._lengths[row.episode_index] = len(line)
                    self.rows += 1
                end += len(line)
        self._end = end
        self.alien_lines, self._has_begun = alien_lines, False
        return Recovery(self.rows, duplicates, alien_lines, dropped_bytes)

    def _take_part(self, line: bytes) -> bool:
        """Note the part that a line begins; False if it begins none."""
        try:
            about = check_fields(self.path, "", parse_json(self.path, line), _PART_KINDS)
        except InputError:
            return False
        is_next = bool(about["part"] == len(self.parts))
        if is_next:
            self.parts.append(about["began_at"])
        return is_next

    def _parse_row(self, line: bytes) -> EpisodeResult | None:
        """The row in a line; None if it is none."""
        try:
            values = parse_json(self.path, line)
            if not isinstance(values, list) or len(values) != len(FIELDS):
                return None
            return read_row(self.path, "", dict(zip(FIELDS, values, strict=True)))
        except InputError:
            return None


def _line(value: Any) -> bytes:
    return _encode(value).encode("ascii") + b"\n"


def _read_header(fd: int, path: str) -> tuple[JsonObject, int]:
    """The first line, and where its rows begin."""
    with open(fd, "rb", closefd=False) as file:
        line = file.readline(LONGEST_LINE_BYTES)
    if not line.startswith(b"{") or not line.endswith(b"\n"):
        raise InputError(path, "first line", line[:80], "a journal's header, whole")
    about = parse_json(path, line, where="first line")
    written = {name: about.get(name) for name in ("journal", "fields")}
    if written != {"journal": FORMAT, "fields": list(FIELDS)}:
        raise InputError(
            path, "first line", written, "the fields of a row that this version of tracecore writes"
        )
    check_fields(path, "first line", about, _HEADER_KINDS)
    if not 1 <= about["episodes"] <= EPISODES_MOST:
        raise InputError(
            path, "first line.episodes", about["episodes"], f"1 to {EPISODES_MOST} episodes"
        )
    return about, len(line)


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
