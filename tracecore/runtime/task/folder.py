"""Files of tasks and agents: those of a task's folder found, read, and hashed as one; Python
compiled, never executed here.
"""

import hashlib
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Final

from tracecore.errors import InputError, TaskError
from tracecore.record import record
from tracecore.runtime.foreign.stack import give_full_depth

MANIFEST_NAME = "task.toml"
SOURCE_BYTES_MOST: Final = 4 << 20  # of Python, and of a manifest: more takes seconds to compile
DATA_BYTES_MOST: Final = 64 << 20  # of any other file of a task


@record
class FolderContent:
    """What a task's folder held when it was read."""

    sha256: str  # "sha256:<hex>" over every file, names included
    kept: dict[str, bytes]  # relative POSIX path -> bytes, of task.toml and every .py file


def hash_folder(folder: str) -> str:
    """``sha256:<hex>`` over every file below ``folder``: relative POSIX names and contents.

    Bytecode (``__pycache__``, ``*.pyc``) does not count. Symbolic links count as what they point
    to.

    Raises:
        TaskError: A file cannot be read, is no regular file, or is a link that leaves the folder or
            goes in circles.
    """
    return read_folder(folder).sha256


def read_folder(folder: str) -> FolderContent:
    """The folder's hash, and the very bytes of Python and manifest that went into it; raises as
    ``hash_folder``.
    """
    whole = hashlib.sha256()
    kept = {}
    for name, path in files_below(folder):
        raw_name = os.fsencode(name)
        data = read_source(path, TaskError)
        # A length before the name and a digest of fixed size after it: no two folders give the same
        # bytes.
        whole.update(len(raw_name).to_bytes(8, "big") + raw_name + hashlib.sha256(data).digest())
        if name.endswith(".py") or name == MANIFEST_NAME:
            kept[name] = data
    return FolderContent("sha256:" + whole.hexdigest(), kept)


def files_below(folder: str) -> list[tuple[str, str]]:
    """(relative POSIX name, path) of every file that counts, in the order in which it does; raises
    as ``hash_folder``.
    """
    root = os.path.realpath(folder)
    return sorted(_files_below(root, "", (root,)), key=lambda file: os.fsencode(file[0]))


def _files_below(folder: str, prefix: str, trail: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(relative POSIX name, path) of each file; ``trail`` holds the real folders from the task's
    own down to here.
    """
    try:
        names = os.listdir(folder)
    except OSError as problem:
        raise TaskError(folder, "", words_of(problem), "a folder that can be read") from None
    for name in names:
        if name == "__pycache__" or name.endswith(".pyc"):
            continue
        path = os.path.join(folder, name)
        target = os.path.realpath(path) if os.path.islink(path) else path
        if not os.path.join(target, "").startswith(os.path.join(trail[0], "")):
            raise TaskError(
                path, "", "a link that leaves the task's folder", "links to files inside it"
            )
        if not os.path.isdir(target):
            yield prefix + name, target
        elif target in trail:
            expected = "links that do not go in circles"
            raise TaskError(path, "", "a link to a folder that it lies in", expected)
        else:
            yield from _files_below(target, f"{prefix}{name}/", (*trail, target))


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
