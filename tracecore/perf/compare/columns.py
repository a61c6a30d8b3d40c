"""One run as a comparison looks at it: the table of its rows, by scenario row and seed."""

import hashlib
import math
from array import array
from typing import Final, NamedTuple

from tracecore.perf.documents.rows import Rows

COUNTS: Final = (
    "steps_used",
    "tool_calls_used",
    "llm_trace_entries",
    "prompt_bytes",
    "completion_bytes",
    "tokens_used",
)
HASHES: Final = ("trace_hash", "artifact_hash")
REASON: Final = "failure_reason"
EXACT: Final = ("success", REASON, *COUNTS, *HASHES)
AMOUNTS: Final = {"cpu": "cpu_s", "wall": "wall_clock_s", "rss": "peak_rss_bytes"}


class RowKey(NamedTuple):
    """A row of a scenario; an episode of it is known by its seed besides."""

    agent: str
    task_ref: str
    seed: int  # of the row: that of an episode less its index


class RunColumns:
    """A view of one run's rows.

    Attributes:
        rows: Of each scenario row the places of its episodes in the table.
    """

    def __init__(self, table: Rows) -> None:
        self._table, self._cut_off = table, table.is_cut_off()
        self._logs: dict[str, array[float]] = {}
        self.rows: dict[RowKey, array[int]] = {}
        columns = zip(table["group"], table["seed"], table["episode_index"], strict=True)
        for place, (group, seed, index) in enumerate(columns):
            agent, task_ref = table.groups[group]
            key = RowKey(agent, task_ref, seed - index)
            self.rows.setdefault(key, array("q")).append(place)

    def by_seed(self, row: RowKey) -> dict[int, int]:
        """The place of each of a scenario row's episodes; none where the run lacks the row."""
        places = self.rows.get(row, ())
        return dict(zip(self._table.pick("seed", places), places, strict=True))

    def number(self, quantity: str, place: int) -> int:
        """A count or a size, or a number that stands for a text."""
        table = self._table
        if quantity != REASON:
            return int(table[quantity][place])
        if table["success"][place]:
            return 0
        # How long it took to be cut off may stand in its error, and differs each time.
        return hash(self._reason(place)) if self._cut_off[place] else int(table["error"][place])

    def text(self, quantity: str, place: int) -> str | None:
        """The text behind such a number; None where it was not kept."""
        if quantity == REASON and self._cut_off[place]:
            return self._reason(place)
        name = "error" if quantity == REASON else quantity
        return self._table.text(name, self._table[name][place])

    def logs(self, metric: str) -> "array[float]":
        """The logarithm of one amount of every episode. NaN where it has none: a cut-off one took
        as long as its limit, or as it took to die, and no process takes no time and no memory.
        """
        if metric not in self._logs:
            amounts = zip(self._table[AMOUNTS[metric]], self._cut_off, strict=True)
            self._logs[metric] = array(
                "d",
                (
                    math.log(amount) if amount > 0 and not is_cut_off else math.nan
                    for amount, is_cut_off in amounts
                ),
            )
        return self._logs[metric]

    def cut_off(self, row: RowKey) -> int:
        """How many episodes of a scenario row the clock or a crash ended."""
        return sum(self._cut_off[place] for place in self.rows.get(row, ()))

    def digest(self) -> str:
        """Of the wall clocks of all episodes: copies of a run share it, and no two runs do."""
        digest = hashlib.blake2b(digest_size=16)
        for key, places in self.rows.items():
            digest.update(repr((key, len(places))).encode("utf-8", "backslashreplace"))
            digest.update(array("d", self._table.pick("wall_clock_s", places)))
        return digest.hexdigest()

    def _reason(self, place: int) -> str | None:
        return self._table.text("termination_reason", self._table["termination_reason"][place])
