"""Whether thresholds hold: aggregates over rows and counted work, and a status per threshold.

The aggregates of a field over the selected rows:

- ``avg``, ``min``, ``max``, ``sum``: of its numbers; nulls are left out, true is 1 and false is 0;
- ``p(N)``, and ``med`` for ``p(50)``: nearest-rank, always one of the values;
- ``count``: the rows in which it is true, not zero, or text;
- ``rate``: ``count`` as a share of the selected rows.

No data fails, and never passes: an empty slice, a task that did not run, a value that is null.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from tracecore.perf.compare.work import total_of
from tracecore.perf.documents.rows import Rows
from tracecore.perf.judge.thresholds import (
    PLANNED_FIELDS,
    WORK_FIELDS,
    Operator,
    Severity,
    Threshold,
)
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.stats import nearest_rank

# Tables of the summary that count by name: what is not there has happened no times.
COUNT_TABLES: Final = frozenset({"failure_types", "termination_reasons"})
# An agent may claim any number of tokens, also one that no double holds. Cut off here, a hundred
# million of them still add up.
LARGEST: Final = 1e300
Status = Literal["passed", "failed", "no_data"]


@record
class ThresholdStatus:
    """How one threshold came out."""

    text: str  # as it was written
    observed: float | None  # null without data
    limit: float
    # how much room is left; below 0 (or at 0, for > < and !=) it is broken; null without data
    margin: float | None
    status: Status
    severity: Severity


def evaluate(threshold: Threshold, summary_document: JsonObject, rows: Rows) -> ThresholdStatus:
    """Hold what was observed against one threshold.

    Args:
        threshold: The condition.
        summary_document: Of the slice; its ``episodes`` is how many have finished.
        rows: Of the same slice.
    """
    observed = _observe(threshold, summary_document, rows)
    margin: float | None = None
    status: Status = "no_data"
    if observed is not None:
        margin = _margin(observed, threshold.op, threshold.limit) + 0.0  # which makes 0.0 of -0.0
        holds = margin > 0 if threshold.op in {">", "<", "!="} else margin >= 0
        status = "passed" if holds else "failed"
    return ThresholdStatus(
        text=threshold.text,
        observed=observed,
        limit=threshold.limit,
        margin=margin,
        status=status,
        severity=threshold.severity,
    )


def _observe(threshold: Threshold, summary_document: JsonObject, rows: Rows) -> float | None:
    if not summary_document.get("episodes"):  # "no failures" of no episodes is no news
        return None
    if threshold.path is not None:
        return _look_up(summary_document, threshold.path)
    if threshold.metric in WORK_FIELDS:
        return work_figure(threshold, summary_document)
    return aggregate(threshold, rows)


def _look_up(document: JsonObject, path: str) -> float | None:
    *tables, key = path.split(".")
    value: Any = document
    for name in tables:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        return None
    return _number(value.get(key, 0 if tables and tables[-1] in COUNT_TABLES else None))


def _margin(observed: float, op: Operator, limit: float) -> float:
    match op:
        case ">" | ">=":
            return observed - limit
        case "<" | "<=":
            return limit - observed
        case "==":
            return -abs(observed - limit)
        case "!=":
            return abs(observed - limit)


# --- over the rows -----------------------------------------------------------------------------


def aggregate(threshold: Threshold, rows: Rows) -> float | None:
    """What a threshold over the series asks for; None where there is no data for it."""
    planned = [pair for pair in threshold.selector if pair[0] in PLANNED_FIELDS]
    outcomes = [pair for pair in threshold.selector if pair[0] not in PLANNED_FIELDS]
    planned_places = _select(rows, range(len(rows)), planned)
    places = _select(rows, planned_places, outcomes)
    # what was not measured is NaN there
    values: list[float] = [
        value
        for value in rows.pick(threshold.metric or "", places)
        if value == value  # noqa: PLR0124
    ]
    match threshold.aggregate:
        case "count":
            return _count_true(rows, threshold, values) if planned_places else None
        case "rate":
            return _count_true(rows, threshold, values) / len(places) if places else None
    if rows.is_text(threshold.metric or "") or not values:
        return None
    # An agent may claim any number of tokens, also one that no double holds.
    values = [max(-LARGEST, min(LARGEST, value)) for value in values]
    if threshold.percent is not None:
        return nearest_rank(sorted(values), threshold.percent)
    return _OF_NUMBERS[threshold.aggregate or ""](values)


_OF_NUMBERS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "sum": sum,
    "avg": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
}


def _select(rows: Rows, places: Sequence[int], pairs: Sequence[tuple[str, str]]) -> Sequence[int]:
    """Those of ``places`` where every field is what the selector says."""
    for field, text in pairs:
        column = rows[field]
        wanted = _wanted(rows, field, text)
        places = [place for place in places if column[place] in wanted]
    return places


def _wanted(rows: Rows, field: str, text: str) -> frozenset[Any]:
    """The numbers of a column whose values a selector writes as ``text``: JSON's words, and text as
    it is.
    """
    if rows.is_text(field):
        words: list[str | None] = [text, None] if text == "null" else [text]
        found = {rows.number_of(field, word) for word in words}
        return frozenset(found - {None})
    try:
        value = json.loads(text)
    except ValueError:
        return frozenset()
    is_of_field = isinstance(value, bool) is (field == "success") and value is not None
    return frozenset([value] if is_of_field and json.dumps(value) == text else [])


def _count_true(rows: Rows, threshold: Threshold, values: Sequence[Any]) -> int:
    """In how many rows the field is true, not zero, or text."""
    metric = threshold.metric or ""
    if not rows.is_text(metric):
        return sum(map(bool, values))
    nothing = {rows.number_of(metric, text) for text in (None, "")}
    return sum(value not in nothing for value in values)


def _number(value: object) -> float | None:
    """A number or a truth value as a number; None for everything else."""
    if isinstance(value, bool):
        return int(value)
    return max(-LARGEST, min(LARGEST, value)) if isinstance(value, int | float) else None


def work_figure(threshold: Threshold, summary: JsonObject) -> float | None:
    """What a threshold on counted work bounds: over the scenario rows that it selects, the largest
    unless another aggregate is asked; None where none of them was counted.
    """
    name = (threshold.metric or "").removeprefix("work.")
    found = [
        count
        for one in summary.get("work") or ()
        if all(str(one.get(field)) == value for field, value in threshold.selector)
        and isinstance(count := total_of(one["counts"] or {}, name), int)
    ]
    if not found:
        return None
    return _OF_NUMBERS.get(threshold.aggregate or "", max)(found)
