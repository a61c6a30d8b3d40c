"""The calibration probe: a fixed piece of work among the episodes, which tells how fast the host
was meanwhile.

To the pool it is a job like any other. What it times needs nothing of the runtime and is timed from
inside, so that no change of the code can change it: not the work, not the fork, not what the worker
has imported.
"""

import json
import mmap
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tracecore.record import field_names, record
from tracecore.records import EpisodeResult, Job, JsonObject
from tracecore.runtime.agent.process import AgentLink
from tracecore.runtime.job import make_ready, run_job
from tracecore.stats import median, robust_cv

EVERY: Final = 50  # one slot in so many is the probe's
FEWEST: Final = 4  # of a slice that has as many episodes
LOOPS: Final = 25_000
DOCUMENTS: Final = 30
TOUCHED_BYTES: Final = 2 << 20

_DOCUMENT: Final = {
    f"key{number}": [number, str(number), number / 3, None, True] for number in range(20)
}


@record
class ProbeJob(Job):
    """A slot of the probe's: by its fields the episode that comes next, so that whoever handles
    jobs can handle it.
    """


class Reading(NamedTuple):
    """What one probe took."""

    wall_s: float
    cpu_s: float


class Probes:
    """Puts probes among the jobs of a slice, and gathers what they say."""

    def __init__(self, episodes: int) -> None:
        self._step = max(1, min(EVERY, episodes // FEWEST))
        self._readings: list[Reading] = []

    def among(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """The jobs, and at the beginning of each so many of them a probe."""
        for place, job in enumerate(jobs):
            if place % self._step == 0:
                yield ProbeJob(*(getattr(job, name) for name in field_names(Job)))
            yield job

    def add(self, reading: object) -> None:
        """Take what a probe's process answered; one that died says nothing."""
        if isinstance(reading, Reading):
            self._readings.append(reading)

    def document(self) -> JsonObject | None:
        """``probe`` in the summary; null where none has run."""
        if not self._readings:
            return None
        walls_s, cpus_s = (list(values) for values in zip(*self._readings, strict=True))
        return {
            "runs": len(self._readings),
            "cpu_s_median": median(cpus_s),
            "cpu_robust_cv": robust_cv(cpus_s),
            "wall_s_median": median(walls_s),
            "wall_robust_cv": robust_cv(walls_s),
            "cpu_last_to_first": _last_to_first(cpus_s),
            "wall_last_to_first": _last_to_first(walls_s),
        }


def _last_to_first(seconds: list[float]) -> float | None:
    """The median of the last quarter as a multiple of that of the first; null of fewer than eight
    readings.
    """
    quarter = len(seconds) // 4
    first_s = median(seconds[:quarter]) if quarter >= 2 else 0.0
    return median(seconds[-quarter:]) / first_s if first_s > 0 else None


def make_job_or_probe_ready(job: Job) -> None:
    """As :func:`make_ready`; a probe needs nothing."""
    if not isinstance(job, ProbeJob):
        make_ready(job)


def run_job_or_probe(job: Job, link: AgentLink) -> EpisodeResult | Reading:
    """What a pool is given whose jobs have probes among them.

    Raises:
        OutputError: The artifact could not be written.
    """
    return run_probe() if isinstance(job, ProbeJob) else run_job(job, link)


def run_probe() -> Reading:
    """Do what episodes do, in small: compute, encode, decode, and touch fresh memory."""
    begun_wall_s, begun_cpu_s = time.perf_counter(), time.process_time()
    _work()
    return Reading(time.perf_counter() - begun_wall_s, time.process_time() - begun_cpu_s)


def _work() -> None:
    total: Any = 0
    for number in range(LOOPS):
        total += number * number % 7
    for _ in range(DOCUMENTS):
        json.loads(json.dumps(_DOCUMENT))
    with mmap.mmap(-1, TOUCHED_BYTES) as memory:
        for place in range(0, TOUCHED_BYTES, mmap.PAGESIZE):
            memory[place] = 1
