"""Episodes run as a slice runs them, without the slice."""

import os
import pathlib
from collections.abc import Iterable

from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.perf.slice.engine import limit_behind_timeout
from tracecore.records import EpisodeResult, Job, Limits, Settings
from tracecore.runtime.agent.process import Preparation
from tracecore.runtime.job import make_ready, run_job, settle
from tracecore.runtime.task.catalog import find_agent, find_task

LIMITS = Limits(memory_bytes=512 << 20)


def make_job(
    index: int,
    agent: pathlib.Path,
    task: pathlib.Path,
    runs_dir: pathlib.Path,
    *,
    timeout_s: float = 30.0,
    **settings: object,
) -> Job:
    """One episode of an agent's file on a task's folder."""
    found = find_task(f"{task.name}@1", tasks_dirs=(str(task.parent),))
    shared = Settings(runs_dir=str(runs_dir), timeout_s=timeout_s, limits=LIMITS, **settings)  # type: ignore[arg-type]
    return Job(index, f"{index:032x}", find_agent(str(agent)), found, 7, shared)


def run_jobs(
    jobs: Iterable[Job], *, workers: int = 4, method: str = "fork", adopt: bool = True
) -> dict[int, EpisodeResult]:
    """Run them all; the rows by index."""
    options = BatchOptions(
        slots=workers,
        limit_s=limit_behind_timeout(method),
        prepare=Preparation(LIMITS),
        make_ready=make_ready,
        method=method,
        adopt_orphans=adopt,
    )
    return {ended.job.index: settle(ended) for ended in run_batch(run_job, jobs, options)}


def left_behind(folder: pathlib.Path) -> list[str]:
    """Every file below that is not under a final name."""
    return [
        os.path.join(at, name)
        for at, _, names in os.walk(folder)
        for name in names
        if name.startswith(".")
    ]
