"""Namespaces: a network without a wire, an empty process table, a disk of one's own: a root folder
in which only what may be read is there, and nothing can be written.
"""

import contextlib
import os
import stat
import struct
from collections.abc import Collection, Iterable, Mapping
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
PID_MAX: Final = "/proc/sys/kernel/pid_max"
LAST_PID: Final = "/proc/sys/kernel/ns_last_pid"
PID_MAX_PER_TABLE: Final = (6, 14)  # the first kernel with one bound for each process table
PID_MAX_OF_NEW_TABLE: Final = 1 << 22
RESERVED_PIDS: Final = 300

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE = 1, 0x1000, 0x4000, 0x40000
# the same on every architecture
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
MNT_DETACH: Final = 2
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PLACES: Final = ("/tmp", "/mnt", "/usr")  # noqa: S108 - folders that are there; what lies in them is not touched


def enter(kernel: Kernel, wanted: Collection[str]) -> dict[str, bool | str]:
    """Leave the namespaces of the parent, as many as the kernel permits; gives which, or why not.

    The process ids change for children only. All at once where a user namespace is permitted, since
    inside one the others are too; else one by one.
    """
    names = [name for name in FLAGS if name in wanted]
    uid, gid = os.getuid(), os.getgid()
    together = _leave(kernel, names)
    if together is not True:
        return {
            name: together if name == "user_namespace" else _leave(kernel, [name]) for name in names
        }
    if "user_namespace" in names:
        _map_only(uid, gid)
    return dict.fromkeys(names, True)


def _leave(kernel: Kernel, names: Iterable[str]) -> bool | str:
    try:
        kernel.call("unshare", sum(FLAGS[name] for name in names))
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
    version = os.uname().release.replace("-", ".").split(".")[:2]
    if tuple(int(word) for word in version if word.isdigit()) < PID_MAX_PER_TABLE:
        return
    with contextlib.suppress(OSError), open(PID_MAX, "r+", encoding="ascii") as file:
        if int(file.read()) == PID_MAX_OF_NEW_TABLE:
            file.seek(0)
            file.write(str(RESERVED_PIDS + most))


def open_last_pid() -> int:
    """In a process table of one's own: a descriptor for :func:`begin_pids_again`; -1 where there is
    no such file.
    """
    with contextlib.suppress(OSError):
        return os.open(LAST_PID, os.O_WRONLY | os.O_CLOEXEC)
    return -1


def begin_pids_again(fd: int) -> bool:
    """Have the next process get the lowest free id again: in ids that go on, each agent could count
    those before it. Whether the kernel does that.
    """
    try:
        return os.pwrite(fd, b"1", 0) > 0
    except OSError:
        return False


# --- a disk of one's own ---
#
# Everything is copied as a mount, which costs nothing, is made once in the zygote and inherited by
# each fork. What is not among it is not refused: it does not exist, for whatever way of asking.


def enter_private_root(kernel: Kernel, found: Readable, written: Mapping[str, str]) -> None:
    """In a mount namespace of one's own: leave the disk for one that holds what ``found`` lists,
    read-only. The working folder is to be chosen anew.

    Hidden folders inside of readable ones are empty there; links on the way are there too. Files
    that ``written`` has hold its text there.

    Raises:
        OSError: The kernel refused. The disk is as it was.
    """
    # nothing can be mounted where there is none
    place = next((path for path in PLACES if os.path.isdir(path) and not os.path.islink(path)), "")
    links, copied, emptied = _plan(found)
    kernel.call("mount", "none", "/", "none", MS_REC | MS_PRIVATE, 0)
    trees: dict[str, int] = {}
    try:
        for path in copied:
            if path not in written:
                flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_RECURSIVE
                trees[path] = kernel.call("syscall", OPEN_TREE, AT_FDCWD, path, flags)
        kernel.call("mount", "none", place, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
        try:
            _furnish(kernel, place, trees, {**dict.fromkeys(emptied, ""), **written})
            _link(place, links)
            os.chdir(place)
            kernel.call("pivot_root", ".", ".")
            kernel.call("umount2", ".", MNT_DETACH)  # the old disk, which lies over the new
        except OSError:
            kernel.call("umount2", place, MNT_DETACH)
            raise
    finally:
        for fd in trees.values():
            os.close(fd)
    read_only = struct.pack("QQQQ", MS_RDONLY, 0, 0, 0)
    kernel.call("syscall", MOUNT_SETATTR, AT_FDCWD, "/", AT_RECURSIVE, read_only, len(read_only))


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
    kernel: Kernel, place: str, trees: Mapping[str, int], covered: Mapping[str, str]
) -> None:
    """Put every tree in its place; over each path that is ``covered`` an empty folder, or a file
    with that text.
    """
    for path in sorted({*trees, *covered}):  # what lies in a folder comes after it
        there = place + path.rstrip("/")
        is_folder = os.path.isdir(there)
        if path in trees:  # by path it may be out of sight already
            is_folder = stat.S_ISDIR(os.fstat(trees[path]).st_mode)
        if not os.path.lexists(there):
            os.makedirs(there if is_folder else os.path.dirname(there), exist_ok=True)
            if not is_folder:
                os.mknod(there)
        if path in trees:
            kernel.call(
                "syscall", MOVE_MOUNT, trees[path], "", AT_FDCWD, there, MOVE_MOUNT_F_EMPTY_PATH
            )
        elif is_folder:
            flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
            kernel.call("mount", "none", there, "tmpfs", flags, "size=64k,mode=755")
        else:  # never written itself: it may be the machine's own file
            cover = place + "/cover"
            with open(cover, "w", encoding="ascii") as file:
                file.write(covered[path])
            kernel.call("mount", cover, there, "none", MS_BIND, 0)
            os.unlink(cover)


def _link(place: str, links: Mapping[str, str]) -> None:
    for path, target in links.items():
        there = place + path
        if not os.path.lexists(there):
            os.makedirs(os.path.dirname(there), exist_ok=True)
            os.symlink(target, there)
