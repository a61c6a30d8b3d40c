"""What a comparison needs of one run: per scenario row, a few numbers of each episode, in columns
of 8 bytes.
"""

import hashlib
import math
from array import array
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tracecore.record import field, mutable_record
from tracecore.stats import median

# Texts are kept as 8 bytes of their hash: two different ones pass for one with a chance of one in
# 10^19.
COUNTS: Final = (
    "steps_used",
    "tool_calls_used",
    "llm_trace_entries",
    "prompt_bytes",
    "completion_bytes",
    "tokens_used",
)
HASHES: Final = ("trace_hash", "artifact_hash")
EXACT: Final = ("success", "failure_reason", *COUNTS, *HASHES)
AMOUNTS: Final = ("cpu", "wall", "rss")  # seconds, seconds, bytes
# Such an episode took as long as its limit, or as it took to die: that is no latency.
CUT_SHORT: Final = frozenset({"timeout", "agent_crashed", "episode_crashed"})
TEXTS_MOST: Final = 1000  # failure reasons of a run, and hashes, that are kept to be shown


class RowKey(NamedTuple):
    """A row of a scenario; an episode of it is known by its seed besides."""

    agent: str
    task_ref: str
    seed: int  # of the row: that of an episode less its index


@mutable_record
class RowColumns:
    """The episodes of one scenario row in one run, by ascending seed."""

    seeds: "array[int]" = field(default_factory=lambda: array("q"))
    exact: "dict[str, array[int]]" = field(
        default_factory=lambda: {name: array("q") for name in EXACT}
    )
    artifact_bytes: "array[int]" = field(default_factory=lambda: array("q"))
    amounts: "dict[str, array[float]]" = field(
        default_factory=lambda: {name: array("d") for name in AMOUNTS}
    )
    is_whole: "array[int]" = field(default_factory=lambda: array("b"))  # 0 where it was cut short

    def places(self) -> dict[int, int]:
        """The place of each seed."""
        return {seed: place for place, seed in enumerate(self.seeds)}


class RunColumns:
    """One run, as far as a comparison looks at it: fed with the rows of its series, in any order of
    scenario rows.

    Attributes:
        rows: By scenario row.
        texts: Failure reasons by the number that stands for them.
        hashes: Hashes likewise, of the first episodes.
        lacks: Quantities that this run does not tell of every episode.
    """

    def __init__(self) -> None:
        self.rows: dict[RowKey, RowColumns] = {}
        self.texts: dict[int, str] = {}
        self.hashes: dict[int, str] = {}
        self.lacks: set[str] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one row of the series."""
        key = RowKey(row["agent"], row["task_ref"], row["seed"] - row["episode_index"])
        columns = self.rows.get(key)
        if columns is None:
            columns = self.rows[key] = RowColumns()
        columns.seeds.append(row["seed"])
        columns.is_whole.append(row.get("termination_reason") not in CUT_SHORT)
        columns.artifact_bytes.append(_clip(row["artifact_bytes"]))
        columns.exact["success"].append(row["success"])
        columns.exact["failure_reason"].append(self._reason(row))
        for name in COUNTS:
            columns.exact[name].append(_clip(self._known(row, name, 0)))
        for name in HASHES:
            columns.exact[name].append(_keep(self._known(row, name, ""), self.hashes))
        columns.amounts["wall"].append(row["wall_clock_s"])
        # 0 where there is none: no process takes no time and no memory
        columns.amounts["cpu"].append(
            (row.get("cpu_user_s") or 0.0) + (row.get("cpu_sys_s") or 0.0)
        )
        columns.amounts["rss"].append(row.get("peak_rss_bytes") or 0)

    def digest(self) -> str:
        """Of the wall clocks of all episodes: copies of a run share it, and no two runs do."""
        digest = hashlib.blake2b(digest_size=16)
        for key, columns in self.rows.items():
            digest.update(repr((key, len(columns.seeds))).encode("utf-8", "backslashreplace"))
            digest.update(columns.amounts["wall"])
        return digest.hexdigest()

    def _known(
        self, row: Mapping[str, Any], name: str, otherwise: Any, quantity: str | None = None
    ) -> Any:
        value = row.get(name)
        if value is None:
            self.lacks.add(quantity or name)
            return otherwise
        return value

    def _reason(self, row: Mapping[str, Any]) -> int:
        if row["success"]:
            return 0
        reason = row.get("termination_reason")
        # How long it took to be cut short may stand in the text, and differs each time.
        text = reason if reason in CUT_SHORT else row["error"] or reason or "(none given)"
        return _keep(text, self.texts)


def log_median(columns: RowColumns, name: str, places: list[int]) -> float:
    """The median of the logarithm of one amount over the episodes at these places, all of which
    have it; at least one.
    """
    amounts = columns.amounts[name]
    return median([math.log(amounts[place]) for place in places])


def _keep(text: str, texts: dict[int, str]) -> int:
    number = text_number(text)
    if len(texts) < TEXTS_MOST:
        texts[number] = text
    return number


def text_number(text: str) -> int:
    """A number of 64 bits that stands for a text."""
    data = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(data, "little", signed=True)


def _clip(value: int) -> int:
    """Agents claim any number of tokens; beyond 63 bits they all look alike."""
    return max(-(1 << 63), min(value, (1 << 63) - 1))
