"""The process of one job, in its worker: listened to, given up, reaped.

Nothing here waits: the worker polls, and calls what has become due.
"""

import contextlib
import math
import os
import pickle
from typing import Any, Final

from tracecore import descendants, frames, processes
from tracecore.batch.child import PEAK_BYTES, RETURNED
from tracecore.batch.endings import ending_of_status
from tracecore.batch.messages import Assignment
from tracecore.clock import monotonic_s
from tracecore.record import field, mutable_record
from tracecore.records import Ending, FellSilent, Raised, TimedOut

LEAVE_PATIENCE_S: Final = 1.0  # between a child's answer and its death; it only has to call _exit


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
        if frames.is_whole(self.answer):
            start = frames.HEADER_BYTES + 1
            if own := int.from_bytes(self.answer[start : start + PEAK_BYTES], "big"):
                return own
        return processes.peak_rss_bytes(self.spent)

    def ending(self) -> Ending | bytes:
        """How it ended; of one that returned, the pickled value, which the harness alone reads."""
        if frames.is_whole(self.answer):
            message = bytes(self.answer[frames.HEADER_BYTES :])
            if message[:1] == RETURNED:
                return message[1 + PEAK_BYTES :]
            return Raised(*pickle.loads(message[1 + PEAK_BYTES :]))  # noqa: S301 - from our own child
        return self.given_up or ending_of_status(self.status)
