"""Starting processes, and their ends in words.

Everything that starts a process below the harness goes through :func:`start`: by ``fork`` where
that is sound, or by ``spawn`` of a lean interpreter, with the same function, arguments and
descriptors. A lean interpreter has seen no site customisation, no environment but a short
allowlist, and a fixed hash seed: what runs in it depends on its inputs alone.
"""

import contextlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

from tracecore import frames
from tracecore.descendants import read_proc

FORK: Final = "fork"
SPAWN: Final = "spawn"
PROGRAM: Final = "tracecore"  # what a lean interpreter, and all below it, takes itself for
REFUSAL_PAUSES_S: Final = (0.02, 0.1, 0.3)  # before asking again for a process that was refused


def method_of(asked: str) -> str:
    """``fork`` or ``spawn``, of what a user asks for; ``auto`` is ``fork``."""
    return FORK if asked == "auto" else asked


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
    if method != FORK:
        return spawn(function, args, keep_fds=keep_fds, needed=(function, *args))
    pid = _ask_again_when_refused(os.fork)
    if pid == 0:
        _run_and_leave(function, args, sorted(keep_fds))
    return pid


def spawn(
    function: Callable[..., object],
    args: tuple[Any, ...],
    *,
    keep_fds: Iterable[int],
    needed: Iterable[Any] = (),
    errors: bool = False,
    holding: Iterable[int] = (),
) -> int:
    """As :func:`start` by ``spawn``.

    Args:
        function: As there, and so the following two.
        args: As there.
        keep_fds: As there.
        needed: What it must be able to import, beside this package and what is installed.
        errors: Whether it keeps the standard error stream of this process.
        holding: Signals that are blocked in it until it unblocks them; no other is.
    """
    kept = sorted(keep_fds)
    call_r, call_w = os.pipe()
    try:
        for fd in (call_r, *kept):
            os.set_inheritable(fd, True)
        command = _lean_command(f"run_call({call_r}, {kept}, {errors})", needed)
        path = command[0]
        pid = _ask_again_when_refused(
            lambda: os.posix_spawn(
                path,
                command,
                lean_environment(),
                setsigmask=holding,
                # What started the harness may ignore any of them, which is inherited: an
                # ignored SIGCHLD takes the children's ends away.
                setsigdef=signal.valid_signals() - _KEPT_SIGNALS,
            )
        )
        with contextlib.suppress(BrokenPipeError):  # it died at once, and its waiter will see that
            frames.write_message(call_w, pickle.dumps((function, args)))
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)
        os.close(call_r)
        os.close(call_w)
    return pid


# SIGINT goes to a terminal's whole foreground group: a worker ignores it, and all below with it.
_KEPT_SIGNALS: Final = {signal.SIGKILL, signal.SIGSTOP, signal.SIGINT}


def _ask_again_when_refused(start_one: Callable[[], int]) -> int:
    for pause_s in REFUSAL_PAUSES_S:
        try:
            return start_one()
        except BlockingIOError:  # as many processes as the machine, or a limit, allows
            time.sleep(pause_s)
    return start_one()


def _lean_command(call: str, needed: Iterable[Any]) -> list[str]:
    """The command of a lean interpreter that can import what is ``needed``, and runs ``call``."""
    code = f"import sys; sys.path[:] = {lean_path(needed)!r};"
    code += f" from tracecore.processes import run_call; {call}"
    # -S: no site, whose .pth files import whatever is installed; -s -P: no user site, no current
    # folder on the path.
    return [sys.executable or "/usr/bin/python3", "-S", "-s", "-P", "-B", "-c", code]


def lean_path(needed: Iterable[Any] = ()) -> list[str]:
    """Where a lean interpreter imports from: this package, the interpreter's own library and
    installed packages, and where the modules of what is ``needed`` come from.

    Not whatever else is on the path of this process: the working folder, what ``PYTHONPATH`` names
    and a user's own packages would run outside of confinement, and count as a library there.
    """
    own = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    if sys.flags.no_site and sys.flags.safe_path:  # lean itself
        return [*dict.fromkeys([*own, *sys.path])]
    library = os.path.dirname(os.__file__)
    site: Any = sys.modules.get("site")
    installed = set(site.getsitepackages() if site else ())
    paths = [
        path
        for path in sys.path
        if path == library
        or os.path.dirname(path) == library
        or path in installed
        or os.path.basename(path) == _ZIPPED_LIBRARY
    ]
    roots = [_import_root(one) for one in needed if hasattr(one, "__module__")]
    return [*dict.fromkeys([*own, *(root for root in roots if root), *paths])]


_ZIPPED_LIBRARY: Final = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"


def _import_root(one: Any) -> str:
    """The folder on the path that the module of ``one`` was imported from."""
    top: Any = sys.modules.get(str(one.__module__).partition(".")[0])
    folders = list(getattr(top, "__path__", ()))
    found = folders[0] if folders else getattr(top, "__file__", None)
    root = os.path.dirname(os.path.abspath(found)) if found else ""
    return "" if root == os.path.dirname(os.__file__) else root


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


def run_call(call_fd: int, kept: list[int], errors: bool) -> None:
    """The first thing a lean interpreter does: read the call, and run it."""
    # No agent or task shall see where the interpreter and this package lie: its words are hashed.
    sys.argv[:] = sys.orig_argv[:] = [PROGRAM]
    function, args = pickle.loads(frames.read_message(call_fd))  # noqa: S301 - written by our own starter
    os.close(call_fd)
    for fd in kept:
        os.set_inheritable(fd, False)
    _run_and_leave(function, args, kept, errors=errors)


def _run_and_leave(
    function: Callable[..., object], args: tuple[Any, ...], kept: list[int], *, errors: bool = False
) -> NoReturn:
    code = 1
    try:
        _detach(kept, (0, 1) if errors else (0, 1, 2))
        function(*args)
        code = 0
    except SystemExit:  # it leaves on purpose, and for a reason that is no failure to show
        pass
    # whatever it was: this process must not run on in code that belongs to its parent
    except BaseException:
        with contextlib.suppress(BaseException):
            sys.excepthook(*sys.exc_info())
    finally:
        # _exit: no finalizer, exit handler or thread of the parent's image may run, or wait, here.
        os._exit(code)


def _detach(kept: list[int], streams: tuple[int, ...]) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in streams:
        os.dup2(null, fd)
    # A copy of a pipe's other end would keep its reader waiting for an end of stream that never
    # comes.
    low = 3
    for fd in kept:
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 16)


# --- peak memory ---------------------------------------------------------------------------------


def peak_rss_bytes(usage: Any) -> int:
    """The peak memory in what ``wait4`` gives.

    Of a process that went through an exec, what had started it counts too.
    """
    return int(usage.ru_maxrss) * 1024


def own_peak_rss_bytes() -> int:
    """The high-water mark of this process's own memory; 0 when it cannot be read.

    Unlike the figure of ``wait4`` it begins anew at an exec. Of a fork both begin at what was there
    when it was forked.
    """
    words = read_proc("self/status").partition(b"VmHWM:")[2].split(None, 1)
    return int(words[0]) * 1024 if words else 0


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started meanwhile, which inherit that; ours comes
    when the block ends.

    For a process with one thread: any other would take it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in words ------------------------------------------------------------------------------------


def describe_status(status: int) -> str:
    """A wait status in words: ``exited with code 3``, ``killed by SIGSEGV``."""
    return describe_code(os.waitstatus_to_exitcode(status))


def describe_code(code: int) -> str:
    """The same of what ``subprocess`` and ``multiprocessing`` make of it: an exit code, or the
    negative of a signal.
    """
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def describe_past(code: int) -> str:
    """The same in words that fit behind "the process": ``exited with code 3``, ``was killed by
    SIGSEGV``.
    """
    return f"was {describe_code(code)}" if code < 0 else describe_code(code)
