"""How a plan is cut into chunks: large enough that starting one costs little, small enough that
all nodes end together.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from tracecore.perf.cluster.sources import Pair
from tracecore.record import record
from tracecore.records import EpisodeResult, Job

CHUNK_S: Final = 15.0  # what a chunk should take: its process and its workers cost some 0.5 s
LEAST_S: Final = 3.0  # what the last chunks should take
EPISODES_MOST: Final = 2_000  # in one chunk, whatever they take: what a lost node has to run again
# From one chunk to the next: what is known of the first episodes need not hold for all.
GROWTH: Final = 4


@record
class Chunk:
    """Episodes that a node runs together, with all that it needs for them."""

    slice_id: str
    jobs: tuple[Job, ...]  # as they are planned; their files lie elsewhere on the node
    pairs: tuple[Pair, ...]  # of the slice: what the parcel holds
    parcel: bytes  # the files of all agents and tasks
    method: str  # fork or spawn
    artifacts: str  # return, node or shared
    runs_dir: str  # where artifacts that do not return are left, as it was written
    token: str | None = None  # a file that a shared runs folder holds


@record
class ChunkEnd:
    """What came of a chunk."""

    node: str  # address of the worker that ran it
    rows: tuple[tuple[EpisodeResult, bytes], ...]  # with artifacts; b"" where it does not return
    trouble: str | None  # why the node cannot go on, in words
    death: str | None  # how the process of the chunk ended, if it died
    spent_s: float


@record
class Share:
    """Jobs for one chunk."""

    jobs: tuple[Job, ...]
    attempt: int = 1


class Chunks:
    """The plan, some jobs at a time.

    Args:
        jobs: Taken as they are needed.
        count: How many there are.
    """

    def __init__(self, jobs: Iterator[Job], count: int) -> None:
        self._jobs, self._left = jobs, count
        self._again: deque[Share] = deque()
        self._largest = 0
        self._episode_s: float | None = None  # in a slot, smoothed

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to hand out."""
        return not self._left and not self._again

    def take(self, slots: int, nodes: int) -> Share:
        """What the next chunk runs, for a node of so many slots; something is left."""
        if self._again:
            return self._again.popleft()
        # The last chunks are small: a node that ends early has nothing to take from another. But
        # none is so small that starting it takes longer than running it.
        size = max(slots, self._fitting(LEAST_S, slots), self._left // (2 * nodes))
        size = min(size, max(slots, self._fitting(CHUNK_S, slots)), EPISODES_MOST)
        size = min(size, max(slots, GROWTH * self._largest))
        jobs = tuple(job for _, job in zip(range(min(size, self._left)), self._jobs, strict=False))
        self._left -= len(jobs)
        self._largest = max(self._largest, len(jobs))
        return Share(jobs)

    def put_back(self, *shares: Share) -> None:
        """These are to be handed out again, before all others."""
        self._again.extend(share for share in shares if share.jobs)

    def learn(self, episodes: int, slot_s: float) -> None:
        """So many episodes took so long in their slots, together."""
        if not episodes:
            return
        last_s, known_s = slot_s / episodes, self._episode_s
        self._episode_s = last_s if known_s is None else 0.7 * known_s + 0.3 * last_s

    def _fitting(self, chunk_s: float, slots: int) -> int:
        """How many episodes so many slots end in that time; 0 while none has ended."""
        return 0 if self._episode_s is None else int(chunk_s * slots / max(self._episode_s, 1e-6))
