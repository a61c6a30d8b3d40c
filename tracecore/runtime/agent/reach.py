"""What an agent may reach, of what its episode says."""

import contextlib
import os

from tracecore.confinement.readable import TASK_MARK, Reach, is_below
from tracecore.records import Job


def reach_of(job: Job, hidden: tuple[str, ...]) -> Reach:
    """What the agent of ``job`` may reach.

    Args:
        job: The episode.
        hidden: Folders of tasks, runs and results that the whole slice knows of.
    """
    own = (job.task.folder, job.settings.runs_dir)
    more = tuple(folder for folder in own if not is_below(folder, hidden))
    folder = os.path.dirname(job.agent.path)
    in_task = is_below(folder, hidden + more) or os.path.lexists(os.path.join(folder, TASK_MARK))
    with contextlib.suppress(OSError):  # a second name of a file may be a task's: see readable.py
        in_task = in_task or os.stat(job.agent.path).st_nlink > 1
    agents = (job.agent.path,) if in_task else ()
    gateway = job.settings.gateway
    return Reach(
        folder=folder,
        agents=agents,
        read=job.allow.read,
        network=job.allow.network,
        hidden=hidden + more,
        models=gateway is not None and bool(gateway.models),
    )
