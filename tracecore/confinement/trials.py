"""Layers, each tried out by a process that makes an attempt which the layer should stop."""

import contextlib
import json
import os
import resource
import select
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

from tracecore import descendants, frames, processes
from tracecore.confinement import layers, privileges
from tracecore.confinement.layers import LAYERS, NAMESPACES, Confinement, State
from tracecore.confinement.readable import Reach
from tracecore.confinement.witness import VIOLATION_EXIT
from tracecore.records import Limits

PATIENCE_S: Final = 20.0
PROBE_NONCE: Final = "doctor"
HELD, LET_THROUGH = 0, 1  # exit codes of a trial: the layer stopped it, or let it through


class LeanTrial:
    """A trial in a lean process of its own: begun now, and asked later for what it has found.

    Args:
        function: Given a descriptor, to which it writes a message of JSON, and ``arguments``.
        arguments: What else it is given.

    Raises:
        OSError: No process could be started.
    """

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        self._read_fd, write_fd = os.pipe()
        try:
            # Spawned, and so lean: what calls this may have threads, more open than an agent is
            # ever given, and has seen more than an agent ever does.
            self._pid = processes.start(
                function, (write_fd, *arguments), method=processes.SPAWN, keep_fds=[write_fd]
            )
        except OSError:
            os.close(self._read_fd)
            raise
        finally:
            os.close(write_fd)

    def found(self, patience_s: float) -> Any:
        """What it has found, as soon as it has; ``None`` if it dies first, or takes too long."""
        readable = select.poll()
        readable.register(self._read_fd, select.POLLIN)
        with contextlib.suppress(frames.ChannelClosed, ValueError):
            if readable.poll(patience_s * 1000):
                return json.loads(frames.read_message(self._read_fd))
        return None

    def close(self) -> None:
        """Leave no process of it."""
        os.close(self._read_fd)
        descendants.kill_group(self._pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def probe_all(write_fd: int, limits: Limits, method: str, thorough: bool) -> None:
    """In a lean process: try the layers out, and write what was found as JSON."""
    reach = Reach(os.path.dirname(os.__file__), (), (), (), ())
    state = _state_of(limits, reach, method)
    for layer, attempt in TRIALS.items():
        if (
            thorough
            and state.get(layer) is True
            and not _is_stopped(layer, attempt, limits, reach, method)
        ):
            state[layer] = "it is on, but stopped nothing"
    frames.write_message(write_fd, json.dumps(state).encode())


def _state_of(limits: Limits, reach: Reach, method: str) -> State:
    """The state of a confinement when all layers are put on, as for an agent."""
    read_fd, write_fd = os.pipe()

    def report(confinement: Confinement) -> int:
        frames.write_message(write_fd, json.dumps(confinement.state).encode())
        return HELD

    status = run_confined(report, limits, reach, method)
    os.close(write_fd)
    try:
        state: State = json.loads(frames.read_message(read_fd))
    except (frames.ChannelClosed, ValueError):
        return dict.fromkeys(LAYERS, f"a confined process {processes.describe_status(status)}")
    finally:
        os.close(read_fd)
    return state


def _is_stopped(
    layer: str, attempt: Callable[[], object], limits: Limits, reach: Reach, method: str
) -> bool:
    """Whether ``attempt`` fails with this one layer on, and what it needs to be put on."""
    needed = {layer, "no_new_privileges"}
    if layer in NAMESPACES:
        # Inside a user namespace the others are permitted; a disk of one's own would hide what the
        # trials look at.
        needed |= set(NAMESPACES) - {"mount_namespace"}
    off = ",".join(name for name in LAYERS if name not in needed)
    alone = Limits(memory_bytes=limits.memory_bytes, confinement="auto", layers_off=off)

    return was_stopped(run_trial(attempt, alone, reach, method))


def run_trial(
    attempt: Callable[[], object], limits: Limits, reach: Reach, method: str = processes.FORK
) -> int:
    """The wait status of a process that is confined by ``limits`` and makes the attempt."""

    def run(_confinement: Confinement) -> int:
        try:
            return HELD if attempt() else LET_THROUGH
        except OSError:
            return HELD

    return run_confined(run, limits, reach, method)


def was_stopped(status: int) -> bool:
    """Whether an attempt failed, or its process was ended for it."""
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status) == signal.SIGSYS
    return os.WEXITSTATUS(status) in {HELD, VIOLATION_EXIT}


def run_confined(
    function: Callable[[Confinement], int],
    limits: Limits,
    reach: Reach,
    method: str,
    words_fd: int | None = None,
) -> int:
    """Run ``function`` in a process confined as an agent is that is started by ``method``; gives
    its wait status.

    Args:
        function: Gets the confinement, gives the exit code.
        limits: Of the process.
        reach: What it may reach.
        method: How it would be started.
        words_fd: Where the audit hook writes what was tried; nowhere, by default.
    """
    inherits = method == processes.FORK
    keeper = os.fork()
    if keeper == 0:
        code = 1
        with contextlib.suppress(BaseException):
            confinement = layers.begin(limits, reach)
            layers.leave_namespaces(
                confinement, layers.NAMESPACES if inherits else layers.OF_KEEPER
            )
            zygote = os.fork()
            if zygote:
                os._exit(_pass_on(os.waitpid(zygote, 0)[1]))
            if inherits:
                layers.confine(confinement)
            agent = os.fork()
            if agent:
                os._exit(_pass_on(os.waitpid(agent, 0)[1]))
            if not inherits:
                layers.leave_namespaces(confinement, layers.OF_SPAWNED)
                layers.confine(confinement)
            if words_fd is None:
                words_fd = os.open(os.devnull, os.O_RDWR)
            layers.confine_agent(confinement, words_fd, PROBE_NONCE)
            code = function(confinement)
        os._exit(code)
    status = os.waitpid(keeper, 0)[1]
    code = os.WEXITSTATUS(status)
    # a signal's number stands for itself in a wait status
    return code - 128 if code > 128 else code << 8


def _pass_on(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


# --- the attempts: something true, or OSError, when they were stopped; a death by the layer counts
# too ---


def _read_status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith(name + ":"))


def _connect_to_itself() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.connect(("127.0.0.1", 9))


def _has_left(kind: str) -> Callable[[], object]:
    outside = _namespace(kind)
    return lambda: _namespace(kind) != outside


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return "out of sight"


def _write_or_see_disk() -> None:
    if not os.path.exists("/etc/passwd"):
        os.close(os.open("/", os.O_TMPFILE | os.O_RDWR, 0o600))


TRIALS: Final[dict[str, Callable[[], object]]] = {
    "audit_hook": lambda: open("/etc/passwd").close(),
    "resource_limits": lambda: resource.getrlimit(resource.RLIMIT_FSIZE)[1] == 0,
    "no_new_privileges": lambda: _read_status("NoNewPrivs") == 1,
    "capabilities": lambda: _read_status("CapEff") & ~privileges.CAP_DAC_READ_SEARCH == 0,
    "seccomp": lambda: os.kill(os.getppid(), 0),
    "landlock": lambda: open("/etc/passwd").close(),
    "user_namespace": _has_left("user"),
    "network_namespace": _connect_to_itself,
    "ipc_namespace": _has_left("ipc"),
    "pid_namespace": _has_left("pid"),
    "mount_namespace": _write_or_see_disk,
}
