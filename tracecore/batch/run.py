"""The processes of jobs: forked before they have one, a few at a time, and each given its job when
a slot takes it; what such a process does; and how its worker listens to it, gives it up, reaps it.

What a worker writes while children of it are alive is copied, page by page, once after each fork.
Between the forks of a handful it does next to nothing, so that they share the price of what it does
for all of their jobs. Nothing on the worker's side waits: it polls, and calls what has become due.
"""

import contextlib
import math
import os
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tracecore import descendants, frames, processes
from tracecore.clock import monotonic_s
from tracecore.record import field, mutable_record, record
from tracecore.records import Ending, Exited, FellSilent, Raised, TimedOut

WORDS_MOST: Final = 2_000
LEAVE_PATIENCE_S: Final = 1.0  # between a job's answer and its death; it only has to call _exit
HANDFUL_MOST: Final = 8  # forks at a time; where processes are spawned, one


@record
class Assignment:
    """A job as it is handed to a worker."""

    ticket: int  # names the assignment in the report
    job: Any
    limit_s: float  # when the worker kills its process
    handed_s: float  # monotonic
    attempt: int


class Spare:
    """A process that waits for a job, and what it shares with its worker.

    Args:
        link: Of the companion; ``None`` where there is none.

    Attributes:
        pid: 0 until it is started.
        job_fd: Where its job goes.
        answer_fd: Where its answer comes from.
        far_fds: The other ends of both.
        kept_fds: All that the process keeps.

    Raises:
        OSError: The machine refuses a descriptor.
    """

    def __init__(self, link: Any) -> None:
        self.pid, self.link = 0, link
        fds: list[int] = []
        try:
            fds += os.pipe()
            fds += os.pipe()
        except OSError:
            frames.close_all([*fds, *(link.fds if link else ())])
            if link:
                link.drop()
            raise
        job_r, self.job_fd, self.answer_fd, answer_w = fds
        self.far_fds = job_r, answer_w
        self.kept_fds = (*self.far_fds, *(link.fds if link else ()))

    def hand(self, assignment: bytes, link: Any) -> None:
        """Give it its job: the pickled assignment, and the link as it is by now."""
        with contextlib.suppress(BrokenPipeError):  # it has died, which is seen next
            frames.write_message(self.job_fd, assignment)
            frames.write_message(self.job_fd, pickle.dumps(link))
        os.close(self.job_fd)

    def drop(self) -> None:
        """There is no such process, or no longer: close the worker's ends."""
        frames.close_all((self.job_fd, self.answer_fd))
        if self.link:
            self.link.drop()


class Spares:
    """The processes that wait for jobs of a worker.

    Args:
        function: What they run.
        open_link: Gives a new link to the companion, or ``None``.
        method: How they are started.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], object],
        open_link: Callable[[], Any],
        method: str,
    ) -> None:
        self._function, self._open_link, self._method = function, open_link, method
        self._handful = 1  # doubled each time: a short batch shall leave few that are not needed
        self._most = HANDFUL_MOST if method == processes.FORK else 1
        self._waiting: deque[Spare] = deque()

    @property
    def pids(self) -> frozenset[int]:
        """Their process ids."""
        return frozenset([spare.pid for spare in self._waiting])

    def take(self) -> Spare:
        """The next one that is alive: a job does not pay for what was killed before it came.

        Raises:
            OSError: The machine refuses a process, or a descriptor.
        """
        while True:
            if not self._waiting:
                self._start_handful()
            spare = self._waiting.popleft()
            if not descendants.reap(spare.pid):
                return spare
            spare.drop()

    def put_back(self, spare: Spare) -> None:
        """It was not needed after all."""
        self._waiting.appendleft(spare)

    def _start_handful(self) -> None:
        handful: list[Spare] = []
        try:
            handful.extend(Spare(self._open_link()) for _ in range(self._handful))
            for spare in handful:
                spare.pid = processes.start(
                    run_child,
                    (self._function, os.getpid(), *spare.far_fds, self._method),
                    method=self._method,
                    keep_fds=spare.kept_fds,
                )
        except OSError:
            if not handful or not handful[0].pid:
                raise
        finally:
            for spare in handful:
                # Our copies would keep the agent from seeing that its episode is gone, and the
                # other way round.
                frames.close_all(spare.kept_fds)
                if spare.pid:
                    self._waiting.append(spare)
                else:
                    spare.drop()
        self._handful = min(2 * self._handful, self._most)


def run_child(
    function: Callable[[Any, Any], object], worker: int, job_fd: int, answer_fd: int, method: str
) -> None:
    """Inside the process of a job: wait for it, run ``function(job, link)``, and write its answer,
    a single message, to ``answer_fd``.

    Two messages come over ``job_fd``: the pickled assignment, and the pickled link. Without them,
    at the end of that line, there is nothing to do.

    The answer is pickled: the peak of this process's own memory (0: as ``wait4`` has it), and the
    pickled value, or type and message of what it raised: an exception itself may fail to pickle, or
    to be rebuilt.
    """
    descendants.die_with(worker)
    # What it leaves behind stays below it, and so apart from what other jobs leave, while it lives.
    descendants.become_subreaper()
    try:
        assignment, link = frames.read_message(job_fd), frames.read_message(job_fd)
    except frames.ChannelClosed:
        return
    os.close(job_fd)
    try:
        job = pickle.loads(assignment).job  # noqa: S301 - from our own harness
        value = function(job, pickle.loads(link))  # noqa: S301 - from our own worker
        answer: Any = pickle.dumps(value)
    except BaseException as error:  # every path must give an answer
        answer = type(error).__name__, _words(error)
    # Not of a fork, where wait4 has the same, and asking costs a hundredth of a small episode.
    peak = processes.own_peak_rss_bytes() if method == processes.SPAWN else 0
    frames.write_message(answer_fd, pickle.dumps((peak, answer)))


def _words(error: BaseException) -> str:
    try:
        return str(error)[:WORDS_MOST]
    except BaseException:  # it may be an exception class of whatever code the function ran
        return "(its message cannot be read)"


@mutable_record
class Run:
    """A job that has a slot, until its process has been reaped."""

    assignment: Assignment
    slot: int
    taken_s: float  # monotonic
    link: Any  # of the companion; None where there is none
    pid: int
    answer_fd: int
    died_fd: int | None  # turns readable when the process ends; None on a platform without
    due_s: float  # monotonic second at which patience ends
    answer: bytearray = field(default_factory=bytearray)
    is_listening: bool = True
    given_up: Ending | None = None
    status: int = 0
    spent: Any = None  # what wait4 gives
    leaked: int = 0  # processes that it left behind

    def listen(self) -> bool:
        """Read what the process has written; whether there is more to come."""
        part = os.read(self.answer_fd, frames.READ_BYTES)
        self.answer += part
        if not part or frames.is_whole(self.answer):
            # Usually it is dying. Without a whole answer it may have closed the pipe as well, to
            # run on.
            self.is_listening = False
            self.due_s = monotonic_s() + LEAVE_PATIENCE_S
        return self.is_listening

    def give_up(self) -> None:
        """Kill the process, whose time is over."""
        self.given_up = (
            TimedOut(self.assignment.limit_s) if self.is_listening else FellSilent(LEAVE_PATIENCE_S)
        )
        self.due_s = math.inf  # it is dead as soon as the kernel lets it be
        descendants.kill_group(self.pid)

    def reap(self) -> None:
        """Take the end of the process, which is dead or about to be."""
        # Before it is reaped: until then its id cannot have become another's.
        descendants.kill_group(self.pid)
        _pid, self.status, self.spent = os.wait4(self.pid, 0)
        if self.is_listening:
            self._read_the_rest()
        os.close(self.answer_fd)
        if self.died_fd is not None:
            os.close(self.died_fd)

    def _read_the_rest(self) -> None:
        # Never waiting for the end of the stream: what it has left behind may hold the pipe open.
        os.set_blocking(self.answer_fd, False)
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.answer_fd, frames.READ_BYTES):
                self.answer += part

    def result(self) -> tuple[int, Ending | bytes]:
        """The most memory that the process had, and how it ended; of one that returned, the pickled
        value, which the harness alone reads.
        """
        peak, code = 0, os.waitstatus_to_exitcode(self.status)
        ending: Ending | bytes = self.given_up or Exited(code)
        if frames.is_whole(self.answer):
            peak, answer = pickle.loads(self.answer[frames.HEADER_BYTES :])  # noqa: S301 - from our own child
            ending = answer if isinstance(answer, bytes) else Raised(*answer)
        return peak or processes.peak_rss_bytes(self.spent), ending
