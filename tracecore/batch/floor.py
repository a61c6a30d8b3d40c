"""What no engine of this shape can go below: bare forks from the image of a worker."""

import os
from typing import Any

from tracecore.batch.endings import describe_ending
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.clock import monotonic_s
from tracecore.errors import EngineError
from tracecore.records import Returned

PATIENCE_S = 600.0


def bare_forks_s(workers: int, forks: int) -> list[float]:
    """Seconds that each of ``workers`` processes, all at once, takes for so many forks, exits and
    waits.

    They fork from a child of a worker, whose image is the worker's own.

    Raises:
        EngineError: One of them ended some other way.
    """
    options = BatchOptions(workers=workers, limit_s=lambda _forks: PATIENCE_S)
    seconds = []
    for ended in run_batch(fork_repeatedly, [forks] * workers, options):
        if not isinstance(ended.ending, Returned):
            raise EngineError(
                f"the floor could not be measured: a process {describe_ending(ended.ending)}"
            )
        seconds.append(float(ended.ending.value))
    return seconds


def fork_repeatedly(forks: int, link: Any) -> float:
    """In the process of a job: fork, leave, wait, again and again; gives the seconds."""
    del link
    start_s = monotonic_s()
    for _ in range(forks):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.wait4(pid, 0)
    return monotonic_s() - start_s
