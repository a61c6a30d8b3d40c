"""The exit codes of both command lines: number, rank, headline and meaning, once.

The ranks decide where several hold: of a slice that was interrupted and has failures, the exit code
is that of the interruption.
"""

from collections.abc import Mapping
from typing import Final

EXIT_GOOD: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_BREACHED: Final = 3
EXIT_UNWRITTEN: Final = 4
EXIT_INCOMPLETE: Final = 5
EXIT_INTERRUPTED: Final = 130

EXIT_CODES: Final = (
    EXIT_UNWRITTEN,
    EXIT_INTERRUPTED,
    EXIT_INCOMPLETE,
    EXIT_FAILED,
    EXIT_BREACHED,
    EXIT_GOOD,
)  # gravest first
FINISHED: Final = frozenset({EXIT_GOOD, EXIT_FAILED, EXIT_BREACHED})  # every episode has its result

HEADLINES: Final[Mapping[int, str]] = {
    EXIT_GOOD: "Good",
    EXIT_FAILED: "Episodes failed",
    EXIT_BAD_INPUT: "Nothing has run",
    EXIT_BREACHED: "A gate is breached",
    EXIT_UNWRITTEN: "The run could not be finished",
    EXIT_INCOMPLETE: "Incomplete",
    EXIT_INTERRUPTED: "Interrupted",
}

OF_A_SLICE: Final[Mapping[int, str]] = {
    EXIT_GOOD: "every episode succeeded, and every gate that was asked for holds",
    EXIT_FAILED: "some episode failed",
    EXIT_BAD_INPUT: "a wrong option, scenario, agent or task: nothing has run",
    EXIT_BREACHED: "a threshold or regression gate was breached",
    EXIT_UNWRITTEN: "the results could not be written, or the harness itself failed",
    EXIT_INCOMPLETE: "the slice is incomplete: fewer results than episodes asked for",
    EXIT_INTERRUPTED: "interrupted; what had finished is written",
}
OF_A_COMPARISON: Final[Mapping[int, str]] = {
    EXIT_GOOD: "nothing got worse, as far as so many runs can show",
    EXIT_BAD_INPUT: "a wrong option or file, or runs that cannot be compared",
    EXIT_BREACHED: "something got worse (or, with --require-conclusive, there is no answer)",
    EXIT_UNWRITTEN: "a run could not be finished",
    EXIT_INTERRUPTED: "interrupted",
}


def as_help(meanings: Mapping[int, str]) -> str:
    """The part of a ``--help`` text that explains exit codes."""
    return "exit codes:\n" + "".join(f"  {code:<4} {text}\n" for code, text in meanings.items())
