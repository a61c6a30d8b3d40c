"""What an agent may read: Python's own library, installed packages, its own folder; and what never, wherever it lies."""

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracecore.record import record

# Files of the system that Python and NumPy read to know what they run on, and that say nothing of anybody else.
SYSTEM_FILES: Final = (
    "/dev/null",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
)
# Where the dynamic loader finds what Python's own modules are linked to. Python itself opens nothing there.
LOADER_PATHS: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
RESOLVER_FILES: Final = ("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf")
PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@record
class Reach:
    """What the agents of one zygote may reach. Absolute paths."""

    folder: str  # of the agent
    agents: tuple[str, ...]  # agent files, readable wherever they lie
    read: tuple[str, ...]  # what a scenario row allows beside
    network: tuple[str, ...]  # hosts that it allows
    hidden: tuple[str, ...]  # folders of tasks, runs and results: readable by no agent

    def as_json(self) -> dict[str, Any]:
        """For :func:`reach_from_json`."""
        names = ("folder", "agents", "read", "network", "hidden")
        return {name: getattr(self, name) for name in names}


def reach_from_json(document: dict[str, Any]) -> Reach:
    """What :meth:`Reach.as_json` gave."""
    lists = (tuple(document[name]) for name in ("agents", "read", "network", "hidden"))
    return Reach(document["folder"], *lists)


@record
class Readable:
    """A reach, as the audit hook compares it and Landlock enforces it. Every path as written and with links resolved."""

    folders: tuple[str, ...]  # with all below
    own: tuple[str, ...]  # those of them that may hold links to elsewhere: the agent's folder
    files: frozenset[str]
    hidden: tuple[str, ...]


def secret_folders(tasks_dirs: Iterable[str], *others: str) -> tuple[str, ...]:
    """What no agent of a slice may read: the bundled tasks, every task below ``tasks_dirs``, and ``others``."""
    found = [os.path.join(PACKAGE, "tasks")]
    for tasks_dir in tasks_dirs:
        # Its tasks and not itself: agents may lie beside them.
        with contextlib.suppress(OSError):
            folders = (os.path.join(tasks_dir, name) for name in sorted(os.listdir(tasks_dir)))
            found += [folder for folder in folders if os.path.lexists(os.path.join(folder, "task.toml"))]
    return tuple(dict.fromkeys(os.path.abspath(folder) for folder in (*found, *others)))


def readable(reach: Reach) -> Readable:
    """What ``reach`` means on this machine."""
    own = _both([reach.folder, *reach.read])
    system = (*SYSTEM_FILES, *(RESOLVER_FILES if reach.network else ()))
    return Readable(
        folders=tuple(dict.fromkeys([*_both(library_folders()), *own])),
        own=tuple(own),
        files=frozenset(_both([*system, *reach.agents])),
        hidden=tuple(_both(reach.hidden)),
    )


def library_folders() -> list[str]:
    """Where modules come from in this process. Of a source tree only the package itself, not what lies beside it."""
    found = [os.path.dirname(os.__file__)]
    for entry in sys.path:
        if not os.path.isabs(entry) or entry.endswith(".zip"):
            continue
        is_tree = entry == os.path.dirname(PACKAGE) and not _is_install_folder(entry)
        found.append(PACKAGE if is_tree else entry)
    return found


def _is_install_folder(path: str) -> bool:
    with contextlib.suppress(OSError):
        return any(name.endswith(".dist-info") for name in os.listdir(path))
    return False


def _both(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(form for path in paths for form in (path, os.path.realpath(path))))


def is_below(path: str, folders: Sequence[str]) -> bool:
    """Whether ``path`` is one of ``folders`` or lies in one."""
    return path.startswith(tuple(os.path.join(folder, "") for folder in folders)) or path in folders


def landlock_paths(found: Readable) -> tuple[list[str], list[str]]:
    """The files and whole folders to allow, and the folders that can only be listed since something hidden lies below."""
    whole: list[str] = list(found.files)
    listed: list[str] = []
    for folder in (*found.folders, *LOADER_PATHS):
        _open_up(os.path.realpath(folder), found.hidden, whole, listed)
    return list(dict.fromkeys(whole)), list(dict.fromkeys(listed))


def _open_up(path: str, hidden: tuple[str, ...], whole: list[str], listed: list[str]) -> None:
    # Landlock allows whole folders and knows no exceptions: around a hidden one, each neighbour is allowed by itself.
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
