"""``tracecore list``: what there is to run, and what has been run."""

import argparse
import glob
import os
from collections.abc import Iterator
from typing import Any

from tracecore.errors import InputError, TaskError, one_line


def list_(arguments: argparse.Namespace) -> tuple[int, Any]:
    """Everything, by kind."""
    found: dict[str, list[Any]] = {
        "tasks": list(find_tasks(arguments.tasks_dirs)),
        "agents": list(bundled("agents", "*.py", "__init__.py")),
        "scenarios": list(bundled("agents", "*.toml", "")),
        "slices": list(find_slices(arguments.output_dir)),
        "baselines": sorted(glob.glob(os.path.join(arguments.output_dir, "baselines", "*", ""))),
    }
    if arguments.json:
        return 0, found
    return 0, "\n".join(line for kind, things in found.items() for line in as_lines(kind, things))


def find_tasks(tasks_dirs: list[str]) -> Iterator[dict[str, Any]]:
    """Each task that a reference can mean; of a broken one, what is wrong with it."""
    from tracecore.runtime.task.catalog import PACKAGE_FOLDER
    from tracecore.runtime.task.folder import MANIFEST_NAME
    from tracecore.runtime.task.manifest import read_manifest

    for place in (*tasks_dirs, os.path.join(PACKAGE_FOLDER, "tasks")):
        for path in sorted(glob.glob(os.path.join(glob.escape(place), "*", MANIFEST_NAME))):
            folder = os.path.dirname(path)
            try:
                manifest = read_manifest(folder)
            except TaskError as error:
                yield {"name": os.path.basename(folder), "about": str(error), "folder": folder}
            else:
                yield {"name": manifest.ref, "about": manifest.description, "folder": folder}


def bundled(folder: str, pattern: str, leave_out: str) -> Iterator[dict[str, Any]]:
    """Files of the package, as a reference names them."""
    from tracecore.runtime.task.catalog import PACKAGE_FOLDER

    for path in sorted(glob.glob(os.path.join(PACKAGE_FOLDER, folder, pattern))):
        if (name := os.path.basename(path)) != leave_out:
            yield {"name": f"{folder}/{name}", "about": ""}


def find_slices(output_dir: str) -> Iterator[dict[str, Any]]:
    """The slices of a folder, by stamp: how many episodes each has, and how it ended."""
    from tracecore.perf.documents.archive import read_sets
    from tracecore.perf.slice.journal_file import unfinished_stamps

    for stamp in unfinished_stamps(output_dir):
        yield {"name": stamp, "about": "unfinished", "episodes": None, "exit_code": None}
    for path in sorted(glob.glob(os.path.join(glob.escape(output_dir), "perf-summary-*.json"))):
        try:
            (archived,) = read_sets(path)
        except InputError as error:
            yield {"name": path, "about": str(error), "episodes": None, "exit_code": None}
            continue
        summary = archived.summary
        exit_code = (summary.get("verdict") or {}).get("exit_code")
        about = f"{summary['success_count']} of {summary['episodes']} succeeded, exit {exit_code}"
        yield {
            "name": archived.stamp,
            "about": about,
            "episodes": summary["episodes"],
            "exit_code": exit_code,
        }


def as_lines(kind: str, things: list[Any]) -> list[str]:
    """A kind, as text."""
    rows = [one if isinstance(one, dict) else {"name": one, "about": ""} for one in things]
    width = max((len(row["name"]) for row in rows), default=0)
    # The first sentence: a task's description can be a page.
    lines = [
        one_line(f"  {row['name']:{width}}  {row['about'].partition('. ')[0]}").rstrip()
        for row in rows
    ]
    return [kind, *(lines or ["  none"])]
