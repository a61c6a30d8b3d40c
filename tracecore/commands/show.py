"""``tracecore show``: the episode of an artifact, as a story."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from tracecore.command_line.options import Option, path
from tracecore.commands.parts import add_command, read_valid_artifact

if TYPE_CHECKING:
    import argparse

    from tracecore.command_line.parser import Parser

SHOW_TEXT: Final = """\
Tells what happened in the episode of a run artifact: the task, each step with what it gave, model
calls, and how it ended.
"""
EXITS: Final = {0: "it was shown", 2: "a wrong option, or an artifact that is not valid"}


def add(parser: Parser) -> None:
    """Add the command."""
    command = add_command(parser, show, "tell an artifact's episode", SHOW_TEXT, EXITS)
    what = "a valid run artifact of at most 64 MiB"
    command.add_options({"file": Option("file", "FILE", path, help=what, is_required=True)})


def show(arguments: argparse.Namespace) -> tuple[int, str]:
    """``show``: the episode of an artifact, step by step."""
    from tracecore.perf.show.console import Console
    from tracecore.perf.show.episode_text import story

    artifact = read_valid_artifact(arguments.file)
    console = Console(sys.stdout)
    return 0, story(artifact, console.page_width(), has_colour=console.has_colour)
