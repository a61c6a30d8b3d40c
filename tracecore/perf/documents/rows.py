"""The rows of a slice: the one table that every document is made from, and the series. No clock, no
disk.
"""

import json
import math
from array import array
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from typing import Any, Final

from tracecore.perf.slice.journal_file import FIELDS, row_values
from tracecore.records import EpisodeResult, JsonObject

OMITTED: Final = frozenset(
    {"allow", "host", "model_limits", "work"}
)  # from the series, where they are null
FAILURES_KEPT: Final = 20  # whole rows
SLOWEST_KEPT: Final = 5
TEXTS_KEPT: Final = 1000  # of each column whose texts agents write
TIMEOUTS: Final = frozenset({"timeout"})
CPU_S: Final = "cpu_s"  # user and system time together; NaN where none was measured
CRASHES: Final = frozenset({"agent_crashed", "episode_crashed"})

Column = MutableSequence[Any]

# Few different texts: kept as their number in order of appearance.
_NAMES: Final = ("agent", "task_ref", "termination_reason", "failure_type", "host")
# A different one in every episode, perhaps: kept as 64 bits of their hash, which this process
# alone gives them; two different ones pass for one with a chance of one in 10^19.
_TEXTS: Final = ("error", "run_id", "artifact", "artifact_hash", "trace_hash")
_OBJECTS: Final = (
    "allow",
    "model_limits",
    "work",
)  # what they hold is in the manifest and in the summary
_KEPT_TEXTS: Final = ("error", "artifact_hash", "trace_hash")
_FLOATS: Final = frozenset(
    name for name, kind in EpisodeResult.__annotations__.items() if kind is float
)
_WIDER: Final = {"h": "i", "i": "q"}  # where a number does not fit into a column's type

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode


class Rows:
    """A table of rows: an array per column, filled once, in the order in which rows come.

    A *place* is the position of a row among them. ``rows[name]`` is a column: numbers as they are,
    truth values as 0 and 1, texts as numbers that are equal where the texts are; ``cpu_s`` is a
    column, too. Whole numbers take
    2, 4 or 8 bytes each, as the largest of a column needs, others 8: a million rows lie in 200 MB.

    Attributes:
        groups: (agent, task_ref) of every scenario, in the order of appearance; the column
            ``group`` holds indices into it.
        failures: The first failed rows, whole.
        slowest: Whole, too: the rows that took longest of those that succeeded.
    """

    def __init__(self, rows: Iterable[EpisodeResult] = ()) -> None:
        self.groups: list[tuple[str, str]] = []
        self.failures: list[EpisodeResult] = []
        self.slowest: list[EpisodeResult] = []
        self._group_numbers: dict[tuple[str, str], int] = {}
        self._columns: dict[str, Column] = {
            name: array("d" if name in _FLOATS else "q" if name in _TEXTS else "h")
            for name in ("group", *FIELDS)
            if name not in _OBJECTS
        }
        self._numbers: dict[str, dict[str | None, int]] = {name: {} for name in _NAMES}
        self._texts: dict[str, dict[int, str]] = {name: {} for name in _KEPT_TEXTS}
        for row in rows:
            self.add(row)

    def add(self, row: EpisodeResult) -> None:
        """Take one finished episode."""
        key = (row.agent, row.task_ref)
        number = self._group_numbers.setdefault(key, len(self.groups))
        if number == len(self.groups):
            self.groups.append(key)
        self._append("group", number)
        for name, value in zip(FIELDS, row_values(row), strict=True):
            if name in self._numbers:
                numbers = self._numbers[name]
                self._append(name, numbers.setdefault(value, len(numbers)))
            elif name in _TEXTS:
                self._append(name, hash(value))
                texts = self._texts.get(name)
                if texts is not None and len(texts) < TEXTS_KEPT and value is not None:
                    texts[hash(value)] = value
            elif name not in _OBJECTS:
                self._append(name, value)
        if not row.success:
            if len(self.failures) < FAILURES_KEPT:
                self.failures.append(row)
        elif len(self.slowest) < SLOWEST_KEPT or row.wall_clock_s > self.slowest[-1].wall_clock_s:
            slowest = [*self.slowest, row]
            slowest.sort(key=lambda one: (-one.wall_clock_s, one.episode_index))
            self.slowest = slowest[:SLOWEST_KEPT]

    def take(self, rows: Iterable[EpisodeResult]) -> Iterator[EpisodeResult]:
        """Pass the rows on, and keep each on its way: one pass over a journal serves all."""
        for row in rows:
            self.add(row)
            yield row

    def __len__(self) -> int:
        return len(self._columns["episode_index"])

    def __getitem__(self, name: str) -> Column:
        return self._cpu_s() if name == CPU_S else self._columns[name]

    def is_text(self, name: str) -> bool:
        """Whether a column is of texts."""
        return name in self._numbers or name in _TEXTS

    def number_of(self, name: str, text: str | None) -> int | None:
        """The number that stands for ``text`` in a column of texts; None where no row has it."""
        return self._numbers[name].get(text) if name in self._numbers else hash(text)

    def text(self, name: str, number: int) -> str | None:
        """The text that a number of the column stands for; None for null, and for texts of which
        only so many are kept.
        """
        if name in self._numbers:
            return next(text for text, own in self._numbers[name].items() if own == number)
        return self._texts[name].get(number)

    def places(self, group: int) -> Sequence[int]:
        """Of the rows of one scenario."""
        return array("i", (place for place, own in enumerate(self["group"]) if own == group))

    def pick(self, name: str, places: Iterable[int]) -> Column:
        """The values of a column at these places."""
        column = self[name]
        picked = (column[place] for place in places)
        return array(column.typecode, picked) if isinstance(column, array) else list(picked)

    def is_cut_off(self) -> Sequence[int]:
        """For every row 1 where the clock or a crash ended the episode: its time says nothing of
        how fast it is.
        """
        cut_off = self._cut_off()
        return bytearray(number in cut_off for number in self["termination_reason"])

    def timed(self, places: Iterable[int]) -> Sequence[int]:
        """Those of ``places`` whose episodes came to an end of their own."""
        cut_off, endings = self._cut_off(), self["termination_reason"]
        return array("i", (place for place in places if endings[place] not in cut_off))

    def _cut_off(self) -> set[int | None]:
        return {self.number_of("termination_reason", reason) for reason in TIMEOUTS | CRASHES}

    def latencies_s(self) -> "array[float]":
        """The wall clock of every row; NaN where it was cut off."""
        walls_s = zip(self["wall_clock_s"], self.is_cut_off(), strict=True)
        return array("d", (math.nan if is_cut_off else wall_s for wall_s, is_cut_off in walls_s))

    def _cpu_s(self) -> "array[float]":
        both = zip(self["cpu_user_s"], self["cpu_sys_s"], strict=True)
        return array("d", (user_s + sys_s or math.nan for user_s, sys_s in both))

    def _append(self, name: str, value: Any) -> None:
        column = self._columns[name]
        try:
            column.append(value)
        except OverflowError:
            # Agents claim any number of tokens: beyond 64 bits numbers are kept as objects.
            wider = _WIDER.get(getattr(column, "typecode", ""))
            self._columns[name] = array(wider, column) if wider else list(column)
            self._append(name, value)


# --- the series --------------------------------------------------------------------------------


def series_chunks(rows: Iterable[EpisodeResult]) -> Iterator[bytes]:
    """The document of ``perf-series-<stamp>.json`` in pieces: a JSON list, one row per line.

    Args:
        rows: By episode index.
    """
    between = b"[\n"
    for row in rows:
        # A lone surrogate, which UTF-8 cannot hold, leaves as its JSON escape.
        yield between + _encode(series_row(row)).encode("utf-8", "backslashreplace")
        between = b",\n"
    yield b"[]\n" if between == b"[\n" else b"\n]\n"


def series_row(row: EpisodeResult) -> JsonObject:
    """One episode as an object of the series."""
    return {
        name: value
        for name, value in zip(FIELDS, row_values(row), strict=True)
        if value is not None or name not in OMITTED
    }
