"""The file of a journal: its name, what stands in its lines, and how it is opened."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

from tracecore.errors import InputError
from tracecore.record import field_names
from tracecore.records import EpisodeResult, JsonObject
from tracecore.strict import COUNT, OBJECT, TEXT, check_fields, parse_json, read_row

FORMAT: Final = 2
OPEN_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
BLOCK_BYTES: Final = 1 << 18  # copied at once
LONGEST_LINE_BYTES: Final = 1 << 24  # anything longer is no line of ours
EPISODES_MOST: Final = 10_000_000  # of a slice
JOURNAL_BEGIN: Final = ".perf-journal-"
JOURNAL_END: Final = ".jsonl"

FIELDS: Final = field_names(EpisodeResult)
row_values: Final = attrgetter(*FIELDS)  # in the order of FIELDS
PART: Final = FIELDS.index("part")
_HEADER_KINDS: Final = {"episodes": COUNT, "began_at": TEXT, "header": OBJECT}
_PART_KINDS: Final = {"part": COUNT, "began_at": TEXT}

_encode = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode


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


def parse_row(path: str, line: bytes) -> EpisodeResult | None:
    """The row in a line; ``None`` if it is none."""
    try:
        values = parse_json(path, line)
        if not isinstance(values, list) or len(values) != len(FIELDS):
            return None
        return read_row(path, "", dict(zip(FIELDS, values, strict=True)))
    except InputError:
        return None


def parse_part(path: str, line: bytes) -> JsonObject | None:
    """The number and the beginning of the part that a line begins; ``None`` if it begins none."""
    try:
        return check_fields(path, "", parse_json(path, line), _PART_KINDS)
    except InputError:
        return None


def line_of(value: Any) -> bytes:
    return _encode(value).encode("ascii") + b"\n"


def header_line(began_at: str, episodes: int, header: JsonObject) -> bytes:
    """The first line of a journal."""
    about = {"journal": FORMAT, "began_at": began_at, "episodes": episodes, "fields": list(FIELDS)}
    return line_of({**about, "header": header})


def read_header(fd: int, path: str) -> tuple[JsonObject, int]:
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


def open_begun(path: str) -> int:
    """The file of a journal that was begun.

    Raises:
        InputError: There is none.
    """
    try:
        return os.open(path, OPEN_FLAGS)
    except OSError as error:
        expected = "the journal of an unfinished slice"
        raise InputError(path, "", error.strerror, expected) from error


def lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            path, "", "a journal that another run is writing", "one that no run writes"
        ) from error
    except OSError:
        return  # a file system without locks: two writers are kept apart by their stamps alone


def blocks_of(fd: int, end: int) -> Iterator[bytes]:
    """All that stands in the file up to ``end``."""
    for at in range(0, end, BLOCK_BYTES):
        yield os.pread(fd, min(BLOCK_BYTES, end - at), at)
