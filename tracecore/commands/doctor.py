"""``tracecore doctor``: the layers of confinement, each tried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tracecore.command_line.options import FLAG, Option
from tracecore.commands.parts import add_command
from tracecore.records import Limits

if TYPE_CHECKING:
    import argparse

    from tracecore.command_line.parser import Parser
    from tracecore.records import (
        JsonObject,
    )

DOCTOR_TEXT: Final = """\
Tries out, in processes confined as agents are, which layers of confinement are in force on this
machine, and what each of them stops.
"""
EXITS: Final = {0: "it was found out", 2: "a wrong option", 4: "tracecore itself failed"}


def add(parser: Parser) -> None:
    """Add the command."""
    summary = "try which layers confine agents here"
    command = add_command(parser, doctor, summary, DOCTOR_TEXT, EXITS)
    command.add_options(
        {
            "json": Option(
                "--json", action=FLAG, default=False, help="one JSON object instead of text"
            )
        }
    )


def doctor(arguments: argparse.Namespace) -> tuple[int, str | JsonObject]:
    """``doctor``: the layers of confinement, each tried out."""
    from tracecore.confinement import doctor as trial

    found = trial.probe(Limits())
    return 0, trial.as_json(found) if arguments.json else trial.as_text(found).rstrip()
