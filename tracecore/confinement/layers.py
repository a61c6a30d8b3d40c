"""Confinement of agents, in layers: each where the machine has it, none required, each reported.

::

    keeper   leaves the namespaces
      └─starts─▶ zygote (first process of its process table)
                   │  closes the disk, bounds itself, gives up privileges, Landlock,
                   │  first filter: all inherited by its forks for nothing
                   └─forks─▶ agent process: second filter, audit hook

An agent that is spawned rather than forked has inherited nothing but the process table, and does
the rest by itself.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

from tracecore.confinement import (
    answers,
    landlock,
    namespaces,
    privileges,
    seccomp,
)
from tracecore.confinement.door import Door, hosts_text, target_of
from tracecore.confinement.kernel import Kernel
from tracecore.confinement.readable import Reach, Readable, is_below, landlock_paths, readable
from tracecore.confinement.witness import Witness
from tracecore.record import field, mutable_record
from tracecore.records import Limits

# Every layer and what it stops, in the order in which `doctor` shows them.
LAYERS: Final = {
    "audit_hook": "nothing by itself: it says by name what was tried, and ends the process",
    "own_session": "inherited descriptors, the terminal, signals to the process group",
    "resource_limits": "too much memory, files that grow, descriptors, core dumps, threads",
    "no_new_privileges": "programs that run with more rights than their caller",
    "capabilities": "what only an administrator may do",
    "seccomp": (
        "system calls: programs, processes, signals, connections, changes of the disk, the kernel's"
        " rarer doors"
    ),
    "landlock": "reading and writing any file but those allowed, whatever their owner",
    "user_namespace": "being another user, also as root",
    "network_namespace": "every network, this machine's included",
    "ipc_namespace": "shared memory and message queues of others",
    "pid_namespace": "seeing or signalling any process outside, and outliving the episode",
    "mount_namespace": "writing any disk; seeing that anything exists but what may be read",
}
WALL: Final = ("no_new_privileges", "seccomp", "landlock")
NAMESPACES: Final = tuple(namespaces.FLAGS)
# what is left for agents that are spawned before they are
OF_KEEPER: Final = ("user_namespace", "pid_namespace")
# and what they leave by themselves
OF_SPAWNED: Final = tuple(name for name in NAMESPACES if name != "pid_namespace")
NAMES_PORT: Final = 53
PR_SET_NO_NEW_PRIVS: Final = 38
SWITCHED_OFF: Final = "switched off"
NO_KERNEL: Final = "no ctypes"
State = dict[str, bool | str]  # layer: in force, or why not


@mutable_record
class Confinement:
    """One confinement in the making: what is asked for, and what of it is in force."""

    limits: Limits
    reach: Reach
    state: State = field(default_factory=dict)
    kernel: Kernel | None = None
    files: Readable = Readable()
    witness: Witness | None = None
    last_filter: Callable[[int], int] | None = None
    last_pid_fd: int = -1  # of the zygote; -1 where process ids cannot be begun again
    drop: Callable[[], int] | None = None  # what the zygote may do and agents may not
    doors: tuple[Door, ...] = ()  # what agents may connect to in their network

    @property
    def direct(self) -> tuple[tuple[str, int], ...]:
        """Hosts and ports that agents reach without a door: where they have no network of their
        own.
        """
        network = () if self.has("network_namespace") else self.reach.network
        return tuple(map(target_of, network))

    def has(self, layer: str) -> bool:
        """Whether a layer is in force."""
        return self.state.get(layer) is True

    def wants(self, layer: str) -> bool:
        """Whether a layer is asked for; where it is not, the state has that."""
        if self.limits.confinement == "off" or layer in self.limits.layers_off.split(","):
            self.state[layer] = SWITCHED_OFF
            return False
        return True


def begin(limits: Limits, reach: Reach) -> Confinement:
    """Nothing is in force yet."""
    confinement = Confinement(limits, reach)
    if limits.confinement != "off":
        with contextlib.suppress(ImportError, OSError):
            confinement.kernel = Kernel()
    return confinement


def missing_for_wall(state: State) -> list[str]:
    """The layers without which the kernel does not bound files and system calls by itself."""
    return [layer for layer in WALL if state.get(layer) is not True]


def leave_namespaces(confinement: Confinement, names: Sequence[str] = NAMESPACES) -> None:
    """The first part. For a process with one thread.

    Args:
        confinement: In the making.
        names: Which; that of process ids changes those of children only, and this process can have
            no thread.
    """
    wanted = [name for name in names if confinement.wants(name)]
    if "user_namespace" in wanted and privileges.needs_privilege(confinement.reach):
        wanted.remove("user_namespace")
        confinement.state["user_namespace"] = "files that agents need belong to another user"
    if confinement.kernel is None:
        confinement.state.update(dict.fromkeys(wanted, NO_KERNEL))
    elif wanted:
        confinement.state.update(namespaces.enter(confinement.kernel, wanted))


def bound_process_table(confinement: Confinement) -> None:
    """In the first process of a process table, before its disk is closed: bound how many there may
    be in it.
    """
    most = confinement.limits.processes if confinement.wants("resource_limits") else None
    if confinement.has("pid_namespace") and most is not None:
        namespaces.bound_process_table(most)


def confine(confinement: Confinement) -> None:
    """The part that forks inherit for nothing: everything but what :func:`confine_agent` does."""
    limits, reach = confinement.limits, confinement.reach
    if confinement.has("pid_namespace"):
        confinement.last_pid_fd = namespaces.open_last_pid()
    confinement.files = readable(reach)
    answers.prepare(has_network=bool(reach.network))
    if confinement.has("mount_namespace"):
        _put_on(confinement, "mount_namespace", _leave_disk)
    _turn_to_own_folder(reach.folder)
    confinement.state["own_session"] = True
    if confinement.wants("resource_limits"):
        privileges.bound(limits, own_user=confinement.has("user_namespace"))
        confinement.state["resource_limits"] = True
    for layer, put in (
        ("no_new_privileges", _give_up_new_privileges),
        ("capabilities", _give_up_capabilities),
        ("landlock", _restrict_files),
        ("seccomp", _filter_calls),
    ):
        if confinement.wants(layer):
            _put_on(confinement, layer, put)
    if confinement.wants("audit_hook"):
        _close_imports(confinement)
        if not confinement.direct:  # what hosts resolve to is found out for each agent
            confinement.witness = _witness_of(confinement)


def confine_agent(confinement: Confinement, write_fd: int, nonce: str) -> None:
    """The part that goes on in the agent's own process, before any of its code runs.

    Args:
        confinement: What :func:`confine` has completed, here or in the process that this one was
            forked from.
        write_fd: The pipe to the episode.
        nonce: Goes into what the audit hook reports.
    """
    witness = confinement.witness
    if witness is None and confinement.wants("audit_hook"):
        witness = _witness_of(confinement)
    if confinement.drop is not None and confinement.drop():
        raise OSError(0, "the capabilities of the zygote could not be given up")
    if confinement.last_filter is not None and confinement.last_filter(os.getpid()):
        raise OSError(0, "the second filter was refused")
    if witness is not None:
        witness.watch(write_fd, nonce)
        confinement.state["audit_hook"] = True


def _put_on(
    confinement: Confinement, layer: str, put: Callable[[Confinement, Kernel], None]
) -> None:
    if confinement.kernel is None:
        confinement.state[layer] = NO_KERNEL
        return
    try:
        put(confinement, confinement.kernel)
        confinement.state[layer] = True
    except OSError as error:
        confinement.state[layer] = f"not available ({error.strerror})"


def _leave_disk(confinement: Confinement, kernel: Kernel) -> None:
    written = {}
    if confinement.doors and confinement.has("network_namespace"):
        written["/etc/hosts"] = hosts_text(confinement.doors)
        written["/etc/nsswitch.conf"] = "hosts: files\n"
    namespaces.enter_private_root(kernel, confinement.files, written)


def _turn_to_own_folder(folder: str) -> None:
    # A relative name leads to the same file, or to none, wherever the harness was started.
    try:
        os.chdir(folder)
    except OSError:
        os.chdir("/")


def _give_up_new_privileges(_confinement: Confinement, kernel: Kernel) -> None:
    kernel.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _give_up_capabilities(confinement: Confinement, kernel: Kernel) -> None:
    confinement.drop = privileges.give_up_capabilities(
        kernel, confinement.reach, confinement.last_pid_fd
    )


def _restrict_files(confinement: Confinement, kernel: Kernel) -> None:
    whole, listed = landlock_paths(confinement.files)
    direct = confinement.direct
    ports = {port for _host, port in direct} | {one.port for one in confinement.doors}
    names = {NAMES_PORT} if direct else set()
    landlock.restrict(kernel, whole, listed, ports | names)


def _filter_calls(confinement: Confinement, kernel: Kernel) -> None:
    machine = seccomp.architecture()
    if machine is None:
        raise OSError(0, f"no numbers of system calls for {os.uname().machine}")
    # The agent's own number is known only when it is born: a constant that stands for it is looked
    # for and replaced.
    program = seccomp.agent_filter(machine, may_bind=bool(confinement.direct))
    last_filter = kernel.prepare_filter(program, seccomp.SOME_PID)
    network = seccomp.NO_NETWORK
    if confinement.reach.has_doors:
        network = seccomp.ANY_NETWORK if confinement.direct else seccomp.STREAMS
    if kernel.prepare_filter(seccomp.zygote_filter(machine, network=network))(0):
        raise OSError(0, "the kernel has no seccomp filters, or refused this one")
    confinement.last_filter = last_filter


def _close_imports(confinement: Confinement) -> None:
    """Leave importable what may be read, so that looking for a module is no attempt."""
    folders = confinement.files.folders
    sys.path[:] = [
        path
        for path in sys.path
        if os.path.exists(path) and is_below(os.path.realpath(path), folders)
    ]
    sys.meta_path.insert(0, answers.Finder(_why_no_native_code(confinement.state)))
    if not confinement.has("mount_namespace"):
        answers.forget_mime_types()


def _witness_of(confinement: Confinement) -> Witness:
    peers = {one.place for one in confinement.doors}
    hosts = {one.relay_to[0] if one.relay_to else one.address for one in confinement.doors}
    for host, port in confinement.direct:
        found = {host} | _resolve(host)
        hosts |= found
        peers |= {f"{address}:{port}" for address in found}
    refusal = _why_no_native_code(confinement.state)
    return Witness(confinement.files, refusal, frozenset(peers), frozenset(hosts))


def _why_no_native_code(state: State) -> str:
    missing = ", ".join(missing_for_wall(state))
    return f"native code, without {missing} (see doctor, or --confinement off)" if missing else ""


def _resolve(host: str) -> set[str]:
    with contextlib.suppress(OSError):
        return {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    return set()
