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
import functools
import math
import re
from collections.abc import Callable, Collection, Mapping
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

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]*"
_OPERATOR: Final = "|".join(sorted(get_args(Operator), key=len, reverse=True))
_NUMBER: Final = r"[+-]?[0-9]+(_[0-9]+)*(\.[0-9]+(_[0-9]+)*)?([eE][+-]?[0-9]+)?"
_PERCENTILE: Final = r"p\(\s*([0-9]+(\.[0-9]+)?)\s*\)"


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
    if is_work or cursor.is_at("{", ":"):
        metric = name
        if not is_work and name not in fields:
            confused = "; a path of the summary takes no selector and no aggregate"
            hint = confused if name in paths else nearest(name, fields)
            raise cursor.error(start, f"a field of the series{hint}", name)
        if cursor.is_at("{"):
            selector = _take_selector(cursor, PLANNED_FIELDS if is_work else fields)
        aggregate = "max"
        if not is_work or cursor.is_at(":"):
            aggregate, percent = _take_aggregate(cursor)
    else:
        path = name
        if name not in paths:
            expected = f"a path of the summary{nearest(name, paths)}"
            if name in fields:
                series = f"an aggregate over the series, such as {name}:max"
                expected = f"{series}, or a path of the summary"
            raise cursor.error(start, expected, name)
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
    parse = functools.partial(parse_threshold, paths=paths, fields=fields)
    thresholds = [
        _parse_entry(path, f"thresholds[{place}]", text, parse)
        for place, text in enumerate(_list_of(path, document, "thresholds"))
    ]
    thresholds += [
        _read_table(path, f"threshold[{place}]", table, parse)
        for place, table in enumerate(_list_of(path, document, "threshold"))
    ]
    if not thresholds:
        raise ThresholdError(path, "", MISSING, "at least one threshold")
    return tuple(thresholds)


# --- one expression --------------------------------------------------------------------------


class _Cursor:
    """A place in an expression; it stands behind spaces, in front of what is read next."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source, self.position = text, source, 0
        self._skip_spaces(0)

    def is_at(self, *signs: str) -> bool:
        return self.text.startswith(signs, self.position)

    def take_match(self, pattern: str) -> re.Match[str] | None:
        match = re.compile(pattern).match(self.text, self.position)
        if match:
            self._skip_spaces(match.end())
        return match

    def take(self, pattern: str, expected: str) -> str:
        match = self.take_match(pattern)
        if match is None:
            raise self.error(self.position, expected)
        return match[0]

    def error(self, position: int, expected: str, found: str | None = None) -> ThresholdError:
        rest = (self.text[position:].rstrip() or MISSING) if found is None else found
        return ThresholdError(self.source, f"column {position + 1}", rest, expected)

    def _skip_spaces(self, start: int) -> None:
        self.position = len(self.text) - len(self.text[start:].lstrip())


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that was probably meant, as the end of a message; empty where none is near."""
    close = [path for path in known if path.endswith(f".{name}")] or difflib.get_close_matches(
        name, known, n=1
    )
    return f" (did you mean {close[0]}?)" if close else ""


def _take_selector(cursor: _Cursor, fields: Collection[str]) -> Selector:
    cursor.take(r"\{", "{")
    chosen: dict[str, str] = {}
    while not chosen or cursor.take_match(","):
        start = cursor.position
        field = cursor.take(_NAME, "field=value")
        if field not in fields:
            raise cursor.error(start, f"a field of the series{nearest(field, fields)}", field)
        if field in chosen:
            raise cursor.error(start, "each field once", field)
        cursor.take("=", "= and a value")
        if cursor.is_at('"'):
            chosen[field] = cursor.take('"[^"]*"', 'a value with a closing "')[1:-1]
        else:
            chosen[field] = cursor.take(r'[^,{}"]+', "a value").strip()
    cursor.take(r"\}", "a comma and field=value, or }")
    return tuple(chosen.items())


def _take_aggregate(cursor: _Cursor) -> tuple[str, float | None]:
    cursor.take(":", f": and an aggregate: {', '.join(AGGREGATES)}")
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
    path: str, field: str, table: Any, parse: Callable[[str, str], Threshold]
) -> Threshold:
    if not isinstance(table, dict):
        raise ThresholdError(path, field, table, "a table with expr")
    _check_keys(path, field, table, ("expr", "severity", "abort", "delay_episodes"))
    threshold = _parse_entry(path, f"{field}.expr", table.get("expr", MISSING), parse)
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
    path: str, field: str, text: Any, parse: Callable[[str, str], Threshold]
) -> Threshold:
    if not isinstance(text, str):
        raise ThresholdError(
            path, field, text, 'an expression as text, such as "failure_count == 0"'
        )
    return parse(text, f"{path}: {field}")


def _check_keys(path: str, field: str, table: JsonObject, known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise ThresholdError(path, field, key, f"only {', '.join(known)}{nearest(key, known)}")
