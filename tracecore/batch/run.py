"""One job: as it is handed to a worker, inside its process, and that process as the worker has it:
listened to, given up, reaped.

Nothing on the worker's side waits: it polls, and calls what has become due.
"""

import contextlib
import math
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, Final

from tracecore import descendants, frames, processes
from tracecore.clock import monotonic_s
from tracecore.record import field, mutable_record, record
from tracecore.records import Ending, Exited, FellSilent, Killed, Raised, TimedOut

WORDS_MOST: Final = 2_000
RETURNED: Final = b"r"
RAISED: Final = b"x"
# behind that letter: the peak of this process's own memory; 0: as wait4 tells it
PEAK_BYTES: Final = 8
LEAVE_PATIENCE_S: Final = 1.0  # between a job's answer and its death; it only has to call _exit


@record
class Assignment:
    """A job as it is handed to a worker."""

    ticket: int  # names the assignment in the report
    job: Any
    limit_s: float  # when the worker kills its process
    handed_s: float  # monotonic
    attempt: int


def run_child(
    function: Callable[[Any, Any], object], worker: int, job_fd: int, answer_fd: int, method: str
) -> None:
    """Inside the process of a job: wait for it, run ``function(job, link)``, and write its answer,
    a single message, to ``answer_fd``.

    Two messages come over ``job_fd``: the pickled assignment, and the pickled link. Without them,
    at the end of that line, there is nothing to do.

    The answer is ``r``, a number of 8 bytes, and the pickled value; or ``x``, the number, and the
    pickled ``(kind, message, traceback)`` of what it raised: an exception itself may fail to
    pickle, or to be rebuilt.
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
        kind, answer = RETURNED, pickle.dumps(value)
    except BaseException as error:  # every path must give an answer
        raised = (type(error).__name__, _words(error), traceback.format_exc(limit=-20))
        kind, answer = RAISED, pickle.dumps(raised)
    # Not of a fork, where wait4 says the same, and asking costs a hundredth of a small episode.
    peak = (processes.own_peak_rss_bytes() or 0) if method == processes.SPAWN else 0
    frames.write_message(answer_fd, kind + peak.to_bytes(PEAK_BYTES, "big") + answer)


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

    def peak_rss_bytes(self) -> int:
        """The most memory that the process had."""
        start = frames.HEADER_BYTES + len(RETURNED)
        of_its_own = self.answer[start : start + PEAK_BYTES] if self._has_answered() else b""
        return int.from_bytes(of_its_own, "big") or processes.peak_rss_bytes(self.spent)

    def ending(self) -> Ending | bytes:
        """How it ended; of one that returned, the pickled value, which the harness alone reads."""
        if self._has_answered():
            message = bytes(self.answer[frames.HEADER_BYTES :])
            value = message[len(RETURNED) + PEAK_BYTES :]
            if message.startswith(RETURNED):
                return value
            return Raised(*pickle.loads(value))  # noqa: S301 - from our own child
        code = os.waitstatus_to_exitcode(self.status)
        return self.given_up or (Killed(-code) if code < 0 else Exited(code))

    def _has_answered(self) -> bool:
        return frames.is_whole(self.answer)
