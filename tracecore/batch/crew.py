"""The worker processes, as the harness has them: started, kept to a core, handed jobs, heard, and
buried.

A worker and everything below it on one core: a message between two processes costs a tenth there of
what it costs between two cores. It is an optimisation: where a core cannot be had, a worker does
without.
"""

import math
import os
import pickle
import signal
import socket
from collections import deque
from multiprocessing import popen_fork, util
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from tracecore import frames, processes
from tracecore.batch.run import Assignment
from tracecore.batch.worker import WorkerSetup, run_worker
from tracecore.clock import monotonic_s

# behind a job's limit: a worker that has not reported by then is stopped or stuck, and is killed
STUCK_PATIENCE_S: Final = 40.0
# for a worker whose line has ended: it only kills, reaps and exits
CLOSE_PATIENCE_S: Final = 1.5


class Worker:
    """A worker process and what it has in hand.

    Args:
        setup: What it is born with.
        needed: What it must be able to import, beside this package.

    Attributes:
        ready: Whether it takes jobs.
        running: By ticket what has a slot, and since which monotonic second.
        waiting: What it has at hand for slots that become free, in this order.
        reports: What it sends.
    """

    def __init__(self, setup: WorkerSetup, needed: tuple[Any, ...]) -> None:
        jobs_r, jobs_w = os.pipe()
        results_r, results_w = os.pipe()
        self.setup = setup
        self.process = _WorkerProcess(setup, needed, jobs_r, results_w)
        try:
            self.process.start()
        except OSError:
            frames.close_all((jobs_w, results_r))
            raise
        finally:
            frames.close_all((jobs_r, results_w))
        self.jobs_fd, self.results_fd = jobs_w, results_r  # the latter ends with the worker
        self._claim: socket.socket | None = None  # of its core
        self.ready = False
        self.running: dict[int, tuple[Assignment, float]] = {}
        self.waiting: deque[Assignment] = deque()
        self._jobs, self.reports = frames.Outbox(jobs_w), frames.Inbox(results_r)

    @property
    def free_slots(self) -> int:
        """Slots without a job."""
        return len(self.setup.slots) - len(self.running)

    @property
    def stuck_s(self) -> float:
        """The monotonic second at which it is taken to be stuck with a job that it runs."""
        limits_s = (since_s + assignment.limit_s for assignment, since_s in self.running.values())
        return min(limits_s, default=math.inf) + STUCK_PATIENCE_S

    def keep_to_core(self) -> str:
        """Keep it, and all below it, to a core that no other worker has; why the machine refuses
        that, if it does.
        """
        found = claim_core()
        if found is not None:
            core, self._claim = found
            try:
                os.sched_setaffinity(self.process.pid or 0, {core})
            except OSError as error:
                return str(error.strerror)
        return ""

    def hand(self, assignment: Assignment) -> bool:
        """Hand it an assignment; whether anything is left to :meth:`flush`."""
        if self.free_slots:
            self._give_slot(assignment)
        else:
            self.waiting.append(assignment)
        try:
            return self._jobs.put(pickle.dumps(assignment))
        except BrokenPipeError:  # it has just died, and will be buried with what it holds
            return False

    def flush(self) -> bool:
        """Hand on what it had no room for; whether any of that is left."""
        try:
            return self._jobs.flush()
        except BrokenPipeError:
            return False

    def become_ready(self) -> None:
        """It takes its first jobs now."""
        self.ready = True
        for assignment, _since_s in [*self.running.values()]:
            self._give_slot(assignment)

    def take_back(self, ticket: int) -> Assignment:
        """The assignment of this ticket has ended: the next one takes its slot."""
        ended, _since_s = self.running.pop(ticket)
        if self.waiting:
            self._give_slot(self.waiting.popleft())
        return ended

    def bury(self) -> tuple[list[Assignment], list[Assignment], str]:
        """It has died: what it was running, what else it held, and how it ended, in words."""
        os.close(self.jobs_fd)
        words = self.end(CLOSE_PATIENCE_S)  # it may live: without its line it is no worker any more
        ran = [assignment for assignment, _since_s in self.running.values()]
        return (ran, [*self.waiting], words) if self.ready else ([], [*ran, *self.waiting], words)

    def end(self, patience_s: float) -> str:
        """Wait for its death, which is brought about when patience ends; how it ended, in words."""
        self.process.join(patience_s)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self.process.close()
        os.close(self.results_fd)
        if self._claim:
            self._claim.close()
        return "vanished" if code is None else processes.describe_past(code)

    def _give_slot(self, assignment: Assignment) -> None:
        self.running[assignment.ticket] = assignment, monotonic_s()


class _WorkerProcess(SpawnProcess):
    """A worker as ``multiprocessing`` has it, but for how it is started."""

    def __init__(
        self, setup: WorkerSetup, needed: tuple[Any, ...], jobs_r: int, results_w: int
    ) -> None:
        super().__init__()
        self.call = run_worker, (setup, jobs_r, results_w)
        self.needed, self.kept_fds = needed, (jobs_r, results_w)

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - its name there
        return _LeanPopen(process_obj)


class _LeanPopen(popen_fork.Popen):
    """How a worker is started: as a lean interpreter, at once.

    The module's own way is an interpreter with the working folder on its path, which imports the
    main module anew, and is watched by a second one of that kind.
    """

    method = "spawn"

    def _launch(self, process_obj: _WorkerProcess) -> None:
        alive_r, alive_w = os.pipe()  # ends with the worker
        self.sentinel = alive_r
        self.finalizer = util.Finalize(self, os.close, (alive_r,))
        try:
            self.pid = processes.spawn(
                *process_obj.call,
                keep_fds=(*process_obj.kept_fds, alive_w),
                needed=process_obj.needed,
                errors=True,
                holding=(signal.SIGINT,),  # until it ignores it
            )
        finally:
            os.close(alive_w)


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def claim_core() -> tuple[int, socket.socket] | None:
    """The first core that no batch has claimed, and what holds it until that is closed; ``None``
    when each has been claimed: then the kernel knows best where there is room.
    """
    for core in usable_cores():
        # A name in the system's abstract namespace belongs to one socket, and is free when its
        # process is gone.
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0tracecore-core-{core}")
        except OSError:
            claim.close()
        else:
            return core, claim
    return None
