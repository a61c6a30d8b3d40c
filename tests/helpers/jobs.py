"""Functions for the pool that are no episodes: most of them do something bad to it."""

import os
import pathlib
import signal
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Errand:
    """A job for the pool alone."""

    index: int
    path: str = ""


def double(job: Errand, link: Any) -> int:
    del link
    return job.index * 2


def sleep_forever(job: Errand, link: Any) -> None:
    del link
    if job.path:
        pathlib.Path(job.path, str(os.getpid())).touch()
    time.sleep(600)


def close_all_and_sleep(job: Errand, link: Any) -> None:
    os.closerange(3, 256)
    sleep_forever(job, link)


def kill_worker(job: Errand, link: Any) -> None:
    del job, link
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def kill_first_worker(job: Errand, link: Any) -> int:
    """Kill the worker, but not that of the second attempt."""
    if not _was_here(job):
        kill_worker(job, link)
    return job.index


def stop_first_worker(job: Errand, link: Any) -> int:
    """Stop the worker, but not that of the second attempt."""
    del link
    if not _was_here(job):
        os.kill(os.getppid(), signal.SIGSTOP)
    return job.index


def kill_worker_behind_a_daemon(job: Errand, link: Any) -> int:
    """Leave a detached process, which writes its id down; kill the first worker."""
    if _was_here(job):
        return job.index
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            pathlib.Path(job.path, "daemon").write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    while not pathlib.Path(job.path, "daemon").exists():
        time.sleep(0.01)
    return kill_first_worker(Errand(job.index, job.path + "/again"), link)


def use_much_memory(job: Errand) -> None:
    """In the worker, before the job."""
    del job
    bytearray(200 << 20)


def answer(job: Errand, link: Any) -> Any:
    """Whatever its path says."""
    del link
    match job.path:
        case "cannot pickle":
            return lambda: None
        case "large":
            return b"x" * (8 << 20)
        case "raise":
            raise ValueError("no")
        case "exit":
            os._exit(3)
        case "signal":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "sleep":
            time.sleep(600)
    return job.path


def _was_here(job: Errand) -> bool:
    folder = pathlib.Path(job.path)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / f"{job.index}.seen").touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


class Stillborn:
    """A companion whose making kills its worker."""

    def __init__(self, method: str, slots: int) -> None:
        del method, slots
        os._exit(9)


class Refused:
    """A companion for which the machine has nothing left."""

    def __init__(self, method: str, slots: int) -> None:
        del method, slots

    pids: frozenset[int] = frozenset()
    fds: tuple[int, ...] = ()

    def begin(self, job: Any) -> Any:
        del job
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def close(self) -> None:
        return None


class RefusedAtFirst(Refused):
    """The machine gives what is needed at the third time of asking."""

    asked = 0

    def begin(self, job: Any) -> Any:
        self.asked += 1
        if self.asked % 3:
            super().begin(job)
