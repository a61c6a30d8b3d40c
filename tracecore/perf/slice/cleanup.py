"""What a killed harness left behind: found by name, and removed where it is this slice's own, or
certainly no living harness's.
"""

import contextlib
import fcntl
import glob
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tracecore.errors import InputError
from tracecore.perf.slice.journal_file import journal_path
from tracecore.records import JsonObject
from tracecore.strict import open_regular

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
    strays: dict[str, list[str]] = defaultdict(list)
    for name in glob.glob(".*.tmp", root_dir=runs_dir):
        strays[name[1:].partition(".json.")[0]].append(os.path.join(runs_dir, name))
    own = (strays[run_id] for run_id in run_ids if run_id in strays) if strays else iter(())
    return sum(_remove(path) for paths in own for path in paths)


def remove_doubtful_artifacts(runs_dir: str, run_ids: Iterable[str]) -> int:
    """Remove the failures among the artifacts of episodes without a row; gives how many that
    was.

    What killed the harness may have killed an agent a moment before, whose episode then wrote down
    a crash that was none. The episode runs again; where it fails by itself, it fails again. A
    success stands, and is taken when its episode runs again.
    """
    paths = (os.path.join(runs_dir, f"{run_id}.json") for run_id in run_ids)
    # What is no artifact of ours goes too: it stands under the name of one.
    return sum(
        (read_artifact(path) or {}).get("success") is not True and _remove(path)
        for path in paths
        if os.path.lexists(path)
    )


def read_artifact(path: str) -> JsonObject | None:
    """The object in the file of an artifact, unchecked; ``None`` where there is none."""
    try:
        with open_regular(path, "a run artifact") as file:
            artifact = json.load(file)
    except (InputError, OSError, ValueError, RecursionError):
        return None
    return artifact if isinstance(artifact, dict) else None


def remove_stray_documents(output_dir: str, stamp: str) -> int:
    """Remove what a killed harness had begun to write of the perf files of this stamp; gives how
    many files that was.
    """
    temporary = os.path.join(glob.escape(output_dir), f".perf-*-{stamp}.*.tmp")
    second_runs = second_runs_path(output_dir, stamp)
    return sum(map(_remove, glob.glob(temporary))) + _remove(second_runs, shutil.rmtree)


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
    removed = 0
    for path in glob.glob(second_runs_path(glob.escape(output_dir), "*")):
        stamp = path.rpartition(SECOND_RUNS_BEGIN)[2]
        with _lock(journal_path(output_dir, stamp)) as dead:
            removed += dead is not None and _remove(path, shutil.rmtree)
    for path in glob.glob(journal_path(glob.escape(output_dir), "*")):
        with _lock(path) as dead:
            is_spare = (
                dead is not None and dead.st_size == 0 and time.time() - dead.st_mtime > RESERVED_S
            )
            removed += is_spare and _remove(path)
    return removed


@contextlib.contextmanager
def _lock(path: str) -> Iterator[os.stat_result | None]:
    """Hold the lock of a journal; gives None where another process has it, or where that cannot be
    known.
    """
    status = None
    with contextlib.ExitStack() as undoing:
        with contextlib.suppress(OSError):  # not there, held, or a file system without locks
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            undoing.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
        yield status


def _remove(path: str, remove: Callable[[str], object] = os.unlink) -> bool:
    try:
        remove(path)
    except OSError:
        return False  # gone already, or on a disk that can no longer be written
    return True
