"""``python -m tracecore``: one episode by hand, run, shown, checked or run again.

Can be imported by any Python 3, so that a wrong one is refused in one line.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracecore.command_line.parser import Parser

DESCRIPTION = "Runs one episode; shows, checks or runs again the episodes of run artifacts."
EPILOG = """\
`COMMAND --help` explains a command; slices are run by perf_harness.py.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the process's exit code."""
    if __name__ == "__main__":
        make_importable()
    from tracecore.command_line.run import program_name, run_command_line

    if argv is None:
        # As at Ctrl-C: what was started and what is temporary is gone before this process is.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run_command_line(program_name(), build_parser, argv, errors_on_stdout=False)


def make_importable() -> None:
    """Have ``python <clone>/tracecore`` find the package, whose own folder is on the path then."""
    package = os.path.dirname(os.path.realpath(__file__))
    if os.path.realpath(sys.path[0]) == package:
        sys.path[0] = os.path.dirname(package)


def build_parser() -> Parser:
    """Every command and option."""
    from tracecore import __version__
    from tracecore.command_line.parser import Parser
    from tracecore.command_line.run import program_name
    from tracecore.commands.table import COMMANDS
    from tracecore.exit_codes import as_help

    version = f"tracecore {__version__}"
    parser = Parser(program_name(), DESCRIPTION, EPILOG, version=version)
    for name, (do, summary, text, exits, options) in COMMANDS.items():
        parser.add_command(name, do, summary, text, as_help(exits)).add_options(options)
    return parser


if __name__ == "__main__":
    sys.exit(main())
