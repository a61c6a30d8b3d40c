"""The figures of a slice that findings are made of: what its rows hold, and what follows of each
row from the others.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence

from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import failed_places
from tracecore.perf.findings.trends import middle

LEFT_OUT = math.nan


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
        cpu_s: Of all episodes.
        slots: In how many of them episodes were in flight.
        span_s: From the first start to the last end; None where the slice ran in parts.
    """

    def __init__(self, rows: Rows, *, is_resumed: bool = False) -> None:
        self.groups, self.scenario = rows.groups, rows["group"]
        self.indices, self.seeds, self.workers = rows["episode_index"], rows["seed"], rows["worker"]
        self.artifact_bytes, self.peak_rss_bytes = rows["artifact_bytes"], rows["peak_rss_bytes"]
        self.walls_s = rows.latencies_s()
        self.starts: Sequence[float] = rows["episode_index" if is_resumed else "start_offset_s"]
        self.failed = failed_places(rows)
        self.cpu_s = sum(rows["cpu_user_s"]) + sum(rows["cpu_sys_s"])
        self.slots = max(rows["slot"], default=-1) + 1
        self.span_s: float | None = None
        if len(rows) and not is_resumed:
            self.span_s = max(rows["end_offset_s"]) - min(rows["start_offset_s"])
        self.first_places: dict[int, int] = {}
        for place, (worker, start) in enumerate(zip(self.workers, self.starts, strict=True)):
            first = self.first_places.get(worker)
            if first is None or start < self.starts[first]:
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
        middles = [self._middle_of(kept, number) for number in range(len(self.groups))]
        return array("d", map(_ratio, kept, (middles[number] for number in self.scenario)))

    def _middle_of(self, values: "array[float]", number: int) -> float:
        own = [value for value in self.of_scenario(values, number) if not math.isnan(value)]
        return middle(own) if own else LEFT_OUT

    def of_scenario(self, values: Iterable[float], number: int) -> Iterator[float]:
        """Those of ``values``, one per row, that belong to a scenario."""
        return (value for value, own in zip(values, self.scenario, strict=True) if own == number)


def _ratio(value: float, middle_value: float) -> float:
    return value / middle_value if middle_value > 0 else LEFT_OUT
