"""What a killed harness left behind: found by name, and removed where it is this slice's own, or
certainly no living harness's.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import Final

from tracecore.errors import InputError
from tracecore.perf.slice.journal_file import JOURNAL_BEGIN, JOURNAL_END, journal_path
from tracecore.strict import open_regular

TEMPORARY_END: Final = ".tmp"
SECOND_RUNS_BEGIN: Final = ".perf-second-runs-"
# A harness reserves its stamp by an empty journal, which it opens and locks a moment later. One
# that has not by now was killed; and if it was only stopped, its stamp is still free,
# and it makes the file anew.
RESERVED_S: Final = 60.0


def remove_stray_artifacts(runs_dir: str, run_ids: Iterable[str]) -> int:
    """Remove what killed episodes of this slice had begun to write; gives how many files that was.

    Args:
        runs_dir: Where other slices may be writing at the same time.
        run_ids: Of every episode of this slice; looked through only if there is a temporary file at
            all.
    """
    strays: dict[str, list[str]] = {}
    for name in _temporary_names(runs_dir):
        run_id = name[1:].partition(".json.")[0]
        strays.setdefault(run_id, []).append(name)
    own = (strays[run_id] for run_id in run_ids if run_id in strays) if strays else iter(())
    return sum(_remove(runs_dir, name) for names in own for name in names)


def remove_doubtful_artifacts(runs_dir: str, run_ids: Iterable[str]) -> int:
    """Remove the failures among the artifacts of episodes without a row; gives how many that
    was.

    What killed the harness may have killed an agent a moment before, whose episode then wrote down
    a crash that was none. The episode runs again; where it fails by itself, it fails again. A
    success stands, and is taken when its episode runs again.
    """
    return sum(
        _is_failure(runs_dir, f"{run_id}.json") and _remove(runs_dir, f"{run_id}.json")
        for run_id in run_ids
    )


def _is_failure(folder: str, name: str) -> bool:
    if not os.path.lexists(os.path.join(folder, name)):
        return False
    try:
        with open_regular(os.path.join(folder, name), "a run artifact") as file:
            return json.load(file)["success"] is not True
    except (InputError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # no artifact of ours, under the name of one


def remove_stray_documents(output_dir: str, stamp: str) -> int:
    """Remove what a killed harness had begun to write of the perf files of this stamp; gives how
    many files that was.
    """
    own = [
        name
        for name in _temporary_names(output_dir)
        if name.startswith(".perf-") and f"-{stamp}." in name
    ]
    return sum(_remove(output_dir, name) for name in own) + _remove_folder(
        second_runs_path(output_dir, stamp)
    )


def second_runs_path(output_dir: str, stamp: str) -> str:
    """The folder of the second runs of the slice with this stamp."""
    return os.path.join(output_dir, SECOND_RUNS_BEGIN + stamp)


def remove_unowned(output_dir: str) -> int:
    """Remove what harnesses that are dead left there and no resumption needs; gives how many files
    and folders that was.

    These are folders of second runs, which are begun anew, and journals without a first line, whose
    slice had not begun. A harness holds the lock of its journal as long as it lives, so that a lock
    which can be had shows that it is dead.
    """
    with contextlib.suppress(OSError), os.scandir(output_dir) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.startswith((SECOND_RUNS_BEGIN, JOURNAL_BEGIN))
        ]
        return sum(_remove_if_dead(output_dir, name) for name in names)
    return 0


def _remove_if_dead(output_dir: str, name: str) -> bool:
    if name.startswith(SECOND_RUNS_BEGIN):
        with _lock(journal_path(output_dir, name[len(SECOND_RUNS_BEGIN) :])) as dead:
            return dead is not None and _remove_folder(os.path.join(output_dir, name))
    if not name.endswith(JOURNAL_END):
        return False
    with _lock(os.path.join(output_dir, name)) as dead:
        is_spare = (
            dead is not None and dead.st_size == 0 and time.time() - dead.st_mtime > RESERVED_S
        )
        return is_spare and _remove(output_dir, name)


@contextlib.contextmanager
def _lock(path: str) -> Iterator[os.stat_result | None]:
    """Hold the lock of a journal; gives None where another process has it, or where that cannot be
    known.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        status = None
        with contextlib.suppress(OSError):  # held, or a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
        yield status
    finally:
        os.close(fd)


def _temporary_names(folder: str) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(TEMPORARY_END):
                yield entry.name


def _remove(folder: str, name: str) -> bool:
    try:
        os.unlink(os.path.join(folder, name))
    except OSError:
        return False  # gone already, or on a disk that can no longer be written
    return True


def _remove_folder(path: str) -> bool:
    """Remove a folder of files."""
    if os.path.islink(path):
        return False
    try:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except OSError:
        return False
    return True
