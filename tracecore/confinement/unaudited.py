"""Stand-ins for functions that Python raises no audit event for: what they are asked becomes an
event.

Planted once, in the zygote, and inherited by its agents. Where there is no hook they do as the
functions themselves.
"""

import _thread
import contextlib
import importlib
import os
import posix
import sys
from collections.abc import Callable
from typing import Any, Final

from tracecore.confinement.audit_hook import ABSENT_MODULES, ATTEMPT, LOOK, Originals
from tracecore.confinement.path_check import seal


def plant() -> Originals:
    """Put them in place, for ever; gives two of the functions that they stand for.

    A built-in module made afresh would have the functions themselves: all are loaded first, and
    none can be made afterwards.
    """
    originals = Originals(posix.stat, posix.readlink)
    for name in sys.builtin_module_names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in ABSENT_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module_name, names in REFUSED.items():
        module = sys.modules.get(module_name)
        for name, words in names.items():
            if module is not None and hasattr(module, name):
                setattr(module, name, _refusing(words))
    _bound_threads()
    for name in FLAGGED:
        if hasattr(posix, name):
            _plant_without_flags(name)
    for name in LOOKING:
        if hasattr(posix, name):
            _plant_looking(name)
    return originals


def _refusing(words: str) -> Callable[..., None]:
    audit = sys.audit

    def refused(*_args: Any, **_named: Any) -> None:
        audit(ATTEMPT, words)
        raise PermissionError(words)

    return refused


def _plant_looking(name: str) -> None:
    function, audit, plain, as_path = (
        getattr(posix, name),
        sys.audit,
        frozenset((str, bytes, int)),
        os.fspath,
    )

    def look(path: Any, *args: Any, dir_fd: int | None = None, **named: Any) -> Any:
        if type(path) not in plain:
            path = as_path(path)  # once: it may say something else the second time
        audit(LOOK, path, dir_fd)
        return (
            function(path, *args, **named)
            if dir_fd is None
            else function(path, *args, dir_fd=dir_fd, **named)
        )

    stand_in = seal(look)  # in its closure it would show what it stands for
    for module in (posix, os):
        setattr(module, name, stand_in)
    for able in (
        os.supports_dir_fd,
        os.supports_fd,
        os.supports_follow_symlinks,
        os.supports_effective_ids,
    ):
        if function in able:
            able.add(stand_in)


def _plant_without_flags(name: str) -> None:
    function, audit, words = getattr(posix, name), sys.audit, _CACHE

    def read_or_write(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags:
            audit(ATTEMPT, words)
            raise PermissionError(words)
        return function(fd, buffers, offset)  # type: ignore[no-any-return]

    stand_in = seal(read_or_write)
    for module in (posix, os):
        setattr(module, name, stand_in)


def _bound_threads() -> None:
    function, audit, running, most = (
        _thread.start_new_thread,
        sys.audit,
        _thread._count,  # noqa: SLF001
        THREADS_MOST,
    )
    words = f"start more than {most} threads"

    def start_new_thread(*args: Any) -> int:
        if running() >= most:
            audit(ATTEMPT, words)
            raise RuntimeError(words)
        return function(*args)

    stand_in = seal(start_new_thread)
    for module, name in (
        (_thread, "start_new_thread"),
        (_thread, "start_new"),
        (sys.modules.get("threading"), "_start_new_thread"),
    ):
        if hasattr(module, name):
            setattr(module, name, stand_in)


# that Python runs at a time, the first one not counted: the same wherever the agent runs
THREADS_MOST: Final = 128
FLAGGED: Final = ("preadv", "pwritev")
_CACHE: Final = "ask for what the machine keeps in memory, or change it"
LOOKING: Final = ("stat", "lstat", "access", "readlink", "statvfs", "pathconf")
_USERS: Final = "read the list of users"
_POSIX: Final = {
    "mkfifo": "create a pipe on disk",
    "mknod": "create a device",
    "memfd_create": "create a file in memory",
    "chroot": "change the root folder",
    "setuid": "change the user",
    "seteuid": "change the user",
    "setreuid": "change the user",
    "setresuid": "change the user",
    "setgid": "change the group",
    "setegid": "change the group",
    "setregid": "change the group",
    "setresgid": "change the group",
    "setgroups": "change the group",
    "initgroups": "change the group",
    "nice": "change its priority",
    "setpriority": "change its priority",
    "sched_setaffinity": "change its cores",
    "sched_setscheduler": "change its priority",
    "sched_setparam": "change its priority",
    "posix_fallocate": "write a descriptor",
    "posix_fadvise": _CACHE,
    "openpty": "open a terminal",
    "ttyname": "ask for a terminal's name",
    "getlogin": "ask who the user is",
    "sync": "have the machine's disks written",
}
REFUSED: Final = {
    "pwd": {"getpwnam": _USERS, "getpwuid": _USERS, "getpwall": _USERS},
    "_imp": {"create_builtin": "make a built-in module afresh"},
    "posix": _POSIX,
    "os": _POSIX,
    "time": {"clock_settime": "change the clock", "clock_settime_ns": "change the clock"},
    "_posixsubprocess": {"fork_exec": "exec a program"},
    "signal": {"pidfd_send_signal": "signal another process"},
    "_signal": {"pidfd_send_signal": "signal another process"},
}
