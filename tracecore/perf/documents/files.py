"""The perf files of a slice: a stamp of its own, four documents, and the zip of those four.

Order on disk: the journal reserves the stamp before anything runs; series, metrics, manifest and
    summary follow when
the slice has ended, each whole or not at all; the zip is made of them as they lie there.
"""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, Final

from tracecore import clock
from tracecore.errors import OptionError
from tracecore.files import SHARED, fill_atomic, write_atomic, write_atomic_stream
from tracecore.perf.slice.journal_file import journal_path
from tracecore.records import JsonObject

DOCUMENTS: Final = ("manifest", "summary", "metrics", "series")
BUNDLE: Final = "bundle"
COPY_BYTES: Final = 1 << 16
EARLIEST_TIME: Final = (1980, 1, 1, 0, 0, 0)  # a fixed one: the same documents make the same zip


def check_writable(*folders: str) -> None:
    """Create each folder if need be, and prove that files can be written, linked and renamed in it.

    Raises:
        OptionError: They cannot, and why. None of the folders is there that was not there before.
    """
    made: list[pathlib.Path] = []
    for folder in folders:
        outermost_first = reversed([pathlib.Path(folder), *pathlib.Path(folder).parents])
        made += [path for path in outermost_first if not os.path.lexists(path)]
        try:
            os.makedirs(folder, exist_ok=True)
            _probe(folder)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            for path in reversed(made):
                # it was not made after all, or it is in use already
                with contextlib.suppress(OSError, ValueError):
                    os.rmdir(path)
            found = error.strerror if isinstance(error, OSError) else str(error)
            raise OptionError(
                folder, "", found, "a folder in which files can be written, linked and renamed"
            ) from error


def _probe(folder: str) -> None:
    with tempfile.TemporaryDirectory(prefix=".probe.", dir=folder) as probe:
        written, linked, renamed = (
            os.path.join(probe, name) for name in ("written", "linked", "renamed")
        )
        with open(written, "wb") as file:
            # a full disk creates files, and refuses their contents
            os.write(file.fileno(), b"probe")
        os.link(written, linked)
        os.replace(linked, renamed)


def reserve_stamp(folder: str, *, epoch_s: float | None = None) -> str:
    """A stamp, ``YYYYMMDDTHHMMSSZ``, that no other slice in ``folder`` has, however many start in
    one second.

    The journal's file, created empty, is the reservation: a harness that is killed right after
    leaves nothing behind that looks like a result.

    Args:
        folder: The output folder.
        epoch_s: Seconds since 1970; now, unless a test says otherwise.

    Raises:
        OptionError: No file can be created there.
    """
    second = int(time.time() if epoch_s is None else epoch_s)
    # The stamp's form has no room for a number behind it, so a slice that comes second takes the
    # next free second. It labels files and orders them; when a slice ran is in its manifest.
    stamps = map(clock.utc_stamp, itertools.count(second))
    return next(stamp for stamp in stamps if _reserve(folder, stamp))


def _reserve(folder: str, stamp: str) -> bool:
    path = journal_path(folder, stamp)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SHARED))
    except FileExistsError:
        return False
    except OSError as error:
        raise OptionError(
            folder, "", error.strerror, "a folder in which files can be created"
        ) from error
    # A finished slice has removed its journal, after its documents were there: look for them only
    # now.
    if any(
        os.path.lexists(os.path.join(folder, name))
        for name in file_names(stamp, compress=True).values()
    ):
        os.unlink(path)
        return False
    return True


def file_names(stamp: str, *, compress: bool) -> dict[str, str]:
    """The names of the perf files of a slice, by what they are."""
    names = {kind: f"perf-{kind}-{stamp}.json" for kind in DOCUMENTS}
    return {**names, BUNDLE: f"perf-artifacts-{stamp}.zip"} if compress else names


def write_series(folder: str, stamp: str, chunks: Iterable[bytes], *, fsync: bool = True) -> None:
    """Write the series, which comes in pieces, before the documents that are reduced from the same
    rows.

    Raises:
        OutputError: It could not be written.
    """
    write_atomic_stream(
        os.path.join(folder, file_names(stamp, compress=False)["series"]), chunks, fsync=fsync
    )


def write_documents(
    folder: str,
    stamp: str,
    *,
    manifest: JsonObject,
    summary: JsonObject,
    metrics: list[JsonObject],
    compress: bool,
) -> dict[str, str]:
    """Write the documents beside the series, and with ``compress`` the zip of all four; all survive
    a power cut.

    Args:
        folder: The output folder.
        stamp: As :func:`reserve_stamp` gave it.
        manifest: All but ``artifact_set`` and ``bundle``, which are added here.
        summary: As ``Summary.document`` gives it.
        metrics: As ``Metrics.document`` gives it.
        compress: Whether to make the zip.

    Returns:
        The paths of the files, by what they are.

    Raises:
        OutputError: A file could not be written; those written before it stand, each of them whole.
    """
    names = file_names(stamp, compress=compress)
    paths = {kind: os.path.join(folder, name) for kind, name in names.items()}
    # The manifest names the zip that holds it, and is written once: it is the same inside and
    # beside.
    manifest = {**manifest, "artifact_set": {kind: names[kind] for kind in DOCUMENTS}}
    if compress:
        manifest[BUNDLE] = names[BUNDLE]
    documents = {"metrics": metrics, "manifest": manifest, "summary": summary}
    for kind, document in documents.items():
        write_atomic(paths[kind], json_document(document), fsync=True)
    if compress:
        members = {names[kind]: paths[kind] for kind in DOCUMENTS}
        fill_atomic(paths[BUNDLE], lambda fd: fill_bundle(fd, members), fsync=True)
    return paths


def json_document(value: Any) -> bytes:
    """``value`` as a file that people read, too."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    # A lone surrogate, which UTF-8 cannot hold, leaves as its JSON escape.
    return text.encode("utf-8", "backslashreplace")


# --- the zip ----------------------------------------------------------------------------


def fill_bundle(fd: int, members: dict[str, str]) -> None:
    """Zip the files ``{name inside: path}`` into ``fd``, and read everything back once; OSError
    where that fails.
    """
    with (
        open(fd, "w+b", closefd=False) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle,
    ):
        for name, path in members.items():
            _add_member(bundle, name, path)
    _check_zip(fd)


def _check_zip(fd: int) -> None:
    """Read every member back, which checks its checksum; ``testzip`` does the same with many times
    the memory.
    """
    try:
        with open(fd, "rb", closefd=False) as file, zipfile.ZipFile(file) as bundle:
            for name in bundle.namelist():
                with bundle.open(name) as member:
                    while member.read(COPY_BYTES):
                        pass
    except (zipfile.BadZipFile, zlib.error) as error:
        raise OSError(f"came back damaged from the disk: {error}") from error


def _add_member(bundle: zipfile.ZipFile, name: str, path: str) -> None:
    member = zipfile.ZipInfo(name, EARLIEST_TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix on every platform, which gives the next line its meaning
    member.external_attr = SHARED << 16
    with open(path, "rb") as source:
        # zipfile learns from it whether 32 bits will do
        member.file_size = os.fstat(source.fileno()).st_size
        with bundle.open(member, "w") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)
