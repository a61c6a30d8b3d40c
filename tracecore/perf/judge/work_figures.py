"""Figures of counted work that thresholds may name: ``work.lines{task_ref=x@1} <= 7_000``."""

from typing import Any, Final

from tracecore.perf.judge.thresholds import Threshold
from tracecore.records import JsonObject

OF_EPISODES: Final = ("messages", "bytes_written")


def work_figure(threshold: Threshold, summary: JsonObject) -> float | None:
    """What a threshold on counted work bounds: over the scenario rows that it selects, the largest
    unless another aggregate is asked; None where none of them was counted.
    """
    name = (threshold.metric or "").removeprefix("work.")
    found = [
        count
        for one in summary.get("work") or ()
        if all(str(one.get(field)) == value for field, value in threshold.selector)
        and (count := _count(one["counts"] or {}, name)) is not None
    ]
    if not found:
        return None
    match threshold.aggregate:
        case "min":
            return min(found)
        case "sum":
            return sum(found)
        case "avg":
            return sum(found) / len(found)
        case _:
            return max(found)


def _count(counts: JsonObject, name: str) -> int | None:
    if name in OF_EPISODES:
        found: Any = counts.get(name)
        return found if isinstance(found, int) else None
    parts = [counts.get(process, {}).get(name) for process in ("episode", "agent")]
    return None if None in parts else sum(parts)
