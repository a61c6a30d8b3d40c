"""What is still to be handed out, and in which order: the longest first, by what jobs like it have
taken so far.

Else the last long jobs would run alone at the end. Jobs of which nothing is known yet go in the
order in which they come, and so do jobs that take about as long as each other.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

from tracecore.batch.run import Assignment
from tracecore.clock import monotonic_s

WINDOW_JOBS: Final = 4096  # jobs that are looked at ahead of their turn
# Jobs below this are alike: the end of a batch is no shorter for ordering them.
ALIKE_S: Final = 0.25
SHORT_JOB_S: Final = 0.05  # see :meth:`Backlog.is_short`


class Backlog:
    """The jobs of a batch that no worker has.

    Args:
        jobs: Taken as they are needed.
        limit_s: Of a job: when its worker kills its process.
        key: Gives jobs that take about as long the same key. Without it, all keep their order.
    """

    def __init__(
        self,
        jobs: Iterator[Any],
        limit_s: Callable[[Any], float],
        key: Callable[[Any], Hashable] | None,
    ) -> None:
        self._jobs, self._limit_s = enumerate(jobs), limit_s
        self._window = WINDOW_JOBS if key else 1
        self._key = key or (lambda _job: None)
        self._waiting: dict[Hashable, deque[tuple[int, Any]]] = {}  # by key: turn and job
        self._count = 0  # of those
        self._again: deque[Assignment] = deque()  # handed out once, to a worker that died
        self._more_jobs = True
        self._taken: dict[Hashable, tuple[int, float]] = {}  # by key: jobs, and their seconds

    @property
    def has_more(self) -> bool:
        """Whether there may be something left to hand out."""
        return self._more_jobs or bool(self._count or self._again)

    def take(self) -> Assignment | None:
        """The next to hand out; ``None`` when there is none left."""
        if self._again:
            return self._again.popleft()
        self._look_ahead()
        if not self._count:
            return None
        first = min(self._waiting, key=self._rank)
        turn, job = self._waiting[first].popleft()
        if not self._waiting[first]:
            del self._waiting[first]
        self._count -= 1
        return Assignment(turn, job, self._limit_s(job), monotonic_s(), 1)

    def put_back(self, assignments: list[Assignment]) -> None:
        """Have these handed out before all others, in this order."""
        self._again.extendleft(reversed(assignments))

    def learn(self, job: Any, wall_s: float) -> None:
        """A job has taken so long."""
        key = self._key(job)
        jobs, seconds = self._taken.get(key, (0, 0.0))
        self._taken[key] = jobs + 1, seconds + wall_s

    def is_short(self, job: Any) -> bool:
        """Whether jobs like this one are so short that a worker should have the next at hand."""
        return self._expected_s(self._key(job)) < SHORT_JOB_S

    def _look_ahead(self) -> None:
        room = self._window - self._count
        new = list(itertools.islice(self._jobs, room))
        for turn, job in new:
            self._waiting.setdefault(self._key(job), deque()).append((turn, job))
        self._count += len(new)
        self._more_jobs = len(new) == room

    def _rank(self, key: Hashable) -> tuple[float, int]:
        expected_s = self._expected_s(key)
        # In steps of a factor of two, so that chance does not order what is alike.
        step = expected_s if math.isinf(expected_s) else round(math.log2(max(expected_s, ALIKE_S)))
        return -step, self._waiting[key][0][0]

    def _expected_s(self, key: Hashable) -> float:
        jobs, seconds = self._taken.get(key, (1, math.inf))
        return seconds / jobs
