"""What an agent may read: the interpreter's library, its own folder, what its row allows; and what
never, wherever it lies.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracecore.confinement.library import (
    PACKAGE,
    installed_tasks,
    library_folders,
    loader_files,
    loader_folders,
)
from tracecore.record import as_dict, record

# Files of the system that Python and its packages read to know what they run on.
SYSTEM_FILES: Final = (
    "/dev/null",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
)
RESOLVER_FILES: Final = (
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
)
LINKS_MOST: Final = 400  # parts of a path, those of links among them, before it is taken for a loop
TASK_MARK: Final = "task.toml"  # what makes a folder one of a task
# below an agent's folder and what its row allows; what lies deeper is not found
FOLDERS_SEARCHED: Final = 500
SECOND_NAMES_MOST: Final = 200


@record
class Reach:
    """What the agents of one zygote may reach. Absolute paths."""

    folder: str  # of the agent
    agents: tuple[str, ...]  # agent files, readable wherever they lie
    read: tuple[str, ...]  # what a scenario row allows beside
    network: tuple[str, ...]  # "host:port" that it allows
    hidden: tuple[str, ...]  # folders of tasks, runs and results: readable by no agent
    models: bool = False  # whether its agents may call models, through the gateway

    @property
    def has_doors(self) -> bool:
        """Whether there is anything that they may connect to."""
        return self.models or bool(self.network)

    def as_json(self) -> dict[str, Any]:
        """For :func:`reach_from_json`."""
        return as_dict(self)


def reach_from_json(document: dict[str, Any]) -> Reach:
    """What :meth:`Reach.as_json` gave."""
    return Reach(**{name: as_here(value) for name, value in document.items()})


def as_here(value: Any) -> Any:
    """A path of another process, or a list of them, written as this one writes it: the harness may
    run in a locale that has no such letters, where processes of agents always have them.
    """
    if isinstance(value, list | tuple):
        return tuple(map(as_here, value))
    if isinstance(value, str):
        return os.fsdecode(value.encode("utf-8", "surrogateescape"))
    return value


@record
class Readable:
    """A reach on this machine. Every path stands as written and with its links resolved."""

    folders: tuple[str, ...]  # with all below
    files: frozenset[str]
    hidden: tuple[str, ...]  # folders with all below, and files, in or outside of the above
    native: tuple[str, ...]  # where shared objects may be loaded from
    folder: str  # the agent's own


def secret_folders(tasks_dirs: Iterable[str], *others: str) -> tuple[str, ...]:
    """What no agent of a slice may read: the bundled tasks, every task below ``tasks_dirs``, and
    ``others``.
    """
    found = [os.path.join(PACKAGE, "tasks")]
    for tasks_dir in tasks_dirs:
        # Its tasks and not itself: agents may lie beside them.
        with contextlib.suppress(OSError):
            folders = (os.path.join(tasks_dir, name) for name in sorted(os.listdir(tasks_dir)))
            found += [
                folder for folder in folders if os.path.lexists(os.path.join(folder, TASK_MARK))
            ]
    return tuple(dict.fromkeys(os.path.abspath(folder) for folder in (*found, *others)))


def readable(reach: Reach) -> Readable:
    """What ``reach`` means on this machine."""
    libraries, loader = library_folders(), loader_folders()
    own = [reach.folder, *reach.read]
    secrets = _secrets_below(reach, [os.path.realpath(folder) for folder in libraries])
    linked = loader_files()
    resolver = RESOLVER_FILES if reach.has_doors else ()
    return Readable(
        folders=tuple(_both([*libraries, *loader, *own])),
        files=frozenset(_both([*SYSTEM_FILES, *linked, *resolver, *reach.agents])),
        hidden=tuple(_both([*reach.hidden, *installed_tasks([*libraries, *loader]), *secrets])),
        native=tuple(_both([*libraries, *loader, *linked, *reach.read])),
        folder=reach.folder,
    )


def _secrets_below(reach: Reach, libraries: Sequence[str]) -> list[str]:
    """Folders of tasks in the agent's own folder and in what its row allows; in its own folder,
    files that have a second name elsewhere, which may be a task's.

    Those nearest come first; bounded, since an agent may lie in a home folder.
    """
    found: list[str] = []
    for root in dict.fromkeys((reach.folder, *reach.read)):
        is_own = root == reach.folder
        todo = [os.path.realpath(root)]
        for folder in todo:  # which grows
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError:
                continue
            if any(entry.name == TASK_MARK for entry in entries):
                found.append(folder)
                continue
            if is_own and len(found) < SECOND_NAMES_MOST:
                found += [entry.path for entry in entries if _has_second_name(entry, reach)]
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            below = [path for path in below if not is_below(path, libraries)]
            todo += below[: max(0, FOLDERS_SEARCHED - len(todo))]
    return found


def _has_second_name(entry: os.DirEntry[str], reach: Reach) -> bool:
    with contextlib.suppress(OSError):
        return (
            entry.is_file(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_nlink > 1
            and entry.path not in map(os.path.realpath, reach.agents)
        )
    return False


def _both(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(form for path in paths for form in (path, os.path.realpath(path))))


def is_below(path: str, folders: Sequence[str]) -> bool:
    """Whether ``path`` is one of ``folders`` or lies in one."""
    return path.startswith(tuple(os.path.join(folder, "") for folder in folders)) or path in folders


def is_of_task(path: str) -> bool:
    """Whether ``path`` is, or lies in, a folder of a task."""
    place = os.path.realpath(path)
    while place != os.path.dirname(place):
        if os.path.lexists(os.path.join(place, TASK_MARK)):
            return True
        place = os.path.dirname(place)
    return False


def walk_to(path: str) -> tuple[str, dict[str, str]]:
    """An absolute path with every link followed; and each path that is passed, with where it leads
    if it is a link.
    """
    left, done = path.split("/")[1:], ""
    passed = {"/": ""}
    for _ in range(LINKS_MOST):
        if not left:
            break
        part, *left = left
        if part in ("", "."):
            continue
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        here = done + "/" + part
        try:
            target = os.readlink(here)
        except OSError:
            target = ""
        passed[here] = target
        if target:
            left = target.split("/") + left
            done = "" if target.startswith("/") else done
        else:
            done = here
    return done or "/", passed


def landlock_paths(found: Readable) -> tuple[list[str], list[str]]:
    """The files and whole folders to allow, and the folders that can only be listed since something
    hidden lies below.
    """
    whole: list[str] = list(found.files)
    listed: list[str] = []
    for folder in found.folders:
        _open_up(os.path.realpath(folder), found.hidden, whole, listed)
    return list(dict.fromkeys(whole)), list(dict.fromkeys(listed))


def _open_up(path: str, hidden: tuple[str, ...], whole: list[str], listed: list[str]) -> None:
    # Landlock allows whole folders and knows no exceptions: around a hidden one, each neighbour is
    # allowed by itself.
    if is_below(path, hidden):
        return
    if not any(is_below(secret, (path,)) for secret in hidden):
        whole.append(path)
        return
    listed.append(path)
    with contextlib.suppress(OSError):
        for name in os.listdir(path):
            child = os.path.join(path, name)
            if not os.path.islink(child):
                _open_up(child, hidden, whole, listed)
