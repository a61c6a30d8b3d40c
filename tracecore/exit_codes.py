"""The exit codes of the harness, once."""

from typing import Final

EXIT_GOOD: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_BREACHED: Final = 3
EXIT_UNWRITTEN: Final = 4
EXIT_INCOMPLETE: Final = 5
EXIT_INTERRUPTED: Final = 130
# gravest first
EXIT_CODES: Final = (
    EXIT_UNWRITTEN,
    EXIT_INTERRUPTED,
    EXIT_INCOMPLETE,
    EXIT_FAILED,
    EXIT_BREACHED,
    EXIT_GOOD,
)
