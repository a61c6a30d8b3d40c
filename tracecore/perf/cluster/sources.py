"""Agents and tasks as one parcel: packed where a slice is planned, laid out and verified where its
episodes run.
"""

import ast
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tracecore import canon, frames
from tracecore.errors import InputError, TaskError, as_output_error
from tracecore.files import write_atomic
from tracecore.record import replace
from tracecore.records import AgentSource, TaskSource
from tracecore.runtime.task.folder import files_below, hash_folder, read_source

AGENTS: Final = "agents"
TASKS: Final = "tasks"

Pair = tuple[AgentSource, TaskSource]


def pack_sources(pairs: Sequence[Pair]) -> bytes:
    """Every agent file, the modules beside it that it imports, and every file of every task's
    folder; each once.

    Raises:
        InputError: One of them cannot be read any more.
    """
    listed, contents = [], []
    for name, path in _files_of(pairs):
        data = read_source(path, InputError)
        listed.append([name, len(data), canon.sha256(data)])
        contents.append(data)
    return frames.pack(json.dumps(listed).encode("ascii")) + b"".join(contents)


def lay_out_sources(parcel: bytes, folder: str, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Write the parcel's files below ``folder``, which is empty; gives the pairs as they lie there,
    verified by their hashes.

    Raises:
        InputError: What arrived is not what was sent.
        OutputError: It could not be written.
    """
    at = frames.HEADER_BYTES + int.from_bytes(parcel[: frames.HEADER_BYTES], "big")
    for name, size, sha256 in json.loads(parcel[frames.HEADER_BYTES : at]):
        data, at = parcel[at : at + size], at + size
        path = os.path.normpath(os.path.join(folder, name))
        if not path.startswith(os.path.join(folder, "")) or canon.sha256(data) != sha256:
            raise InputError(name, "sha256", canon.sha256(data), f"{sha256}, as it was sent")
        with as_output_error(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomic(path, data)
    agents, tasks = _places(pairs)
    return tuple(
        _verified(
            replace(agent, path=os.path.join(folder, agents[agent.path])),
            replace(task, folder=os.path.join(folder, tasks[task.folder])),
        )
        for agent, task in pairs
    )


def _verified(agent: AgentSource, task: TaskSource) -> Pair:
    for path, found, expected in (
        (agent.path, canon.sha256(read_source(agent.path, InputError)), agent.sha256),
        (task.folder, hash_folder(task.folder), task.sha256),
    ):
        if found != expected:
            raise TaskError(
                path, "sha256", found, f"{expected}, as it was when the slice was planned"
            )
    return agent, task


def _places(pairs: Sequence[Pair]) -> tuple[dict[str, str], dict[str, str]]:
    """By its path, where each agent and each task lies in the parcel: in a folder of its own."""
    # The names stay as they are: an agent may look at its own, and a task's folder is named like
    # the task.
    agents, tasks = (
        {
            path: f"{kind}/{number}/{os.path.basename(path)}"
            for number, path in enumerate(dict.fromkeys(paths))
        }
        for kind, paths in (
            (AGENTS, [agent.path for agent, _ in pairs]),
            (TASKS, [task.folder for _, task in pairs]),
        )
    )
    return agents, tasks


def _files_of(pairs: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    """(name in the parcel, path) of each file."""
    agents, tasks = _places(pairs)
    for path, place in agents.items():
        yield place, path
        folder = os.path.dirname(place)
        yield from ((f"{folder}/{name}", beside) for name, beside in imported_beside(path))
    for folder, place in tasks.items():
        yield from ((f"{place}/{name}", path) for name, path in files_below(folder))


def imported_beside(path: str) -> list[tuple[str, str]]:
    """(name relative to the folder, path) of the Python files beside ``path`` that it imports, and
    that those import.

    Found by reading, not by running: an import by a computed name is not seen.
    """
    folder = os.path.dirname(path)
    found: dict[str, str] = {}
    todo = [path]
    while todo:
        for module in _imports_of(todo.pop()):
            for name in _files_of_module(folder, module):
                beside = os.path.join(folder, name)
                if name not in found and beside != path:
                    found[name] = beside
                    todo.append(beside)
    return sorted(found.items())


def _imports_of(path: str) -> set[str]:
    """The top names that a file imports anywhere in it; none of one that is not Python, which its
    episode will show.
    """
    try:
        tree = ast.parse(read_source(path, InputError))
    except (SyntaxError, ValueError, RecursionError, InputError):
        return set()
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]
    return {name.partition(".")[0] for name in names}


def _files_of_module(folder: str, module: str) -> Iterable[str]:
    if os.path.isfile(os.path.join(folder, f"{module}.py")):
        return [f"{module}.py"]
    package = os.path.join(folder, module)
    if not os.path.isfile(os.path.join(package, "__init__.py")):
        return []
    return [f"{module}/{name}" for name, _ in files_below(package)]
