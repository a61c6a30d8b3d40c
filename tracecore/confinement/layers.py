"""Confinement of agents, in layers: each where the machine has it, none required, each reported.

::

    keeper   leaves the namespaces ──starts──▶ zygote (first process of its process table)
                                                 │ closes the disk, bounds itself, gives up
                                                 privileges, │ Landlock, first filter: all inherited
                                                 by its forks for nothing └─forks──▶ agent process:
                                                 second filter, audit hook

An agent that is spawned rather than forked has inherited nothing but the process table, and does
the rest by itself.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

from tracecore.confinement import audit_hook, landlock, namespaces, private_root, seccomp, unaudited
from tracecore.confinement.kernel import Kernel
from tracecore.confinement.readable import (
    Reach,
    Readable,
    is_source_tree,
    landlock_paths,
    library_folders,
    readable,
)
from tracecore.record import field, mutable_record
from tracecore.records import Limits

# Every layer and what it stops, in the order in which `doctor` shows them.
LAYERS: Final = {
    "audit_hook": (
        "what Python does: files, programs, processes, signals, connections; gives the words. No"
        " wall"
    ),
    "own_session": "inherited descriptors, the terminal, signals to the process group",
    "resource_limits": (
        "memory, files that grow, descriptors, core dumps; threads where they can be counted for"
        " agents alone"
    ),
    "no_new_privileges": "programs that run with more rights than their caller",
    "capabilities": "what only an administrator may do",
    "seccomp": (
        "system calls: programs, processes, signals, connections, changes of the disk, the kernel's"
        " rarer doors"
    ),
    "landlock": "reading and writing any file but those allowed, whoever the owner is",
    "user_namespace": "being anybody else, also as root",
    "network_namespace": "every network, this machine's included",
    "ipc_namespace": "shared memory and message queues of others",
    "pid_namespace": "seeing or signalling any process outside, and outliving the episode",
    "mount_namespace": "writing any disk; seeing that anything exists but what may be read",
}
NAMESPACES: Final = tuple(namespaces.FLAGS)
# what is left for agents that are spawned before they are
OF_KEEPER: Final = ("user_namespace", "pid_namespace")
# and what they leave by themselves
OF_SPAWNED: Final = tuple(name for name in NAMESPACES if name != "pid_namespace")
SWITCHED_OFF: Final = "switched off"
PR_SET_NO_NEW_PRIVS: Final = 38
CAPSET: Final = {"x86_64": 126, "aarch64": 91}
CAPABILITY_VERSION: Final = (0x20080522).to_bytes(4, "little") + bytes(4)
CAP_DAC_READ_SEARCH: Final = 1 << 2
CAP_CHECKPOINT_RESTORE: Final = 1 << 40

State = dict[str, bool | str]  # layer: in force, or why not


@mutable_record
class Confinement:
    """One confinement in the making: what is asked for, and what of it is in force."""

    limits: Limits
    reach: Reach
    state: State = field(default_factory=dict)
    kernel: Kernel | None = None
    files: Readable | None = None
    originals: audit_hook.Originals | None = None
    last_filter: Callable[[int], int] | None = None
    watch: Callable[[int, str], None] | None = None
    last_pid_fd: int = -1  # of the zygote; -1 where process ids cannot be begun again
    drop: Callable[[], int] | None = None  # what the zygote may do and agents may not

    def wants(self, layer: str) -> bool:
        """Whether a layer is asked for; says so in the state where it is not."""
        if self.limits.confinement == "off" or layer in self.limits.layers_off.split(","):
            self.state[layer] = SWITCHED_OFF
            return False
        return True


def begin(limits: Limits, reach: Reach) -> Confinement:
    """Nothing is in force yet."""
    confinement = Confinement(limits, reach)
    if limits.confinement != "off" and sys.platform == "linux":
        with contextlib.suppress(OSError):
            confinement.kernel = Kernel()
    return confinement


def leave_namespaces(confinement: Confinement, names: Sequence[str] = NAMESPACES) -> None:
    """The first part. For a process with one thread.

    Args:
        confinement: In the making.
        names: Which; that of process ids changes those of children only, and this process can have
            no thread.
    """
    wanted = [name for name in names if confinement.wants(name)]
    if confinement.reach.network and "network_namespace" in wanted:
        wanted.remove("network_namespace")
        confinement.state["network_namespace"] = "the scenario row allows hosts"
    if "user_namespace" in wanted and _needs_privilege(confinement.reach):
        wanted.remove("user_namespace")
        confinement.state["user_namespace"] = "files that agents need belong to another user"
    if confinement.kernel is None:
        confinement.state.update(dict.fromkeys(wanted, _why_no_kernel()))
    elif wanted:
        confinement.state.update(namespaces.enter(confinement.kernel, wanted))


def bound_process_table(confinement: Confinement) -> None:
    """In the first process of a process table, before its disk is closed: bound how many there may
    be in it.
    """
    most = confinement.limits.processes
    if (
        confinement.state.get("pid_namespace") is True
        and confinement.wants("resource_limits")
        and most is not None
    ):
        namespaces.bound_process_table(most)


def confine(confinement: Confinement) -> None:
    """The part that forks inherit for nothing: everything but what :func:`confine_agent` does."""
    limits, reach = confinement.limits, confinement.reach
    if confinement.state.get("pid_namespace") is True:
        confinement.last_pid_fd = namespaces.open_last_pid()
    confinement.files = readable(reach)
    if confinement.state.get("mount_namespace") is True:
        _attempt(confinement, "mount_namespace", _leave_disk)
    if confinement.wants("audit_hook"):
        confinement.originals = _load_and_close_modules()
    confinement.state["own_session"] = True
    if confinement.wants("resource_limits"):
        bound(limits, own_user=confinement.state.get("user_namespace") is True)
        confinement.state["resource_limits"] = True
    for layer, put in (
        ("no_new_privileges", _give_up_new_privileges),
        ("capabilities", _give_up_capabilities),
        ("landlock", _restrict_files),
        ("seccomp", _filter_calls),
    ):
        if confinement.wants(layer):
            _attempt(confinement, layer, put)
    if confinement.wants("audit_hook"):
        _close_ctypes()
        if not reach.network:  # what hosts resolve to is found out for each agent
            assert confinement.originals is not None
            confinement.watch = audit_hook.prepare(
                confinement.files, frozenset(), frozenset(), confinement.originals
            )


def confine_agent(confinement: Confinement, write_fd: int, nonce: str) -> None:
    """The part that goes on in the agent's own process, before any of its code runs.

    Args:
        confinement: What :func:`confine` has completed, here or in the process that this one was
            forked from.
        write_fd: The pipe to the episode.
        nonce: Goes into what the audit hook says.
    """
    watch = confinement.watch
    if watch is None and confinement.files is not None and confinement.originals is not None:
        hosts = frozenset(confinement.reach.network)
        watch = audit_hook.prepare(
            confinement.files, hosts, frozenset(_resolve(hosts)), confinement.originals
        )
    if confinement.drop is not None and confinement.drop():
        raise OSError(0, "the capabilities of the zygote could not be given up")
    if confinement.last_filter is not None and confinement.last_filter(os.getpid()):
        raise OSError(0, "the second filter was refused")
    if watch is not None:
        watch(write_fd, nonce)
        confinement.state["audit_hook"] = True
    # The agent can walk up the frames to this record: it must find no way to the hook, and none to
    # ctypes.
    confinement.watch = confinement.last_filter = confinement.kernel = confinement.originals = (
        confinement.drop
    ) = None


def before_fork(confinement: Confinement) -> None:
    """In the zygote, before each agent: every one of them gets the same process id."""
    if confinement.last_pid_fd >= 0:
        with contextlib.suppress(OSError):
            namespaces.begin_pids_again(confinement.last_pid_fd)


def bound(limits: Limits, *, own_user: bool) -> None:
    """Bound what this process and every one it starts may use; each bound is best effort, and
    inherited for nothing.

    Args:
        limits: How much.
        own_user: Whether this is a user namespace of its own: the kernel counts a user's processes
            in each by itself, and elsewhere this would count those of the whole machine. It counts
            none of root's, wherever they are.
    """
    import resource  # noqa: PLC0415 - not there on every platform, and used once

    wanted = [
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (getattr(resource, "RLIMIT_NPROC", None), limits.processes if own_user else None),
    ]
    for which, value in wanted:
        if which is not None and value is not None:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(which, (value, value))


def _attempt(
    confinement: Confinement, layer: str, put: Callable[[Confinement, Kernel], None]
) -> None:
    if confinement.kernel is None:
        confinement.state[layer] = _why_no_kernel()
        return
    try:
        put(confinement, confinement.kernel)
        confinement.state[layer] = True
    except OSError as error:
        confinement.state[layer] = f"not available ({error.strerror})"


def _why_no_kernel() -> str:
    return "no ctypes" if sys.platform == "linux" else f"not on {sys.platform}"


def _needs_privilege(reach: Reach) -> bool:
    """Whether this user may read what agents need only because it is root."""
    if os.geteuid() != 0:
        return False
    todo, seen = [os.__file__, *library_folders(), reach.folder, *reach.agents, *reach.read], set()
    while todo:
        path = os.path.realpath(todo.pop())
        if path in seen:
            continue
        seen.add(path)
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if status.st_uid != 0 and not status.st_mode & (
                0o001 if os.path.isdir(path) else 0o004
            ):
                return True
        if path != "/":
            todo.append(os.path.dirname(path))
    return False


def _leave_disk(confinement: Confinement, kernel: Kernel) -> None:
    assert confinement.files is not None
    private_root.enter(kernel, confinement.files)


def _give_up_new_privileges(_confinement: Confinement, kernel: Kernel) -> None:
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)


def _give_up_capabilities(confinement: Confinement, kernel: Kernel) -> None:
    number = CAPSET.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"no numbers of system calls for {os.uname().machine}")
    kept = CAP_DAC_READ_SEARCH if _needs_privilege(confinement.reach) else 0
    if confinement.last_pid_fd >= 0:
        # The zygote keeps what beginning process ids again takes, and each agent's process gives it
        # up.
        data, set_them = kernel.prepare_capset(
            number, CAPABILITY_VERSION, _capabilities(kept | CAP_CHECKPOINT_RESTORE)
        )
        if not set_them() and _can_begin_pids_again(confinement):
            data[:] = _capabilities(kept)
            confinement.drop = set_them
            return
    kernel.syscall(number, CAPABILITY_VERSION, _capabilities(kept))


def _can_begin_pids_again(confinement: Confinement) -> bool:
    try:
        namespaces.begin_pids_again(confinement.last_pid_fd)
    except OSError:
        return False
    return True


def _capabilities(those: int) -> bytes:
    """As ``capset`` takes them: effective, permitted and inheritable, the lower halves first."""
    low, high = (part.to_bytes(4, "little") for part in (those & 0xFFFFFFFF, those >> 32))
    return low + low + bytes(4) + high + high + bytes(4)


def _restrict_files(confinement: Confinement, kernel: Kernel) -> None:
    assert confinement.files is not None
    whole, listed = landlock_paths(confinement.files)
    landlock.restrict(kernel, whole, listed, [os.devnull], network=bool(confinement.reach.network))


def _filter_calls(confinement: Confinement, kernel: Kernel) -> None:
    machine = seccomp.architecture()
    if machine is None:
        raise OSError(0, f"no numbers of system calls for {os.uname().machine}")
    # The agent's own number is known only when it is born: a constant that stands for it is looked
    # for and replaced.
    program = seccomp.agent_filter(machine, seccomp.SOME_PID)
    places = seccomp.places_of(program, seccomp.SOME_PID)
    last_filter = kernel.prepare_filter(program, places)
    kernel.add_filter(seccomp.zygote_filter(machine, network=bool(confinement.reach.network)))
    confinement.last_filter = last_filter


def _load_and_close_modules() -> audit_hook.Originals:
    # What subprocess needs is loaded now and blunted: loading it again is an attempt.
    with contextlib.suppress(ImportError):
        import _posixsubprocess  # noqa: F401, PLC0415 - not there on every platform
    # Of a source tree only the package may be read, and what is not there is no library: libraries
    # look at every entry, and that would be an attempt.
    sys.path[:] = [
        entry for entry in sys.path if os.path.exists(entry) and not is_source_tree(entry)
    ]
    return unaudited.plant()


def _close_ctypes() -> None:
    # Libraries that can do without ctypes (NumPy can) are told that there is none.
    for name in [name for name in sys.modules if name.partition(".")[0] in {"ctypes", "_ctypes"}]:
        del sys.modules[name]
    sys.modules["ctypes"] = None  # type: ignore[assignment]


def _resolve(hosts: frozenset[str]) -> set[str]:
    found: set[str] = set()
    for host in hosts:
        with contextlib.suppress(OSError):
            found |= {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    return found
