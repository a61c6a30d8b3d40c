"""References of tasks and agents, resolved before anything runs.

Kept apart from what the workers load.
"""

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from glob import glob

from tracecore import canon
from tracecore.errors import MISSING, AgentError, TaskError
from tracecore.records import AgentSource, TaskSource
from tracecore.runtime.task.folder import MANIFEST_NAME, hash_folder, read_source, words_of
from tracecore.runtime.task.manifest import TASK_ID, read_manifest

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
AGENT_REF_LIMIT = 4096  # characters
# What errors name when the reference itself is wrong, and no file that it leads to.
AGENT_REFERENCE = "agent reference"
TASK_REFERENCE = "task reference"

_TASK_REF = re.compile(rf"(?P<id>{TASK_ID})(@(0|[1-9][0-9]{{0,79}}))?")
_NEAREST = 3  # references that an error suggests


def find_task(ref: str, tasks_dirs: Sequence[str] = ()) -> TaskSource:
    """The task that ``ref`` means. None of its code is run, or read.

    Args:
        ref: ``<id>@<version>``, or ``<id>`` if there is one version of it only.
        tasks_dirs: Folders of task folders. They are searched in this order, and before the bundled
            tasks.

    Raises:
        TaskError: A folder is not there, the reference is malformed, unknown (the nearest known
            ones are named) or means several versions, or the manifest of a task of that id is
            wrong.
    """
    for tasks_dir in tasks_dirs:
        if not os.path.isdir(tasks_dir):
            raise TaskError(tasks_dir, "", MISSING, "a folder of task folders")
        if os.path.lexists(os.path.join(tasks_dir, MANIFEST_NAME)):
            holder = os.path.normpath(os.path.join(tasks_dir, os.pardir))
            raise TaskError(tasks_dir, "", "a task's own folder", f"the one it lies in: {holder}")
    # Only what a manifest can hold gets through: no path, no `..`, no control character ever
    # reaches the disk.
    match = _TASK_REF.fullmatch(ref)
    if match is None:
        expected = "<id>@<version> or <id>: lower-case letters, digits, _ and - only"
        raise TaskError(TASK_REFERENCE, "", ref, expected)
    task_id: str = match["id"]
    places = [*tasks_dirs, os.path.join(PACKAGE_FOLDER, "tasks")]
    found: dict[str, str] = {}  # reference -> folder, the first one of each
    for folder in _folders_of(task_id, places):
        found.setdefault(read_manifest(folder).ref, folder)
        if ref in found:
            break
    wanted = [known for known in found if ref in (known, task_id)]
    if not wanted:
        raise TaskError(TASK_REFERENCE, "", ref, _suggest(ref, _known_task_refs(places)))
    if len(wanted) > 1:
        raise TaskError(TASK_REFERENCE, "", ref, f"a version: {' or '.join(sorted(wanted))}")
    folder = found[wanted[0]]
    return TaskSource(ref=wanted[0], folder=folder, sha256=hash_folder(folder))


def find_agent(ref: str) -> AgentSource:
    """The agent's file that ``ref`` means. It is read, to take its hash, but not run.

    Args:
        ref: A path of a Python file: as given (relative to the working directory), else inside the
            package (``agents/toy_agent.py``).

    Raises:
        AgentError: The reference is malformed, names no file (the nearest existing ones are named),
            or names something that is not a regular, readable ``.py`` file.
    """
    if not ref.endswith(".py") or not ref.isprintable() or len(ref) > AGENT_REF_LIMIT:
        raise AgentError(AGENT_REFERENCE, "", ref, "the path of a Python file (.py)")
    for path in _agent_paths(ref):
        if os.path.lexists(path):
            sha256 = canon.sha256(read_source(path, AgentError))
            return AgentSource(ref=_shortest_ref(ref, path), path=path, sha256=sha256)
    raise AgentError(AGENT_REFERENCE, "", ref, _suggest(ref, _known_agent_refs(ref)))


def _folders_of(task_id: str, places: Iterable[str]) -> Iterator[str]:
    for place in places:
        folder = os.path.abspath(os.path.join(place, task_id))
        try:
            os.lstat(os.path.join(folder, MANIFEST_NAME))
        except (FileNotFoundError, NotADirectoryError):
            continue
        # it may well be there: only what is known to be missing is passed over
        except OSError as error:
            raise TaskError(folder, "", words_of(error), "a folder that can be read") from None
        yield folder


def _known_task_refs(places: Iterable[str]) -> list[str]:
    refs = set()
    for place in places:
        for name in glob("*", root_dir=place):
            with contextlib.suppress(TaskError):  # what is broken cannot be suggested
                refs.add(read_manifest(os.path.join(place, name)).ref)
    return sorted(refs)


def _agent_paths(ref: str) -> Iterator[str]:
    yield os.path.abspath(ref)
    bundled = os.path.normpath(os.path.join(PACKAGE_FOLDER, ref))
    if bundled.startswith(os.path.join(PACKAGE_FOLDER, "")):
        yield bundled


def _shortest_ref(ref: str, path: str) -> str:
    """The shortest reference that means ``path`` as well: it is part of what is hashed, and one
    file is one agent however it is spelled.
    """
    for folder in (PACKAGE_FOLDER, os.curdir):
        shorter = os.path.relpath(path, folder)
        if not shorter.startswith(os.pardir):
            meant = next(filter(os.path.lexists, _agent_paths(shorter)), None)
            if meant == path:
                return shorter
    return os.path.normpath(ref)


def _known_agent_refs(ref: str) -> list[str]:
    """The siblings of what was meant, and the bundled agents, each written as it could be
    referenced.
    """
    folder = os.path.dirname(ref)
    siblings = (os.path.join(folder, name) for name in glob("*.py", root_dir=folder or "."))
    return sorted({*siblings, *glob("agents/*.py", root_dir=PACKAGE_FOLDER)})


def _suggest(ref: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(ref, known, n=_NEAREST, cutoff=0.4) or known[:_NEAREST]
    return "one that exists; " + (f"nearest: {', '.join(nearest)}" if nearest else "there is none")
