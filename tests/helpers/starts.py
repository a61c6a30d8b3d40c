"""Functions that are started in processes of their own."""

import os
import pathlib
import signal
import time

from tracecore import processes


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


def make_leashed(folder: str, method: str) -> None:
    leash = processes.Leash()
    processes.start(tie_and_tell, (leash.read_fd, folder), method=method, keep_fds=(leash.read_fd,))
    time.sleep(600)


def tie_and_tell(leash_fd: int, folder: str) -> None:
    processes.tie_to_leash(leash_fd)
    pathlib.Path(folder, "new").write_text(str(os.getpid()))
    pathlib.Path(folder, "new").rename(pathlib.Path(folder, "tied"))
    time.sleep(600)


def tie_and_sleep(leash_fd: int) -> None:
    processes.tie_to_leash(leash_fd)
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
