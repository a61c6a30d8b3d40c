"""What an agent may read: Python's own library, installed packages, its own folder; and what never,
wherever it lies.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracecore.record import record

# Files of the system that Python and NumPy read to know what they run on, and that say nothing of
# anybody else.
SYSTEM_FILES: Final = (
    "/dev/null",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
)
# Where the dynamic loader finds what Python's own modules are linked to. Python itself opens
# nothing there.
LOADER_PATHS: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
)
RESOLVER_FILES: Final = (
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
)
LINKS_MOST: Final = 400  # parts of a path, those of links among them, before it is taken for a loop
# Where zoneinfo, mimetypes, gettext and ssl look for files of the system, and libraries for those
# at home.
UNANSWERED: Final = (
    "/usr/share/zoneinfo",
    "/usr/lib/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
    "/etc/mime.types",
    "/etc/httpd",
    "/etc/apache",
    "/etc/apache2",
    "/usr/local/etc",
    "/usr/local/lib/netscape",
    "/usr/share/locale",
    "/etc/ssl",
    "/usr/lib/ssl",
    "/usr/local/ssl",
    "/nonexistent",
)
PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TASK_MARK: Final = "task.toml"  # what makes a folder one of a task
INSTALL_FOLDERS: Final = ("site-packages", "dist-packages")
# below one readable folder, for tasks; what lies deeper is the audit hook's to find
FOLDERS_SEARCHED: Final = 500


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
    """A reach, as the audit hook compares it and Landlock enforces it.

    Every path as written and with links resolved.
    """

    folders: tuple[str, ...]  # with all below
    own: tuple[str, ...]  # those of them that may hold links to elsewhere: the agent's folder
    files: frozenset[str]
    hidden: tuple[str, ...]
    # what is passed on the way to all these: it may be asked for, not read
    ways: frozenset[str] = frozenset()
    # the agent's folder: who sent it may have sent a file with a second name elsewhere
    given: tuple[str, ...] = ()
    # installed packages and what a row allows: there, such files are nobody's trick
    trusted: tuple[str, ...] = ()
    # where Python's library looks by itself: as if there were nothing
    unanswered: tuple[str, ...] = ()


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
    own = _both([reach.folder, *reach.read])
    libraries = library_folders()
    searched = (reach.folder, *reach.read, *filter(_is_somebodys_folder, libraries))
    system = (*SYSTEM_FILES, *(RESOLVER_FILES if reach.network else ()))
    folders = tuple(dict.fromkeys([*_both(libraries), *own]))
    files = frozenset(_both([*system, *reach.agents]))
    entries = [entry for entry in sys.path if os.path.isabs(entry)]
    return Readable(
        folders=folders,
        own=tuple(own),
        files=files,
        hidden=tuple(_both([*reach.hidden, *_installed_tasks(libraries), *_tasks_below(searched)])),
        ways=frozenset(step for path in (*folders, *files, *entries) for step in walk_to(path)[1]),
        given=tuple(_both([reach.folder])),
        trusted=tuple(
            _both([*filter(_is_install_folder, libraries), *_own_library(), *reach.read])
        ),
        unanswered=(
            *UNANSWERED,
            *_both(
                [os.path.dirname(sys.executable), *map(_locales, (sys.prefix, sys.base_prefix))]
            ),
        ),
    )


def _installed_tasks(libraries: Iterable[str]) -> list[str]:
    """The bundled tasks of every installation of this project that is in sight, not only of the one
    that runs.
    """
    roots = [os.path.dirname(PACKAGE), *libraries]
    # which are open to the dynamic loader, and so to native code
    for folder in ("/usr/lib", "/usr/local/lib"):
        with contextlib.suppress(OSError):
            roots += [
                os.path.join(folder, name)
                for name in os.listdir(folder)
                if name.startswith("python")
            ]
    places = (
        os.path.join(root, part, "tracecore", "tasks")
        for root in roots
        for part in ("", *INSTALL_FOLDERS)
    )
    return [place for place in dict.fromkeys(places) if os.path.isdir(place)]


def _tasks_below(roots: Iterable[str]) -> list[str]:
    """The task folders in ``roots``, those nearest to them first; bounded, since an agent may lie
    in anybody's home.
    """
    found: list[str] = []
    for root in dict.fromkeys(roots):
        todo = [root]
        for folder in todo:  # which grows
            try:
                with os.scandir(folder) as entries:
                    below = sorted(
                        (entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries
                    )
            except OSError:
                continue
            if any(name == TASK_MARK for name, _ in below):
                found.append(folder)
            else:
                todo += [os.path.join(folder, name) for name, is_folder in below if is_folder][
                    : max(0, FOLDERS_SEARCHED - len(todo))
                ]
    return found


def _locales(prefix: str) -> str:
    return os.path.join(prefix, "share", "locale")


def library_folders() -> list[str]:
    """Where modules come from in this process.

    Of a source tree only the package itself, not what lies beside it.
    """
    found = _own_library()
    for entry in sys.path:
        if not os.path.isabs(entry) or entry.endswith(".zip"):
            continue
        if not is_source_tree(entry):
            found.append(entry)
    return found


def _own_library() -> list[str]:
    return [os.path.dirname(os.__file__), PACKAGE]


def is_source_tree(entry: str) -> bool:
    """Whether a folder that modules come from is where this package is developed."""
    return entry == os.path.dirname(PACKAGE) and not _is_install_folder(entry)


def _is_install_folder(path: str) -> bool:
    with contextlib.suppress(OSError):
        return any(name.endswith(".dist-info") for name in os.listdir(path))
    return False


def _is_somebodys_folder(path: str) -> bool:
    """Whether it is neither Python's own library nor one that packages are installed into, but a
    folder put on its path.
    """
    return not is_below(path, _own_library()) and not _is_install_folder(path)


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
    for folder in (*found.folders, *LOADER_PATHS):
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
