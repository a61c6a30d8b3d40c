"""Namespaces: a network without a wire, a process table with nobody in it, a disk of one's own (see
private_root.py).
"""

import contextlib
import os
from collections.abc import Iterable
from typing import Final

from tracecore.confinement.kernel import Kernel

# What each layer asks of unshare.
FLAGS: Final = {
    "user_namespace": 0x10000000,
    "network_namespace": 0x40000000,
    "ipc_namespace": 0x08000000,
    "pid_namespace": 0x20000000,
    "mount_namespace": 0x00020000,
}
PROC_LINKS: Final = {
    "user_namespace": "user",
    "network_namespace": "net",
    "ipc_namespace": "ipc",
    "pid_namespace": "pid_for_children",
    "mount_namespace": "mnt",
}
LAST_PID: Final = "/proc/sys/kernel/ns_last_pid"
PID_MAX_PER_TABLE: Final = (6, 14)  # the first kernel with one bound for each process table
PID_MAX_OF_NEW_TABLE: Final = 1 << 22
RESERVED_PIDS: Final = 300


def enter(kernel: Kernel, wanted: Iterable[str]) -> dict[str, bool | str]:
    """Leave the namespaces of the parent, as many as the kernel permits; gives which, or why not.

    The process ids change for children only. All at once where a user namespace is permitted, since
    inside one the others are too; else one by one.
    """
    names = [name for name in FLAGS if name in set(wanted)]
    together = sum(FLAGS[name] for name in names)
    uid, gid = os.getuid(), os.getgid()
    try:
        kernel.unshare(together)
    except OSError as error:
        return {name: _enter_alone(kernel, name, error) for name in names}
    if "user_namespace" in names:
        _map_only(uid, gid)
    return dict.fromkeys(names, True)


def _enter_alone(kernel: Kernel, name: str, refusal: OSError) -> bool | str:
    if name == "user_namespace":
        return f"not permitted ({refusal.strerror})"
    try:
        kernel.unshare(FLAGS[name])
    except OSError as error:
        return f"not permitted ({error.strerror})"
    return True


def _map_only(uid: int, gid: int) -> None:
    """This user, and no other, is known inside."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/self/{name}", "w", encoding="ascii") as file,
        ):
            file.write(text)


def bound_process_table(most: int) -> None:
    """In a process table of one's own: bound how many processes and threads there are in it, root's
    too.

    Where the kernel has a bound for each table. It is the highest process id, and after the first
    round the lowest one is 300: there may be ``most``, or up to 300 more. In older kernels the same
    file bounds the whole machine, and is not touched.
    """
    if _kernel_version() < PID_MAX_PER_TABLE:
        return
    with (
        contextlib.suppress(OSError),
        open("/proc/sys/kernel/pid_max", "r+", encoding="ascii") as file,
    ):
        if int(file.read()) == PID_MAX_OF_NEW_TABLE:
            file.seek(0)
            file.write(str(RESERVED_PIDS + most))


def open_last_pid() -> int:
    """In a process table of one's own: a descriptor for :func:`begin_pids_again`; -1 where there is
    no such file.
    """
    try:
        return os.open(LAST_PID, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def begin_pids_again(fd: int) -> None:
    """Have the next process get the lowest free id again: in ids that go on, each agent could count
    those before it.

    Raises:
        OSError: The kernel refused.
    """
    os.pwrite(fd, b"1", 0)


def _kernel_version() -> tuple[int, ...]:
    release = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(word) for word in release if word.isdigit())
