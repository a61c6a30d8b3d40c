"""How long the process of an episode may live."""

from collections.abc import Callable
from typing import Final

from tracecore import processes
from tracecore.records import Job

# Behind the time limit of an episode, for its own process to write down that the agent was too
# slow; then its worker kills it. A spawned process counts its time from when it is up, and needs a
# while for that on a busy machine.
GRACE_S: Final = {processes.FORK: 1.0, processes.SPAWN: 5.0}


def limit_behind_timeout(method: str) -> Callable[[Job], float]:
    """How many seconds the process of a job has before it is killed."""
    return lambda job: job.settings.timeout_s + GRACE_S[method]
