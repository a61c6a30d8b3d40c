"""What an agent may read: the interpreter's library, its own folder, what its row allows; and what
never, wherever it lies.
"""

import contextlib
import os
import site
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracecore.record import record

PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOADER_FOLDERS: Final = ("/lib", "/usr/lib")
WIDE_LOADER_FOLDERS: Final = ("/lib64", "/usr/lib64")
LOADER_CACHE: Final = "/etc/ld.so.cache"
LOCAL_LIBRARIES: Final = "/usr/local/lib"  # of which only the shared objects are the loader's
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


def reach_from_json(document: dict[str, Any]) -> Reach:
    """A reach of its fields, as they come out of JSON."""
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
    """A reach on this machine; nothing, as it begins. Every path stands as written and with its
    links resolved.
    """

    folders: tuple[str, ...] = ()  # with all below
    files: frozenset[str] = frozenset()
    hidden: tuple[str, ...] = ()  # folders with all below, and files, in or outside of the above
    native: tuple[str, ...] = ()  # where shared objects may be loaded from
    folder: str = "/"  # the agent's own


def secret_folders(tasks_dirs: Iterable[str], *others: str) -> tuple[str, ...]:
    """What no agent of a slice may read: the bundled tasks, every task below ``tasks_dirs``, and
    ``others``.
    """
    # The tasks of a folder and not itself: agents may lie beside them.
    below = (os.path.join(folder, name) for folder in tasks_dirs for name in _names_in(folder))
    tasks = [path for path in below if os.path.lexists(os.path.join(path, TASK_MARK))]
    hidden = (os.path.join(PACKAGE, "tasks"), *tasks, *others)
    return tuple(dict.fromkeys(map(os.path.abspath, hidden)))


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
    places = folders_around(path) - {"/"}
    return any(os.path.lexists(os.path.join(place, TASK_MARK)) for place in places)


def folders_around(path: str) -> set[str]:
    """Where ``path`` really lies, and every folder around that."""
    return set(walk_to(os.path.realpath(path))[1])


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
    whole, listed = list(found.files), []
    todo = list(map(os.path.realpath, found.folders))
    for path in todo:  # which grows
        if is_below(path, found.hidden):
            continue
        if not any(is_below(secret, (path,)) for secret in found.hidden):
            whole.append(path)
            continue
        # Landlock allows whole folders and knows no exceptions: around a hidden one, each neighbour
        # is allowed by itself.
        listed.append(path)
        below = (os.path.join(path, name) for name in _names_in(path))
        todo += [child for child in below if not os.path.islink(child)]
    return list(dict.fromkeys(whole)), list(dict.fromkeys(listed))


# --- where this interpreter's library lies, and what it is linked to ---


def library_folders() -> list[str]:
    """Python's own library, the packages installed into this interpreter or its virtual
    environment, and this package.

    They are named by the interpreter, never by ``sys.path``: what happens to be importable
    (``PYTHONPATH``, the working folder, a ``.pth`` file) is not thereby part of the library.
    """
    beside = os.path.dirname(PACKAGE)
    return [
        os.path.dirname(os.__file__),
        *site.getsitepackages(_prefixes()),
        beside if _is_installed_in(beside) else PACKAGE,
    ]


def loader_folders() -> list[str]:
    """Folders of the system's shared objects, as narrow as the system keeps them."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    narrow = [os.path.join(folder, multiarch) for folder in LOADER_FOLDERS if multiarch]
    narrow = [folder for folder in narrow if os.path.isdir(folder)]
    wide = [folder for folder in WIDE_LOADER_FOLDERS if os.path.isdir(folder)]
    return [*(narrow or LOADER_FOLDERS), *wide]


def loader_files() -> list[str]:
    """The loader's cache, and the shared objects that lie beside what agents may not read."""
    prefixes = (*_prefixes(), sys.base_prefix)
    folders = {LOCAL_LIBRARIES, *(os.path.join(prefix, "lib") for prefix in prefixes)}
    paths = (os.path.join(folder, name) for folder in sorted(folders) for name in _names_in(folder))
    return [LOADER_CACHE, *(path for path in paths if ".so" in os.path.basename(path))]


def installed_tasks(folders: Sequence[str]) -> list[str]:
    """The bundled tasks of every installation of this project in or below library folders."""
    below = (os.path.join(folder, name) for folder in folders for name in _names_in(folder))
    pythons = [path for path in below if os.path.basename(path).startswith("python")]
    places = (
        os.path.join(root, part, "tracecore", "tasks")
        for root in (os.path.dirname(PACKAGE), *folders, *pythons)
        for part in ("", "site-packages", "dist-packages")
    )
    return [place for place in dict.fromkeys(places) if os.path.isdir(place)]


def _prefixes() -> list[str]:
    # A lean interpreter runs without `site`, which before 3.14 is what finds a virtual environment.
    folder = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    try:
        with open(os.path.join(folder, "pyvenv.cfg"), encoding="utf-8") as file:
            words = file.read().lower().replace(" ", "")
    except (OSError, ValueError):
        return list(dict.fromkeys((sys.prefix, sys.exec_prefix)))
    shared = "include-system-site-packages=true" in words
    return list(dict.fromkeys([folder, *([sys.base_prefix, sys.base_exec_prefix] * shared)]))


def _is_installed_in(folder: str) -> bool:
    return any(
        name.startswith("tracecore-") and name.endswith(".dist-info") for name in _names_in(folder)
    )


def _names_in(folder: str) -> list[str]:
    """What lies in a folder, sorted; nothing where it is none that can be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
