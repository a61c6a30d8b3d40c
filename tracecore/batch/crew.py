"""The worker processes, as the harness has them: started, kept to a core, handed jobs, heard, and
buried.

A worker and everything below it on one core: a message between two processes costs a tenth there of
what it costs between two cores. It is an optimisation: where a core cannot be had, a worker does
without.
"""

import math
import os
import pickle
import select
import signal
import socket
import sys
from typing import Any, Final

from tracecore import descendants, frames, processes
from tracecore.batch.run import Assignment
from tracecore.batch.worker import WorkerSetup, run_worker
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
        alive_r, alive_w = os.pipe()
        its_own = (jobs_r, results_w, alive_w)
        try:
            self.pid = processes.spawn(
                run_worker,
                (setup, jobs_r, results_w),
                keep_fds=its_own,
                needed=needed,
                errors=True,
                holding=(signal.SIGINT,),  # until it ignores it
            )
        except OSError:
            for fd in (jobs_w, results_r, alive_r):
                os.close(fd)
            raise
        finally:
            for fd in its_own:
                os.close(fd)
        self.setup = setup
        # The last two end with the worker; it may close the second before.
        self.jobs_fd, self.results_fd, self._alive_fd = jobs_w, results_r, alive_r
        self._claim: socket.socket | None = None  # of its core
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

    def keep_to_core(self) -> str:
        """Keep it, and all below it, to a core that no other worker has; why the machine refuses
        that, if it does.
        """
        found = claim_core()
        if found is not None:
            core, self._claim = found
            try:
                os.sched_setaffinity(self.pid, {core})
            except OSError as error:
                return str(error.strerror)
        return ""

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
        os.close(self.jobs_fd)
        words = self.end(CLOSE_PATIENCE_S)  # it may live: without its line it is no worker any more
        ran = [held.assignment for held in self._held.values() if held.since_s != math.inf]
        rest = [held.assignment for held in self._held.values() if held.since_s == math.inf]
        return (ran, rest, words) if self.ready else ([], [*ran, *rest], words)

    def end(self, patience_s: float) -> str:
        """Wait for its death, which is brought about when patience ends; how it ended, in words."""
        dead = select.poll()
        dead.register(self._alive_fd, select.POLLIN)
        if not dead.poll(patience_s * 1000):
            descendants.send_signal(self.pid, signal.SIGKILL)
        try:
            words = processes.describe_past(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))
        except ChildProcessError:
            words = "vanished"
        os.close(self.results_fd)
        os.close(self._alive_fd)
        if self._claim:
            self._claim.close()
        return words


@mutable_record
class _Held:
    assignment: Assignment
    since_s: float  # monotonic second since when it has a slot; infinite while it waits for one


def usable_cores() -> list[int]:
    """The cores that this process may use; numbers without a meaning where the platform
    has none.
    """
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def claim_core() -> tuple[int, socket.socket] | None:
    """The first core that no batch has claimed, and what holds it until that is closed; ``None``
    when each has been claimed: then the kernel knows best where there is room.
    """
    for core in usable_cores() if sys.platform == "linux" else ():
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
