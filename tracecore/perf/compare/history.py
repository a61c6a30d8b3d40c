"""What archived runs of any number of releases show, in the order in which they were made."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from tracecore.errors import one_line
from tracecore.perf.compare.columns import RowKey
from tracecore.perf.compare.comparison import compare_runs
from tracecore.perf.compare.legs import SHAPE_METRICS
from tracecore.perf.compare.runs import RunRecord, lines_of, read_runs, row_names
from tracecore.perf.compare.samples import gather_samples
from tracecore.perf.compare.work import BOTH
from tracecore.perf.slice.options import JudgeOptions
from tracecore.records import JsonObject

K = TypeVar("K")

METRICS: Final = ("cpu", "wall")
SHA_DIGITS: Final = 12


def history(paths: Sequence[str]) -> JsonObject:
    """The history of archived sets: per machine class its releases, and of each scenario row what
    it took in each of them.

    ``classes`` is a list of ``{machine_class, releases, rows}``. A release is the runs of one
    commit: ``{name, git_sha, version, dirty, from, to, runs, verdict, answer, changes}``, the last
    three against the release before it, ``changes`` by scenario row. A row is ``{row, points}``, a
    point per release: ``{work_lines, cpu_s, wall_s, artifact_bytes}``, times as ``{median, low,
    high}`` of the medians of its runs; null where a release has none.

    Raises:
        InputError: A set cannot be read, or there is none.
    """
    runs = sorted(read_runs(paths), key=_made_at)
    classes = _grouped(runs, lambda run: str(run.manifest.get("machine_class")))
    return {"classes": [_class_history(name, found) for name, found in classes.items()]}


def _grouped(runs: Iterable[RunRecord], key: Callable[[RunRecord], K]) -> dict[K, list[RunRecord]]:
    groups: dict[K, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _made_at(run: RunRecord) -> str:
    return str(run.manifest.get("generated_at") or run.stamp)


def _class_history(machine_class: str, runs: Sequence[RunRecord]) -> JsonObject:
    releases = list(_grouped(runs, _release_of).values())
    names = row_names(run.columns for run in runs)
    head = [_release(group) for group in releases]
    for (before, after), release in zip(itertools.pairwise(releases), head[1:], strict=True):
        release.update(_changes(before, after))
    rows = [
        {"row": name, **row._asdict(), "points": [_point(group, row, name) for group in releases]}
        for row, name in names.items()
    ]
    return {"machine_class": machine_class, "releases": head, "rows": rows}


def _release_of(run: RunRecord) -> tuple[Any, ...]:
    about = run.about()
    identity = run.manifest.get("runtime_identity") or {}
    return about["git_sha"], about["dirty"], identity.get("version")


def _release(group: Sequence[RunRecord]) -> JsonObject:
    git_sha, dirty, version = _release_of(group[0])
    name = str(git_sha)[:SHA_DIGITS] if git_sha else f"version {version or 'unknown'}"
    return {
        "name": one_line(name + (" with changes" if dirty else "")),
        "git_sha": git_sha,
        "version": version,
        "dirty": dirty,
        "from": _made_at(group[0]),
        "to": _made_at(group[-1]),
        "runs": len(group),
        "verdict": None,
        "answer": None,
        "changes": {},
    }


def _changes(before: Sequence[RunRecord], after: Sequence[RunRecord]) -> JsonObject:
    """What the legs find in a release against the one before it."""
    document = compare_runs(before, after, JudgeOptions())
    found = [
        (one["row"], "behaviour")
        for one in document.get("exact", {}).get("changes", ())
        if _has_moved(one)
    ]
    found += [
        (one["row"], "work")
        for one in document.get("work", ())
        if (one["process"], one["quantity"]) == (BOTH, "lines")
    ]
    found += [
        (one["row"], "shape" if one["metric"] in SHAPE_METRICS else "time")
        for one in document.get("decisions", ())
        if _has_moved(one)
    ]
    changes: dict[str, list[str]] = {}
    for row, leg in dict.fromkeys(found):
        changes.setdefault(row, []).append(leg)
    return {"verdict": document["verdict"], "answer": document["answer"], "changes": changes}


def _has_moved(one: JsonObject) -> bool:
    return one["gates"] and one["verdict"] in {"regressed", "improved"}


def _point(group: Sequence[RunRecord], row: RowKey, name: str) -> JsonObject:
    samples = gather_samples(group, [], {row: name}, ())
    times = {
        f"{metric}_s": _spread(
            [math.exp(value) for one in samples if one.metric == metric for value in one.base]
        )
        for metric in METRICS
    }
    sizes = [
        run.columns.number("artifact_bytes", place)
        for run in group
        for place in run.columns.rows.get(row, ())
    ]
    return {
        "work_lines": lines_of(group, row),
        **times,
        "artifact_bytes": sum(sizes) / len(sizes) if sizes else None,
    }


def _spread(values: Sequence[float]) -> JsonObject | None:
    """The median of the runs' medians, and the least and the largest of them."""
    if not values:
        return None
    return {"median": statistics.median_low(values), "low": min(values), "high": max(values)}
