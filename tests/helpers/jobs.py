"""Functions for the pool that are no episodes: most of them do something bad to it."""

import contextlib
import os
import pathlib
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from tracecore import descendants
from tracecore.batch import worker
from tracecore.descendants import children_of
from tracecore.records import Usage


@dataclass(frozen=True)
class Errand:
    """A job for the pool alone."""

    index: int
    path: str = ""
    count: int = 0


def double(job: Errand, link: Any) -> int:
    del link
    return job.index * 2


def sleep_forever(job: Errand, link: Any) -> None:
    del link
    if job.path:
        pathlib.Path(job.path, str(os.getpid())).touch()
    time.sleep(600)


def wait_for_file(job: Errand, link: Any) -> None:
    del link
    while not os.path.exists(job.path):
        time.sleep(0.01)


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


# --- many at a time ---


def meet(job: Errand, link: Any) -> int:
    """Wait until as many as ``count`` are here at the same time."""
    del link
    _arrive(job)
    return job.count


def _arrive(job: Errand, name: str = "here") -> None:
    pathlib.Path(job.path, f"{name}-{job.index}").touch()
    while len(list(pathlib.Path(job.path).glob(f"{name}-*"))) < job.count:
        time.sleep(0.01)


def count_beside(job: Errand, link: Any) -> int:
    """How many are here now, this one included."""
    del link
    mark = pathlib.Path(job.path, f"{job.index}")
    mark.touch()
    time.sleep(0.05)
    count = len(list(pathlib.Path(job.path).iterdir()))
    mark.unlink()
    return count


def leave_or_keep_a_daemon(job: Errand, link: Any) -> str:
    """The first leaves a detached process, and ends; the other has one too, and outlasts the
    first's.
    """
    del link
    _start_daemon(job)
    both = [pathlib.Path(job.path, f"daemon-{index}") for index in range(2)]
    while not all(path.exists() for path in both):
        time.sleep(0.01)
    if job.index == 0:
        return "left"
    theirs, own = (int(path.read_text()) for path in both)
    while _exists(theirs):
        time.sleep(0.01)
    return "alive" if _exists(own) else "dead"


def _start_daemon(job: Errand) -> None:
    if between := os.fork():
        os.waitpid(between, 0)
    else:
        os.setsid()
        if os.fork() == 0:
            path = pathlib.Path(job.path, f"daemon-{job.index}")
            path.with_suffix(".new").write_text(str(os.getpid()))
            path.with_suffix(".new").rename(path)
            time.sleep(600)
        os._exit(0)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def outlast(job: Errand, link: Any) -> str:
    """The last one ends when its worker has no other left: so many that none is forked ahead."""
    del link
    if job.index < job.count - 1:
        time.sleep(600)
    while children_of(os.getppid()) != [os.getpid()]:
        time.sleep(0.01)
    return "last"


def flood_or_return(job: Errand, link: Any) -> int:
    """The first writes into everything that it can write to, and never ends."""
    del link
    while job.index == 0:
        for fd in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(fd, b"\x7f" * (1 << 16))
    return job.index


def meet_and_kill_first_worker(job: Errand, link: Any) -> int:
    """The first ``count`` meet; one of them kills their worker."""
    if job.index < job.count and not _was_here(Errand(job.index, job.path + "/seen")):
        _arrive(job)
        if job.index == 0:
            kill_worker(job, link)
        time.sleep(600)
    return job.index


def kill_worker_once_alone(job: Errand, link: Any) -> int:
    """The first kills its worker as soon as the others have ended, or at once when it comes
    back.
    """
    if job.index == 0:
        kill_worker(job, link)
    return job.index


PLAIN_SIGNALS = ([], [signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ])


def signal_state(job: Errand, link: Any) -> Any:
    """The signals that are blocked, and that are ignored."""
    del job, link
    ignored = [
        number
        for number in sorted(signal.valid_signals())
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), ignored


def search_path(job: Errand, link: Any) -> list[str]:
    """Where this process imports from."""
    del job, link
    return sys.path


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

    def open_link(self) -> None:
        return None

    def begin(self, link: Any, job: Any) -> Any:
        del link, job
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def close(self) -> None:
        return None


class RefusedAtFirst(Refused):
    """The machine gives what is needed at the third time of asking."""

    asked = 0

    def begin(self, link: Any, job: Any) -> Any:
        self.asked += 1
        if self.asked % 3:
            super().begin(link, job)


@dataclass
class Report:
    """The link of a job to a companion that keeps no descriptor for it."""

    index: int = -1
    fds: tuple[int, ...] = ()

    def drop(self) -> None:
        """There is nothing to close."""


class Beside:
    """A companion that spends much on each job, and knows how much as late as it may: of every
    second job when that has ended, of the others when it has been heard.
    """

    SPENT = Usage(0.0, cpu_user_s=1e6, cpu_sys_s=2e6, peak_rss_bytes=1 << 50, page_faults=1 << 50)
    pids: frozenset[int] = frozenset()

    def __init__(self, method: str, slots: int) -> None:
        del method, slots
        self._reports_r, self._reports_w = os.pipe()
        self._known: set[int] = set()
        self.fds = (self._reports_r,)

    def open_link(self) -> Report:
        return Report()

    def begin(self, link: Report, job: Errand) -> Report:
        del link
        return Report(job.index)

    def hear(self, fd: int) -> None:
        self._known.update(os.read(fd, 64))

    def end(self, link: Report) -> None:
        if link.index % 2:
            os.write(self._reports_w, bytes([link.index]))
        else:
            self._known.add(link.index)

    def spent(self, link: Report) -> Usage | None:
        return self.SPENT if link.index in self._known else None

    def close(self) -> None:
        os.close(self._reports_r)
        os.close(self._reports_w)


class Silent(Beside):
    """A companion that never knows."""

    def __init__(self, method: str, slots: int) -> None:
        super().__init__(method, slots)
        worker.COMPANION_PATIENCE_S = 0.1  # type: ignore[misc]

    def end(self, link: Report) -> None:
        """It forgets the job."""


def have_no_pidfd(method: str, slots: int) -> None:
    """No companion, in a worker on a platform without descriptors of processes."""
    del method, slots
    descendants.open_pidfd = lambda _pid: None


def hang_behind_a_daemon(job: Errand, link: Any) -> str:
    """The first never ends, and its detached process holds its line open; the others end."""
    if job.index == 0:
        _start_daemon(job)
        sleep_forever(Errand(0), link)
    return "ended"


def measure_worker(job: Errand, link: Any) -> float:
    """The first ends at once; the second outlasts the first's limit, and gives the processor time
    that their worker has spent meanwhile.
    """
    del link
    if job.index == 0:
        return 0.0
    before_s = _worker_cpu_s()
    time.sleep(job.count)
    return _worker_cpu_s() - before_s


def _worker_cpu_s() -> float:
    words = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
