"""The worker processes, as the harness has them: started, handed jobs, heard, and buried."""

import math
import os
import pickle
import signal
from multiprocessing import popen_fork, util
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from tracecore import frames, processes
from tracecore.batch.messages import Assignment, WorkerSetup
from tracecore.batch.worker import run_worker
from tracecore.clock import monotonic_s
from tracecore.record import mutable_record

# behind a job's limit: a worker that has not reported by then is stopped or stuck, and is killed
STUCK_PATIENCE_S: Final = 40.0
# for a worker that has been told to leave: it only kills, reaps and exits
CLOSE_PATIENCE_S: Final = 1.5


class Worker:
    """A worker process and what it has in hand.

    Args:
        setup: What it is born with.
        needed: What it must be able to import, beside this package.
    """

    def __init__(self, setup: WorkerSetup, needed: tuple[Any, ...]) -> None:
        jobs_r, jobs_w = os.pipe()
        results_r, results_w = os.pipe()
        self.setup = setup
        self.process = _WorkerProcess(setup, needed, jobs_r, results_w)
        try:
            self.process.start()
        except OSError:
            os.close(jobs_w)
            os.close(results_r)
            raise
        finally:
            os.close(jobs_r)
            os.close(results_w)
        self.jobs_fd, self.results_fd = jobs_w, results_r  # the latter ends with the worker
        self.ready = False
        self._held: dict[int, _Held] = {}  # by ticket, in the order in which they were handed
        self._running = 0
        self._jobs, self._reports = frames.Outbox(jobs_w), frames.Inbox(results_r)

    @property
    def free_slots(self) -> int:
        """Slots without a job."""
        return len(self.setup.slots) - self._running

    @property
    def held(self) -> list[Assignment]:
        """What it has in hand, running or not."""
        return [held.assignment for held in self._held.values()]

    @property
    def waiting(self) -> int:
        """How many it has at hand for slots that become free."""
        return len(self._held) - self._running

    @property
    def running(self) -> list[tuple[Any, float]]:
        """The jobs that run, and since which monotonic second."""
        return [
            (held.assignment.job, held.since_s)
            for held in self._held.values()
            if held.since_s != math.inf
        ]

    @property
    def stuck_s(self) -> float:
        """The monotonic second at which it is taken to be stuck with a job that it runs."""
        limits_s = (held.since_s + held.assignment.limit_s for held in self._held.values())
        return min(limits_s, default=math.inf) + STUCK_PATIENCE_S

    def hand(self, assignment: Assignment) -> bool:
        """Hand it an assignment; whether anything is left to :meth:`flush`."""
        now_s = monotonic_s() if self.free_slots else math.inf
        self._running += now_s != math.inf
        self._held[assignment.ticket] = _Held(assignment, now_s)
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

    def read(self) -> tuple[list[bytes], bool]:
        """What it has sent, and whether that was the last."""
        return self._reports.read()

    def become_ready(self) -> None:
        """It takes its first jobs now."""
        self.ready = True
        for held in self._held.values():
            if held.since_s != math.inf:
                held.since_s = monotonic_s()

    def take_back(self, ticket: int) -> Assignment:
        """The assignment of this ticket has ended: the next one takes its slot."""
        ended = self._held.pop(ticket)
        following = next((held for held in self._held.values() if held.since_s == math.inf), None)
        if following is None:
            self._running -= 1
        else:
            following.since_s = monotonic_s()
        return ended.assignment

    def bury(self) -> tuple[list[Assignment], list[Assignment], str]:
        """It has died: what it was running, what else it held, and how it ended, in words."""
        self.process.join(CLOSE_PATIENCE_S)
        if self.process.is_alive():  # it closed its line and lives: then it is no worker any more
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self.process.close()
        os.close(self.jobs_fd)
        os.close(self.results_fd)
        ran = [held.assignment for held in self._held.values() if held.since_s != math.inf]
        rest = [held.assignment for held in self._held.values() if held.since_s == math.inf]
        words = "vanished" if code is None else processes.describe_past(code)
        return (ran, rest, words) if self.ready else ([], [*ran, *rest], words)


@mutable_record
class _Held:
    assignment: Assignment
    since_s: float  # monotonic second since when it has a slot; infinite while it waits for one


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
