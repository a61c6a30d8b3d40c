"""Every error that tracecore raises for its callers, with its facts as fields.

::

    TracecoreError
    ├── UsageError                                 exit 2: the command line itself is wrong
    ├── InputError(path, field, found, expected)   exit 2: nothing has run
    │   ├── ScenarioError
    │   ├── TaskError
    │   ├── AgentError
    │   ├── OptionError
    │   └── ThresholdError
    ├── OutputError(path, cause)                   exit 4: results could not be written
    └── EngineError                                exit 4: no worker could be kept alive
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self  # not in Python 3.10, which is refused in one line


class TracecoreError(Exception):
    """The root: one clear line for a person to read."""


class UsageError(TracecoreError):
    """A word on the command line that cannot be there; one line that names it."""


class InputError(TracecoreError):
    """Something that was given is wrong; found out before anything runs.

    Attributes:
        path: The file, folder or option that holds the mistake.
        field: The field inside it, or "" where the whole is meant.
        found: What stands there.
        expected: What should.
    """

    def __init__(self, path: str, field: str, found: object, expected: str) -> None:
        self.path, self.field, self.found, self.expected = path, field, found, expected
        where = f"{path}: {field}" if field else path
        super().__init__(one_line(f"{where}: found {describe(found)}, expected {expected}"))

    @classmethod
    def of_all(cls, path: str, mistakes: Sequence[tuple[str, object, str]]) -> Self:
        """One error for several mistakes in one file, a clause each; at least one.

        Args:
            path: The file.
            mistakes: Of each its field, what was found and what was expected.
        """
        (field, found, expected), *others = mistakes
        clauses = [
            f"{where}: found {describe(what)}, expected {how}" for where, what, how in others
        ]
        return cls(path, field, found, "; ".join([expected, *clauses]))


class ScenarioError(InputError):
    """A scenario file, or a row of one."""


class TaskError(InputError):
    """A task reference, a task folder or its manifest."""


class AgentError(InputError):
    """An agent reference or its file."""


class OptionError(InputError):
    """A command-line option."""


class ThresholdError(InputError):
    """A threshold expression, or a file of them."""


class OutputError(TracecoreError):
    """Results could not be written.

    Attributes:
        path: What was being written.
        cause: The operating system's answer.
    """

    def __init__(self, path: str, cause: OSError) -> None:
        self.path, self.cause = path, cause
        super().__init__(one_line(f"{path}: cannot be written: {cause.strerror or cause}"))


@contextlib.contextmanager
def as_output_error(path: str) -> Iterator[None]:
    """Have what the operating system refuses in the block be an ``OutputError`` of ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputError(path, error) from error


class EngineError(TracecoreError):
    """No worker process could be started or kept alive."""


class Missing:
    """Stands for a value that is not there at all."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()


def describe(found: object, limit: int = 80) -> str:
    """The repr of what was found, cut to ``limit`` characters; words where Python refuses to give
    one.
    """
    try:
        text = repr(found)
    # an integer of more than 4300 digits in it; nested too deeply
    except (ValueError, RecursionError):
        text = "a value too large to show"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str) -> str:
    """``text`` fit for a terminal: control characters are escaped, so that it stays one line and
    moves no cursor.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
