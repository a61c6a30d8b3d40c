"""Many jobs in many processes.

::

    harness ──assignments──▶ worker 1..N ──starts, per job──▶ child: runs function(job, link)
       ▲                        │   ▲                           │
       └────────reports─────────┘   └──────── one answer ───────┘
                                │ └──starts, once──▶ companion (a zygote, say), which serves the
                                worker's jobs

- One pair of pipes per worker, no queue or lock that a dying process could hold. Assignments go
  down, reports come up.
- A worker is spawned by multiprocessing and becomes a lean interpreter. It kills its child at the
  job's limit, and everything that the child has left behind before it takes the next job.
- A worker that dies costs the job it was running one attempt; a job that loses its worker twice
  ends as WorkerLost. What it had been handed beyond that goes to others, unblamed.
- Whoever dies, everything below ends: the worker at the end of its line, the child by its leash,
  the companion by its own line.
"""

import contextlib
import math
import multiprocessing
import os
import pickle
import selectors
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Final

from tracecore import frames, processes
from tracecore.batch.growth import INTERVAL_S, Growth
from tracecore.batch.worker import (
    READY,
    TROUBLE,
    Assignment,
    Companion,
    WorkerSetup,
    ending_in,
    read_report,
    run_worker,
)
from tracecore.batch.worker_start import become_worker
from tracecore.clock import monotonic_s
from tracecore.errors import EngineError
from tracecore.record import field, mutable_record, record
from tracecore.records import Ended, Ending, Running, Usage, WorkerLost

ATTEMPTS_MOST: Final = 2  # of one job, when its worker dies
BIRTH_FAILURES_MOST: Final = 3  # workers in a row that die before they are ready
# assignments that a worker of short jobs holds, so that it never waits for the harness
AHEAD_MOST: Final = 4
SHORT_JOB_S: Final = 0.05  # jobs longer than this are handed out one at a time
# for a worker that has been told to leave: it only kills, reaps and exits
CLOSE_PATIENCE_S: Final = 1.5
STUCK_PATIENCE_S: Final = (
    # behind a job's limit: a worker that has not reported by then is stopped or stuck, and is
    # killed
    10.0
)


@record
class BatchOptions:
    """How a batch runs."""

    workers: int
    limit_s: Callable[[Any], float]  # of a job: when its worker kills it
    prepare: Callable[[str], Companion] | None = None  # what each worker starts once
    # in the worker before a job's process starts: what that may find done
    make_ready: Callable[[Any], None] | None = None
    # how processes are started below the workers
    method: str = field(default_factory=processes.default_method)
    pin: bool = True  # each worker, and all below it, to one core
    stop_fd: int | None = None  # turns readable when the batch is to end now, finished or not
    # Turns readable when jobs that have run out for now go on: such jobs give None for "none at the
    # moment".
    more_fd: int | None = None
    # Whether this process is here for the batch alone. Then it adopts what a killed worker leaves
    # behind, and kills it: every child that it did not have before the batch, and that is no
    # worker.
    adopt_orphans: bool = False
    # Called with what is running, between two reports and never more often than every tick_s: a
    # tick whose time has gone by while something else was done is skipped. It runs in the batch's
    # own loop, which waits for it.
    on_tick: Callable[[Sequence[Running]], None] | None = None
    tick_s: float = 0.1


def run_batch(
    function: Callable[[Any, Any], object], jobs: Iterable[Any], options: BatchOptions
) -> Generator[Ended, None, None]:
    """Run ``function(job, link)`` for every job, each in a process of its own; gives the endings as
    they come.

    Args:
        function: Importable by name. What it returns must pickle.
        jobs: Taken as they are needed: an endless iterable is fine. With ``more_fd``, None means
            that there is none now.
        options: See there. More workers than cores are started only while the cores are not busy.

    Yields:
        One Ended per job, in the order in which they end.

    Raises:
        EngineError: Workers die before they can take a job, or the machine refuses the processes or
            descriptors they need.
    """
    try:
        pool = _Pool(function, iter(jobs), options)
    except OSError as error:
        raise EngineError(f"no worker could be started: {error}") from error
    try:
        yield from pool.run()
    finally:
        pool.close()


_MORE: Final = object()  # what the selector says when jobs go on


@mutable_record
class _Worker:
    process: BaseProcess
    jobs_fd: int
    results_fd: int
    held: deque[Assignment] = field(default_factory=deque)  # the first is running
    data: bytes = b""
    ready: bool = False
    since_s: float = math.inf  # monotonic second at which its first assignment became that
    # monotonic second at which it is taken to be stuck with the job that it runs
    stuck_s: float = math.inf

    def expect_first(self) -> None:
        """Another assignment has become its first one."""
        self.since_s = monotonic_s()
        self.stuck_s = (
            self.since_s + self.held[0].limit_s + STUCK_PATIENCE_S if self.held else math.inf
        )


class _Pool:
    def __init__(
        self, function: Callable[[Any, Any], object], jobs: Iterator[Any], options: BatchOptions
    ) -> None:
        self._function, self._jobs, self._options = function, jobs, options
        self._context = multiprocessing.get_context("spawn")
        self._selector = selectors.DefaultSelector()
        if options.stop_fd is not None:
            self._selector.register(options.stop_fd, selectors.EVENT_READ, None)
        if options.more_fd is not None:
            self._selector.register(options.more_fd, selectors.EVENT_READ, _MORE)
        self._workers: list[_Worker] = []
        self._again: deque[Assignment] = deque()  # handed out once, to a worker that died
        self._more_jobs = True
        self._tickets = 0
        self._numbers = 0
        self._birth_failures = 0
        self._epoch_s = monotonic_s()
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._ahead = 1
        self._growth = Growth(options.workers, self._cores)
        self._next_tick_s = self._epoch_s if options.on_tick else math.inf
        self._had_before = self._adopt() if options.adopt_orphans else None

    def run(self) -> Iterator[Ended]:
        while True:
            self._grow()
            self._hand_out()
            if not self._has_more and not any(worker.held for worker in self._workers):
                return
            events = self._selector.select(self._patience_s())
            if any(key.data is None for key, _ in events):
                yield from self._hear_the_last()
                return
            for key, _ in events:
                worker: Any = key.data
                if worker in self._workers:  # it may have been buried through its other descriptor
                    yield from self._hear(worker)
            self._kill_stuck()
            self._tick()

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
        self._sweep_orphans()
        if self._had_before is not None:
            processes.become_subreaper(yes=False)

    # --- orphans ---

    def _adopt(self) -> frozenset[int]:
        resource_tracker.ensure_running()  # multiprocessing's own helper, which outlives the batch
        processes.become_subreaper()
        return frozenset(processes.children_of(os.getpid()))

    def _sweep_orphans(self) -> None:
        if self._had_before is None:
            return
        # it may have been killed, and started anew
        tracker = getattr(resource_tracker, "_resource_tracker", None)
        workers = {worker.process.pid for worker in self._workers}
        processes.sweep(
            self._had_before
            | {pid for pid in (*workers, getattr(tracker, "_pid", None)) if pid is not None}
        )

    # --- workers ---

    def _grow(self) -> None:
        if not self._has_more:
            return
        while len(self._workers) < self._growth.at_once:
            self._start_worker()
        all_ready = all(worker.ready for worker in self._workers)
        pids = [worker.process.pid or 0 for worker in self._workers]
        for _ in range(self._growth.more(monotonic_s(), pids, all_ready=all_ready)):
            self._start_worker()

    def _patience_s(self) -> float | None:
        first_s = min([self._next_tick_s, *(worker.stuck_s for worker in self._workers)])
        if self._has_more and self._growth.may_go_on(len(self._workers)):
            return min(INTERVAL_S, max(0.0, first_s - monotonic_s()))
        return None if first_s == math.inf else max(0.0, first_s - monotonic_s())

    def _kill_stuck(self) -> None:
        for worker in self._workers:
            if worker.stuck_s < monotonic_s():
                worker.process.kill()  # its sentinel tells when it is dead

    def _tick(self) -> None:
        now_s = monotonic_s()
        if self._options.on_tick is None or now_s < self._next_tick_s:
            return
        self._next_tick_s = now_s + self._options.tick_s
        self._options.on_tick(
            [
                Running(worker.held[0].job, worker.since_s)
                for worker in self._workers
                if worker.ready and worker.held
            ]
        )

    def _start_worker(self) -> None:
        try:
            self._start_worker_once()
        except OSError as error:
            raise EngineError(f"no worker could be started: {error}") from error

    def _start_worker_once(self) -> None:
        # Closed by whatever way is taken: what the worker needs of them it has inherited.
        with contextlib.ExitStack() as ends:
            jobs_r, jobs_w = (ends.enter_context(end) for end in self._context.Pipe(duplex=False))
            results_r, results_w = (
                ends.enter_context(end) for end in self._context.Pipe(duplex=False)
            )
            process = self._context.Process(
                target=become_worker, args=(jobs_r, results_w, *self._birth())
            )
            with processes.interrupts_held():
                process.start()
            worker = _Worker(process, os.dup(jobs_w.fileno()), os.dup(results_r.fileno()))
        self._numbers += 1
        os.set_blocking(worker.results_fd, False)
        self._workers.append(worker)
        self._selector.register(worker.results_fd, selectors.EVENT_READ, worker)
        self._selector.register(process.sentinel, selectors.EVENT_READ, worker)

    def _birth(self) -> tuple[bytes, int | None]:
        """What the next worker runs, and on which core."""
        options, number = self._options, self._numbers
        setup = WorkerSetup(
            number=number,
            method=options.method,
            epoch_s=self._epoch_s,
            prepare=options.prepare,
            work=pickle.dumps((self._function, options.make_ready)),
        )
        cpu = self._cores[number % len(self._cores)] if options.pin and self._cores else None
        return pickle.dumps((run_worker, (setup,))), cpu

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
        self._sweep_orphans()
        if self._birth_failures >= BIRTH_FAILURES_MOST:
            raise EngineError(
                f"{self._birth_failures} workers in a row died before they were ready; the last"
                f" {reason}"
            )
        yield from lost

    def _blame(self, running: Assignment, reason: str) -> Iterator[Ended]:
        """The assignment that a dead worker was running: try it again, or give it up."""
        if running.attempt < ATTEMPTS_MOST:
            self._again.appendleft(_next_attempt(running))
            return
        usage = Usage(wall_clock_s=monotonic_s() - running.handed_s, attempt=running.attempt)
        yield Ended(running.job, WorkerLost(running.attempt, reason), usage)

    # --- jobs ---

    @property
    def _has_more(self) -> bool:
        """Whether there is something left to hand out."""
        return self._more_jobs or bool(self._again)

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
        if job is None:
            return None
        self._tickets += 1
        return Assignment(self._tickets, job, self._options.limit_s(job), monotonic_s(), 1)

    def _hand_to(self, worker: _Worker, assignment: Assignment) -> None:
        worker.held.append(assignment)
        if len(worker.held) == 1:
            worker.expect_first()
        # it has just died, and will be buried with what it holds
        with contextlib.suppress(BrokenPipeError):
            frames.write_message(worker.jobs_fd, pickle.dumps(assignment))

    # --- reports ---

    def _hear_the_last(self) -> Iterator[Ended]:
        """What the workers have said by now, when the batch is to end."""
        for worker in self._workers:
            self._read_all(worker)
            yield from self._read_reports(worker)

    def _hear(self, worker: _Worker) -> Iterator[Ended]:
        """Read what a worker has said; at the end of its line, or its death, bury it."""
        # Asked first: what it said before it died is then there to be read.
        dead = worker.process.exitcode is not None
        ended = self._read_all(worker)
        yield from self._read_reports(worker)
        if dead or ended:
            yield from self._bury(worker)

    def _read_all(self, worker: _Worker) -> bool:
        """Read what there is; whether that was the last."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(worker.results_fd, frames.READ_BYTES):
                worker.data += part
            return True
        return False

    def _read_reports(self, worker: _Worker) -> Iterator[Ended]:
        data, at, header = worker.data, 0, frames.HEADER_BYTES
        while len(data) - at >= header:
            end = at + header + int.from_bytes(data[at : at + header], "big")
            if len(data) < end:
                break
            message, at = data[at + header : end], end
            if message == READY:
                worker.ready, self._birth_failures = True, 0
                worker.since_s = monotonic_s()
            elif message.startswith(TROUBLE):
                words = message[len(TROUBLE) :].decode("utf-8", "replace")
                raise EngineError(f"the processes of an episode could not be started: {words}")
            else:
                yield self._take_report(worker, message)
        worker.data = data[at:]

    def _take_report(self, worker: _Worker, message: bytes) -> Ended:
        report = read_report(message)
        assignment = worker.held.popleft()
        worker.expect_first()
        assert assignment.ticket == report[0], (
            "a worker reports in the order in which it was handed its jobs"
        )
        usage = Usage(*report[2])
        self._ahead = AHEAD_MOST if usage.wall_clock_s < SHORT_JOB_S else 1
        ending: Ending = ending_in(report)
        return Ended(assignment.job, ending, usage)


def _next_attempt(assignment: Assignment) -> Assignment:
    return Assignment(
        assignment.ticket, assignment.job, assignment.limit_s, monotonic_s(), assignment.attempt + 1
    )


def _describe_code(code: int | None) -> str:
    return "vanished" if code is None else processes.describe_past(code)
