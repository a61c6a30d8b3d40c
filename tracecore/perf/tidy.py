"""Temporary files whose writer was killed: found by name, and removed when they are this slice's own."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Final

TEMPORARY_END: Final = ".tmp"


def remove_stray_artifacts(runs_dir: str, run_ids: Iterable[str]) -> int:
    """Remove what killed episodes of this slice had begun to write; gives how many files that was.

    Args:
        runs_dir: Where other slices may be writing at the same time.
        run_ids: Of every episode of this slice; looked through only if there is a temporary file at all.
    """
    strays: dict[str, list[str]] = {}
    for name in _temporary_names(runs_dir):
        run_id = name[1:].partition(".json.")[0]
        strays.setdefault(run_id, []).append(name)
    own = (strays[run_id] for run_id in run_ids if run_id in strays) if strays else iter(())
    return sum(_remove(runs_dir, name) for names in own for name in names)


def remove_stray_documents(output_dir: str, stamp: str) -> int:
    """Remove what a killed harness had begun to write of the perf files of this stamp; gives how many files that was."""
    own = [name for name in _temporary_names(output_dir) if name.startswith(".perf-") and f"-{stamp}." in name]
    return sum(_remove(output_dir, name) for name in own)


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
