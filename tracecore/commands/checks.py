"""``tracecore check``, ``check-task``, ``doctor``: are artifacts, tasks and this machine sound?"""

import argparse
import glob
import os
import sys
from collections.abc import Callable, Sequence

from tracecore.command_line.run import program_name, write, write_line
from tracecore.errors import InputError, one_line
from tracecore.records import JsonObject, Limits


def check(arguments: argparse.Namespace) -> tuple[int, str | None]:
    """Each file by itself; the gravest exit code of all, and of several files their total."""
    from tracecore.runtime.replay import read_artifact

    files, named = files_in(arguments.files), frozenset(arguments.files)
    codes = [
        check_one(path, lambda path: read_artifact(path)[1], ["valid"] if path in named else [])
        for path in files
    ]
    if len(codes) == 1 and arguments.files == files:
        return codes[0], None
    counts = {"valid": codes.count(0), "not valid": codes.count(1), "unreadable": codes.count(2)}
    total = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return max(codes, default=0), f"{len(codes)} files: {total}" if codes else "0 files"


def files_in(paths: list[str]) -> list[str]:
    """The files among ``paths``, and in place of each folder the artifacts that lie in it."""
    found = []
    for given in paths:
        is_folder = os.path.isdir(given)
        pattern = os.path.join(glob.escape(given), "*.json")
        found += sorted(glob.glob(pattern)) if is_folder else [given]
    return found


def check_task(arguments: argparse.Namespace) -> tuple[int, None]:
    """Each folder by itself; the gravest exit code of all."""
    from tracecore.runtime.task.check import check_task_folder

    good = ["nothing wrong was found"]
    return max(check_one(folder, check_task_folder, good) for folder in arguments.folders), None


def check_one(path: str, find_problems: Callable[[str], Sequence[str]], good: Sequence[str]) -> int:
    """Check one file or folder and print its problems, or that it is ``good``; its exit code."""
    try:
        problems = find_problems(path)
    except InputError as error:
        write_line(f"{program_name()}: {error}")
        return 2
    write(sys.stdout, "".join(f"{one_line(f'{path}: {what}')}\n" for what in problems or good))
    return 1 if problems else 0


def doctor(arguments: argparse.Namespace) -> tuple[int, str | JsonObject]:
    """The layers of confinement, each tried out."""
    from tracecore.confinement import doctor as trial

    found = trial.probe(Limits())
    return 0, trial.as_json(found) if arguments.json else trial.as_text(found).rstrip()
