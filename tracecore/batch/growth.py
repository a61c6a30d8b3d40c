"""How many workers to run: as many as there are cores at once, and further ones only while the
cores wait for the jobs.

More workers than cores help jobs that sleep or wait for others, and only get in the way of jobs
    that compute: each costs the
start of an interpreter, and its caches.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import Final

from tracecore import processes

INTERVAL_S: Final = 0.25  # between two looks: the kernel counts in hundredths of a second
IDLE_SHARE: Final = 0.2  # of the cores' time: above it, they wait for the jobs
# of the cores' time, spent by the jobs: below it they wait for something, however busy others are
OWN_SHARE: Final = 0.4


class Growth:
    """Decides when a pool gets more workers. All times are monotonic seconds."""

    def __init__(self, wanted: int, cores: Sequence[int]) -> None:
        self._wanted, self._cores = wanted, cores
        self._begun_s: float | None = None  # when what is looked at began
        self._idle_s: float | None = None  # of the cores, at that moment
        self._own_s = 0.0  # of the workers and all below them, at that moment

    @property
    def at_once(self) -> int:
        """How many workers to begin with."""
        return min(self._wanted, max(1, len(self._cores)))

    def may_go_on(self, workers: int) -> bool:
        """Whether so many workers may become more."""
        return workers < self._wanted

    def more(self, now_s: float, workers: list[int], *, all_ready: bool) -> int:
        """How many workers to add now to those with these process ids."""
        if not self.may_go_on(len(workers)):
            return 0
        if not all_ready:  # starting is work, too: it says nothing of the jobs
            self._begun_s = None
            return 0
        if self._begun_s is not None and now_s - self._begun_s < INTERVAL_S:
            return 0
        idle, own = idle_s(self._cores), cpu_s_below(workers)
        waiting = self._begun_s is not None and self._cores_wait(now_s - self._begun_s, idle, own)
        self._begun_s, self._idle_s, self._own_s = now_s, idle, own
        return min(len(workers), self._wanted - len(workers)) if waiting else 0

    def _cores_wait(self, passed_s: float, idle: float | None, own: float) -> bool:
        core_s = passed_s * max(1, len(self._cores))
        own_share = (own - self._own_s) / core_s
        idle_share = (
            1 - own_share
            if idle is None or self._idle_s is None
            else (idle - self._idle_s) / core_s
        )
        return idle_share > IDLE_SHARE or own_share < OWN_SHARE


def idle_s(cores: Sequence[int]) -> float | None:
    """Seconds that these cores have been idle since the machine started, together; ``None`` where
    nobody tells.
    """
    names = {b"cpu%d" % core for core in cores}
    lines = [line.split() for line in _read("/proc/stat").splitlines()]
    # idle, and waiting for a disk
    found = [int(line[4]) + int(line[5]) for line in lines if line and line[0] in names]
    return sum(found) / os.sysconf("SC_CLK_TCK") if found else None


def cpu_s_below(pids: list[int]) -> float:
    """Processor seconds of these processes and all below them, with those that have been reaped; 0
    where nobody tells.
    """
    ticks = 0
    for pid in processes.tree_below(pids):
        # The name in the second field may hold anything; behind it: user, system, and both of the
        # children that were reaped.
        words = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        ticks += sum(map(int, words[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 1 << 16)
        finally:
            os.close(fd)
    return b""
