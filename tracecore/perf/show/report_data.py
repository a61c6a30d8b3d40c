"""What a report shows, gathered from the perf files of one slice: its documents, and its series in
columns.
"""

import json
import os
from array import array
from collections.abc import Iterable
from typing import Any, Final

from tracecore.errors import one_line
from tracecore.perf.documents.archive import ArchivedSet
from tracecore.perf.documents.summary import CRASHES, TIMEOUTS
from tracecore.perf.host.samples import samples_name
from tracecore.perf.slice.commands import repro_command
from tracecore.record import field, mutable_record, record
from tracecore.records import JsonObject
from tracecore.stats import nearest_rank
from tracecore.units import NONE_TEXT, bytes_text

FAILURES_SHOWN: Final = 20
MAX_SAMPLES_BYTES: Final = 64 << 20
LABEL_CHARACTERS: Final = 44
# what an agent may then do, and where the manifest says so
ALLOWED: Final = (("read", "read"), ("reach", "network"))
CUT_OFF: Final = TIMEOUTS | CRASHES
RUN_FACTS: Final = (
    "generated_at",
    "machine_class",
    "strict_spec",
    "start_method",
    "timeout",
    "keep_runs",
)


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
    # by the clock or a crash: its time is no latency
    cut_off: "array[int]" = field(default_factory=lambda: array("b"))
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

    def figures(self) -> JsonObject:
        """Its latencies, by nearest rank, as the summary has them for the whole slice; null where
        nothing ended by itself.
        """
        walls_s = sorted(
            wall_s for wall_s, cut_off in zip(self.wall_s, self.cut_off, strict=True) if not cut_off
        )
        if not walls_s:
            return dict.fromkeys(("p50_wall_clock_s", "p95_wall_clock_s", "max_wall_clock_s"))
        p50_s, p95_s = (nearest_rank(walls_s, percent) for percent in (50, 95))
        return {
            "p50_wall_clock_s": p50_s,
            "p95_wall_clock_s": p95_s,
            "max_wall_clock_s": walls_s[-1],
        }


@record
class ReportData:
    """One slice, as a report needs it."""

    archived: ArchivedSet
    groups: tuple[Group, ...]  # in the order in which they first ran
    # the first ones: episode, agent, task_ref, seed, termination_reason, error, repro
    failures: tuple[JsonObject, ...]
    has_times: bool  # whether rows say when they ran
    samples: JsonObject | None

    @property
    def stamp(self) -> str:
        """Of the slice."""
        return self.archived.stamp

    @property
    def allowances(self) -> list[tuple[str, str, str]]:
        """Task, agent and what a scenario row allows that agent beyond the rule, in words; of the
        rows that do.
        """
        found: dict[tuple[str, str, str], None] = {}
        for row in self.archived.manifest.get("scenario") or ():
            if isinstance(row, dict) and isinstance(allow := row.get("allow"), dict):
                words = [f"{verb} {what}" for verb, key in ALLOWED for what in allow.get(key) or ()]
                found[
                    str(row.get("task_ref")), str(row.get("agent")), ", ".join(map(one_line, words))
                ] = None
        return list(found)


def gather(archived: ArchivedSet) -> ReportData:
    """Read the series of a set once, and its samples if they lie beside it.

    Raises:
        InputError: The series is damaged.
    """
    groups: dict[tuple[str, str], Group] = {}
    failures: list[JsonObject] = []
    has_times = True
    for row in archived.series():
        key = (row["task_ref"], row["agent"])
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(*key, number=len(groups) + 1)
        has_times = has_times and "end_offset_s" in row and "start_offset_s" in row
        group.start_s.append(row.get("start_offset_s", 0.0))
        group.end_s.append(row.get("end_offset_s", 0.0))
        group.wall_s.append(row["wall_clock_s"])
        group.failed.append(not row["success"])
        group.cut_off.append(row.get("termination_reason") in CUT_OFF)
        group.artifact_bytes.append(row["artifact_bytes"])
        if not row["success"] and len(failures) < FAILURES_SHOWN:
            failures.append(_failure(row, archived.manifest))
    told = archived.summary.get("failures")
    if isinstance(told, list) and told and all(isinstance(one, dict) for one in told):
        failures = told  # the slice's own account knows the folders of its tasks, too
    return ReportData(
        archived, tuple(groups.values()), tuple(failures), has_times, _read_samples(archived)
    )


def host_facts_shown(manifest: JsonObject) -> list[tuple[str, str]]:
    """Where and how the slice ran, as names and words."""
    facts: JsonObject = {name: manifest[name] for name in RUN_FACTS if name in manifest}
    identity, host = manifest.get("runtime_identity") or {}, manifest.get("host") or {}
    facts |= {f"runtime_{name}": value for name, value in identity.items()}
    facts |= {
        name: value for name, value in host.items() if name not in identity and name not in facts
    }
    return [(_fact_name(name), _fact_text(name, value)) for name, value in facts.items()]


def _fact_name(name: str) -> str:
    words = name.replace("_", " ").removesuffix(" bytes")
    return f"{words}, s" if name == "timeout" else words


def _fact_text(name: str, value: Any) -> str:
    match value:
        case None | []:
            return NONE_TEXT
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_fact_text("", one) for one in value)
        case dict():
            return ", ".join(f"{key} {_fact_text(key, one)}" for key, one in value.items())
        case int() | float() if name.endswith("_bytes"):
            return bytes_text(value)
        case int() | float():
            return f"{value:.10g}"
        case _:
            return str(value)


def _failure(row: JsonObject, manifest: JsonObject) -> JsonObject:
    return {
        "episode": row["episode_index"] + 1,
        "agent": row["agent"],
        "task_ref": row["task_ref"],
        "seed": row["seed"],
        "termination_reason": row.get("termination_reason"),
        "error": one_line(row["error"] or ""),
        "repro": repro_command(row, redaction=str(manifest.get("redaction", "off"))),
    }


def _read_samples(archived: ArchivedSet) -> JsonObject | None:
    """The samples beside the set; None where there are none that can be drawn: a report goes
    without.
    """
    path = os.path.join(archived.folder, samples_name(archived.stamp))
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SAMPLES_BYTES + 1)
        document = json.loads(data) if len(data) <= MAX_SAMPLES_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not _are_samples(document.get("samples")):
        return None
    return document


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
