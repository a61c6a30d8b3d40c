"""Functions that are started in processes of their own."""

import os
import pathlib
import signal
import sys
import time

from tracecore import descendants, processes


def tell_descriptors(fd: int) -> None:
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        if int(name) == fd:
            found.append("and the one that was given")
        elif os.path.exists(f"/proc/self/fd/{name}"):
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    os.write(fd, ", ".join(found).encode())


def tell_session(fd: int) -> None:
    os.write(fd, f"{os.getpid()} {os.getsid(0)} {os.getpgid(0)}".encode())


def tell_environment(fd: int) -> None:
    os.write(fd, " ".join(sorted(os.environ)).encode())


def fail() -> None:
    raise ValueError("no")


def make_bound(folder: str, method: str) -> None:
    processes.start(bind_and_tell, (folder, os.getpid()), method=method, keep_fds=())
    time.sleep(600)


def bind_and_tell(folder: str, maker: int) -> None:
    descendants.die_with(maker)
    pathlib.Path(folder, "new").write_text(str(os.getpid()))
    pathlib.Path(folder, "new").rename(pathlib.Path(folder, "bound"))
    time.sleep(600)


def bind_and_sleep(maker: int) -> None:
    descendants.die_with(maker)
    time.sleep(600)


def grow_tree(folder: str, depth: int) -> None:
    """A tree of detached processes that ignore what they can; each leaves a file under its id."""
    os.setsid() if os.getsid(0) != os.getpid() else None
    for number in set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    pathlib.Path(folder, str(os.getpid())).touch()
    for _ in range(2 if depth else 0):
        if os.fork() == 0:
            grow_tree(folder, depth - 1)
    time.sleep(600)


class Plain:
    """One of its instances is made before its process prepares to fork."""

    words = ("a constant of its own",)


def count_references(fd: int) -> None:
    """Whether references are counted to: None; an object from before; what code refers to; one
    from after.
    """
    before = Plain()
    descendants.prepare_to_fork()
    after = Plain()
    ones = (None, before, Plain.words, after)
    os.write(fd, repr([_is_counted(one) for one in ones]).encode())


def _is_counted(one: object) -> bool:
    count = sys.getrefcount(one)
    many = [one] * 10
    return sys.getrefcount(many[0]) != count
