"""Many jobs in many processes.

::

    harness ──assignments──▶ worker, one per usable core ──starts, per job──▶ child: function(job,
       ▲                        │   ▲                                           │   link)
       └────────reports─────────┘   └───────────────── one answer ──────────────┘
                                └──starts, once──▶ companion (agent zygotes, say), which serves the
                                                   worker's jobs

- ``slots`` jobs run at a time while that many are left. The workers share the slots; each waits
  for all of its jobs at once (``worker.py``).
- One pair of pipes per worker, no queue or lock that a dying process could hold. Assignments go
  down, reports come up; neither side waits for the other to read.
- A worker is a lean interpreter. It kills a job's process at the job's limit, and everything that
  it has left behind before its slot is used again.
- A worker that dies costs each job it was running one attempt; a job that loses its worker twice
  ends as WorkerLost. What it had been handed beyond that goes to others, unblamed.
- Whatever dies, all below it ends: the worker at the end of its line, the child by its leash,
  the companion by its own line.
"""

import contextlib
import math
import os
import pickle
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final

from tracecore import descendants, processes
from tracecore.batch.backlog import Backlog
from tracecore.batch.crew import CLOSE_PATIENCE_S, Worker, usable_cores
from tracecore.batch.worker import READY, TROUBLE, Companion, WorkerSetup
from tracecore.clock import monotonic_s
from tracecore.errors import EngineError
from tracecore.record import record, replace
from tracecore.records import Ended, Returned, Running, Usage, WorkerLost

ATTEMPTS_MOST: Final = 2  # of one job, when its worker dies
BIRTH_FAILURES_MOST: Final = 3  # workers in a row that die before they are ready
# assignments that a worker of short jobs holds beyond its slots, so that it never waits for the
# harness
AHEAD_MOST: Final = 4


@record
class BatchOptions:
    """How a batch runs."""

    slots: int  # jobs at a time; there are as many workers as usable cores, or slots, if fewer
    limit_s: Callable[[Any], float]  # of a job: when its worker kills it
    # what each worker starts once; of the start method and the worker's slots
    prepare: Callable[[str, int], Companion] | None = None
    # in the worker before a job's process starts: what that may find done
    make_ready: Callable[[Any], None] | None = None
    # how processes are started below the workers
    method: str = processes.FORK
    # gives jobs that take about as long the same key: then the longest are handed out first
    key: Callable[[Any], Hashable] | None = None
    stop_fd: int | None = None  # turns readable when the batch is to end now, finished or not
    # Whether this process is here for the batch alone. Then it adopts what a killed worker leaves
    # behind, and kills it: every child that it did not have before the batch, and that is no
    # worker.
    adopt_orphans: bool = False
    # Called with what is running, between two reports and never more often than every tick_s: a
    # tick whose time has gone by while something else was done is skipped. It runs in the batch's
    # own loop, which waits for it.
    on_tick: Callable[[Sequence[Running]], None] | None = None
    tick_s: float = 0.1
    on_note: Callable[[str], None] | None = None  # what a person should know, once


def run_batch(
    function: Callable[[Any, Any], object], jobs: Iterable[Any], options: BatchOptions
) -> Generator[Ended, None, None]:
    """Run ``function(job, link)`` for every job, each in a process of its own; gives the endings as
    they come.

    Args:
        function: Importable by name. What it returns must pickle.
        jobs: Taken as they are needed: an endless iterable is fine.
        options: See there.

    Yields:
        One Ended per job, in the order in which they end.

    Raises:
        EngineError: Workers die before they can take a job, or the machine refuses the processes or
            descriptors they need.
    """
    with _children_can_be_reaped():
        try:
            pool = _Pool(function, iter(jobs), options)
        except OSError as error:
            raise EngineError(f"no worker could be started: {error}") from error
        with contextlib.closing(pool):
            yield from pool.run()


@contextlib.contextmanager
def _children_can_be_reaped() -> Iterator[None]:
    """An ignored SIGCHLD, which a parent hands on, has the kernel reap children in our place."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


class _Pool:
    def __init__(
        self, function: Callable[[Any, Any], object], jobs: Iterator[Any], options: BatchOptions
    ) -> None:
        self._function, self._options = function, options
        self._selector = selectors.DefaultSelector()
        if options.stop_fd is not None:
            self._selector.register(options.stop_fd, selectors.EVENT_READ, None)
        self._backlog = Backlog(jobs, options.limit_s, options.key)
        self._workers: list[Worker] = []
        count = min(options.slots, len(usable_cores()))
        # slots of workers that are not there (yet): each of them one worker's share
        self._shares = [tuple(range(first, options.slots, count)) for first in range(count)]
        self._on_note = options.on_note
        self._numbers = 0
        self._birth_failures = 0
        self._epoch_s = monotonic_s()
        self._next_tick_s = self._epoch_s if options.on_tick else math.inf
        self._had_before: frozenset[int] | None = None
        if options.adopt_orphans:
            descendants.become_subreaper()
            self._had_before = frozenset(descendants.children_of(os.getpid()))

    def run(self) -> Iterator[Ended]:
        while True:
            self._start_workers()
            self._hand_out()
            if not self._backlog.has_more and not any(worker.running for worker in self._workers):
                return
            events = self._selector.select(self._patience_s())
            if any(key.data is None for key, _ in events):
                for worker in self._workers:  # what they have sent by now: the batch is to end
                    yield from self._take_reports(worker, worker.reports.read()[0])
                return
            for key, event in events:
                worker = key.data
                if worker not in self._workers:  # or it has just been buried
                    continue
                if event & selectors.EVENT_READ:
                    yield from self._hear(worker)
                else:
                    self._watch_room(worker, blocked=worker.flush())
            self._kill_stuck()
            self._tick()

    def close(self) -> None:
        """End all workers, and with them everything below."""
        for worker in self._workers:
            os.close(worker.jobs_fd)  # the end of its line: it kills what it runs, and leaves
        deadline_s = monotonic_s() + CLOSE_PATIENCE_S
        for worker in self._workers:
            worker.end(max(0.0, deadline_s - monotonic_s()))
        self._workers.clear()
        self._selector.close()
        self._sweep_orphans()
        if self._had_before is not None:
            descendants.become_subreaper(yes=False)

    def _sweep_orphans(self) -> None:
        if self._had_before is None:
            return
        # multiprocessing's own helper, where someone has started it meanwhile, outlives the batch
        tracker = getattr(
            sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None
        )
        spare = {worker.process.pid for worker in self._workers} | {getattr(tracker, "_pid", None)}
        descendants.sweep(self._had_before | {pid for pid in spare if pid is not None})

    # --- workers ---

    def _start_workers(self) -> None:
        while self._shares and self._backlog.has_more:
            try:
                self._start_worker(self._shares.pop(0))
            except OSError as error:
                raise EngineError(f"no worker could be started: {error}") from error

    def _start_worker(self, slots: tuple[int, ...]) -> None:
        function, options = self._function, self._options
        setup = WorkerSetup(
            number=self._numbers,
            slots=slots,
            method=options.method,
            epoch_s=self._epoch_s,
            prepare=options.prepare,
            work=pickle.dumps((function, options.make_ready)),
        )
        worker = Worker(setup, (function, options.prepare, options.make_ready))
        self._numbers += 1
        self._workers.append(worker)
        self._selector.register(worker.results_fd, selectors.EVENT_READ, worker)
        refusal = worker.keep_to_core()
        if refusal and self._on_note:
            self._on_note(f"workers keep to no core of their own: {refusal}")
            self._on_note = None

    def _bury(self, worker: Worker) -> Iterator[Ended]:
        """Take a dead worker out, and see to the jobs that it held."""
        self._selector.unregister(worker.results_fd)
        self._watch_room(worker, blocked=False)
        self._workers.remove(worker)
        self._shares.append(worker.setup.slots)
        ran, rest, reason = worker.bury()
        if not worker.ready:
            self._birth_failures += 1
        again = [
            replace(one, handed_s=monotonic_s(), attempt=one.attempt + 1)
            for one in ran
            if one.attempt < ATTEMPTS_MOST
        ]
        self._backlog.put_back([*again, *rest])
        self._sweep_orphans()
        if self._birth_failures >= BIRTH_FAILURES_MOST:
            raise EngineError(
                f"{self._birth_failures} workers in a row died before they were ready; the last"
                f" {reason}"
            )
        for lost in ran:
            if lost.attempt >= ATTEMPTS_MOST:
                usage = Usage(wall_clock_s=monotonic_s() - lost.handed_s, attempt=lost.attempt)
                yield Ended(lost.job, WorkerLost(lost.attempt, reason), usage)

    def _patience_s(self) -> float | None:
        first_s = min([self._next_tick_s, *(worker.stuck_s for worker in self._workers)])
        return None if first_s == math.inf else max(0.0, first_s - monotonic_s())

    def _kill_stuck(self) -> None:
        now_s = monotonic_s()
        for worker in self._workers:
            if worker.stuck_s < now_s:
                worker.process.kill()  # its line ends when it is dead

    def _tick(self) -> None:
        now_s = monotonic_s()
        if self._options.on_tick is None or now_s < self._next_tick_s:
            return
        self._next_tick_s = now_s + self._options.tick_s
        ready = [worker for worker in self._workers if worker.ready]
        running = [one for worker in ready for one in worker.running.values()]
        self._options.on_tick([Running(one.job, since_s) for one, since_s in running])

    # --- jobs ---

    def _hand_out(self) -> None:
        while (worker := self._roomiest()) and (assignment := self._backlog.take()):
            self._watch_room(worker, blocked=worker.hand(assignment))

    def _roomiest(self) -> Worker | None:
        """The worker to hand the next job to, if any has room."""
        if not self._workers:
            return None
        worker = max(self._workers, key=lambda one: (one.free_slots, -len(one.waiting)))
        if worker.free_slots or self._may_wait_at(worker):
            return worker
        return None

    def _may_wait_at(self, worker: Worker) -> bool:
        """Whether a job that is handed to a worker without a free slot is soon given one."""
        return len(worker.waiting) < AHEAD_MOST and all(
            self._backlog.is_short(one.job) for one, _since_s in worker.running.values()
        )

    def _watch_room(self, worker: Worker, *, blocked: bool) -> None:
        """Wait for room on the line to a worker that has not taken all it was handed."""
        watched = worker.jobs_fd in self._selector.get_map()
        if blocked and not watched:
            self._selector.register(worker.jobs_fd, selectors.EVENT_WRITE, worker)
        elif watched and not blocked:
            self._selector.unregister(worker.jobs_fd)

    # --- reports ---

    def _hear(self, worker: Worker) -> Iterator[Ended]:
        """Read what a worker has sent; at the end of its line, which is its death, bury it."""
        messages, ended = worker.reports.read()
        yield from self._take_reports(worker, messages)
        if ended:
            yield from self._bury(worker)

    def _take_reports(self, worker: Worker, messages: list[bytes]) -> Iterator[Ended]:
        for message in messages:
            if message == READY:
                worker.become_ready()
                self._birth_failures = 0
            elif message.startswith(TROUBLE):
                words = message[len(TROUBLE) :].decode("utf-8", "replace")
                raise EngineError(f"the processes of an episode could not be started: {words}")
            else:
                ticket, ending, cost = pickle.loads(message)  # noqa: S301 - from our own worker
                job, usage = worker.take_back(ticket).job, Usage(*cost)
                if isinstance(ending, bytes):
                    ending = Returned(pickle.loads(ending))  # noqa: S301 - as above
                self._backlog.learn(job, usage.wall_clock_s)
                yield Ended(job, ending, usage)
