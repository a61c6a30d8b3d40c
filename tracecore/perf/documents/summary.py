"""The summary of a slice: one pass over its rows, then one document. No clock, no disk.

Percentiles are nearest-rank: always a value that was measured.
"""

import heapq
import itertools
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, overload

from tracecore.errors import one_line
from tracecore.records import EpisodeResult, JsonObject
from tracecore.stats import nearest_rank

PERCENTILE_METHOD: Final = "nearest-rank"
# texts kept apart; agents write them, so that their number has no end by itself
DISTINCT_REASONS: Final = 200
OTHER_REASONS: Final = "(other reasons)"
REASON_CHARACTERS: Final = 300
TIMEOUTS: Final = frozenset({"timeout"})
CRASHES: Final = frozenset({"agent_crashed", "episode_crashed"})


class Summary:
    """Reduces rows to the summary document; 8 bytes of memory per episode."""

    def __init__(self) -> None:
        self._walls_s = Readings()
        self._total = self._success_count = self._timeouts = self._crashes = 0
        self._reasons: Counter[str] = Counter()
        self._failure_types: Counter[str] = Counter()
        self._termination_reasons: Counter[str] = Counter()
        self._kept_files = self._kept_bytes = 0
        self._artifact_bytes = self._largest_artifact_bytes = 0
        self._llm_trace_entries = self._prompt_bytes = self._completion_bytes = (
            self._tokens_used
        ) = 0

    def add(self, row: EpisodeResult) -> None:
        """Count one finished episode."""
        self._total += 1
        if is_latency(row):
            self._walls_s.append(row.wall_clock_s)
        self._timeouts += row.termination_reason in TIMEOUTS
        self._crashes += row.termination_reason in CRASHES
        self._termination_reasons[row.termination_reason] += 1
        if row.success:
            self._success_count += 1
        else:
            self._count_failure(row)
        if row.artifact is not None:
            self._kept_files += 1
            self._kept_bytes += row.artifact_bytes
        self._artifact_bytes += row.artifact_bytes
        self._largest_artifact_bytes = max(self._largest_artifact_bytes, row.artifact_bytes)
        self._llm_trace_entries += row.llm_trace_entries
        self._prompt_bytes += row.prompt_bytes
        self._completion_bytes += row.completion_bytes
        self._tokens_used += row.tokens_used

    def document(
        self,
        *,
        episodes_requested: int,
        workers: int,
        runs_root: str,
        system_samples: JsonObject,
        elapsed_s: float | None,
        episodes_run: int | None = None,
        interrupted: bool = False,
    ) -> JsonObject:
        """The document of ``perf-summary-<stamp>.json``; averages and percentiles of nothing are
        null.

        Wall clocks are those of episodes that came to an end of their own: timeouts and crashes are
            counted instead.

        Args:
            episodes_requested: How many were asked for; ``episodes`` is how many results there are.
            workers: Processes that ran them.
            runs_root: The folder of the run artifacts.
            system_samples: As ``SystemSampler.sample`` gives them.
            elapsed_s: Wall clock of the whole run; null where it is not known.
            episodes_run: How many ran in that time, if it was not all of them: a resumed slice ran
                only the rest.
            interrupted: Whether somebody stopped the slice before its end.
        """
        total, walls_s = self._total, self._walls_s
        failed = total - self._success_count
        ran = total if episodes_run is None else episodes_run
        return {
            "summary": {
                "total": total,
                "passed": self._success_count,
                "failed": failed,
                "workers": workers,
                "p50_wall_clock_s": nearest_rank(walls_s, 50) if walls_s else None,
                "p95_wall_clock_s": nearest_rank(walls_s, 95) if walls_s else None,
                "percentile_method": PERCENTILE_METHOD,
                "success_rate": ratio(self._success_count, total),
                "throughput_eps": ran / elapsed_s if ran and elapsed_s else None,
            },
            "episodes": total,
            "episodes_requested": episodes_requested,
            "interrupted": interrupted,
            "success_count": self._success_count,
            "failure_count": failed,
            "timeouts": self._timeouts,
            "crashes": self._crashes,
            "elapsed_s": elapsed_s,
            "max_wall_clock_s": self._walls_s.largest,
            "failure_reasons": by_count(self._reasons),
            "failure_types": by_count(self._failure_types),
            "termination_reasons": by_count(self._termination_reasons),
            "run_artifacts": {
                "root": runs_root,
                "file_count": self._kept_files,
                "total_bytes": self._kept_bytes,
                "avg_bytes": ratio(self._kept_bytes, self._kept_files),
            },
            "system_samples": system_samples,
            "telemetry_verbosity": {
                "artifact_bytes_total": self._artifact_bytes,
                "artifact_bytes_avg": ratio(self._artifact_bytes, total),
                "artifact_bytes_max": self._largest_artifact_bytes if total else None,
                "llm_trace_entries_total": self._llm_trace_entries,
                "llm_trace_entries_avg": ratio(self._llm_trace_entries, total),
                "prompt_bytes_total": self._prompt_bytes,
                "completion_bytes_total": self._completion_bytes,
                "tokens_used_total": self._tokens_used,
            },
        }

    def _count_failure(self, row: EpisodeResult) -> None:
        self._failure_types[row.failure_type or "(none given)"] += 1
        reason = reason_text(row)
        if reason not in self._reasons and len(self._reasons) >= DISTINCT_REASONS:
            reason = OTHER_REASONS
        self._reasons[reason] += 1


class Readings(Sequence[float]):
    """Numbers in ascending order, as a percentile asks for them, at 8 bytes each.

    A sorted list of a million would cost 32 MB. Here they lie in an array that is sorted chunk by
    chunk; the n-th is found by merging chunks up to it, so that indexing takes time (a second for a
    million) but no memory.
    """

    CHUNK: Final = 1 << 12  # numbers sorted as a list at once

    def __init__(self) -> None:
        self._values = array("d")
        self._is_sorted = True
        self.largest: float | None = None

    def append(self, value: float) -> None:
        """Take one more number, in any order."""
        self._values.append(value)
        self._is_sorted = False
        if self.largest is None or value > self.largest:
            self.largest = value

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[float]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return list(self)[place]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return next(itertools.islice(self, place % len(self), None))

    def __iter__(self) -> Iterator[float]:
        self._sort_chunks()
        view = memoryview(self._values)
        return heapq.merge(
            *(view[start : start + self.CHUNK] for start in range(0, len(view), self.CHUNK))
        )

    def _sort_chunks(self) -> None:
        if self._is_sorted:
            return
        for start in range(0, len(self._values), self.CHUNK):
            chunk = slice(start, start + self.CHUNK)
            self._values[chunk] = array("d", sorted(self._values[chunk]))
        self._is_sorted = True


def is_latency(row: EpisodeResult) -> bool:
    """Whether the time of an episode tells how fast it is: not if it was cut off by the clock, or
    died.
    """
    return row.termination_reason not in TIMEOUTS and row.termination_reason not in CRASHES


def reason_text(row: EpisodeResult) -> str:
    """Why a failed episode failed: one line that is safe to print, of 300 characters at most."""
    text = (row.error or row.termination_reason)[: REASON_CHARACTERS + 1]
    if not text.isprintable():  # most are, and escaping costs a call per character
        text = one_line(text)
    return text if len(text) <= REASON_CHARACTERS else text[: REASON_CHARACTERS - 1] + "…"


def by_count(counts: Counter[str]) -> dict[str, int]:
    """The counts as JSON holds them: largest first, equal ones by name, so that equal slices read
    the same.
    """
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``, or None where there is no whole."""
    return part / whole if whole else None
