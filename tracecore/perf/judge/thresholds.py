"""What a slice must keep to: expressions, read from options and files before anything runs.

::

    summary.p95_wall_clock_s < 2.5                                 a number of the summary document
    success{task_ref=rate_limited_api@1}:rate >= 0.99              an aggregate over rows of the
    series
    wall_clock_s{success=true}:p(99) <= 30
    work.lines{task_ref=rate_limited_api@1} <= 7_000               what was counted of scenario rows

A limit is a plain number in the unit of what it bounds. Names are checked against those that exist:
a threshold on a misspelt one would never fire. What the aggregates mean stands in ``aggregates``.
"""

import difflib
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, get_args

from tracecore.errors import MISSING, ThresholdError
from tracecore.record import record, replace
from tracecore.records import JsonObject
from tracecore.strict import parse_toml, read_file

# What a scenario decides. Rows of a task that did not run are missing data; that no row failed is
# an answer.
PLANNED_FIELDS: Final = ("agent", "task_ref", "seed")
# Counted in second runs, per scenario row: lines, calls and page faults of both processes together.
WORK_FIELDS: Final = (
    "work.lines",
    "work.calls",
    "work.page_faults",
    "work.messages",
    "work.bytes_written",
)
MAX_FILE_BYTES: Final = 1 << 20
AGGREGATES: Final = ("avg", "min", "max", "med", "sum", "count", "rate", "p(N)")

Operator = Literal[">", ">=", "<", "<=", "==", "!="]
Severity = Literal["fail", "warn"]
Selector = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_OPERATOR = re.compile("|".join(sorted(get_args(Operator), key=len, reverse=True)))
_NUMBER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*(\.[0-9]+(_[0-9]+)*)?([eE][+-]?[0-9]+)?")
_PERCENTILE = re.compile(r"p\(\s*([0-9]+(\.[0-9]+)?)\s*\)")
_QUOTED = re.compile(r'"[^"]*"')
_UNQUOTED = re.compile(r'[^,{}"]+')
_SPACES = re.compile(r"\s*")


@record
class Threshold:
    """One condition that a slice must meet.

    Either ``path`` is given, or ``metric`` and ``aggregate``.
    """

    text: str  # as it was written
    source: str  # where it was written: an option, or a file and a field
    path: str | None  # dotted, into the summary document
    metric: str | None  # a field of the series
    selector: Selector  # (field, value as text): the rows that are taken; all of them when empty
    aggregate: str | None  # one of AGGREGATES; "p" for a percentile
    percent: float | None  # of a percentile, and 50 for the median
    op: Operator
    limit: float
    severity: Severity = "fail"
    abort: bool = False  # end the slice as soon as it fails
    delay_episodes: int = 0  # but not before so many episodes have finished


def parse_threshold(
    text: str, source: str, *, paths: Collection[str], fields: Collection[str]
) -> Threshold:
    """Read one expression; nothing in it is ever evaluated as code.

    Args:
        text: ``path op number``, or ``metric{field=value,...}:aggregate op number`` with an
            optional selector.
        source: What errors call the place where it stands.
        paths: The dotted paths that the summary document has.
        fields: The fields that a row of the series has.

    Raises:
        ThresholdError: It names the column, what stands there and what was expected.
    """
    cursor = _Cursor(text, source)
    start = cursor.position
    name = cursor.take(_NAME, "a name such as summary.p95_wall_clock_s, or wall_clock_s:p(95)")
    path = metric = aggregate = percent = None
    selector: Selector = ()
    is_work = name in WORK_FIELDS
    if cursor.is_at("{") or cursor.is_at(":") or is_work:
        metric = name if is_work else _check_field(cursor, start, name, fields, paths)
        known = PLANNED_FIELDS if is_work else fields
        selector = _take_selector(cursor, known) if cursor.is_at("{") else ()
        if is_work and not cursor.is_at(":"):
            aggregate = "max"
        else:
            aggregate, percent = _take_aggregate(cursor)
    else:
        path = _check_path(cursor, start, name, paths, fields)
    op: Any = cursor.take(_OPERATOR, f"one of {' '.join(get_args(Operator))}")
    limit = _take_limit(cursor)
    return Threshold(text.strip(), source, path, metric, selector, aggregate, percent, op, limit)


def leaf_paths(document: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """The dotted paths of all numbers and nulls in a document: what ``parse_threshold`` takes as
    ``paths``.
    """
    found: list[str] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            found.extend(leaf_paths(value, f"{prefix}{key}."))
        elif value is None or isinstance(value, int | float):
            found.append(f"{prefix}{key}")
    return tuple(found)


def read_thresholds(
    path: str, *, paths: Collection[str], fields: Collection[str]
) -> tuple[Threshold, ...]:
    """The thresholds of a TOML file, in its order.

    Args:
        path: A file with ``thresholds = ["expression", ...]``, or ``[[threshold]]`` tables of
            ``expr`` and optionally ``severity`` ("fail" or "warn"), ``abort`` and
            ``delay_episodes``, or both.
        paths: The dotted paths that the summary document has.
        fields: The fields that a row of the series has.

    Raises:
        ThresholdError: It names the file and the field, what stands there and what was expected. A
            file without any threshold is refused: it would guard nothing and look as if it did.
    """
    data = read_file(path, MAX_FILE_BYTES, "a readable TOML file", error=ThresholdError)
    document = parse_toml(path, data, error=ThresholdError)
    _check_keys(path, "", document, ("threshold", "thresholds"))
    thresholds = []
    for place, text in enumerate(_list_of(path, document, "thresholds")):
        field = f"thresholds[{place}]"
        thresholds.append(_parse_entry(path, field, text, paths, fields))
    for place, table in enumerate(_list_of(path, document, "threshold")):
        thresholds.append(_read_table(path, f"threshold[{place}]", table, paths, fields))
    if not thresholds:
        raise ThresholdError(path, "", MISSING, "at least one threshold")
    return tuple(thresholds)


# --- one expression --------------------------------------------------------------------------


class _Cursor:
    """A place in an expression; it stands behind spaces, in front of what is read next."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source, self.position = text, source, 0
        self._skip_spaces(0)

    def is_at(self, sign: str) -> bool:
        return self.text.startswith(sign, self.position)

    def take_match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.position)
        if match:
            self._skip_spaces(match.end())
        return match

    def take(self, pattern: re.Pattern[str], expected: str) -> str:
        match = self.take_match(pattern)
        if match is None:
            raise self.error(self.position, expected)
        return match[0]

    def take_sign(self, sign: str, expected: str) -> None:
        self.take(re.compile(re.escape(sign)), expected)

    def error(self, position: int, expected: str, found: str | None = None) -> ThresholdError:
        rest = (self.text[position:].rstrip() or MISSING) if found is None else found
        return ThresholdError(self.source, f"column {position + 1}", rest, expected)

    def _skip_spaces(self, start: int) -> None:
        match = _SPACES.match(self.text, start)
        self.position = match.end() if match else start


def _check_path(
    cursor: _Cursor, start: int, name: str, paths: Collection[str], fields: Collection[str]
) -> str:
    if name in paths:
        return name
    if name in fields:
        expected = f"an aggregate over the series, such as {name}:max, or a path of the summary"
    else:
        expected = f"a path of the summary{nearest(name, paths)}"
    raise cursor.error(start, expected, name)


def _check_field(
    cursor: _Cursor, start: int, name: str, fields: Collection[str], paths: Collection[str]
) -> str:
    if name in fields:
        return name
    if name in paths:
        expected = "a field of the series; a path of the summary takes no selector and no aggregate"
    else:
        expected = f"a field of the series{nearest(name, fields)}"
    raise cursor.error(start, expected, name)


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that was probably meant, as the end of a message; empty where none is near."""
    close = [path for path in known if path.endswith(f".{name}")] or difflib.get_close_matches(
        name, known, n=1
    )
    return f" (did you mean {close[0]}?)" if close else ""


def _take_selector(cursor: _Cursor, fields: Collection[str]) -> Selector:
    cursor.take_sign("{", "{")
    chosen: dict[str, str] = {}
    while True:
        start = cursor.position
        field = cursor.take(_NAME, "field=value")
        _check_field(cursor, start, field, fields, ())
        if field in chosen:
            raise cursor.error(start, "each field once", field)
        cursor.take_sign("=", "= and a value")
        chosen[field] = _take_value(cursor)
        if cursor.is_at("}"):
            cursor.take_sign("}", "}")
            return tuple(chosen.items())
        cursor.take_sign(",", "a comma and field=value, or }")


def _take_value(cursor: _Cursor) -> str:
    if cursor.is_at('"'):
        return cursor.take(_QUOTED, 'a value with a closing "')[1:-1]
    return cursor.take(_UNQUOTED, "a value").strip()


def _take_aggregate(cursor: _Cursor) -> tuple[str, float | None]:
    cursor.take_sign(":", f": and an aggregate: {', '.join(AGGREGATES)}")
    start = cursor.position
    percentile = cursor.take_match(_PERCENTILE)
    if percentile:
        percent = float(percentile[1])
        if percent > 100:
            raise cursor.error(start, "a percentile from p(0) to p(100)", percentile[0])
        return "p", percent
    name = cursor.take_match(_NAME)
    if name is None or name[0] not in AGGREGATES:
        raise cursor.error(start, f"one of {', '.join(AGGREGATES)}", name[0] if name else None)
    return name[0], 50.0 if name[0] == "med" else None


def _take_limit(cursor: _Cursor) -> float:
    start = cursor.position
    limit = float(cursor.take(_NUMBER, "a number such as 0.95 or 2_000_000"))
    if cursor.position < len(cursor.text):
        raise cursor.error(
            cursor.position, "nothing: a limit is a plain number, in the unit of what it bounds"
        )
    if not math.isfinite(limit):
        raise cursor.error(start, "a number that a double can hold")
    return limit


# --- a file ----------------------------------------------------------------------------------


def _list_of(path: str, document: JsonObject, key: str) -> list[Any]:
    entries = document.get(key, [])
    if not isinstance(entries, list):
        form = "[[threshold]] tables" if key == "threshold" else "a list of expressions"
        raise ThresholdError(path, key, entries, form)
    return entries


def _read_table(
    path: str, field: str, table: Any, paths: Collection[str], fields: Collection[str]
) -> Threshold:
    if not isinstance(table, dict):
        raise ThresholdError(path, field, table, "a table with expr")
    _check_keys(path, field, table, ("expr", "severity", "abort", "delay_episodes"))
    threshold = _parse_entry(path, f"{field}.expr", table.get("expr", MISSING), paths, fields)
    severity = table.get("severity", "fail")
    abort = table.get("abort", False)
    delay_episodes = table.get("delay_episodes", 0)
    # True is an int to isinstance
    is_count = type(delay_episodes) is int and delay_episodes >= 0
    rules = (
        ("severity", severity in get_args(Severity), " or ".join(get_args(Severity))),
        ("abort", type(abort) is bool, "true or false"),
        ("delay_episodes", is_count, "a number of episodes, 0 or more"),
        (
            "abort",
            not (abort and severity == "warn"),
            'severity = "fail" with it: a warning ends nothing',
        ),
        ("delay_episodes", abort or not delay_episodes, "abort = true with it: it delays that"),
    )
    for name, is_kept, expected in rules:
        if not is_kept:
            raise ThresholdError(path, f"{field}.{name}", table[name], expected)
    return replace(threshold, severity=severity, abort=abort, delay_episodes=delay_episodes)


def _parse_entry(
    path: str, field: str, text: Any, paths: Collection[str], fields: Collection[str]
) -> Threshold:
    if not isinstance(text, str):
        raise ThresholdError(
            path, field, text, 'an expression as text, such as "failure_count == 0"'
        )
    return parse_threshold(text, f"{path}: {field}", paths=paths, fields=fields)


def _check_keys(path: str, field: str, table: JsonObject, known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise ThresholdError(path, field, key, f"only {', '.join(known)}{nearest(key, known)}")
