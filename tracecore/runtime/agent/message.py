"""JSON from a process that is not trusted."""

import json
import math
import re
from typing import Any, Final

from tracecore import canon
from tracecore.records import JsonObject, Limits
from tracecore.runtime.foreign.stable_text import without_strings

INTEGER_MOST: Final = 1 << 63  # an integer beyond is not the same in every reader of the artifact
# A message of many small values costs its reader a hundred times what it cost to send.
VALUES_MOST: Final = 10_000
_LONG_NUMBER: Final = re.compile(rb"\d{19}").search


class NotJson(ValueError):
    """A message is no JSON, or JSON that this project does not take; the message is why."""

    reason = "action_not_json"


class TooManyValues(NotJson):
    """A message is not taken for what reading it would cost."""

    reason = "action_too_large"


def parse_message(data: bytes, limits: Limits) -> Any:
    """JSON from a process that is not trusted.

    Raises:
        NotJson: Not strict UTF-8 JSON; NaN, Infinity or a number beyond double or 64 bits; a key
            twice; too deep.
        TooManyValues: More than :data:`VALUES_MOST` values.
    """
    if len(data) > VALUES_MOST:  # each takes a byte at least
        _check_values(data)
    try:
        # What is canonical has no key twice and no number out of range, but for long integers.
        value = canon.decode(data)
        is_safe = canon.encode(value) == data and not _LONG_NUMBER(data)
    except (ValueError, RecursionError):
        is_safe = False  # the strict reader has its own words for it
    if not is_safe:
        value = _read_strictly(data)
    # Only as many brackets as it has can be open at once: most messages need no second look.
    if data.count(b"{") + data.count(b"[") > limits.message_depth:
        _check_depth(value, limits.message_depth)
    return value


def _check_values(data: bytes) -> None:
    """Before anything is read: each value but the first follows a comma or a bracket. Counting
    bytes costs next to nothing.
    """
    if _count(data) > VALUES_MOST and _count(without_strings(data)) > VALUES_MOST:
        raise TooManyValues(f"it holds more than {VALUES_MOST} values")
    # Half a character is no value, but is as slow to write.
    if data.count(b"\\ud") + data.count(b"\\uD") > VALUES_MOST:
        raise TooManyValues(f"it holds more than {VALUES_MOST} escaped surrogates")


def _read_strictly(data: bytes) -> Any:
    try:
        return _decode(data.decode("utf-8"))
    except NotJson:
        raise
    except RecursionError as error:
        raise NotJson("it is nested too deeply") from error
    except ValueError as error:
        raise NotJson(str(error)[:200]) from error


def _count(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _pairs(pairs: list[tuple[str, Any]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotJson("a key stands twice in one object")
    return value


def _refuse_constant(text: str) -> Any:
    raise NotJson(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotJson(f"the number {text[:40]} is out of range")
    return value


def _bounded(text: str) -> int:
    if len(text) > 20 or not -INTEGER_MOST <= (value := int(text)) < INTEGER_MOST:
        raise NotJson(f"the integer {text[:40]} is out of range")
    return value


_decode = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_constant=_refuse_constant,
    parse_float=_finite,
    parse_int=_bounded,
).decode


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if left == 0:
        raise NotJson("it is nested too deeply")
    for child in value.values() if isinstance(value, dict) else value:
        _check_depth(child, left - 1)
