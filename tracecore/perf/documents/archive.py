"""Sets of perf files from earlier runs, read with care: they may come from anywhere.

A set is the four documents of one slice. It lies in a folder beside others, or in a zip. Sizes are
bounded before anything is read, keys stand once, numbers are finite, and every complaint names file
and field.
"""

import codecs
import contextlib
import io
import json
import math
import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final, NoReturn, Protocol

from tracecore.errors import MISSING, InputError
from tracecore.record import record
from tracecore.records import JsonObject

DOCUMENTS: Final = ("manifest", "summary", "metrics", "series")
# of manifest, summary and metrics; a scenario of 8 MiB fits in
MAX_DOCUMENT_BYTES: Final = 64 << 20
MAX_ROW_CHARACTERS: Final = 1 << 20  # of one row of the series
MAX_FOLDER_NAMES: Final = 100_000
MAX_SETS: Final = 1000  # in one folder
READ_BYTES: Final = 1 << 16
MAX_PIECE_BYTES: Final = 1 << 20  # read at once

_NAME: Final = re.compile(
    r"perf-(manifest|summary|metrics|series)-([A-Za-z0-9_-]{1,80})\.json", re.ASCII
)
_ZIP_NAME: Final = re.compile(r"perf-artifacts-([A-Za-z0-9_-]{1,80})\.zip", re.ASCII)
_SPACE: Final = re.compile(r"[ \t\r\n]*")


class Readable(Protocol):
    """A document to be read piece by piece; at most ``MAX_PIECE_BYTES`` at once."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


@record
class ArchivedSet:
    """One set: three documents in memory, and the series to be read row by row, as often as one
    likes.
    """

    # what it was read from, as given: its summary, its zip, or the folder it was found in
    path: str
    stamp: str
    manifest: JsonObject
    summary: JsonObject
    metrics: list[JsonObject]
    names: Mapping[str, str]  # of the four documents: paths on disk, or members of the zip
    open: Callable[[str], Readable]  # one of the four documents, as it lies there, by what it is

    def series(self) -> Iterator[JsonObject]:
        """The rows in episode order, each checked.

        Raises:
            InputError: The series is damaged, or is not as long as the summary says; rows before
                the damage have been given.
        """
        return _read_series(self)

    @property
    def folder(self) -> str:
        """Where it lies, and what else there is of its slice."""
        return self.path if os.path.isdir(self.path) else os.path.dirname(self.path)


def read_sets(path: str) -> list[ArchivedSet]:
    """The sets at ``path``, by stamp; at least one.

    Args:
        path: The summary of a set (its three siblings lie beside it), a zip of one, or a folder
            that holds any number of either. A zip beside its own unpacked documents counts once,
            and stands in for those that are missing.

    Raises:
        InputError: There is none, or one of them cannot be trusted.
    """
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(kind):
        return _read_folder(path)
    if not stat.S_ISREG(kind):
        raise InputError(
            path, "", "neither a file nor a folder", "a summary, a zip or a folder of them"
        )
    name = os.path.basename(path)
    match = _NAME.fullmatch(name)
    if match and match[1] == "summary":
        folder, zipped = os.path.dirname(path), f"perf-artifacts-{match[2]}.zip"
        if not os.path.exists(
            os.path.join(folder, f"perf-series-{match[2]}.json")
        ) and zipped in os.listdir(folder or "."):
            return [_read_zip(os.path.join(folder, zipped))]
        return [_read_files(path, os.path.dirname(path), match[2])]
    if name.endswith(".zip"):
        return [_read_zip(path)]
    raise InputError(
        path, "", name, "perf-summary-<stamp>.json, a .zip of a set, or a folder of them"
    )


# --- a folder, a set of files, a zip ---------------------------------------------------------------------------------


def _read_folder(folder: str) -> list[ArchivedSet]:
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > MAX_FOLDER_NAMES:
                    raise InputError(
                        folder, "", f"more than {MAX_FOLDER_NAMES} files", "a folder of perf files"
                    )
    except OSError as error:
        raise _unreadable(folder, error) from error
    on_disk = Counter(match[2] for name in names if (match := _NAME.fullmatch(name)))
    zips = {match[1]: name for name in names if (match := _ZIP_NAME.fullmatch(name))}
    # Of a published set the summary alone lies beside the zip.
    stamps = {
        stamp for stamp, count in on_disk.items() if count == len(DOCUMENTS) or stamp not in zips
    }
    zips = {stamp: name for stamp, name in zips.items() if stamp not in stamps}
    if not stamps and not zips:
        raise InputError(
            folder,
            "",
            "no perf files",
            "perf-summary-<stamp>.json with its siblings, or zips of them",
        )
    if len(stamps) + len(zips) > MAX_SETS:
        raise InputError(folder, "", f"{len(stamps) + len(zips)} sets", f"at most {MAX_SETS}")
    found = [_read_files(folder, folder, stamp) for stamp in sorted(stamps)]
    found += [_read_zip(os.path.join(folder, zips[stamp])) for stamp in sorted(zips)]
    return sorted(found, key=lambda one: one.stamp)


def _read_files(given: str, folder: str, stamp: str) -> ArchivedSet:
    paths = {kind: os.path.join(folder, f"perf-{kind}-{stamp}.json") for kind in DOCUMENTS}

    def open_document(kind: str) -> Readable:
        return _open_file(paths[kind])

    return _make_set(given, stamp, paths, open_document)


def _open_file(path: str) -> Readable:
    # Not blocking: a pipe under such a name must not hold us for ever; it is refused right after.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(path, "", "no regular file", "a perf file")
    return open(fd, "rb")


def _read_zip(path: str) -> ArchivedSet:
    stamp, members = _zip_members(path)

    def open_document(kind: str) -> Readable:
        try:
            return _Member(path, members[kind])
        except (OSError, *_DAMAGE) as error:
            raise _damaged(path, members[kind], error) from error

    return _make_set(path, stamp, members, open_document)


# What zipfile raises for a damaged or unusual archive; it has no one name for all of it.
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)


def _zip_members(path: str) -> tuple[str, dict[str, str]]:
    """The stamp of the set in a zip and its four members; anything beside them is refused."""
    try:
        with _ZipFile(path) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (OSError, *_DAMAGE) as error:
        raise _damaged(path, "", error) from error
    members: dict[str, str] = {}
    stamps: set[str] = set()
    for info in infos[: len(DOCUMENTS) + 1]:
        # no separator fits the pattern, so nothing can point elsewhere
        match = _NAME.fullmatch(info.filename)
        if match is None or match[1] in members:
            raise InputError(
                path,
                "member",
                info.filename,
                "the four perf files of one set, each once, and no folder",
            )
        _check_member(path, info)
        members[match[1]] = info.filename
        stamps.add(match[2])
    missing = [kind for kind in DOCUMENTS if kind not in members]
    if missing:
        raise InputError(
            path, f"perf-{missing[0]}-<stamp>.json", MISSING, "all four perf files of a set"
        )
    if len(stamps) > 1:
        raise InputError(path, "stamps", sorted(stamps), "one stamp in all four names")
    return stamps.pop(), members


def _check_member(path: str, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x1:
        raise InputError(path, info.filename, "an encrypted member", "a plain one")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise InputError(
            path, info.filename, f"compression method {info.compress_type}", "stored or deflated"
        )
    if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
        raise InputError(path, info.filename, "a link or a device", "a regular file")


class _ZipFile(io.FileIO):
    """The file below a zip, which never gives more than a piece at once: zipfile would read a list
    of members of any length.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > MAX_PIECE_BYTES:
            raise zipfile.BadZipFile("a list of members that is far too long for four")
        return super().read(max(wanted, 0)) or b""


class _Member:
    """A member of a zip; nothing is open before it, nor after it."""

    def __init__(self, path: str, name: str) -> None:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(_ZipFile(path))
            archive = stack.enter_context(zipfile.ZipFile(file))
            self._member = stack.enter_context(archive.open(name))
            self._stack = stack.pop_all()

    def read(self, size: int, /) -> bytes:
        return self._member.read(size)

    def close(self) -> None:
        self._stack.close()


def _make_set(
    given: str, stamp: str, names: Mapping[str, str], open_document: Callable[[str], Readable]
) -> ArchivedSet:
    def name_of(kind: str) -> str:
        name = names[kind]
        return f"{given}: {name}" if given.endswith(".zip") else name

    documents = {kind: _read_document(name_of(kind), open_document, kind) for kind in DOCUMENTS[:3]}
    manifest = _an_object(name_of("manifest"), documents["manifest"])
    summary = _an_object(name_of("summary"), documents["summary"])
    metrics = documents["metrics"]
    if not isinstance(metrics, list) or not all(isinstance(row, dict) for row in metrics):
        raise InputError(name_of("metrics"), "", metrics, "a list of objects")
    _check_manifest(name_of("manifest"), manifest)
    _check_summary(name_of("summary"), summary)
    return ArchivedSet(
        given,
        stamp,
        manifest,
        summary,
        metrics,
        {kind: name_of(kind) for kind in DOCUMENTS},
        open_document,
    )


# --- documents -------------------------------------------------------------------------------------------------------


def _read_document(name: str, open_document: Callable[[str], Readable], kind: str) -> Any:
    data = bytearray()
    try:
        with contextlib.closing(open_document(kind)) as file:
            while len(data) <= MAX_DOCUMENT_BYTES and (piece := file.read(READ_BYTES)):
                data += piece
    except (OSError, *_DAMAGE) as error:
        raise _damaged(name, "", error) from error
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InputError(
            name, "", f"more than {MAX_DOCUMENT_BYTES} bytes", "a document no larger than that"
        )
    try:
        return _decoder(name).decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            name, f"byte {error.start}", bytes(data[error.start : error.end]), "UTF-8 text"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(name, "", str(error), "valid JSON") from error


def _decoder(name: str, where: Callable[[], str] = lambda: "") -> json.JSONDecoder:
    """JSON as the standard has it: no NaN, no number beyond a double, no key twice. ``where`` tells
    the place in ``name``.
    """

    def refuse_constant(text: str) -> NoReturn:
        raise InputError(name, where(), text, "a number that JSON has")

    def read_float(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise InputError(name, where(), text, "a number that a double can hold")
        return value

    def read_object(pairs: list[tuple[str, Any]]) -> JsonObject:
        document = dict(pairs)
        if len(document) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for place, key in enumerate(keys) if key in keys[:place])
            raise InputError(
                name, ".".join(filter(None, [where(), twice])), "this key twice", "every key once"
            )
        return document

    return json.JSONDecoder(
        object_pairs_hook=read_object, parse_constant=refuse_constant, parse_float=read_float
    )


def _an_object(name: str, document: Any) -> JsonObject:
    if not isinstance(document, dict):
        raise InputError(name, "", document, "an object")
    return document


def _check_manifest(name: str, manifest: JsonObject) -> None:
    _check(name, "", manifest, {"episodes": _COUNT, "workers": _COUNT, "strict_spec": _BOOL})
    rows = manifest.get("scenario", MISSING)
    if not isinstance(rows, list) or not rows:
        raise InputError(name, "scenario", rows, "a list of at least one row")
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(name, f"scenario[{place}]", row, "an object")
        _check(
            name, f"scenario[{place}]", row, {"agent": _TEXT, "task_ref": _TEXT, "seed": _INTEGER}
        )
        _check_if_there(
            name,
            f"scenario[{place}]",
            row,
            {"agent_hash": _TEXT_OR_NULL, "task_hash": _TEXT_OR_NULL},
        )
    for field in ("host", "runtime_identity"):
        if not isinstance(manifest.get(field, {}), dict):
            raise InputError(name, field, manifest[field], "an object")
    identity = manifest.get("runtime_identity", {})
    _check_if_there(
        name, "runtime_identity", identity, {"version": _TEXT_OR_NULL, "git_sha": _TEXT_OR_NULL}
    )
    _check_if_there(name, "host", manifest.get("host", {}), {"git_sha": _TEXT_OR_NULL})
    if not isinstance(manifest.get("machine_class", ""), str):
        raise InputError(name, "machine_class", manifest["machine_class"], "text")


def _check_summary(name: str, summary: JsonObject) -> None:
    _check(
        name, "", summary, {"episodes": _COUNT, "success_count": _COUNT, "failure_count": _COUNT}
    )
    _check_if_there(name, "", summary, {"episodes_requested": _COUNT, "interrupted": _BOOL})
    if summary["success_count"] + summary["failure_count"] != summary["episodes"]:
        found = f"{summary['success_count']} successes and {summary['failure_count']} failures"
        raise InputError(name, "episodes", summary["episodes"], f"the sum of {found}")
    if not isinstance(summary.get("summary"), dict):
        raise InputError(name, "summary", summary.get("summary", MISSING), "an object")


# --- the series ------------------------------------------------------------------------------------------------------


def _read_series(archived: ArchivedSet) -> Iterator[JsonObject]:
    name, episodes = archived.names["series"], archived.summary["episodes"]
    count, last_index = 0, -1
    with contextlib.closing(_list_items(name, archived.open)) as items:
        for row in items:
            where = f"[{count}]"
            if count == episodes:
                raise InputError(
                    name, where, "a further row", f"{episodes} rows, as the summary says"
                )
            _check_row(name, where, row)
            if row["episode_index"] <= last_index:
                raise InputError(
                    name,
                    f"{where}.episode_index",
                    row["episode_index"],
                    f"more than {last_index}, the one before",
                )
            last_index = row["episode_index"]
            count += 1
            yield row
    if count < episodes:
        raise InputError(name, "", f"{count} rows", f"{episodes} rows, as the summary says")


def _list_items(name: str, open_document: Callable[[str], Readable]) -> Generator[Any, None, None]:
    """The objects of a JSON list, each as soon as it is whole, however the file is laid out."""
    count = 0
    decode = _decoder(name, lambda: f"[{count}]").raw_decode
    with contextlib.closing(_Text(name, open_document)) as text:
        text.expect("[", "")
        if text.peek() == "]":
            text.expect("]", "")
        else:
            while True:
                yield text.take_object(decode, f"[{count}]")
                count += 1
                if text.peek() == "]":
                    text.expect("]", f"[{count}]")
                    break
                text.expect(",", f"[{count}]")
        if text.peek():
            raise InputError(name, "", text.peek(), "nothing behind the list")


class _Text:
    """A file as text of which a window is in memory."""

    def __init__(self, name: str, open_document: Callable[[str], Readable]) -> None:
        self._name = name
        self._file = open_document("series")
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._window, self._at, self._ended = "", 0, False

    def close(self) -> None:
        self._file.close()

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._read_more():
                return ""

    def expect(self, character: str, where: str) -> None:
        """Step over ``character``, which must come next."""
        found = self.peek()
        if found != character:
            raise InputError(
                self._name, where, found or MISSING, f"{character!r} of a JSON list of objects"
            )
        self._at += 1

    def take_object(self, decode: Callable[[str, int], tuple[Any, int]], where: str) -> Any:
        """The object that comes next."""
        if self.peek() != "{":
            raise InputError(self._name, where, self.peek() or MISSING, "an object")
        while True:
            try:
                value, self._at = decode(self._window, self._at)
            except (ValueError, RecursionError) as error:
                # Either the object goes on behind the window, or it is broken: only reading on
                # tells.
                if len(self._window) - self._at > MAX_ROW_CHARACTERS:
                    raise InputError(
                        self._name,
                        where,
                        "more than a row's characters",
                        f"valid JSON of at most {MAX_ROW_CHARACTERS}",
                    ) from error
                if isinstance(error, RecursionError) or not self._read_more():
                    raise InputError(self._name, where, str(error), "valid JSON") from error
            else:
                return value

    def _read_more(self) -> bool:
        """Put a further piece into the window, at least as large as what is there; False at the end
        of the file.
        """
        if self._ended:
            return False
        size = min(max(READ_BYTES, len(self._window) - self._at), MAX_PIECE_BYTES)
        try:
            data = self._file.read(size)
            text = self._decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise InputError(
                self._name, "", error.object[error.start : error.end], "UTF-8 text"
            ) from error
        except (OSError, *_DAMAGE) as error:
            raise _damaged(self._name, "", error) from error
        self._window, self._at = self._window[self._at :] + text, 0
        self._ended = not data
        return not self._ended


# --- fields ----------------------------------------------------------------------------------------------------------

_Check = tuple[Callable[[Any], bool], str]


def _is_integer(value: Any) -> bool:
    return type(value) is int  # True is an int to isinstance


def _is_amount(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value < 1e300


_TEXT: Final[_Check] = (lambda value: isinstance(value, str), "text")
_TEXT_OR_NULL: Final[_Check] = (
    lambda value: value is None or isinstance(value, str),
    "text or null",
)
_BOOL: Final[_Check] = (lambda value: isinstance(value, bool), "true or false")
_INTEGER: Final[_Check] = (_is_integer, "an integer")
_COUNT: Final[_Check] = (
    lambda value: _is_integer(value) and value >= 0,
    "a whole number, 0 or more",
)
_AMOUNT: Final[_Check] = (_is_amount, "a number, 0 or more")

# What every series has, and what only those of this harness have.
_ROW: Final = {
    "episode_index": _COUNT,
    "agent": _TEXT,
    "task_ref": _TEXT,
    "seed": _INTEGER,
    "success": _BOOL,
    "wall_clock_s": _AMOUNT,
    "error": _TEXT_OR_NULL,
    "artifact_bytes": _COUNT,
    "llm_trace_entries": _COUNT,
    "prompt_bytes": _COUNT,
    "completion_bytes": _COUNT,
    "tokens_used": _INTEGER,
}
_ROW_EXTRAS: Final = {
    "episode": _COUNT,
    "termination_reason": _TEXT,
    "failure_type": _TEXT_OR_NULL,
    "steps_used": _COUNT,
    "tool_calls_used": _COUNT,
    "artifact_hash": _TEXT,
    "trace_hash": _TEXT,
    "episode_s": _AMOUNT,
    "start_offset_s": _AMOUNT,
    "end_offset_s": _AMOUNT,
    "cpu_user_s": _AMOUNT,
    "cpu_sys_s": _AMOUNT,
    "peak_rss_bytes": _COUNT,
}


def _check_row(name: str, where: str, row: Any) -> None:
    _check(name, where, row, _ROW)
    _check_if_there(name, where, row, _ROW_EXTRAS)


def _check(name: str, where: str, document: JsonObject, fields: Mapping[str, _Check]) -> None:
    for field, (is_good, expected) in fields.items():
        value = document.get(field, MISSING)
        if not is_good(value):
            raise InputError(name, f"{where}.{field}" if where else field, value, expected)


def _check_if_there(
    name: str, where: str, document: JsonObject, fields: Mapping[str, _Check]
) -> None:
    _check(
        name,
        where,
        document,
        {field: check for field, check in fields.items() if field in document},
    )


def _unreadable(path: str, error: Exception) -> InputError:
    found = error.strerror if isinstance(error, OSError) else str(error)
    return InputError(
        path, "", found or str(error), "a summary, a zip or a folder that can be read"
    )


def _damaged(path: str, field: str, error: Exception) -> InputError:
    found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(
        path, field, found or type(error).__name__, "a perf file or zip that can be read"
    )
