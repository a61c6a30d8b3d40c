"""Many jobs in many processes.

::

    harness ──assignments──▶ worker 1..N ──starts, per job──▶ child: runs function(job, link)
       ▲                        │   ▲                           │
       └────────reports─────────┘   └──────── one answer ───────┘
                                │
                                └──starts, once──▶ companion (a zygote, say), which serves the worker's jobs

- One pair of pipes per worker, no queue or lock that a dying process could hold. Assignments go down, reports come up.
- A worker is spawned by multiprocessing and becomes a lean interpreter. It kills its child at the job's limit, and everything
  that the child has left behind before it takes the next job.
- A worker that dies costs the job it was running one attempt; a job that loses its worker twice ends as WorkerLost. What it had
  been handed beyond that goes to others, unblamed.
- Whoever dies, everything below ends: the worker at the end of its line, the child by its leash, the companion by its own line.
"""

import contextlib
import multiprocessing
import os
import pickle
import selectors
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any, Final

from tracecore import frames, processes
from tracecore.batch.worker import (
    READY,
    Assignment,
    Companion,
    WorkerSetup,
    become_worker,
    ending_in,
    read_report,
)
from tracecore.clock import monotonic_s
from tracecore.errors import EngineError
from tracecore.records import Ended, Ending, Usage, WorkerLost

ATTEMPTS_MOST: Final = 2  # of one job, when its worker dies
BIRTH_FAILURES_MOST: Final = 3  # workers in a row that die before they are ready
AHEAD_MOST: Final = 4  # assignments that a worker of short jobs holds, so that it never waits for the harness
SHORT_JOB_S: Final = 0.05  # jobs longer than this are handed out one at a time
GROWTH_INTERVAL_S: Final = 0.1  # between two looks at whether more workers would help
BUSY_SHARE: Final = 0.8  # of the cores: above it, another worker only gets in the others' way
CLOSE_PATIENCE_S: Final = 3.0  # for a worker that has been told to leave


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch runs."""

    workers: int
    limit_s: Callable[[Any], float]  # of a job: when its worker kills it
    prepare: Callable[[str], Companion] | None = None  # what each worker starts once
    method: str = field(default_factory=processes.default_method)  # how processes are started below the workers
    pin: bool = True  # each worker, and all below it, to one core
    stop_fd: int | None = None  # turns readable when the batch is to end now, finished or not


def run_batch(function: Callable[[Any, Any], object], jobs: Iterable[Any], options: BatchOptions) -> Iterator[Ended]:
    """Run ``function(job, link)`` for every job, each in a process of its own; gives the endings as they come.

    Args:
        function: Importable by name. What it returns must pickle.
        jobs: Taken as they are needed: an endless iterable is fine.
        options: See there. More workers than cores are started only while the cores are not busy.

    Yields:
        One Ended per job, in the order in which they end.

    Raises:
        EngineError: Workers die before they can take a job.
    """
    pool = _Pool(function, iter(jobs), options)
    try:
        yield from pool.run()
    finally:
        pool.close()


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    jobs_fd: int
    results_fd: int
    held: deque[Assignment] = field(default_factory=deque)  # the first is running
    data: bytes = b""
    ready: bool = False


class _Pool:
    def __init__(self, function: Callable[[Any, Any], object], jobs: Iterator[Any], options: BatchOptions) -> None:
        self._function, self._jobs, self._options = function, jobs, options
        self._context = multiprocessing.get_context("spawn")
        self._selector = selectors.DefaultSelector()
        if options.stop_fd is not None:
            self._selector.register(options.stop_fd, selectors.EVENT_READ, None)
        self._workers: list[_Worker] = []
        self._again: deque[Assignment] = deque()  # handed out once, to a worker that died
        self._more_jobs = True
        self._tickets = 0
        self._numbers = 0
        self._birth_failures = 0
        self._epoch_s = monotonic_s()
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._ahead = 1
        self._grown_s = self._epoch_s
        self._cpu_s = 0.0  # spent by the jobs that ended since then

    def run(self) -> Iterator[Ended]:
        while True:
            self._grow()
            self._hand_out()
            if not self._more_jobs and not any(worker.held for worker in self._workers):
                return
            for key, _events in self._selector.select(self._patience_s()):
                worker: _Worker | None = key.data
                if worker is None:
                    return
                if worker in self._workers:  # it may have been buried through its other descriptor
                    yield from self._hear(worker)

    def close(self) -> None:
        """End all workers, and with them everything below."""
        for worker in self._workers:
            os.close(worker.jobs_fd)  # the end of its line: it kills what it runs, and leaves
        deadline_s = monotonic_s() + CLOSE_PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline_s - monotonic_s()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            os.close(worker.results_fd)
            worker.process.close()
        self._workers.clear()
        self._selector.close()

    # --- workers ---

    def _grow(self) -> None:
        """Start workers: as many as there are cores at once, and further ones while the cores are not busy."""
        wanted, cores = self._options.workers, max(1, len(self._cores))
        now_s = monotonic_s()
        while self._more_jobs and len(self._workers) < min(wanted, cores):
            self._start_worker()
        if not self._more_jobs or len(self._workers) >= wanted or now_s - self._grown_s < GROWTH_INTERVAL_S:
            return
        busy = self._cpu_s / ((now_s - self._grown_s) * cores)
        self._grown_s, self._cpu_s = now_s, 0.0
        if busy < BUSY_SHARE and all(worker.ready for worker in self._workers):
            for _ in range(min(len(self._workers), wanted - len(self._workers))):
                self._start_worker()

    def _patience_s(self) -> float | None:
        return GROWTH_INTERVAL_S if len(self._workers) < self._options.workers and self._more_jobs else None

    def _start_worker(self) -> None:
        jobs_r, jobs_w = self._context.Pipe(duplex=False)
        results_r, results_w = self._context.Pipe(duplex=False)
        cpu = self._cores[self._numbers % len(self._cores)] if self._options.pin and self._cores else None
        setup = WorkerSetup(
            number=self._numbers,
            jobs_fd=-1,
            results_fd=-1,
            method=self._options.method,
            cpu=cpu,
            epoch_s=self._epoch_s,
            function=self._function,
            prepare=self._options.prepare,
        )
        self._numbers += 1
        process = self._context.Process(target=become_worker, args=(jobs_r, results_w, setup))
        process.start()
        jobs_r.close()
        results_w.close()
        worker = _Worker(process, os.dup(jobs_w.fileno()), os.dup(results_r.fileno()))
        jobs_w.close()
        results_r.close()
        os.set_blocking(worker.results_fd, False)
        self._workers.append(worker)
        self._selector.register(worker.results_fd, selectors.EVENT_READ, worker)
        self._selector.register(process.sentinel, selectors.EVENT_READ, worker)

    def _bury(self, worker: _Worker) -> Iterator[Ended]:
        """Take a dead worker out, and see to the jobs that it held."""
        self._selector.unregister(worker.results_fd)
        self._selector.unregister(worker.process.sentinel)
        self._workers.remove(worker)
        worker.process.join(CLOSE_PATIENCE_S)
        if worker.process.is_alive():  # it closed its line and lives: then it is no worker any more
            worker.process.kill()
            worker.process.join()
        reason = _describe_code(worker.process.exitcode)
        worker.process.close()
        os.close(worker.jobs_fd)
        os.close(worker.results_fd)
        lost: list[Ended] = []
        if worker.ready and worker.held:
            lost += self._blame(worker.held.popleft(), reason)
        elif not worker.ready:
            self._birth_failures += 1
        self._again.extendleft(reversed(worker.held))
        if self._birth_failures >= BIRTH_FAILURES_MOST:
            raise EngineError(f"{self._birth_failures} workers in a row died before they were ready; the last {reason}")
        yield from lost

    def _blame(self, running: Assignment, reason: str) -> Iterator[Ended]:
        """The assignment that a dead worker was running: try it again, or give it up."""
        if running.attempt < ATTEMPTS_MOST:
            self._again.appendleft(_next_attempt(running))
            return
        usage = Usage(wall_clock_s=monotonic_s() - running.handed_s, attempt=running.attempt)
        yield Ended(running.job, WorkerLost(running.attempt, reason), usage)

    # --- jobs ---

    def _hand_out(self) -> None:
        for held in range(self._ahead):
            for worker in self._workers:
                if len(worker.held) == held:
                    assignment = self._next_assignment()
                    if assignment is None:
                        return
                    self._hand_to(worker, assignment)

    def _next_assignment(self) -> Assignment | None:
        if self._again:
            return self._again.popleft()
        if not self._more_jobs:
            return None
        try:
            job = next(self._jobs)
        except StopIteration:
            self._more_jobs = False
            return None
        self._tickets += 1
        return Assignment(self._tickets, job, self._options.limit_s(job), monotonic_s(), 1)

    def _hand_to(self, worker: _Worker, assignment: Assignment) -> None:
        worker.held.append(assignment)
        view = memoryview(frames.pack(pickle.dumps(assignment)))
        with contextlib.suppress(BrokenPipeError):  # it has just died, and will be buried with what it holds
            while view:
                view = view[os.write(worker.jobs_fd, view) :]

    # --- reports ---

    def _hear(self, worker: _Worker) -> Iterator[Ended]:
        """Read what a worker has said; at the end of its line, or its death, bury it."""
        alive = True
        while alive:
            try:
                part = os.read(worker.results_fd, frames.READ_BYTES)
            except BlockingIOError:
                break
            worker.data += part
            alive = bool(part)
        yield from self._read_reports(worker)
        if not alive or worker.process.exitcode is not None:
            yield from self._bury(worker)

    def _read_reports(self, worker: _Worker) -> Iterator[Ended]:
        data, at, header = worker.data, 0, frames.HEADER_BYTES
        while len(data) - at >= header:
            end = at + header + int.from_bytes(data[at : at + header], "big")
            if len(data) < end:
                break
            message, at = data[at + header : end], end
            if message == READY:
                worker.ready, self._birth_failures = True, 0
            else:
                yield self._take_report(worker, message)
        worker.data = data[at:]

    def _take_report(self, worker: _Worker, message: bytes) -> Ended:
        report = read_report(message)
        assignment = worker.held.popleft()
        assert assignment.ticket == report[0], "a worker reports in the order in which it was handed its jobs"
        usage = Usage(*report[2])
        self._cpu_s += usage.cpu_user_s + usage.cpu_sys_s
        self._ahead = AHEAD_MOST if usage.wall_clock_s < SHORT_JOB_S else 1
        ending: Ending = ending_in(report)
        return Ended(assignment.job, ending, usage)


def _next_attempt(assignment: Assignment) -> Assignment:
    return Assignment(assignment.ticket, assignment.job, assignment.limit_s, monotonic_s(), assignment.attempt + 1)


def _describe_code(code: int | None) -> str:
    if code is None:
        return "vanished"
    return f"was {processes.describe_signal(-code)}" if code < 0 else processes.describe_exit(code)
