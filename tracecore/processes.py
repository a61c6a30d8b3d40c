"""Starting, leashing and sweeping processes, and their ends in words.

Everything that starts a process below the harness goes through :func:`start`: by ``fork`` where
that is sound, or by ``spawn`` of a lean interpreter, with the same function, arguments and
descriptors. A lean interpreter has seen no site customisation, no environment but a short
allowlist, and a fixed hash seed: what runs in it depends on its inputs alone.
"""

import contextlib
import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

from tracecore import frames

FORK: Final = "fork"
SPAWN: Final = "spawn"
PR_SET_CHILD_SUBREAPER: Final = 36
F_SETSIG: Final = 10  # fcntl.F_SETSIG, which is Linux's own
REFUSAL_PAUSES_S: Final = (0.02, 0.1, 0.3)  # before asking again for a process that was refused
# a killed process that is still there after this is stuck in the kernel
SWEEP_PATIENCE_S: Final = 2.0


def default_method() -> str:
    """``fork`` on Linux, whose fork from a single thread is sound and whose ``/proc`` tells what is
    left; else ``spawn``.
    """
    return FORK if sys.platform == "linux" else SPAWN


def method_of(asked: str) -> str:
    """``fork`` or ``spawn``, of what a user asks for; ``auto`` is the platform's own."""
    return default_method() if asked == "auto" else asked


def start(
    function: Callable[..., object], args: tuple[Any, ...], *, method: str, keep_fds: Iterable[int]
) -> int:
    """Run ``function(*args)`` in a new process in a session of its own; gives its process id.

    The new process has no standard streams (all are the null device), and of the other descriptors
    only ``keep_fds``, under the same numbers. It never returns into the caller's code, and leaves
    without running exit handlers.

    Args:
        function: Importable by name (``spawn`` needs that).
        args: Must pickle under ``spawn``.
        method: ``fork`` or ``spawn``.
        keep_fds: Descriptors that the function uses.
    """
    kept = sorted(keep_fds)
    if method == FORK:
        pid = _ask_again_when_refused(os.fork)
        if pid == 0:
            _run_and_leave(function, args, kept)
        return pid
    call_r, call_w = os.pipe()
    try:
        for fd in (call_r, *kept):
            os.set_inheritable(fd, True)
        path, argv, env = lean_command(call_r, kept)
        pid = _ask_again_when_refused(lambda: os.posix_spawn(path, argv, env))
        with contextlib.suppress(BrokenPipeError):  # it died at once, and its waiter will see that
            frames.write_message(call_w, pickle.dumps((function, args)))
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)
        os.close(call_r)
        os.close(call_w)
    return pid


def _ask_again_when_refused(start_one: Callable[[], int]) -> int:
    for pause_s in REFUSAL_PAUSES_S:
        try:
            return start_one()
        except BlockingIOError:  # as many processes as the machine, or a limit, allows
            time.sleep(pause_s)
    return start_one()


def become(call: bytes, fds: tuple[int, ...]) -> NoReturn:
    """Turn this process into a lean interpreter; keeps its id, streams and ``fds``.

    Args:
        call: Pickled ``(function, args)``; it need not be importable here.
        fds: Given to the function behind its other arguments.
    """
    call_r, call_w = os.pipe()
    for fd in (call_r, *fds):
        os.set_inheritable(fd, True)
    frames.write_message(call_w, call)
    path, argv, env = lean_command(call_r, None, fds)
    os.execve(path, argv, env)


def lean_command(
    call_fd: int, kept: list[int] | None, more: tuple[int, ...] = ()
) -> tuple[str, list[str], dict[str, str]]:
    """Path, arguments and environment of a lean interpreter that runs the call it reads from
    ``call_fd``.

    Args:
        call_fd: Where the pickled call comes from.
        kept: The descriptors to keep when it starts as a child; ``None`` when it takes the place of
            this process.
        more: Further arguments of the call.
    """
    package_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [package_root, *(path for path in sys.path if path and path != package_root)]
    call = f"run_call({call_fd}, {kept!r}, {more!r})"
    code = f"import sys; sys.path[:] = {paths!r}; from tracecore.processes import run_call; {call}"
    executable = sys.executable or "/usr/bin/python3"
    # -S: no site, whose .pth files import whatever is installed; -s -P: no user site, no current
    # folder on the path.
    return executable, [executable, "-S", "-s", "-P", "-B", "-c", code], lean_environment()


def lean_environment() -> dict[str, str]:
    """The few variables that a lean interpreter has: what it does must not depend on who started
    it, or where.
    """
    return {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
    }


def run_call(call_fd: int, kept: list[int] | None, more: tuple[int, ...]) -> None:
    """The first thing a lean interpreter does: read the call, and run it."""
    function, args = pickle.loads(frames.read_message(call_fd))  # noqa: S301 - written by our own starter
    os.close(call_fd)
    if kept is not None:
        _run_and_leave(function, (*args, *more), kept)
    function(*args, *more)


def _run_and_leave(
    function: Callable[..., object], args: tuple[Any, ...], kept: list[int]
) -> NoReturn:
    code = 1
    try:
        _detach(kept)
        function(*args)
        code = 0
    # whatever it was: this process must not run on in code that belongs to its parent
    except BaseException:
        with contextlib.suppress(BaseException):
            sys.excepthook(*sys.exc_info())
    finally:
        # _exit: no finalizer, exit handler or thread of the parent's image may run, or wait, here.
        os._exit(code)


def _detach(kept: list[int]) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    # A copy of a pipe's other end would keep its reader waiting for an end of stream that never
    # comes.
    low = 3
    for fd in kept:
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 16)


# --- the leash -------------------------------------------------------------------------------------------------------


class Leash:
    """Kills the process it is tied to when the one that made it dies, however that happens.

    The maker holds the write end of a pipe; the kernel signals the owner of the read end when that
    closes. Unlike a parent-death signal it needs no foreign function call in every child, survives
    an exec, and is not tied to a thread.
    """

    def __init__(self) -> None:
        import fcntl  # noqa: PLC0415 - not there on every platform

        self.read_fd, self._write_fd = os.pipe()
        fcntl.fcntl(self.read_fd, fcntl.F_SETFL, os.O_ASYNC)
        fcntl.fcntl(self.read_fd, F_SETSIG, signal.SIGKILL)


def leash_exists() -> bool:
    """Whether this platform can signal the owner of a pipe with a signal of our choice."""
    return sys.platform == "linux"


def tie_to_leash(read_fd: int) -> None:
    """In a new process: tie it to its parent's leash, and leave at once if that parent is gone
    already.

    Not done by the parent, which may die between starting it and doing so. Whoever was tied before
    is released.
    """
    import fcntl  # noqa: PLC0415 - not there on every platform

    fcntl.fcntl(read_fd, fcntl.F_SETOWN, os.getpid())
    hung_up = select.poll()
    hung_up.register(read_fd, 0)
    if hung_up.poll(0):
        os._exit(1)


# --- peak memory -----------------------------------------------------------------------------------------------------


def peak_rss_bytes(usage: Any) -> int:
    """The peak memory in what ``wait4`` tells.

    Of a process that went through an exec, what had started it counts too.
    """
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def own_peak_rss_bytes(pid: int | str = "self") -> int | None:
    """The high-water mark of a live process's own memory; ``None`` when it is gone or the platform
    does not tell.

    Unlike the figure of ``wait4`` it begins anew at an exec. Of a fork both begin at what was there
    when it was forked.
    """
    try:
        fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.read(fd, 1 << 12)
        finally:
            os.close(fd)
        return int(status.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None


# --- sweeping --------------------------------------------------------------------------------------------------------


def become_subreaper(*, yes: bool = True) -> bool:
    """Have orphans below this process come to it rather than to init, so that it can find and kill
    them; or no longer.
    """
    import ctypes  # noqa: PLC0415 - a megabyte that no process which forks should carry

    try:
        return bool(
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) == 0
        )
    except (OSError, AttributeError):
        return False


def children_of(pid: int) -> list[int]:
    """The process ids of the live or unreaped children of ``pid``; [] when it is gone or the
    platform does not tell.
    """
    try:
        # Not open(): a file object costs ten times the system calls, and this is asked after every
        # job.
        fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            listed = b""
            while part := os.read(fd, 1 << 16):
                listed += part
        finally:
            os.close(fd)
    except OSError:
        return []
    return [int(word) for word in listed.split()]


def sweep(spare: frozenset[int] = frozenset()) -> int:
    """Kill and reap every child of this process but ``spare``, and everything below them; gives how
    many were alive.

    They are stopped first, all of them, and killed then: a tree that forks while it is killed one
        by one outruns that.
    """
    me, swept = os.getpid(), 0
    deadline_s = time.monotonic() + SWEEP_PATIENCE_S
    while orphans := [pid for pid in children_of(me) if pid not in spare and not _reap(pid)]:
        frozen: set[int] = set()
        while fresh := tree_below(orphans) - frozen:
            for pid in fresh:
                send_signal(pid, signal.SIGSTOP)
            frozen |= fresh
        for pid in frozen:
            send_signal(pid, signal.SIGKILL)
        swept = max(swept, len(frozen))
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.0005)  # a killed process needs a moment to become one that can be reaped
    return swept


def _reap(pid: int) -> bool:
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
    """Kill the process ``pid`` and whoever is still in the group it leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    send_signal(pid, signal.SIGKILL)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started meanwhile, which inherit that; ours comes
    when the block ends.

    For a process with one thread: any other would take it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in words --------------------------------------------------------------------------------------------------------


def describe_status(status: int) -> str:
    """A wait status in words: ``exited with code 3``, ``killed by SIGSEGV``."""
    return describe_code(os.waitstatus_to_exitcode(status))


def describe_code(code: int) -> str:
    """The same of what ``subprocess`` and ``multiprocessing`` make of it: an exit code, or the
    negative of a signal.
    """
    return describe_signal(-code) if code < 0 else describe_exit(code)


def describe_past(code: int) -> str:
    """The same in words that fit behind "the process": ``exited with code 3``, ``was killed by
    SIGSEGV``.
    """
    return f"was {describe_code(code)}" if code < 0 else describe_code(code)


def describe_exit(code: int) -> str:
    """An exit code in words."""
    return f"exited with code {code}"


def describe_signal(number: int) -> str:
    """A deadly signal in words."""
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"
