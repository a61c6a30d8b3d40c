"""``tracecore check``, ``check-task``, ``doctor``: are artifacts, tasks and this machine sound?"""

import argparse
import glob
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from tracecore.command_line.options import Option, flag, path
from tracecore.command_line.parser import Parser
from tracecore.command_line.run import program_name, write, write_line
from tracecore.commands.parts import add_command
from tracecore.errors import InputError, one_line
from tracecore.records import JsonObject, Limits

CHECK_TEXT: Final = """\
Checks run artifacts: whether each is JSON, keeps to the schema, and has the hashes of what it
holds. Prints a line for each named file that is valid, a line for each problem of one that is
not, and a total; of a folder only the problems.
"""
CHECK_TASK_TEXT: Final = """\
Checks task folders, for their authors: manifest, functions and parameters, then the task's own
code, which is run in this process. Prints a line for each thing that is wrong.
"""
DOCTOR_TEXT: Final = """\
Tries out, in processes confined as agents are, which layers of confinement are in force on this
machine, and what each of them stops.
"""


def add_check(parser: Parser) -> None:
    """Add ``check``."""
    add_command(
        parser,
        check,
        "check run artifacts",
        CHECK_TEXT,
        {
            0: "all are valid",
            1: "some are not",
            2: "a wrong option, or a file that cannot be read; the others have been checked",
        },
        {
            "files": Option(
                "files",
                "FILE",
                path,
                help="a run artifact of at most 64 MiB, or a folder of them",
                nargs="+",
                is_required=True,
            )
        },
    )


def add_check_task(parser: Parser) -> None:
    """Add ``check-task``."""
    add_command(
        parser,
        check_task,
        "check a task's folder for its author",
        CHECK_TASK_TEXT,
        {
            0: "nothing wrong was found",
            1: "something was",
            2: "a wrong option, or a folder that cannot be read; the others have been checked",
        },
        {
            "folders": Option(
                "folders",
                "DIR",
                path,
                help="a task's folder, with its task.toml",
                nargs="+",
                is_required=True,
            )
        },
    )


def add_doctor(parser: Parser) -> None:
    """Add ``doctor``."""
    add_command(
        parser,
        doctor,
        "try which layers confine agents here",
        DOCTOR_TEXT,
        {0: "it was found out", 2: "a wrong option", 4: "tracecore itself failed"},
        {"json": flag("--json", "one JSON object instead of text")},
    )


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
