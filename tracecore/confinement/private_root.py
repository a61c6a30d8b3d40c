"""A disk of one's own: a root folder in which only what may be read is there, and nothing can be
written.

Everything is copied as a mount, which costs nothing, is made once in the zygote and inherited by
each fork. What is not among it is not refused: it does not exist, for whatever way of asking.
"""

import contextlib
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from tracecore.confinement.kernel import Kernel
from tracecore.confinement.readable import Readable, is_below, walk_to

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE = 1, 0x1000, 0x4000, 0x40000
# The same on every architecture, but for the last.
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
PLACES: Final = ("/tmp", "/mnt", "/usr")  # noqa: S108 - folders that are there; what lies in them is not touched


def enter(kernel: Kernel, found: Readable, written: Mapping[str, str]) -> None:
    """In a mount namespace of one's own: leave the disk for one that holds what ``found`` says,
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
