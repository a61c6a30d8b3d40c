"""Seccomp filters: which system calls an agent's process may make, as programs for the kernel.

Two stages. The first is applied once, in the zygote, and every agent inherits it for nothing: what
no agent needs ends the process, what is not known by name answers "no such call", so that a
kernel's newer calls are closed too. The second is short, and goes on in each agent right after its
birth: it takes what the zygote itself needs, which is to fork and to kill.
"""

import os
import struct
from collections.abc import Iterable
from typing import Final

from tracecore.confinement.system_calls import (
    ALLOWED,
    CLONE,
    CLONE3,
    FCNTL,
    IOCTL,
    KILL,
    LAST,
    MADVISE,
    NETWORK,
    PRCTL,
    PREADV2,
    PRLIMIT64,
    PWRITEV2,
    REFUSED,
    SENDTO,
    SETSOCKOPT,
    SOCKET,
    SOCKETPAIR,
    TGKILL,
)

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

# column of the tables, AUDIT_ARCH
ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
NO_NETWORK: Final = "none"
STREAMS: Final = "streams"
ANY_NETWORK: Final = "any"
SOCK_STREAM, TYPE_MASK = 1, 0xF
SOME_PID: Final = 0x5A5A5A5A  # beyond every process id
X32_BIT: Final = 0x40000000
CLONE_THREAD: Final = 0x10000
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
# TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
IOCTL_QUERIES: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
IOCTL_ATTEMPTS: Final = (0x5412, 0x541C, 0x540E)  # TIOCSTI TIOCLINUX TIOCSCTTY
# F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETOWN F_GETSIG F_GETOWN_EX F_DUPFD_CLOEXEC F_GETPIPE_SZ
# F_GET_SEALS: of the process's own descriptors. The others lock files, have signals sent, or leave
# a mark on a file that outlives the episode.
FCNTL_HARMLESS: Final = (0, 1, 2, 3, 4, 9, 11, 16, 1030, 1032, 1034)
# NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED FREE DONTFORK DOFORK HUGEPAGE NOHUGEPAGE DONTDUMP
# DODUMP POPULATE_READ _WRITE: of the process's own pages. Others have pages of files put out, which
# whoever reads them next can tell.
MADVISE_HARMLESS: Final = (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 22, 23)
# GET_DUMPABLE SET_NAME GET_NAME GET_NO_NEW_PRIVS SET_VMA
PRCTL_HARMLESS: Final = (3, 15, 16, 39, 0x53564D41)

SOL_SOCKET: Final = 1
SOCKET_BUFFERS: Final = (7, 8, 32, 33)  # SO_SNDBUF SO_RCVBUF SO_SNDBUFFORCE SO_RCVBUFFORCE

RET_KILL: Final = 0x80000000  # the process, not the thread
RET_ALLOW: Final = 0x7FFF0000
RET_ERRNO: Final = 0x00050000
EACCES, EINVAL, ENOTTY, ENOSYS = 13, 22, 25, 38
_LOAD, _EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_NUMBER, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data


def architecture() -> str | None:
    """The machine's name if there is a table for it."""
    machine = os.uname().machine
    return machine if machine in ARCHITECTURES else None


def zygote_filter(machine: str, *, network: str) -> bytes:
    """The first stage, for the zygote and, by inheritance, its agents.

    Args:
        machine: Of which the numbers are.
        network: ``NO_NETWORK``; ``STREAMS`` where agents share a network of their own, in which
            datagrams would be a way from one to another; or ``ANY_NETWORK``.
    """
    column, arch = ARCHITECTURES[machine]
    has_network = network != NO_NETWORK
    families = (AF_UNIX, AF_INET, AF_INET6, *((AF_NETLINK,) if has_network else ()))
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        _return(RET_KILL),
        (_LOAD, 0, 0, _NUMBER),
        *([(_ANY_BIT, 0, 1, X32_BIT), _return(RET_KILL)] if machine == "x86_64" else []),
        # its flags lie in memory: callers fall back to clone
        *_when(CLONE3[column], [_return(RET_ERRNO | ENOSYS)]),
        *_when(SOCKET[column], _sockets(families, network)),
        *_when(SOCKETPAIR[column], _one_of(0, (AF_UNIX,), RET_KILL)),
        *_when(
            IOCTL[column],
            [*_each(1, IOCTL_ATTEMPTS, RET_KILL), *_one_of(1, IOCTL_QUERIES, RET_ERRNO | ENOTTY)],
        ),
        *_when(FCNTL[column], _one_of(1, FCNTL_HARMLESS, RET_KILL)),
        *_when(MADVISE[column], _one_of(2, MADVISE_HARMLESS, RET_ERRNO | EINVAL)),
        # With no flags, as Python calls them: one flag tells whether a file has been read lately.
        *_when(PREADV2[column], _one_of(5, (0,), RET_KILL)),
        *_when(PWRITEV2[column], _one_of(5, (0,), RET_KILL)),
        *_when(SETSOCKOPT[column], _without_larger_buffers()),
    ]
    # A socket pair's own ends may be written to; a call that names somebody is a message to the
    # outside.
    program += _when(SENDTO[column], [_return(RET_ALLOW)] if has_network else _null_pointer(4))
    for name in (KILL, TGKILL, CLONE, PRCTL, PRLIMIT64):
        program += _when(name[column], [_return(RET_ALLOW)])
    program += _listed(LAST, column, RET_ALLOW)
    program += _listed(NETWORK, column, RET_ALLOW if has_network else RET_KILL)
    program += _listed(REFUSED, column, RET_KILL)
    program += _listed(ALLOWED, column, RET_ALLOW)
    program.append(_return(RET_ERRNO | ENOSYS))
    return _pack(program)


def _sockets(families: Iterable[int], network: str) -> list[Instruction]:
    if network != STREAMS:
        return _one_of(0, families, RET_KILL)
    # Looking names up tries a datagram socket, and goes on without one.
    return [
        (_LOAD, 0, 0, _ARGS),
        (_EQUAL, 1, 0, AF_INET),
        (_EQUAL, 0, 4, AF_INET6),
        (_LOAD, 0, 0, _ARGS + 8),
        (_AND, 0, 0, TYPE_MASK),
        (_EQUAL, 1, 0, SOCK_STREAM),
        _return(RET_ERRNO | EACCES),
        *_one_of(0, families, RET_KILL),
    ]


def agent_filter(machine: str, pid: int) -> bytes:
    """The second stage, for the agent process ``pid``: no process but threads, no signal but to
    itself.
    """
    column, _arch = ARCHITECTURES[machine]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _NUMBER),
        *_when(
            CLONE[column],
            [
                (_LOAD, 0, 0, _ARGS),
                (_ANY_BIT, 1, 0, CLONE_THREAD),
                _return(RET_KILL),
                _return(RET_ALLOW),
            ],
        ),
        *_when(PRCTL[column], _one_of(0, PRCTL_HARMLESS, RET_KILL)),
        *_when(PRLIMIT64[column], _null_pointer(2)),
        *_when(KILL[column], _one_of(0, (pid,), RET_KILL)),
        *_when(TGKILL[column], _one_of(0, (pid,), RET_KILL)),
        *_listed(LAST, column, RET_KILL),
        _return(RET_ALLOW),
    ]
    return _pack(program)


def places_of(program: bytes, constant: int) -> tuple[int, ...]:
    """Offsets at which ``constant`` stands in a filter."""
    return tuple(
        at + 4
        for at in range(0, len(program), 8)
        if program[at + 4 : at + 8] == struct.pack("I", constant)
    )


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """``body``, which always returns, for one system call."""
    return [(_EQUAL, 0, len(body), number), *body]


def _listed(table: str, column: int, action: int) -> list[Instruction]:
    words = [row.split()[1 + column] for row in table.split(";")]
    numbers = sorted(int(word) for word in words if word != "-")
    return [step for number in numbers for step in _when(number, [_return(action)])]


def _one_of(argument: int, values: Iterable[int], otherwise: int) -> list[Instruction]:
    return [*_each(argument, values, RET_ALLOW), _return(otherwise)]


def _each(argument: int, values: Iterable[int], action: int) -> list[Instruction]:
    steps: list[Instruction] = [(_LOAD, 0, 0, _ARGS + 8 * argument)]
    for value in values:
        steps += [(_EQUAL, 0, 1, value), _return(action)]
    return steps


def _without_larger_buffers() -> list[Instruction]:
    """Answer as if done, and do nothing: what lies in a buffer is in no process's memory, and so
    beyond its limit.
    """
    return [
        (_LOAD, 0, 0, _ARGS + 8),
        (_EQUAL, 1, 0, SOL_SOCKET),
        _return(RET_ALLOW),
        *_each(2, SOCKET_BUFFERS, RET_ERRNO),
        _return(RET_ALLOW),
    ]


def _null_pointer(argument: int) -> list[Instruction]:
    low = _ARGS + 8 * argument
    return [
        (_LOAD, 0, 0, low),
        (_EQUAL, 1, 0, 0),
        _return(RET_KILL),
        (_LOAD, 0, 0, low + 4),
        (_EQUAL, 1, 0, 0),
        _return(RET_KILL),
        _return(RET_ALLOW),
    ]


def _return(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _pack(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
