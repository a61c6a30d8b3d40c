"""Whether thresholds hold: aggregates over the series in one pass, and one status per threshold.

The aggregates of a field over the selected rows:

- ``avg``, ``min``, ``max``, ``sum``: of its numbers; nulls are left out, true is 1 and false is 0;
- ``p(N)``, and ``med`` for ``p(50)``: nearest-rank, always one of the values;
- ``count``: the rows in which it is true, not zero, or text;
- ``rate``: ``count`` as a share of the selected rows.

No data fails, and never passes: an empty slice, a task that did not run, a value that is null.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from tracecore.perf.documents.summary import Readings
from tracecore.perf.judge.thresholds import (
    PLANNED_FIELDS,
    WORK_FIELDS,
    Operator,
    Selector,
    Severity,
    Threshold,
)
from tracecore.perf.judge.work_figures import work_figure
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


class SeriesAggregates:
    """Reduces rows of the series to what the thresholds ask of them; 8 bytes per row where a
    percentile is asked.
    """

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self._groups: dict[tuple[str, Selector], _Group] = {}
        for threshold in thresholds:
            if threshold.metric is None or threshold.metric in WORK_FIELDS:
                continue
            group = self._groups.setdefault(
                (threshold.metric, threshold.selector), _Group(threshold)
            )
            if threshold.percent is not None and group.readings is None:
                group.readings = Readings()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row, as the series tells it."""
        for group in self._groups.values():
            group.add(row)

    def value(self, threshold: Threshold) -> float | None:
        """What a threshold over the series asks for, so far; None where there is no data for it.

        Raises:
            KeyError: The aggregates were not made for this threshold.
        """
        return self._groups[threshold.metric or "", threshold.selector].value(threshold)


def evaluate(
    threshold: Threshold, summary_document: JsonObject, aggregates: SeriesAggregates
) -> ThresholdStatus:
    """Hold what was observed against one threshold.

    Args:
        threshold: The condition.
        summary_document: Of the slice; its ``episodes`` is how many have finished.
        aggregates: Over the rows of the same slice, made for this threshold among others.
    """
    observed = _observe(threshold, summary_document, aggregates)
    if observed is None:
        return ThresholdStatus(
            threshold.text, None, threshold.limit, None, "no_data", threshold.severity
        )
    margin = _margin(observed, threshold.op, threshold.limit)
    status: Status = "passed" if _holds(margin, threshold.op) else "failed"
    return ThresholdStatus(
        threshold.text, observed, threshold.limit, margin, status, threshold.severity
    )


def _observe(
    threshold: Threshold, summary_document: JsonObject, aggregates: SeriesAggregates
) -> float | None:
    if not summary_document.get("episodes"):  # "no failures" of no episodes is no news
        return None
    if threshold.path is not None:
        return _look_up(summary_document, threshold.path)
    if threshold.metric in WORK_FIELDS:
        return work_figure(threshold, summary_document)
    return aggregates.value(threshold)


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


def _holds(margin: float, op: Operator) -> bool:
    return margin > 0 if op in {">", "<", "!="} else margin >= 0


class _Group:
    """One field over the rows of one selector."""

    def __init__(self, threshold: Threshold) -> None:
        self.readings: Readings | None = None
        self._metric = threshold.metric or ""
        self._planned = [pair for pair in threshold.selector if pair[0] in PLANNED_FIELDS]
        self._outcomes = [pair for pair in threshold.selector if pair[0] not in PLANNED_FIELDS]
        self._planned_rows = self._rows = self._true_rows = self._numbers = 0
        self._sum: float = 0
        self._smallest: float | None = None
        self._largest: float | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        if not _matches(row, self._planned):
            return
        self._planned_rows += 1
        if not _matches(row, self._outcomes):
            return
        self._rows += 1
        value = row.get(self._metric)
        self._true_rows += bool(value)
        number = _number(value)
        if number is not None:
            self._add_number(number)

    def _add_number(self, number: float) -> None:
        self._numbers += 1
        self._sum += number
        if self._smallest is None or number < self._smallest:
            self._smallest = number
        if self._largest is None or number > self._largest:
            self._largest = number
        if self.readings is not None:
            self.readings.append(number)

    def value(self, threshold: Threshold) -> float | None:
        if threshold.percent is not None:
            return nearest_rank(self.readings, threshold.percent) if self.readings else None
        match threshold.aggregate:
            case "count":
                return self._true_rows if self._planned_rows else None
            case "rate":
                return self._true_rows / self._rows if self._rows else None
            case "sum":
                return self._sum if self._numbers else None
            case "avg":
                return self._sum / self._numbers if self._numbers else None
            case "min":
                return self._smallest
            case "max":
                return self._largest
        raise ValueError(f"{threshold.aggregate} is no aggregate")


def _matches(row: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> bool:
    return all(_text(row.get(field)) == value for field, value in pairs)


def _text(value: object) -> str:
    """A value as a selector writes it: JSON's words, and text as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _number(value: object) -> float | None:
    """A number or a truth value as a number; None for everything else."""
    if isinstance(value, bool):
        return int(value)
    return max(-LARGEST, min(LARGEST, value)) if isinstance(value, int | float) else None
