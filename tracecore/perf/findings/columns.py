"""The figures of a slice that findings are made of, in columns: 8 bytes or less per episode and
figure.
"""

import math
from array import array
from collections.abc import Iterable, Iterator

from tracecore.perf.documents.summary import is_latency
from tracecore.perf.findings.trends import sort
from tracecore.records import EpisodeResult
from tracecore.stats import nearest_rank

LEFT_OUT = math.nan


class Columns:
    """Takes rows by episode index and keeps what is needed of each. A *place* is the position of a
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

    def __init__(self, *, is_resumed: bool = False) -> None:
        self._is_resumed = is_resumed
        self._group_numbers: dict[tuple[str, str], int] = {}
        self.groups: list[tuple[str, str]] = []
        self.indices, self.seeds = array("q"), array("q")
        self.scenario, self.workers = array("I"), array("I")
        self.starts, self.walls_s = array("d"), array("d")
        self.artifact_bytes, self.peak_rss_bytes = array("q"), array("q")
        self.failed = array("q")
        self.first_places: dict[int, int] = {}
        self.cpu_s = 0.0

    def add(self, row: EpisodeResult) -> None:
        """Keep one finished episode."""
        place = len(self.indices)
        start = float(row.episode_index) if self._is_resumed else row.start_offset_s
        self.indices.append(row.episode_index)
        self.seeds.append(row.seed)
        self.scenario.append(self._group_number(row))
        self.workers.append(row.worker)
        self.starts.append(start)
        self.walls_s.append(row.wall_clock_s if is_latency(row) else LEFT_OUT)
        self.artifact_bytes.append(row.artifact_bytes)
        self.peak_rss_bytes.append(row.peak_rss_bytes)
        self.cpu_s += row.cpu_user_s + row.cpu_sys_s
        if not row.success:
            self.failed.append(place)
        first = self.first_places.get(row.worker)
        if first is None or start < self.starts[first]:
            self.first_places[row.worker] = place

    def __len__(self) -> int:
        return len(self.indices)

    def _group_number(self, row: EpisodeResult) -> int:
        key = (row.agent, row.task_ref)
        number = self._group_numbers.get(key)
        if number is None:
            number = self._group_numbers[key] = len(self.groups)
            self.groups.append(key)
        return number

    def episode(self, place: int) -> int:
        """The 1-based number of an episode, as the series tells it."""
        return self.indices[place] + 1

    def relative(self, values: Iterable[float]) -> "array[float]":
        """The values as multiples of their scenario's median, so that scenarios can be looked at
        together; NaN stays.
        """
        kept = array("d", values)
        middles = [self._middle_of(kept, number) for number in range(len(self.groups))]
        return array("d", map(_ratio, kept, (middles[number] for number in self.scenario)))

    def _middle_of(self, values: "array[float]", number: int) -> float:
        own = sort(value for value in self.of_scenario(values, number) if not math.isnan(value))
        return nearest_rank(own, 50) if own else LEFT_OUT

    def of_scenario(self, values: Iterable[float], number: int) -> Iterator[float]:
        """Those of ``values``, one per row, that belong to a scenario."""
        return (value for value, own in zip(values, self.scenario, strict=True) if own == number)


def _ratio(value: float, middle_value: float) -> float:
    return value / middle_value if middle_value > 0 else LEFT_OUT
