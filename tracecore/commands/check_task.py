"""``tracecore check-task``: all that is wrong with a task's folder, for its author."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from tracecore.command_line.options import Option, path
from tracecore.command_line.run import program_name, say, write
from tracecore.commands.parts import add_command
from tracecore.errors import InputError, one_line

if TYPE_CHECKING:
    import argparse

    from tracecore.command_line.parser import Parser

CHECK_TASK_TEXT: Final = """\
Checks task folders, for their authors: manifest, functions and parameters, then the task's own
code, which is run in this process. Prints a line for each thing that is wrong.
"""
EXITS: Final = {
    0: "nothing wrong was found",
    1: "something was",
    2: "a wrong option, or a folder that cannot be read; the others have been checked",
}


def add(parser: Parser) -> None:
    """Add the command."""
    summary = "check a task's folder for its author"
    command = add_command(parser, check_task, summary, CHECK_TASK_TEXT, EXITS)
    what = "a task's folder, with its task.toml"
    command.add_options(
        {"folders": Option("folders", "DIR", path, help=what, nargs="+", is_required=True)}
    )


def check_task(arguments: argparse.Namespace) -> tuple[int, None]:
    """Each folder by itself; the gravest exit code of all."""
    return max([check_folder(folder) for folder in arguments.folders]), None


def check_folder(folder: str) -> int:
    """Check one task, and print what was found."""
    from tracecore.runtime.task.check import check_task_folder

    try:
        problems = check_task_folder(folder)
    except InputError as error:
        say(f"{program_name()}: {error}")
        return 2
    lines = problems or ["nothing wrong was found"]
    write(sys.stdout, "".join(f"{one_line(f'{folder}: {line}')}\n" for line in lines))
    return 1 if problems else 0
