"""The processes of jobs before they have one: forked a few at a time, and each given its job when a
slot takes it.

What a worker writes while children of it are alive is copied, page by page, once after each fork.
Between the forks of a handful it does next to nothing, so that they share the price of what it does
for all of their jobs.
"""

import contextlib
import os
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tracecore import descendants, frames, processes
from tracecore.batch.child import run_child
from tracecore.record import record

HANDFUL_MOST: Final = 8  # forks at a time; where processes are spawned, one


@record
class Spare:
    """A process that waits for a job."""

    pid: int
    job_fd: int  # where its job goes
    answer_fd: int  # where its answer comes from
    link: Any  # of the companion; None where there is none

    def hand(self, assignment: bytes, link: Any) -> None:
        """Give it its job: the pickled assignment, and the link as it is by now."""
        with contextlib.suppress(BrokenPipeError):  # it has died, which is seen next
            frames.write_message(self.job_fd, assignment)
            frames.write_message(self.job_fd, pickle.dumps(link))
        os.close(self.job_fd)


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
            os.close(spare.job_fd)
            os.close(spare.answer_fd)
            if spare.link:
                spare.link.drop()

    def put_back(self, spare: Spare) -> None:
        """It was not needed after all."""
        self._waiting.appendleft(spare)

    def _start_handful(self) -> None:
        lines: list[_Line] = []
        try:
            lines.extend(_Line(self._open_link()) for _ in range(self._handful))
            for line in lines:
                line.pid = processes.start(
                    run_child,
                    (self._function, os.getpid(), line.job_r, line.answer_w, self._method),
                    method=self._method,
                    keep_fds=line.kept_fds,
                )
        except OSError:
            if not lines or not lines[0].pid:
                raise
        finally:
            for line in lines:
                line.let_go()
                if line.pid:
                    self._waiting.append(Spare(line.pid, line.job_w, line.answer_r, line.link))
        self._handful = min(2 * self._handful, self._most)


class _Line:
    """Both ends of what a process and its worker share."""

    def __init__(self, link: Any) -> None:
        self.pid, self.link = 0, link  # no process yet
        fds: list[int] = []
        try:
            fds += os.pipe()
            fds += os.pipe()
        except OSError:
            _close(fds, link)
            raise
        self.job_r, self.job_w, self.answer_r, self.answer_w = fds
        self.kept_fds = self.job_r, self.answer_w, *(link.fds if link else ())

    def let_go(self) -> None:
        """Close the ends of the process, and ours if there is none.

        Our copies would keep the agent from seeing that its episode is gone, and the other way
        round.
        """
        if not self.pid:
            _close([self.job_r, self.job_w, self.answer_r, self.answer_w], self.link)
            return
        for fd in self.kept_fds:
            os.close(fd)


def _close(fds: list[int], link: Any) -> None:
    for fd in fds:
        os.close(fd)
    if link:
        link.close()
        link.drop()
