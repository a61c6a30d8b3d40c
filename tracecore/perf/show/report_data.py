"""What a report shows, gathered from the perf files of one slice: its documents, and its series in
columns.
"""

import itertools
import json
import os
from collections.abc import Sequence
from typing import Final

from tracecore.errors import InputError
from tracecore.perf.documents.archive import ArchivedSet
from tracecore.perf.documents.rows import Rows
from tracecore.perf.host.samples import samples_name
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.strict import NUMBER, OBJECT, check_fields, list_of, or_null, read_file

MAX_SAMPLES_BYTES: Final = 64 << 20
LABEL_CHARACTERS: Final = 44
# The fields of a sample that are drawn: those that each has, and those that it may have.
SAMPLE: Final = (
    {"offset_s": NUMBER},
    {
        **dict.fromkeys(("cpu_percent", "steal_percent", "tree_rss_bytes"), or_null(NUMBER)),
        "cpu_percent_per_core": or_null(list_of(or_null(NUMBER))),
    },
)


@record
class Group:
    """The episodes of one agent on one task, which is what a scenario row comes to; by episode
    index.
    """

    task_ref: str
    agent: str
    number: int  # 1-based, as in the table and in every legend
    start_s: Sequence[float]
    end_s: Sequence[float]
    wall_s: Sequence[float]
    failed: Sequence[bool]
    artifact_bytes: Sequence[int]
    good_walls_s: Sequence[float]  # of those that succeeded, ascending: a timeout is no latency

    @property
    def label(self) -> str:
        """Its number and task, fit for a legend."""
        text = "".join(c if c.isascii() and c.isprintable() else "?" for c in self.task_ref)
        cut = text if len(text) <= LABEL_CHARACTERS else f"{text[: LABEL_CHARACTERS - 3]}..."
        return f"{self.number}  {cut}"


@record
class ReportData:
    """One slice, as a report needs it."""

    archived: ArchivedSet
    groups: tuple[Group, ...]  # in the order in which they first ran
    samples: JsonObject | None
    resumed_s: Sequence[float] = ()  # when each part but the first began, on the axis of all


def gather(archived: ArchivedSet) -> ReportData:
    """Read the series of a set once, and its samples if they lie beside it.

    Raises:
        InputError: The series is damaged.
    """
    rows = Rows(archived.series())
    # On one axis of the time in which the slice ran: the pauses between parts are left out.
    parts_s = [part["elapsed_s"] for part in archived.manifest.get("parts", ())]
    starts_s = list(itertools.accumulate(parts_s[:-1], initial=0.0))
    groups = tuple(_group(rows, number, starts_s) for number in range(len(rows.groups)))
    return ReportData(archived, groups, _read_samples(archived, starts_s[-1]), starts_s[1:])


def _group(rows: Rows, number: int, starts_s: Sequence[float]) -> Group:
    agent, task_ref = rows.groups[number]
    places = rows.places(number)
    began_s = [
        starts_s[part] if part < len(starts_s) else 0.0 for part in rows.pick("part", places)
    ]
    start_s, end_s = (
        [began + at for began, at in zip(began_s, rows.pick(name, places), strict=True)]
        for name in ("start_offset_s", "end_offset_s")
    )
    walls_s, successes = rows.pick("wall_clock_s", places), rows.pick("success", places)
    return Group(
        task_ref=task_ref,
        agent=agent,
        number=number + 1,
        start_s=start_s,
        end_s=end_s,
        wall_s=walls_s,
        failed=[not success for success in successes],
        artifact_bytes=rows.pick("artifact_bytes", places),
        good_walls_s=sorted(itertools.compress(walls_s, successes)),
    )


def _read_samples(archived: ArchivedSet, began_s: float) -> JsonObject | None:
    """The samples beside the set, which are of the part that began at ``began_s``; None where there
    are none that can be drawn: a report goes without.
    """
    path = os.path.join(archived.folder, samples_name(archived.stamp))
    try:
        document = json.loads(read_file(path, MAX_SAMPLES_BYTES, "samples of a slice"))
        samples = check_fields(path, "", document, {"samples": list_of(OBJECT)})["samples"]
        for place, one in enumerate(samples):
            check_fields(path, f"samples[{place}]", one, *SAMPLE)
    except (InputError, ValueError, RecursionError):
        return None
    shifted = [{**one, "offset_s": began_s + one["offset_s"]} for one in samples]
    return {**document, "samples": shifted} if shifted else None
