"""The series of a slice: every episode, in order, streamed row by row. No clock, no disk."""

import json
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from tracecore.perf.slice.journal import FIELDS, row_values
from tracecore.records import EpisodeResult, JsonObject

OMITTED: Final = frozenset({"allow", "host", "work"})  # from the series, where they are null

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode


class Reducer(Protocol):
    """Something that takes rows one by one."""

    def add(self, row: EpisodeResult) -> None: ...


def feed(rows: Iterable[EpisodeResult], *reducers: Reducer) -> Iterator[EpisodeResult]:
    """Pass the rows on, giving each to every reducer on the way: one pass over the journal serves
    all documents.
    """
    for row in rows:
        for reducer in reducers:
            reducer.add(row)
        yield row


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
