"""The metrics of a slice: one row per task and agent, from one pass over its episodes. No clock, no
disk.
"""

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, Final, overload
from zlib import crc32

from tracecore.perf.documents.summary import PERCENTILE_METHOD, by_count, is_latency, ratio
from tracecore.records import EpisodeResult, JsonObject
from tracecore.stats import nearest_rank


class Metrics:
    """Reduces rows to the metrics document; 12 bytes of memory per episode, for the reproducibility
    rate.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, row: EpisodeResult) -> None:
        """Count one finished episode.

        Rows come by episode index: groups stand in the order in which they appear.
        """
        key = (row.task_ref, row.agent)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group()
        group.add(row)

    def document(self) -> list[JsonObject]:
        """The document of ``perf-metrics-<stamp>.json``."""
        return [
            {"task_ref": task_ref, "agent": agent, **group.row()}
            for (task_ref, agent), group in self._groups.items()
        ]


class Group:
    """The episodes of one agent on one task: at least one."""

    def __init__(self) -> None:
        self._run_count = self._success_count = self._timed_count = 0
        self._steps, self._tool_calls = Tally(), Tally()
        self._steps_ceiling = self._tool_calls_ceiling = 0
        self._failure_types: Counter[str] = Counter()
        self._termination_reasons: Counter[str] = Counter()
        self._wall_clock_s = 0.0
        self._artifact_bytes = self._largest_artifact_bytes = 0
        self._llm_trace_entries = self._prompt_bytes = self._completion_bytes = (
            self._tokens_used
        ) = 0
        self._repeats = Repeats()

    def add(self, row: EpisodeResult) -> None:
        self._run_count += 1
        self._success_count += row.success
        self._steps.add(row.steps_used)
        self._tool_calls.add(row.tool_calls_used)
        self._steps_ceiling = max(self._steps_ceiling, row.steps_budget)
        self._tool_calls_ceiling = max(self._tool_calls_ceiling, row.tool_calls_budget)
        if not row.success:
            self._failure_types[row.failure_type or "(none given)"] += 1
        self._termination_reasons[row.termination_reason] += 1
        if is_latency(row):
            self._timed_count += 1
            self._wall_clock_s += row.wall_clock_s
        self._artifact_bytes += row.artifact_bytes
        self._largest_artifact_bytes = max(self._largest_artifact_bytes, row.artifact_bytes)
        self._llm_trace_entries += row.llm_trace_entries
        self._prompt_bytes += row.prompt_bytes
        self._completion_bytes += row.completion_bytes
        self._tokens_used += row.tokens_used
        self._repeats.add(row.seed, row.artifact_hash)

    def row(self) -> JsonObject:
        """Everything but the group's name."""
        repeated, reproduced = self._repeats.count()
        return {
            "run_count": self._run_count,
            "success_rate": self._success_count / self._run_count,
            "reproducibility_rate": ratio(reproduced, repeated),
            "repeated_inputs": repeated,
            "steps_p50": nearest_rank(self._steps, 50),
            "steps_p95": nearest_rank(self._steps, 95),
            "steps_ceiling": self._steps_ceiling,
            "tool_calls_p50": nearest_rank(self._tool_calls, 50),
            "tool_calls_p95": nearest_rank(self._tool_calls, 95),
            "tool_calls_ceiling": self._tool_calls_ceiling,
            "percentile_method": PERCENTILE_METHOD,
            "failure_taxonomy": by_count(self._failure_types),
            "termination_taxonomy": by_count(self._termination_reasons),
            "avg_wall_clock_s": ratio(self._wall_clock_s, self._timed_count),
            "artifact_bytes_avg": self._artifact_bytes / self._run_count,
            "artifact_bytes_max": self._largest_artifact_bytes,
            "llm_trace_entries_total": self._llm_trace_entries,
            "prompt_bytes_total": self._prompt_bytes,
            "completion_bytes_total": self._completion_bytes,
            "tokens_used_total": self._tokens_used,
        }


class Tally(Sequence[int]):
    """Many numbers of few different values, in ascending order, as a percentile asks for them."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, value: int) -> None:
        """Take one more number, in any order."""
        self._counts[value] += 1

    def __len__(self) -> int:
        return self._counts.total()

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[int]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return sorted(self._counts.elements())[place]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        values = sorted(self._counts)
        ends = list(accumulate(self._counts[value] for value in values))
        return values[bisect_right(ends, place % len(self))]


class Repeats:
    """Which seeds ran more than once, and whether each of those always left the same artifact.

    12 bytes per episode: the seed, and 32 bits of its artifact's hash, by which two different
        artifacts pass for one
    with a chance of one in four billion.
    """

    # pairs sorted as a list at once; a list of all of them would cost 150 bytes each
    CHUNK: Final = 1 << 12

    def __init__(self) -> None:
        self._seeds, self._hashes = array("Q"), array("I")

    def add(self, seed: int, artifact_hash: str) -> None:
        """Take one episode."""
        self._seeds.append(seed & 0xFFFF_FFFF_FFFF_FFFF)  # a negative or very long one must fit too
        self._hashes.append(crc32(artifact_hash.encode("ascii", "replace")))

    def count(self) -> tuple[int, int]:
        """How many seeds ran more than once, and for how many of those all hashes agree."""
        repeated = reproduced = 0
        for _, episodes in groupby(self._in_order(), key=itemgetter(0)):
            times, lowest, highest = 0, 0, 0
            # ascending: the last one is the highest
            for times, (_, highest) in enumerate(episodes, 1):
                if times == 1:
                    lowest = highest
            if times > 1:
                repeated += 1
                reproduced += lowest == highest
        return repeated, reproduced

    def _in_order(self) -> Iterator[tuple[int, int]]:
        """Seed and hash of every episode, ascending: chunks are sorted in place, then merged."""
        chunks = [
            slice(start, start + self.CHUNK) for start in range(0, len(self._seeds), self.CHUNK)
        ]
        for chunk in chunks:
            pairs = sorted(zip(self._seeds[chunk], self._hashes[chunk], strict=True))
            self._seeds[chunk] = array("Q", [seed for seed, _ in pairs])
            self._hashes[chunk] = array("I", [hash_ for _, hash_ in pairs])
        seeds, hashes = memoryview(self._seeds), memoryview(self._hashes)
        return merge(*(zip(seeds[chunk], hashes[chunk], strict=True) for chunk in chunks))
