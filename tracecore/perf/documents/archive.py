"""Sets of perf files from earlier runs, read with care: they may come from anywhere.

A set is the four documents of one slice. It lies in a folder beside others, or in a zip. Sizes are
bounded before anything is read, every field is of its type, and every complaint names file and
field.
"""

import contextlib
import itertools
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final

from tracecore.errors import MISSING, InputError
from tracecore.perf.documents.fields import check_manifest, check_metrics, check_summary
from tracecore.perf.documents.files import DOCUMENTS
from tracecore.record import record
from tracecore.records import EpisodeResult, JsonObject
from tracecore.strict import open_regular, parse_json, read_row

# of manifest, summary and metrics; a scenario of 8 MiB fits in
MAX_DOCUMENT_BYTES: Final = 64 << 20
MAX_ROW_BYTES: Final = 1 << 20  # of one row of the series
MAX_RATIO: Final = 200  # of a member of a zip to its packed bytes; text packs to a tenth or so
MAX_FOLDER_NAMES: Final = 100_000
MAX_SETS: Final = 1000  # in one folder
MAX_DIRECTORY_BYTES: Final = 1 << 16  # of a zip: its list of members, of which there are four

CHECKS: Final[dict[str, Callable[[str, Any], None]]] = {
    "manifest": check_manifest,
    "summary": check_summary,
    "metrics": check_metrics,
}
UNREADABLE: Final = "a summary, a zip or a folder that can be read"
DAMAGED: Final = "a perf file or zip that can be read"

_NAME: Final = re.compile(
    r"perf-(manifest|summary|metrics|series)-([A-Za-z0-9_-]{1,80})\.json", re.ASCII
)
_ZIP_NAME: Final = re.compile(r"perf-(artifacts)-([A-Za-z0-9_-]{1,80})\.zip", re.ASCII)


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
    open: Callable[[str], IO[bytes]]  # one of the four documents, as it lies there, by what it is

    def series(self) -> Iterator[EpisodeResult]:
        """The rows in episode order, each checked.

        Raises:
            InputError: The series is damaged, or is not as long as the summary says; rows before
                the damage have been given.
        """
        name, episodes = self.names["series"], self.summary["episodes"]
        count, last_index = 0, -1
        for count, line in enumerate(_row_lines(self), 1):
            where = f"[{count - 1}]"
            if count > episodes:
                expected = f"{episodes} rows, as the summary says"
                raise InputError(name, where, "a further row", expected)
            row = read_row(name, where, parse_json(name, line, where=where))
            if row.episode_index <= last_index:
                expected = f"more than {last_index}, the one before"
                raise InputError(name, f"{where}.episode_index", row.episode_index, expected)
            last_index = row.episode_index
            yield row
        if count < episodes:
            raise InputError(name, "", f"{count} rows", f"{episodes} rows, as the summary says")

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
    with _refusing_damage(path, expected=UNREADABLE):  # a NUL in the path is a ValueError
        kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        return _read_folder(path)
    if not stat.S_ISREG(kind):
        raise InputError(
            path, "", "neither a file nor a folder", "a summary, a zip or a folder of them"
        )
    name = os.path.basename(path)
    match = _NAME.fullmatch(name)
    if match and match[1] == "summary":
        return [_read_stamp(path, os.path.dirname(path), match[2])]
    if name.endswith(".zip"):
        return [_read_zip(path)]
    raise InputError(
        path, "", name, "perf-summary-<stamp>.json, a .zip of a set, or a folder of them"
    )


# --- a folder, a set of files, a zip --------------------------------------------------


def _read_folder(folder: str) -> list[ArchivedSet]:
    with _refusing_damage(folder, expected=UNREADABLE), os.scandir(folder) as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_FOLDER_NAMES + 1)]
    if len(names) > MAX_FOLDER_NAMES:
        raise InputError(
            folder, "", f"more than {MAX_FOLDER_NAMES} files", "a folder of perf files"
        )
    matches = (_NAME.fullmatch(name) or _ZIP_NAME.fullmatch(name) for name in names)
    stamps = {match[2] for match in matches if match}
    if not stamps:
        raise InputError(
            folder,
            "",
            "no perf files",
            "perf-summary-<stamp>.json with its siblings, or zips of them",
        )
    if len(stamps) > MAX_SETS:
        raise InputError(folder, "", f"{len(stamps)} sets", f"at most {MAX_SETS}")
    return [_read_stamp(folder, folder, stamp) for stamp in sorted(stamps)]


def _read_stamp(given: str, folder: str, stamp: str) -> ArchivedSet:
    paths = {kind: os.path.join(folder, f"perf-{kind}-{stamp}.json") for kind in DOCUMENTS}
    zipped = os.path.join(folder, f"perf-artifacts-{stamp}.zip")
    # Of a published set the summary alone lies beside the zip.
    if os.path.exists(zipped) and not all(map(os.path.exists, paths.values())):
        return _read_zip(zipped)
    return _make_set(
        given, stamp, paths, lambda kind: open_regular(paths[kind], "a perf file of a set")
    )


def _read_zip(path: str) -> ArchivedSet:
    stamp, members = _zip_members(path)

    def open_document(kind: str) -> IO[bytes]:
        # the archive is closed when its member is: zipfile counts the open ones
        with _refusing_damage(path, members[kind]), _open_zip(path) as archive:
            return archive.open(members[kind])

    return _make_set(path, stamp, members, open_document)


# What zipfile raises for a damaged or unusual archive; it has no one name for all of it.
_DAMAGE: Final = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)


def _open_zip(path: str) -> zipfile.ZipFile:
    """The zip, whose list of members is no longer than that of four.

    Its end says how long that list is; zipfile would read one of any length.
    """
    with open_regular(path, "a zip of a set") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - MAX_DIRECTORY_BYTES))
        tail = file.read(MAX_DIRECTORY_BYTES)
    end = tail.rfind(b"PK\5\6")
    if end >= 0 and int.from_bytes(tail[end + 12 : end + 16], "little") > MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile("a list of members that is far too long for four")
    return zipfile.ZipFile(path)


def _zip_members(path: str) -> tuple[str, dict[str, str]]:
    """The stamp of the set in a zip and its four members; anything beside them is refused."""
    with _refusing_damage(path), _open_zip(path) as archive:
        infos = archive.infolist()
    members: dict[str, re.Match[str]] = {}
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
        members[match[1]] = match
    missing = [kind for kind in DOCUMENTS if kind not in members]
    if missing:
        raise InputError(
            path, f"perf-{missing[0]}-<stamp>.json", MISSING, "all four perf files of a set"
        )
    stamps = {match[2] for match in members.values()}
    if len(stamps) > 1:
        raise InputError(path, "stamps", sorted(stamps), "one stamp in all four names")
    return stamps.pop(), {kind: match[0] for kind, match in members.items()}


def _check_member(path: str, info: zipfile.ZipInfo) -> None:
    method, size, packed = info.compress_type, info.file_size, info.compress_size
    is_odd = method not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    is_file = stat.S_IFMT(info.external_attr >> 16) in {0, stat.S_IFREG}
    is_bomb = size > MAX_RATIO * max(packed, MAX_RATIO)
    ratio = f"no more than {MAX_RATIO} times as many"
    for is_wrong, found, expected in (
        (info.flag_bits & 0x1, "an encrypted member", "a plain one"),
        (is_odd, f"compression method {method}", "stored or deflated"),
        (not is_file, "a link or a device", "a regular file"),
        (is_bomb, f"{size} bytes out of {packed}", ratio),
    ):
        if is_wrong:
            raise InputError(path, info.filename, found, expected)


def _make_set(
    given: str, stamp: str, names: Mapping[str, str], open_document: Callable[[str], IO[bytes]]
) -> ArchivedSet:
    zipped = given.endswith(".zip")
    shown = {kind: f"{given}: {names[kind]}" if zipped else names[kind] for kind in DOCUMENTS}
    documents = {kind: _read_document(shown[kind], open_document, kind) for kind in CHECKS}
    return ArchivedSet(path=given, stamp=stamp, names=shown, open=open_document, **documents)


# --- documents -------------------------------------------------------------------------


def _read_document(name: str, open_document: Callable[[str], IO[bytes]], kind: str) -> Any:
    with _refusing_damage(name), contextlib.closing(open_document(kind)) as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        expected = "a document no larger than that"
        raise InputError(name, "", f"more than {MAX_DOCUMENT_BYTES} bytes", expected)
    document = parse_json(name, data)
    CHECKS[kind](name, document)
    return document


# --- the series ------------------------------------------------------------------------


def _row_lines(archived: ArchivedSet) -> Iterator[bytes]:
    """The rows of a JSON list that has one on a line, as the harness writes it."""
    name, expected = archived.names["series"], "a JSON list with a row on every line"
    with _refusing_damage(name), contextlib.closing(archived.open("series")) as file:
        line = file.readline(MAX_ROW_BYTES)
        if line not in {b"[\n", b"[]\n"}:
            raise InputError(name, "", line[:80] or MISSING, expected)
        end, has_more = (b"]\n", True) if line == b"[\n" else (b"", False)
        while has_more:
            line = file.readline(MAX_ROW_BYTES)
            if not line.endswith(b"\n"):
                found = "a longer line" if len(line) == MAX_ROW_BYTES else line[-80:] or MISSING
                raise InputError(name, "", found, expected)
            yield line.rstrip(b",\n")
            has_more = line.endswith(b",\n")
        left = file.read(80)
        if left != end:
            raise InputError(name, "", left or MISSING, "nothing behind the list but its end")


@contextlib.contextmanager
def _refusing_damage(path: str, field: str = "", expected: str = DAMAGED) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        found = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(path, field, found, expected) from error
