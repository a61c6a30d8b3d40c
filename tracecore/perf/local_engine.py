"""Episodes on this machine: where an episode's runtime meets the process pool.

``run_job`` becomes the pool's function, and each ending becomes a row.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence

from tracecore import processes
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.confinement.readable import secret_folders
from tracecore.perf.show.progress import TICK_S
from tracecore.perf.slice.engine import Engine, Look, limit_behind_timeout
from tracecore.perf.slice.interrupt import Interruption, watch_for_interruption
from tracecore.perf.slice.options import WORKERS, RunOptions
from tracecore.perf.slice.plan import Plan
from tracecore.records import EpisodeResult, Job, JsonObject
from tracecore.runtime.agent.nursery import reach_of
from tracecore.runtime.agent.preload import Preload, find_preloads
from tracecore.runtime.agent.process import Preparation
from tracecore.runtime.job import make_ready, run_job, settle


class LocalEngine(Engine):
    """Runs episodes in processes of this machine."""

    def __init__(self, options: RunOptions, output_dir: str, interruption: Interruption) -> None:
        self._options, self._interruption = options, interruption
        self._notes: list[str] = []  # what the manifest says of how the workers run
        self._secret = secret_folders(options.tasks_dirs, options.runs_dir, output_dir)
        self._preloads: dict[str, Preload] | None = None  # by the agent's path
        self._refs: dict[str, str] = {}

    @property
    def slots(self) -> int:
        """How many episodes run at the same time."""
        return self._options.workers or WORKERS

    def host(self) -> JsonObject:
        """Why workers do not keep to a core of their own, where they do not."""
        return {"not_pinned": self._notes[0]} if self._notes else {}

    def preload(self) -> JsonObject:
        """What was found when the first episodes were asked for."""
        found = self._preloads or {}
        return {self._refs[path]: preload.as_json() for path, preload in found.items()}

    def episodes(
        self, plan: Plan, jobs: Iterator[Job], count: int, look: Look | None = None
    ) -> Generator[EpisodeResult, None, None]:
        """The rows of ``jobs`` as they end."""
        del count  # jobs are taken one by one
        if self._interruption.is_set:
            return
        method, limits = self._options.method, self._options.limits
        batch_options = BatchOptions(
            slots=self.slots,
            limit_s=limit_behind_timeout(method),
            prepare=Preparation(
                limits, self._secret, plan.settings.gateway, self._find_preloads(plan)
            ),
            make_ready=make_ready,
            method=method,
            # what a scenario row has taken so far is what its next episode is expected to take
            key=lambda job: job.index % len(plan.rows),
            on_note=self._notes.append,
            stop_fd=self._interruption.wake_fd,
            adopt_orphans=True,
            on_tick=look,
            tick_s=TICK_S,
        )
        with contextlib.closing(run_batch(run_job, jobs, batch_options)) as endings:
            yield from map(settle, endings)

    def _find_preloads(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        if self._preloads is None and self._options.method == processes.FORK:
            jobs = [plan.job(index) for index in range(min(len(plan.rows), plan.episodes))]
            self._refs = {job.agent.path: job.agent.ref for job in jobs}
            each = plan.episodes // len(plan.rows)
            reaches = {job.agent.path: reach_of(job, self._secret) for job in jobs if job.preload}
            self._preloads = find_preloads(reaches, each, self._options.limits)
        return {path: found.statements for path, found in (self._preloads or {}).items()}


def run_one(job: Job, start_method: str = "auto", tasks_dirs: Sequence[str] = ()) -> EpisodeResult:
    """Run a single episode just as a slice does, for ``python -m tracecore``.

    Args:
        job: The episode.
        start_method: ``fork``, ``spawn`` or ``auto``.
        tasks_dirs: Folders of tasks, none of which the agent may read.

    Raises:
        EngineError: No worker could be started.
        OutputError: The artifact could not be written.
        KeyboardInterrupt: A signal asked for an end before the episode had ended.
    """
    method = processes.method_of(start_method)
    # Not an exception out of a signal handler: raised while some object is being finalised, Python
    # would swallow it.
    with watch_for_interruption() as interruption:
        batch_options = BatchOptions(
            slots=1,
            limit_s=limit_behind_timeout(method),
            prepare=Preparation(
                job.settings.limits, secret_folders(tasks_dirs), job.settings.gateway
            ),
            make_ready=make_ready,
            method=method,
            stop_fd=interruption.wake_fd,
        )
        rows = [settle(ended) for ended in run_batch(run_job, [job], batch_options)]
    if not rows:
        raise KeyboardInterrupt
    return rows[0]
