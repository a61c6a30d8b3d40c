"""Namespaces: a network without a wire, a process table with nobody in it, a disk of one's own (see private_root.py)."""

import contextlib
import os
from collections.abc import Iterable
from typing import Final

from tracecore.runtime.kernel import Kernel

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


def enter(kernel: Kernel, wanted: Iterable[str]) -> dict[str, bool | str]:
    """Leave the namespaces of the parent, as many as the kernel permits; gives which, or why not.

    The process ids change for children only. All at once where a user namespace is permitted, since inside one the others
    are too; else one by one.
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
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
