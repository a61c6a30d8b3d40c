"""A task's folder: every file found, Python and manifest read, and one hash over all of it."""

import hashlib
import os
from collections.abc import Iterator

from tracecore.errors import TaskError
from tracecore.record import record
from tracecore.runtime.task.sources import read_source, words_of

MANIFEST_NAME = "task.toml"


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
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as problem:
        raise TaskError(folder, "", words_of(problem), "a folder that can be read") from None
    for entry in entries:
        if entry.name == "__pycache__" or entry.name.endswith(".pyc"):
            continue
        target = _inside(entry, trail[0]) if entry.is_symlink() else entry.path
        if not os.path.isdir(target):
            yield prefix + entry.name, target
        elif target in trail:
            raise TaskError(
                entry.path,
                "",
                "a link to a folder that it lies in",
                "links that do not go in circles",
            )
        else:
            yield from _files_below(target, f"{prefix}{entry.name}/", (*trail, target))


def _inside(link: os.DirEntry[str], root: str) -> str:
    target = os.path.realpath(link.path)
    if not os.path.join(target, "").startswith(os.path.join(root, "")):
        raise TaskError(
            link.path, "", "a link that leaves the task's folder", "links to files inside it"
        )
    return target
