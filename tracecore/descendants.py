"""What is below a process: found through ``/proc``, adopted when its parent dies, and swept."""

import contextlib
import functools
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
# a killed process that is still there after this is stuck in the kernel
SWEEP_PATIENCE_S: Final = 2.0
COUNT_BYTES: Final = 4  # of the part of a reference count by which immortal objects are known
REFERENCES: Final = 100  # of the self-check


def become_subreaper(*, yes: bool = True) -> bool:
    """Have orphans below this process come to it rather than to init, so that it can find and kill
    them; or no longer. Not inherited by a fork.
    """
    call = prepare_prctl()
    return call is not None and call(PR_SET_CHILD_SUBREAPER, int(yes)) == 0


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent``, which has started it and has one thread,
    dies, however that happens; leave at once if it is gone already.

    Not inherited by a fork.
    """
    call = prepare_prctl()
    if call is not None:
        call(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died before the kernel knew
            os._exit(1)


@functools.cache
def prepare_prctl() -> Callable[[int, int], int] | None:
    """Find the call once, for every process that is forked from here; ``None`` without ctypes."""
    try:
        native = _native()
        address = native.dlsym(native.dlopen("", 0), "prctl")
    except (ImportError, AttributeError, OSError):
        return None
    call_function = native.call_function
    return lambda option, value: int(call_function(address, (option, value, 0, 0, 0)))


def _native() -> Any:
    """The lower half of ctypes alone, and let go: this process forks, and ctypes itself is a
    megabyte that an agent could use.
    """
    loaded = "_ctypes" in sys.modules
    import _ctypes  # noqa: PLC0415 - see above

    if not loaded:
        del sys.modules["_ctypes"]
    return _ctypes


def children_of(pid: int) -> list[int]:
    """The process ids of the live or unreaped children of ``pid``; [] when it is gone or the kernel
    does not show them.
    """
    return list(map(int, read_proc(f"{pid}/task/{pid}/children").split()))


def read_proc(path: str) -> bytes:
    """A file below ``/proc``; nothing when its process is gone."""
    try:
        # Not open(): a file object costs ten times the system calls, and this is asked after every
        # job.
        fd = os.open(f"/proc/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = b""
            while part := os.read(fd, 1 << 16):
                found += part
        finally:
            os.close(fd)
    except OSError:
        return b""
    return found


def sweep(spare: frozenset[int] | set[int] = frozenset()) -> list[int]:
    """Kill and reap every child of this process but ``spare``, and everything below them.

    They are stopped first, all of them, and killed then: a tree that forks while it is killed one
    by one outruns that.

    Returns:
        Of each that was alive, the session that it was in.
    """
    me = os.getpid()
    if spare.issuperset(children_of(me)):
        return []
    swept: dict[int, int] = {}
    deadline_s = time.monotonic() + SWEEP_PATIENCE_S
    while orphans := [pid for pid in children_of(me) if pid not in spare and not reap(pid)]:
        frozen: set[int] = set()
        while fresh := tree_below(orphans) - frozen:
            for pid in fresh:
                send_signal(pid, signal.SIGSTOP)
                with contextlib.suppress(OSError):
                    swept.setdefault(pid, os.getsid(pid))
            frozen |= fresh
        for pid in frozen:
            send_signal(pid, signal.SIGKILL)
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.0005)  # a killed process needs a moment to become one that can be reaped
    return list(swept.values())


def reap(pid: int) -> bool:
    """Reap a child that has ended; whether it had, or was reaped before."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True


def tree_below(roots: list[int]) -> set[int]:
    """``roots`` and the process ids of everything below them."""
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children_of(pid)
    return found


def send_signal(pid: int, number: int) -> None:
    """Signal ``pid``; nothing happens when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(pid: int) -> None:
    """Kill the process ``pid`` and all that are still in the group it leads."""
    for kill in (os.killpg, os.kill):
        try:  # a context manager would be eight more objects for the parent of forks to copy
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def open_pidfd(pid: int) -> int | None:
    """A descriptor that turns readable when ``pid`` has ended; ``None`` on a kernel without."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def has_ended(pid: int) -> bool:
    """Whether a child has ended, and only waits to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


# --- before a process forks others, again and again ---


def prepare_to_fork() -> None:
    """Have each fork cost less; for a process where everything is there that its forks will find.

    What is there by now stays for good.
    """
    gc.collect()
    objects = gc.get_objects()
    # A collection in a fork would write into, and so copy, every page that holds an object.
    gc.freeze()
    # Builds with another header than we know have letters here.
    if sys.implementation.name == "cpython" and not sys.abiflags and not _is_counted(None):
        with contextlib.suppress(ImportError, AttributeError, ValueError, OverflowError):
            _make_immortal(objects)


def _make_immortal(objects: list[Any]) -> None:
    """Have nothing count the references to ``objects`` and to what they refer to, as those to
    ``None`` are not: each look at an object of this process would copy the page that it lies on.
    """
    parts = gc.get_referents(*objects)
    codes = [part for part in parts if type(part) is CodeType]
    while codes:
        inner: list[Any] = [one for code in codes for one in (code.co_names, code.co_consts)]
        parts += inner
        inner = gc.get_referents(*inner)
        parts += inner
        codes = [part for part in inner if type(part) is CodeType]
    probe = object()
    places = [id(None), id(probe), *map(id, objects), *map(id, parts)]
    first = min(places)
    counts = _memory(first, max(places))
    immortal = counts[(id(None) - first) // COUNT_BYTES]
    counts[(id(probe) - first) // COUNT_BYTES] = immortal
    if not _is_counted(probe):
        for place in places:
            counts[(place - first) // COUNT_BYTES] = immortal


def _is_counted(one: object) -> bool:
    before = sys.getrefcount(one)
    many = [one] * REFERENCES
    return sys.getrefcount(many[0]) != before


def _memory(first: int, last: int) -> memoryview:
    """The memory of this process from one address to another, by numbers of four bytes."""
    native = _native()
    number = type("_Number", (native._SimpleCData,), {"_type_": "I"})  # noqa: SLF001
    count = (last - first) // COUNT_BYTES + 1
    whole: Any = type("_Memory", (native.Array,), {"_type_": number, "_length_": count})
    return memoryview(whole.from_address(first)).cast("B").cast("I")
