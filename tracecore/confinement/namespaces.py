"""Namespaces: a network without a wire, an empty process table, a disk of one's own: a root folder
in which only what may be read is there, and nothing can be written.
"""

import contextlib
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from tracecore.confinement.kernel import Kernel
from tracecore.confinement.readable import Readable, is_below, walk_to

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

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE = 1, 0x1000, 0x4000, 0x40000
# The same on every architecture, but for the last.
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PLACES: Final = ("/tmp", "/mnt", "/usr")  # noqa: S108 - folders that are there; what lies in them is not touched


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


def begin_pids_again(fd: int) -> bool:
    """Have the next process get the lowest free id again: in ids that go on, each agent could count
    those before it. Whether the kernel does that.
    """
    try:
        return os.pwrite(fd, b"1", 0) > 0
    except OSError:
        return False


def _kernel_version() -> tuple[int, ...]:
    release = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(word) for word in release if word.isdigit())


# --- a disk of one's own ---
#
# Everything is copied as a mount, which costs nothing, is made once in the zygote and inherited by
# each fork. What is not among it is not refused: it does not exist, for whatever way of asking.


def enter_private_root(kernel: Kernel, found: Readable, written: Mapping[str, str]) -> None:
    """In a mount namespace of one's own: leave the disk for one that holds what ``found`` lists,
    read-only.

    Hidden folders inside of readable ones are empty there; links on the way are there too. Files
    that ``written`` has hold its text there.

    Raises:
        OSError: The kernel refused. The disk is as it was.
    """
    number = PIVOT_ROOT.get(os.uname().machine)
    place = next(
        (path for path in PLACES if os.path.isdir(path) and not os.path.islink(path)), None
    )
    if number is None or place is None:
        raise OSError(0, "no number of the call, or no folder to begin with")
    links, copied, emptied = _plan(found)
    copied = [path for path in copied if path not in written]
    kernel.mount("none", "/", "none", MS_REC | MS_PRIVATE)
    trees: dict[str, int] = {}
    try:
        for path in copied:
            trees[path] = kernel.syscall(
                OPEN_TREE,
                AT_FDCWD,
                os.fsencode(path),
                OPEN_TREE_CLONE | os.O_CLOEXEC | AT_RECURSIVE,
            )
        kernel.mount("none", place, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
        try:
            _furnish(kernel, place, links, trees, emptied)
            _write(place, written)
            _turn_to(kernel, number, place)
        except OSError:
            kernel.unmount(place)
            raise
    finally:
        for fd in trees.values():
            os.close(fd)
    kernel.syscall(
        MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, struct.pack("QQQQ", MS_RDONLY, 0, 0, 0), 32
    )


def _plan(found: Readable) -> tuple[dict[str, str], list[str], list[str]]:
    """Links on the way with their targets; what is copied; what in it is empty."""
    links: dict[str, str] = {}
    wanted: dict[str, bool] = {}  # and whether it shows although it lies in a hidden folder
    for path in (*found.folders, *sorted(found.files)):
        real, steps = walk_to(path)
        if os.path.exists(real):
            links.update({step: target for step, target in steps.items() if target})
            wanted[real] = wanted.get(real, False) or path in found.files
    hidden = [path for path in found.hidden if os.path.exists(path) and not os.path.islink(path)]
    copied: list[str] = []
    emptied: list[str] = []
    for path in sorted({*wanted, *hidden}):  # what lies in a folder comes after it
        around = _innermost(path, [*copied, *emptied])
        shows = around in copied
        if path in wanted and (wanted[path] or not is_below(path, hidden)):
            if not shows:
                copied.append(path)
        elif path in hidden and shows:
            emptied.append(path)
    return links, copied, emptied


def _innermost(path: str, folders: Iterable[str]) -> str:
    return max((folder for folder in folders if is_below(path, (folder,))), key=len, default="")


def _furnish(
    kernel: Kernel, place: str, links: dict[str, str], trees: dict[str, int], emptied: list[str]
) -> None:
    for path in sorted({*trees, *emptied}):
        there = place + path.rstrip("/")
        if path in emptied and os.path.isdir(there):
            kernel.mount(
                "none", there, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=755"
            )
            continue
        if path in emptied:
            _put_nothing_over(kernel, there, place + "/nothing")
            continue
        if stat.S_ISDIR(os.fstat(trees[path]).st_mode):  # by path it may be out of sight already
            os.makedirs(there, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(there), exist_ok=True)
            if not os.path.lexists(there):
                os.close(os.open(there, os.O_CREAT | os.O_WRONLY, 0o600))
        kernel.syscall(
            MOVE_MOUNT, trees[path], b"", AT_FDCWD, os.fsencode(there), MOVE_MOUNT_F_EMPTY_PATH
        )
    for path, target in links.items():
        there = place + path
        if not os.path.lexists(there):
            os.makedirs(os.path.dirname(there), exist_ok=True)
            os.symlink(target, there)


def _write(place: str, written: Mapping[str, str]) -> None:
    for path, text in written.items():
        os.makedirs(os.path.dirname(place + path), exist_ok=True)
        with open(place + path, "w", encoding="ascii") as file:
            file.write(text)


def _put_nothing_over(kernel: Kernel, path: str, nothing: str) -> None:
    os.close(os.open(nothing, os.O_CREAT | os.O_WRONLY, 0o600))
    kernel.mount(nothing, path, "none", MS_BIND)
    os.unlink(nothing)


def _turn_to(kernel: Kernel, number: int, place: str) -> None:
    before = os.getcwd()
    os.chdir(place)
    try:
        kernel.syscall(number, b".", b".")
    except OSError:
        os.chdir(before)
        raise
    kernel.unmount(".")  # the old disk, which lies over the new
    os.chdir("/")
    with contextlib.suppress(OSError):  # it may be none that agents see
        os.chdir(before)
