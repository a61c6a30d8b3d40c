"""What a finding is, and the figures of a slice that findings are made of: what its rows hold, and
what follows of each row from the others.

Every rule that makes a finding asks for two things at once: that chance does not explain what is
seen, and that it is large enough to matter. Tests alone cry wolf: on identical slices a plain test
for drift at p < .05 fired in five cases of six, since neighbouring episodes share the state of the
machine. A rule gives None where there is too little to look at.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import failed_places
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.stats import nearest_rank

LEFT_OUT: Final = math.nan
EPISODES_SHOWN: Final = 10
CHANCE: Final = 0.01  # of any false alarm among the tests of one rule, by Holm
LEAST_CLUSTERED: Final = 3  # episodes


@record
class Finding:
    """Something that a reader of the slice should know."""

    text: str  # in a sentence
    evidence: JsonObject  # the figures behind it
    episodes: tuple[int, ...] = ()  # 1-based; the worst first, ten at most
    repro_place: int | None = None  # of the episode that shows it best; None: the whole slice does


class Columns:
    """Columns over the rows of a slice, which come by episode index. A *place* is the position of a
    row among them.

    Attributes:
        groups: (agent, task_ref) of every scenario, in the order of appearance; ``scenario`` holds
            indices into it.
        walls_s: Wall clock; NaN for timeouts and crashes, whose time says nothing of how fast an
            episode is.
        starts: Seconds since the batch began; of a resumed slice, whose clock began twice, the
            episode's index instead.
        failed: Places of the failed episodes.
        first_places: Of each worker, the place of the episode that it started first.
    """

    def __init__(self, rows: Rows, *, is_resumed: bool = False) -> None:
        self.rows, self.is_resumed = rows, is_resumed
        self.groups, self.scenario = rows.groups, rows["group"]
        self.indices, self.seeds, self.workers = rows["episode_index"], rows["seed"], rows["worker"]
        self.artifact_bytes, self.peak_rss_bytes = rows["artifact_bytes"], rows["peak_rss_bytes"]
        self.walls_s = rows.latencies_s()
        self.starts: Sequence[float] = rows["episode_index" if is_resumed else "start_offset_s"]
        self.failed = failed_places(rows)
        self.first_places: dict[int, int] = {}
        for place, (worker, start) in enumerate(zip(self.workers, self.starts, strict=True)):
            if start < self.starts[self.first_places.setdefault(worker, place)]:
                self.first_places[worker] = place

    def __len__(self) -> int:
        return len(self.indices)

    def episode(self, place: int) -> int:
        """The 1-based number of an episode, as the series has it."""
        return int(self.indices[place]) + 1

    def relative(self, values: Iterable[float]) -> "array[float]":
        """The values as multiples of their scenario's median, so that scenarios can be looked at
        together; NaN stays.
        """
        kept = array("d", values)
        parts = (self.of_scenario(kept, number) for number in range(len(self.groups)))
        middles = [nearest_rank(part, 50) if part else LEFT_OUT for part in parts]
        pairs = zip(kept, map(middles.__getitem__, self.scenario), strict=True)
        return array("d", (value / mid if mid > 0 else LEFT_OUT for value, mid in pairs))

    def of_scenario(self, values: Iterable[float], number: int) -> list[float]:
        """Those of ``values``, one per row, that belong to a scenario, ascending; no NaN."""
        pairs = zip(values, self.scenario, strict=True)
        return sorted(value for value, own in pairs if own == number and not math.isnan(value))


def shown(columns: Columns, places: Sequence[int]) -> tuple[int, ...]:
    """The numbers of the first episodes at these places."""
    return tuple(columns.episode(place) for place in places[:EPISODES_SHOWN])


def middle(values: Iterable[float]) -> float:
    """The nearest-rank median of at least one value.

    Raises:
        ValueError: There are no values.
    """
    return nearest_rank(sorted(values), 50)


def boundaries(values: Sequence[float], parts: int) -> list[float]:
    """What the first value of every part but the first is, when sorted values are cut into equal
    parts.
    """
    ordered, count = sorted(values), len(values)
    return [ordered[count * part // parts] for part in range(1, parts)] if ordered else []


def cut_into_blocks(starts: Iterable[float], edges: Sequence[float]) -> "array[int]":
    """The block, from 0, that each start belongs to."""
    return array("B", (bisect_right(edges, start) for start in starts))
