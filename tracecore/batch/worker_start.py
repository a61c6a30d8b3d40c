"""The first moments of a worker: from the process that multiprocessing spawns to a lean interpreter
in its place.

It imports next to nothing: whatever it loads is thrown away when the interpreter is replaced.
"""

import os
import signal
from typing import Any

from tracecore import processes


def become_worker(jobs: Any, results: Any, call: bytes, cpu: int | None) -> None:
    """In a process that has just been spawned: turn into a lean worker; never returns.

    Args:
        jobs: Connection that assignments come from.
        results: Connection that reports go to.
        call: Pickled ``(function, args)``: what the lean interpreter runs, with the two descriptors
            as further arguments.
        cpu: The core that it and everything below it share, if they shall.
    """
    # Ctrl-C goes to a terminal's whole foreground group: the harness decides what it means
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # held back while this process was being started
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    processes.become_subreaper()
    processes.become(call, (jobs.fileno(), results.fileno()))
