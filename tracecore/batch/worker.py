"""A worker: as many jobs at a time as it has slots, each in a process of its own, and nothing left
behind of one when its slot is used again.

It runs none of the jobs' code, and has no thread. It waits on everything at once, never longer than
to the nearest deadline: its line to the harness, at whose end it kills what it started and leaves;
each job's answer; each job's death; and what its companion has to report.
"""

import contextlib
import functools
import math
import os
import pickle
import resource
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from tracecore import descendants, frames
from tracecore.batch.run import Assignment, Run, Spare, Spares
from tracecore.clock import monotonic_s
from tracecore.errors import TracecoreError
from tracecore.record import record

READY: Final = b"ready"
# and why: the machine refuses what the next job needs, which is no fault of the job's
TROUBLE: Final = b"trouble:"
# before asking again for a process or a descriptor that was refused
REFUSAL_PAUSES_S: Final = (0.05, 0.2, 0.5)
COMPANION_PATIENCE_S: Final = 30.0  # for what it has to report of a job whose process has ended
FILES_PER_SLOT: Final = 16  # descriptors, those under way to another process included


@record
class WorkerSetup:
    """What a worker is born with."""

    number: int  # 0-based
    slots: tuple[int, ...]  # their numbers: so many jobs it runs at a time
    method: str  # how it starts the processes of its jobs
    epoch_s: float  # monotonic second that offsets count from
    prepare: Callable[[str, int], Any] | None  # of the method and the slots, gives a Companion
    # Pickled (function, make_ready). Not read, and so their modules not imported, before the
    # companion has been started: what it forks shall carry no more than it needs.
    work: bytes


class Companion(Protocol):
    """What a worker keeps beside it for its jobs, such as a zygote: it takes part in the begin and
    the end of each.

    A companion that can do its work no longer raises; that ends the worker, and the harness starts
    another. An OSError means that the machine refuses it what it needs, and ends the batch.
    """

    pids: frozenset[int]  # of processes that stay between jobs, and are not to be swept

    @property
    def fds(self) -> Iterable[int]:
        """Descriptors that turn readable when it has something to :meth:`hear`."""

    def open_link(self) -> Any:
        """For a process that has no job yet: a link (``fds`` that the process keeps, and ``drop``
        when no job is to come), or ``None``.
        """

    def begin(self, link: Any, job: Any) -> Any:
        """The process of this link is given a job; gives the link that it is handed with it."""

    def hear(self, fd: int) -> None:
        """One of ``fds`` is readable."""

    def end(self, link: Any) -> None:
        """The job's process has ended."""

    def spent(self, link: Any) -> Any:
        """``cpu_user_s``, ``cpu_sys_s``, ``peak_rss_bytes`` and ``page_faults`` of what it did for
        the job; ``None`` while that is not known.
        """

    def close(self) -> None:
        """The worker leaves."""


def run_worker(setup: WorkerSetup, jobs_fd: int, results_fd: int) -> None:
    """Serve until the line to the harness ends: assignments come down ``jobs_fd``, reports go up
    ``results_fd``.
    """
    # Ctrl-C goes to a terminal's whole foreground group: the harness decides what it means. It was
    # held back while this process was being started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    descendants.become_subreaper()
    allow_open_files(FILES_PER_SLOT * len(setup.slots) + 256)
    results = frames.Outbox(results_fd)
    worker = None
    try:
        worker = _Worker(setup, jobs_fd, results)
        worker.serve()
    except (frames.ChannelClosed, BrokenPipeError):
        pass  # the harness is gone, or wants no more
    except OSError as error:
        os.set_blocking(results_fd, True)
        with contextlib.suppress(OSError):
            results.put(TROUBLE + str(error).encode("utf-8", "backslashreplace"))
    except TracecoreError:
        sys.exit(1)  # its companion is gone; the harness starts another worker
    finally:
        if worker:
            worker.close()
        descendants.sweep()


def allow_open_files(count: int) -> None:
    """Raise the soft limit of open files, as far as the hard one permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        with contextlib.suppress(ValueError, OSError):
            wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Worker:
    def __init__(self, setup: WorkerSetup, jobs_fd: int, results: frames.Outbox) -> None:
        self._setup, self._results = setup, results
        self._companion: Companion | None = (
            setup.prepare(setup.method, len(setup.slots)) if setup.prepare else None
        )
        function, self._make_ready = pickle.loads(setup.work)  # noqa: S301 - from our own harness
        open_link = self._companion.open_link if self._companion else lambda: None
        self._spares = Spares(function, open_link, setup.method)
        # each with itself pickled, as its process reads it
        self._waiting: deque[tuple[Assignment, bytes]] = deque()
        self._free = deque(setup.slots)
        self._runs: dict[int, Run] = {}  # by process id; those that have not been reaped
        self._ending: list[Run] = []  # reaped, but for what their companion has to report
        # No job is due before that: a look at each of them would write into, and so copy, the
        # pages they lie on.
        self._due_s = math.inf
        self._refusals, self._pause_until_s = 0, 0.0
        self._companion_fds: frozenset[int] = frozenset()
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._jobs = frames.Inbox(jobs_fd)
        self._watch(jobs_fd, self._take_assignments)
        self._send(READY)

    def serve(self) -> None:
        descendants.prepare_to_fork()
        while True:
            for fd, _event in self._poll.poll(self._patience_ms()):
                if handle := self._handlers.get(fd):  # its job may have ended within this round
                    handle()
            self._give_up_overdue()
            # One, and then a look around again: a worker with many free slots is no deaf one.
            if self._can_start():
                self._start(*self._waiting.popleft())

    def close(self) -> None:
        for pid in self._runs:
            descendants.kill_group(pid)
        if self._companion:
            self._companion.close()

    # --- what it waits for ---

    def _watch(self, fd: int, handle: Callable[[], None], event: int = select.POLLIN) -> None:
        self._handlers[fd] = handle
        self._poll.register(fd, event)

    def _forget(self, fd: int | None) -> None:
        if fd in self._handlers:
            del self._handlers[fd]
            self._poll.unregister(fd)

    def _patience_ms(self) -> float | None:
        first_s = self._due_s
        if self._waiting and self._free:
            first_s = min(first_s, self._pause_until_s)
        return None if first_s == math.inf else max(0.0, first_s - monotonic_s()) * 1000

    def _give_up_overdue(self) -> None:
        now_s = monotonic_s()
        if now_s < self._due_s:
            return
        for run in [run for run in self._runs.values() if run.due_s <= now_s]:
            run.give_up()
            if run.died_fd is None:
                self._reap(run)
        if any(run.due_s <= now_s for run in self._ending):
            raise TracecoreError("the companion does not report what it did for an ended job")
        dues = (run.due_s for run in (*self._runs.values(), *self._ending))
        self._due_s = min(dues, default=math.inf)

    def _expect(self, due_s: float) -> None:
        self._due_s = min(self._due_s, due_s)

    # --- the line to the harness ---

    def _take_assignments(self) -> None:
        messages, ended = self._jobs.read()
        if ended:
            raise frames.ChannelClosed
        for message in messages:
            self._waiting.append((pickle.loads(message), message))  # noqa: S301 - from our own harness

    def _send(self, message: bytes) -> None:
        if self._results.put(message):
            # A harness that does not read now must not keep a deadline from being met.
            self._watch(self._results.fd, self._flush, select.POLLOUT)

    def _flush(self) -> None:
        if not self._results.flush():
            self._forget(self._results.fd)

    # --- one job, from taking it to having swept everything it started ---

    def _can_start(self) -> bool:
        return bool(self._waiting and self._free) and self._pause_until_s <= monotonic_s()

    def _start(self, assignment: Assignment, message: bytes) -> None:
        taken_s = monotonic_s()
        try:
            spare, link = self._begin(assignment.job)
        except OSError:
            # asked again for a while; meanwhile what runs may end, and give room
            if self._refusals == len(REFUSAL_PAUSES_S):
                raise
            self._pause_until_s = taken_s + REFUSAL_PAUSES_S[self._refusals]
            self._refusals += 1
            self._waiting.appendleft((assignment, message))
            return
        self._refusals = 0
        run = Run(
            assignment=assignment,
            slot=self._free.popleft(),
            taken_s=taken_s,
            link=link,
            pid=spare.pid,
            answer_fd=spare.answer_fd,
            died_fd=descendants.open_pidfd(spare.pid),
            due_s=taken_s + assignment.limit_s,
        )
        self._runs[spare.pid] = run
        self._expect(run.due_s)
        self._watch(run.answer_fd, functools.partial(self._listen, run))
        if run.died_fd is not None:
            self._watch(run.died_fd, functools.partial(self._reap, run))
        spare.hand(message, link)

    def _begin(self, job: Any) -> tuple[Spare, Any]:
        if self._make_ready:
            self._make_ready(job)
        spare = self._spares.take()
        if not self._companion:
            return spare, None
        try:
            link = self._companion.begin(spare.link, job)
        except OSError:
            self._spares.put_back(spare)
            raise
        self._watch_companion(self._companion)
        return spare, link

    def _watch_companion(self, companion: Companion) -> None:
        fds = frozenset(companion.fds)
        for fd in self._companion_fds - fds:
            self._forget(fd)
        for fd in fds - self._companion_fds:
            self._watch(fd, functools.partial(self._hear_companion, companion, fd))
        self._companion_fds = fds

    def _listen(self, run: Run) -> None:
        if run.listen():
            return
        self._forget(run.answer_fd)
        self._expect(run.due_s)
        if run.died_fd is None:
            self._reap(run)

    def _reap(self, run: Run) -> None:
        self._forget(run.answer_fd)
        self._forget(run.died_fd)
        run.reap()
        del self._runs[run.pid]
        if self._companion and run.link:
            self._companion.end(run.link)
            run.due_s = monotonic_s() + COMPANION_PATIENCE_S
            self._expect(run.due_s)
            self._ending.append(run)
            self._finish_known(self._companion)
        else:
            self._finish(run, None)

    def _hear_companion(self, companion: Companion, fd: int) -> None:
        companion.hear(fd)
        self._finish_known(companion)

    def _finish_known(self, companion: Companion) -> None:
        for run in list(self._ending):
            if beside := companion.spent(run.link):
                self._ending.remove(run)
                self._finish(run, beside)

    def _finish(self, run: Run, beside: Any) -> None:
        self._sweep(run)
        ended_s, assignment, spent = monotonic_s(), run.assignment, run.spent
        peak, ending = run.result()
        # Usage's fields in order: a record would cost several times as much to pickle.
        usage = (
            ended_s - run.taken_s,
            run.taken_s - self._setup.epoch_s,
            ended_s - self._setup.epoch_s,
            run.taken_s - assignment.handed_s,
            spent.ru_utime + (beside.cpu_user_s if beside else 0.0),
            spent.ru_stime + (beside.cpu_sys_s if beside else 0.0),
            max(peak, beside.peak_rss_bytes if beside else 0),
            self._setup.number,
            assignment.attempt,
            run.leaked,
            run.slot,
            spent.ru_minflt + (beside.page_faults if beside else 0),
        )
        self._send(pickle.dumps((assignment.ticket, ending, usage)))
        self._free.append(run.slot)

    def _sweep(self, run: Run) -> None:
        """Kill what the job has left behind.

        What a living job left is not among it: each adopts its own orphans.
        """
        staying = self._companion.pids if self._companion else frozenset()
        for session in descendants.sweep(self._runs.keys() | self._spares.pids | staying):
            # another job's, if that has died within the same moment
            self._runs.get(session, run).leaked += 1
