"""Python files of tasks and agents: read and compiled, never executed here."""

import os
import stat
import sys
import warnings
from types import CodeType
from typing import Final

from tracecore.errors import InputError
from tracecore.runtime.foreign.stack import give_full_depth

SOURCE_BYTES_MOST: Final = 4 << 20  # of Python, and of a manifest: more takes seconds to compile
DATA_BYTES_MOST: Final = 64 << 20  # of any other file of a task


def read_source(path: str, error: type[InputError]) -> bytes:
    """The bytes of a regular file.

    Raises:
        InputError: As ``error``, if there is no such file, it is a folder, pipe or device, it is
            too large, or it cannot be read.
    """
    most = SOURCE_BYTES_MOST if path.endswith((".py", ".toml")) else DATA_BYTES_MOST
    try:
        status = os.stat(path)
        # A pipe or device is refused before it is opened: reading one may never end.
        if not stat.S_ISREG(status.st_mode):
            raise error(path, "", "something that is no regular file", "a regular file")
        with open(path, "rb") as file:
            data = file.read(most + 1) if status.st_size <= most else b""
    except (OSError, ValueError) as problem:
        raise error(path, "", words_of(problem), "a file that can be read") from None
    if status.st_size > most or len(data) > most:
        raise error(path, "", f"{max(status.st_size, len(data))} bytes", f"at most {most}")
    return data


def compile_source(path: str, data: bytes, error: type[InputError]) -> CodeType:
    """The code object of ``data``; ``path`` is what tracebacks show.

    Raises:
        InputError: As ``error``, naming the line, if it is not Python.
    """
    limit_before = give_full_depth()  # a deeply nested file compiles here as it does elsewhere
    try:
        # A worker's stderr is the harness's: a file's SyntaxWarnings do not belong there.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(data, path, "exec", dont_inherit=True)
    except SyntaxError as problem:
        line = f"line {problem.lineno}" if problem.lineno else ""
        raise error(path, line, problem.msg, "Python that compiles") from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as problem:
        raise error(path, "", words_of(problem), "Python that compiles") from None
    finally:
        sys.setrecursionlimit(limit_before)


def words_of(problem: Exception) -> str:
    """An exception in one or a few words."""
    return (problem.strerror if isinstance(problem, OSError) else str(problem)) or type(
        problem
    ).__name__
