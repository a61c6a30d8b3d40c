"""What a report shows, gathered from the perf files of one slice: its documents, and its series in
columns.
"""

import itertools
import json
import os
from array import array
from collections.abc import Iterable
from typing import Any, Final

from tracecore.errors import InputError
from tracecore.perf.documents.archive import ArchivedSet
from tracecore.perf.documents.rows import series_row
from tracecore.perf.host.samples import samples_name
from tracecore.record import field, mutable_record, record
from tracecore.records import JsonObject
from tracecore.strict import read_file

MAX_SAMPLES_BYTES: Final = 64 << 20
LABEL_CHARACTERS: Final = 44


@mutable_record
class Group:
    """The episodes of one agent on one task, which is what a scenario row comes to; by episode
    index.
    """

    task_ref: str
    agent: str
    number: int  # 1-based, as in the table and in every legend
    start_s: "array[float]" = field(default_factory=lambda: array("d"))
    end_s: "array[float]" = field(default_factory=lambda: array("d"))
    wall_s: "array[float]" = field(default_factory=lambda: array("d"))
    failed: "array[int]" = field(default_factory=lambda: array("b"))
    artifact_bytes: "array[int]" = field(default_factory=lambda: array("q"))

    @property
    def label(self) -> str:
        """Its number and task, fit for a legend."""
        text = "".join(c if c.isascii() and c.isprintable() else "?" for c in self.task_ref)
        return (
            f"{self.number} "
            f" {text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 3] + '...'}"
        )

    def good_walls_s(self) -> list[float]:
        """Of the episodes that succeeded, ascending: a timeout is no latency."""
        return sorted(
            wall_s for wall_s, failed in zip(self.wall_s, self.failed, strict=True) if not failed
        )


@record
class ReportData:
    """One slice, as a report needs it."""

    archived: ArchivedSet
    groups: tuple[Group, ...]  # in the order in which they first ran
    samples: JsonObject | None
    resumed_s: tuple[float, ...] = ()  # when each part but the first began, on the axis of all

    @property
    def stamp(self) -> str:
        """Of the slice."""
        return self.archived.stamp


def gather(archived: ArchivedSet) -> ReportData:
    """Read the series of a set once, and its samples if they lie beside it.

    Raises:
        InputError: The series is damaged.
    """
    groups: dict[tuple[str, str], Group] = {}
    starts_s = _part_starts(archived.summary.get("parts"))
    for row in map(series_row, archived.series()):
        key = (row["task_ref"], row["agent"])
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(*key, number=len(groups) + 1)
        part = row.get("part", 0)
        began_s = starts_s[part] if part < len(starts_s) else 0.0
        group.start_s.append(began_s + row["start_offset_s"])
        group.end_s.append(began_s + row["end_offset_s"])
        group.wall_s.append(row["wall_clock_s"])
        group.failed.append(not row["success"])
        group.artifact_bytes.append(row["artifact_bytes"])
    return ReportData(
        archived,
        tuple(groups.values()),
        _read_samples(archived, starts_s[-1]),
        tuple(starts_s[1:]),
    )


def _part_starts(parts: Any) -> list[float]:
    """When each part of a slice began, on one axis of the time in which the slice ran: the pauses
    between them are left out.
    """
    elapsed_s: list[Any] = [one.get("elapsed_s") for one in _dicts(parts)]
    known_s = [float(one) for one in elapsed_s[:-1] if _is_number(one)]
    return list(itertools.accumulate(known_s, initial=0.0))


def _dicts(value: Any) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _read_samples(archived: ArchivedSet, began_s: float) -> JsonObject | None:
    """The samples beside the set, which are of the part that began at ``began_s``; None where there
    are none that can be drawn: a report goes without.
    """
    path = os.path.join(archived.folder, samples_name(archived.stamp))
    try:
        document = json.loads(read_file(path, MAX_SAMPLES_BYTES, "samples of a slice"))
    except (InputError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not _are_samples(document.get("samples")):
        return None
    samples = [{**one, "offset_s": began_s + one["offset_s"]} for one in document["samples"]]
    return {**document, "samples": samples}


def _are_samples(samples: Any) -> bool:
    return (
        isinstance(samples, list)
        and len(samples) > 0
        and all(_is_sample(sample) for sample in samples)
    )


def _is_sample(sample: Any) -> bool:
    if not isinstance(sample, dict) or not _is_number(sample.get("offset_s")):
        return False
    names = (
        "cpu_percent",
        "steal_percent",
        "tree_rss_bytes",
        "memory_available_bytes",
        "processes",
        "rate_eps",
    )
    cores = sample.get("cpu_percent_per_core") or []
    return (
        _all_numbers_or_null(map(sample.get, names))
        and isinstance(cores, list)
        and _all_numbers_or_null(cores)
    )


def _all_numbers_or_null(values: Iterable[Any]) -> bool:
    return all(value is None or _is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
