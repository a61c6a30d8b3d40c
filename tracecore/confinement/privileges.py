"""What a process gives up of its rights: capabilities, and as much as it likes of the machine's
resources.
"""

import contextlib
import os
import resource
from collections.abc import Callable
from typing import Final

from tracecore.confinement import namespaces
from tracecore.confinement.kernel import Kernel
from tracecore.confinement.readable import Reach, folders_around, library_folders
from tracecore.records import Limits

CAPABILITY_VERSION: Final = (0x20080522).to_bytes(4, "little") + bytes(4)
CAP_DAC_READ_SEARCH: Final = 1 << 2
CAP_CHECKPOINT_RESTORE: Final = 1 << 40


def bound(limits: Limits, *, own_user: bool) -> None:
    """Bound what this process and every one it starts may use; each bound is best effort, and
    inherited for nothing.

    Args:
        limits: How much.
        own_user: Whether this is a user namespace of its own: the kernel counts a user's processes
            in each by itself, and elsewhere this would count those of the whole machine. It counts
            none of root's, wherever they are.
    """
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: limits.processes if own_user else None,
    }
    for which, value in wanted.items():
        if value is not None:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(which, (value, value))


def give_up_capabilities(
    kernel: Kernel, reach: Reach, last_pid_fd: int
) -> Callable[[], int] | None:
    """Give up every capability but what reading the agent's files takes.

    Args:
        kernel: The way into it.
        reach: What agents read.
        last_pid_fd: Of :func:`namespaces.open_last_pid`, or -1.

    Returns:
        Gives up, in an agent's process, what its zygote kept to begin process ids again; it gives
        0 when that is done. ``None`` where nothing was kept.

    Raises:
        OSError: The kernel refused.
    """
    kept = CAP_DAC_READ_SEARCH if needs_privilege(reach) else 0
    sets = bytearray(_capabilities(kept | CAP_CHECKPOINT_RESTORE))
    set_them = kernel.prepare("capset", bytearray(CAPABILITY_VERSION), sets)
    can_begin_again = not set_them() and namespaces.begin_pids_again(last_pid_fd)
    sets[:] = _capabilities(kept)
    if can_begin_again:
        return set_them
    kernel.call("capset", CAPABILITY_VERSION, bytes(sets))
    return None


def needs_privilege(reach: Reach) -> bool:
    """Whether this user may read what agents need only because it is root."""
    if os.geteuid() != 0:
        return False
    read = (os.__file__, *library_folders(), reach.folder, *reach.agents, *reach.read)
    for place in set().union(*map(folders_around, read)):
        with contextlib.suppress(OSError):
            status = os.stat(place)
            for_others = 0o001 if os.path.isdir(place) else 0o004
            if status.st_uid != 0 and not status.st_mode & for_others:
                return True
    return False


def _capabilities(those: int) -> bytes:
    """As ``capset`` takes them: effective, permitted and inheritable, the lower halves first."""
    low, high = (part.to_bytes(4, "little") for part in (those & 0xFFFFFFFF, those >> 32))
    return low + low + bytes(4) + high + high + bytes(4)
