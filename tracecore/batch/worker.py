"""A worker: one job after the other, each in a process of its own, and nothing left behind between
two.

It runs none of the jobs' code. It waits on three things at once, never longer than the job's limit:
the child's answer, the child's death, and the end of its own line to the harness, at which it kills
what it started and leaves.
"""

import contextlib
import gc
import os
import pickle
import select
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from tracecore import frames, processes
from tracecore.batch.child import PEAK_BYTES, RETURNED, run_child
from tracecore.batch.endings import ending_of_status
from tracecore.clock import monotonic_s
from tracecore.errors import TracecoreError
from tracecore.record import record
from tracecore.records import Ending, FellSilent, Raised, Returned, TimedOut

LEAVE_PATIENCE_S: Final = 1.0  # between a child's answer and its death; it only has to call _exit
# before asking again for a process or a descriptor that was refused
REFUSAL_PAUSES_S: Final = (0.05, 0.2, 0.5)
READY: Final = b"ready"
# and why: the machine refuses what the next job needs, which is no fault of the job's
TROUBLE: Final = b"trouble:"


class Companion(Protocol):
    """What a worker keeps beside it for its jobs, such as a zygote: told of the begin and the end
    of each.

    A companion that can do its work no longer raises; that ends the worker, and the harness starts
    another. An OSError means that the machine refuses it what it needs, and ends the batch.
    """

    @property
    def pids(self) -> frozenset[int]:
        """Processes that stay between jobs, and are not to be swept."""

    def begin(self, job: Any) -> Any:
        """Before the job's process starts; gives the link it is handed (``read_fd``, ``write_fd``
        and ``fds``).
        """

    def end(self) -> Any:
        """After the job's process has ended; gives ``cpu_user_s``, ``cpu_sys_s`` and
        ``peak_rss_bytes`` spent.
        """

    def close(self) -> None:
        """The worker leaves."""


@record
class WorkerSetup:
    """What a worker is born with."""

    number: int  # 0-based
    method: str  # how it starts the processes of its jobs
    epoch_s: float  # monotonic second that offsets count from
    prepare: Callable[[str], Companion] | None
    # Pickled (function, make_ready). Not read, and so their modules not imported, before the
    # companion has been started: what it forks shall carry no more than it needs.
    work: bytes


@record
class Assignment:
    """A job as it is handed to a worker."""

    ticket: int  # names the assignment in the report
    job: Any
    limit_s: float  # when the worker kills its process
    handed_s: float  # monotonic
    attempt: int


# A report on an assignment: ticket; the ending, or the pickled value of one that returned; and, in
# the order of Usage's fields, what it cost. Tuples, since records cost several times as much to
# pickle.
Report = tuple[int, Ending | bytes, tuple[Any, ...]]


class HarnessGone(Exception):
    """The line to the harness has ended."""


def run_worker(setup: WorkerSetup, jobs_fd: int, results_fd: int) -> None:
    """Serve until the line to the harness ends: assignments come down ``jobs_fd``, reports go up
    ``results_fd``.
    """
    os.set_inheritable(jobs_fd, False)
    os.set_inheritable(results_fd, False)
    worker = None
    try:
        worker = _Worker(setup, jobs_fd, results_fd)
        worker.serve()
    except (HarnessGone, frames.ChannelClosed, BrokenPipeError):
        pass
    except OSError as error:
        with contextlib.suppress(OSError):
            frames.write_message(
                results_fd, TROUBLE + str(error).encode("utf-8", "backslashreplace")
            )
    except TracecoreError:
        sys.exit(1)  # its companion is gone; the harness starts another worker
    finally:
        if worker:
            worker.close()
        processes.sweep()


class _Worker:
    def __init__(self, setup: WorkerSetup, jobs_fd: int, results_fd: int) -> None:
        self._setup, self._jobs_fd, self._results_fd = setup, jobs_fd, results_fd
        self._companion = setup.prepare(setup.method) if setup.prepare else None
        self._function: Callable[[Any, Any], object]
        self._make_ready: Callable[[Any], None] | None
        self._function, self._make_ready = pickle.loads(setup.work)  # noqa: S301 - from our own harness
        self._leash = processes.Leash() if processes.leash_exists() else None
        self._waiting = select.poll()
        # no event asked for: only the end of the line wakes, never a job
        self._waiting.register(jobs_fd, 0)
        self._report(READY)

    def serve(self) -> None:
        gc.collect()
        # a collection in a child would write into, and so copy, every page that holds an object
        gc.freeze()
        while True:
            self._run(pickle.loads(frames.read_message(self._jobs_fd)))  # noqa: S301 - from our own harness

    def close(self) -> None:
        if self._companion:
            self._companion.close()

    def _report(self, message: bytes) -> None:
        frames.write_message(self._results_fd, message)

    def _run(self, assignment: Assignment) -> None:
        """One job, from taking it to having swept everything it started."""
        taken_s = monotonic_s()
        pid, answer_fd = self._start(assignment)
        try:
            answer, given_up = self._await_answer(pid, answer_fd, assignment, taken_s)
        finally:
            os.close(answer_fd)
            # Before it is reaped: until then its id cannot have become somebody else's.
            processes.kill_group(pid)
            _pid, status, spent = os.wait4(pid, 0)
        beside = self._companion.end() if self._companion else None
        leaked = processes.sweep(self._companion.pids if self._companion else frozenset())
        ended_s = monotonic_s()
        usage = (
            ended_s - taken_s,
            taken_s - self._setup.epoch_s,
            ended_s - self._setup.epoch_s,
            taken_s - assignment.handed_s,
            spent.ru_utime + (beside.cpu_user_s if beside else 0.0),
            spent.ru_stime + (beside.cpu_sys_s if beside else 0.0),
            max(
                _peak_told(answer) or processes.peak_rss_bytes(spent),
                beside.peak_rss_bytes if beside else 0,
            ),
            self._setup.number,
            assignment.attempt,
            leaked,
        )
        ending = _classify(answer, status, given_up)
        self._report(pickle.dumps((assignment.ticket, ending, usage)))

    def _start(self, assignment: Assignment) -> tuple[int, int]:
        """Start the child; gives its process id and where its answer comes from. A refusal is tried
        again for a while.
        """
        for pause_s in REFUSAL_PAUSES_S:
            with contextlib.suppress(OSError):
                return self._start_once(assignment)
            time.sleep(pause_s)
        return self._start_once(assignment)

    def _start_once(self, assignment: Assignment) -> tuple[int, int]:
        if self._make_ready:
            self._make_ready(assignment.job)
        link = self._companion.begin(assignment.job) if self._companion else None
        try:
            return self._start_child(assignment, link)
        finally:
            # our copies would keep the agent from seeing that its episode is gone, and the other
            # way round
            if link:
                os.close(link.read_fd)
                os.close(link.write_fd)

    def _start_child(self, assignment: Assignment, link: Any) -> tuple[int, int]:
        answer_r, answer_w = os.pipe()
        leash_fd = self._leash.read_fd if self._leash else None
        keep = [answer_w, *(link.fds if link else ()), *([] if leash_fd is None else [leash_fd])]
        arguments = (self._function, assignment.job, link, answer_w, leash_fd, self._setup.method)
        try:
            return processes.start(
                run_child, arguments, method=self._setup.method, keep_fds=keep
            ), answer_r
        except BaseException:
            os.close(answer_r)
            raise
        finally:
            os.close(answer_w)

    def _await_answer(
        self, pid: int, fd: int, assignment: Assignment, taken_s: float
    ) -> tuple[bytes, Ending | None]:
        """What the child said (perhaps not all of it) before it died or was given up; and if it
        was, what for.
        """
        deadline_s = taken_s + assignment.limit_s
        died_fd = _open_pidfd(pid)
        data = b""
        self._waiting.register(fd, select.POLLIN)
        if died_fd is not None:
            self._waiting.register(died_fd, select.POLLIN)
        try:
            while True:
                ready = dict(self._waiting.poll(max(0.0, deadline_s - monotonic_s()) * 1000))
                if self._jobs_fd in ready:
                    raise HarnessGone
                if fd in ready:
                    part = os.read(fd, frames.READ_BYTES)
                    data += part
                    if not part or _is_whole(data):
                        # Usually it is dying. Without a whole answer it may have closed the pipe as
                        # well, to run on.
                        died = self._await_death(died_fd)
                        return data, None if died else FellSilent(LEAVE_PATIENCE_S)
                elif died_fd is not None and died_fd in ready:
                    return data, None
                elif not ready:
                    return data, TimedOut(assignment.limit_s)
        finally:
            self._waiting.unregister(fd)
            if died_fd is not None:
                self._waiting.unregister(died_fd)
                os.close(died_fd)

    def _await_death(self, died_fd: int | None) -> bool:
        """Whether the child died within its patience; taken for granted where nobody tells."""
        if died_fd is None:
            return True
        died = select.poll()
        died.register(died_fd, select.POLLIN)
        return bool(died.poll(LEAVE_PATIENCE_S * 1000))


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None  # a platform without it: the end of the answer pipe tells


def _is_whole(data: bytes) -> bool:
    header = frames.HEADER_BYTES
    return len(data) >= header and len(data) >= header + int.from_bytes(data[:header], "big")


def _peak_told(answer: bytes) -> int:
    """The peak of its own memory that a child told; 0 when it did not."""
    start = frames.HEADER_BYTES + 1
    return int.from_bytes(answer[start : start + PEAK_BYTES], "big") if _is_whole(answer) else 0


def _classify(answer: bytes, status: int, given_up: Ending | None) -> Ending | bytes:
    """The ending of a child; of one that returned, the pickled value, which the harness alone
    reads.
    """
    if _is_whole(answer):
        message = answer[frames.HEADER_BYTES :]
        if message[:1] == RETURNED:
            return message[1 + PEAK_BYTES :]
        return Raised(*pickle.loads(message[1 + PEAK_BYTES :]))  # noqa: S301 - from our own child
    return given_up or ending_of_status(status)


def read_report(message: bytes) -> Report:
    """A worker's message other than READY, as the harness reads it."""
    report: Report = pickle.loads(message)  # noqa: S301 - from our own worker
    return report


def ending_in(report: Report) -> Ending:
    """The ending that a report tells."""
    ending = report[1]
    return Returned(pickle.loads(ending)) if isinstance(ending, bytes) else ending  # noqa: S301 - from our own worker
