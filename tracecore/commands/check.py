"""``tracecore check``: whether run artifacts are valid."""

from __future__ import annotations

import glob
import os
import sys
from typing import TYPE_CHECKING, Final

from tracecore.command_line.options import Option, path
from tracecore.command_line.run import program_name, say, write
from tracecore.commands.parts import add_command
from tracecore.errors import InputError, one_line

if TYPE_CHECKING:
    import argparse

    from tracecore.command_line.parser import Parser

CHECK_TEXT: Final = """\
Checks run artifacts: whether each is JSON, keeps to the schema, and has the hashes of what it
holds. Prints a line for each named file that is valid, a line for each problem of one that is
not, and a total; of a folder only the problems.
"""
EXITS: Final = {
    0: "all are valid",
    1: "some are not",
    2: "a wrong option, or a file that cannot be read; the others have been checked",
}


def add(parser: Parser) -> None:
    """Add the command."""
    command = add_command(parser, check, "check run artifacts", CHECK_TEXT, EXITS)
    command.add_options(
        {
            "files": Option(
                "files",
                "FILE",
                path,
                help="a run artifact of at most 64 MiB, or a folder of them",
                nargs="+",
                is_required=True,
            )
        }
    )


def check(arguments: argparse.Namespace) -> tuple[int, str | None]:
    """Each file by itself; the gravest exit code of all, and of several files their total."""
    files, named = files_in(arguments.files), frozenset(arguments.files)
    codes = [check_file(path, is_named=path in named) for path in files]
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


def check_file(path: str, *, is_named: bool) -> int:
    """Check one artifact, and say what was found; that it is valid only of one that is named."""
    from tracecore.runtime.replay import read_artifact

    try:
        _artifact, problems = read_artifact(path)
    except InputError as error:
        say(f"{program_name()}: {error}")
        return 2
    found = problems or (["valid"] if is_named else [])
    write(sys.stdout, "".join(f"{one_line(f'{path}: {what}')}\n" for what in found))
    return 1 if problems else 0
