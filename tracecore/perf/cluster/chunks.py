"""How a plan is cut into chunks: large enough that handing them out costs nothing, small enough
that all end together.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from tracecore.record import mutable_record
from tracecore.records import Job

CHUNK_S: Final = 2.0  # what a chunk should take
EPISODES_MOST: Final = 500  # in one chunk, whatever they take
# from one chunk to the next: what is known of the first episodes need not hold for all
GROWTH: Final = 4
AHEAD_S: Final = 5.0  # chunks that take longer are handed out one at a time


@mutable_record
class Chunk:
    """Episodes that are handed to a node together."""

    jobs: tuple[Job, ...]
    attempt: int = 1
    avoid: str | None = None  # the node that was lost with it

    def parts(self, avoid: str) -> list["Chunk"]:
        """Each episode alone, for its second attempt: then one that takes its node down with it
        takes no other along.
        """
        return [Chunk((job,), self.attempt + 1, avoid) for job in self.jobs]


class Chunks:
    """The plan, chunk by chunk, on demand."""

    def __init__(self, jobs: Iterator[Job], count: int, slots: int) -> None:
        """Take over the jobs.

        Args:
            jobs: Taken as they are needed.
            count: How many there are.
            slots: How many run at the same time.
        """
        self._jobs, self._left, self._slots = jobs, count, slots
        self._again: deque[Chunk] = deque()
        self._size = 1
        self._episode_s: float | None = None  # in a slot, smoothed

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to hand out."""
        return not self._left and not self._again

    @property
    def ahead(self) -> int:
        """How many chunks may wait behind the one that a slot runs, so that it never waits for the
        harness.
        """
        if self._episode_s is None:
            return 0
        return int(self._episode_s * self._size <= AHEAD_S)

    def take(self, node: str, *, is_only: bool) -> Chunk | None:
        """The next chunk for ``node``; None if there is none for it. One that was lost with it goes
        elsewhere, if it can.
        """
        for _ in range(len(self._again)):
            chunk = self._again.popleft()
            if chunk.avoid != node or is_only:
                return chunk
            self._again.append(chunk)
        jobs = (
            tuple(job for _, job in zip(range(self._next_size()), self._jobs, strict=False))
            if self._left
            else ()
        )
        self._left -= len(jobs)
        return Chunk(jobs) if jobs else None

    def put_back(self, *chunks: Chunk) -> None:
        """These are to be handed out again, before all others."""
        self._again.extend(chunk for chunk in chunks if chunk.jobs)

    def learn(self, episodes: int, spent_s: float) -> None:
        """A chunk of so many episodes took so long in its slot."""
        if not episodes:
            return
        last_s = spent_s / episodes
        self._episode_s = (
            last_s if self._episode_s is None else 0.7 * self._episode_s + 0.3 * last_s
        )
        fitting = int(CHUNK_S / max(self._episode_s, 1e-6))
        self._size = max(1, min(fitting, GROWTH * max(self._size, episodes), EPISODES_MOST))

    def _next_size(self) -> int:
        # The last chunks are small: a slot that ends early has nothing to take from one that has
        # much left.
        return max(1, min(self._size, self._left // (2 * self._slots)))
