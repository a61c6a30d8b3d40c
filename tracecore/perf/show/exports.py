"""A slice in the formats that chart and alert services read: github-action-benchmark, and Bencher's
Metric Format.

The files have names without a stamp, since a workflow must know them beforehand: each slice
replaces those of the one before. Names inside hold no counts and no stamps either, since services
match them exactly from run to run.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import add
from typing import Any, Final

from tracecore.files import write_atomic
from tracecore.perf.documents.files import json_document
from tracecore.perf.documents.rows import Rows
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.stats import MAD_TO_SIGMA, nearest_rank

FORMATS: Final = ("github-benchmark", "bmf")
GITHUB_FILE: Final = "perf-github-benchmark.json"  # smaller is better
# bigger is better: the service takes one direction per file
GITHUB_BIGGER_FILE: Final = "perf-github-benchmark-bigger.json"
BMF_FILE: Final = "perf-bencher.json"
ALL: Final = "all"


@record
class Group:
    """The episodes of one agent on one task.

    Times are of those that neither timed out nor crashed, ascending.
    """

    episodes: int
    failures: int
    peak_rss_bytes: int
    walls_s: list[float]
    cpus_s: list[float]


Figures = dict[str, Group]


def scenario_figures(rows: Rows) -> Figures:
    """The figures of the scenarios by name: the task, with the agent behind it where several agents
    run that task.
    """
    agents = Counter(task_ref for _, task_ref in rows.groups)
    return {
        task_ref if agents[task_ref] == 1 else f"{task_ref} / {agent}": _group(
            rows, rows.places(number)
        )
        for number, (agent, task_ref) in enumerate(rows.groups)
    }


def _group(rows: Rows, places: Sequence[int]) -> Group:
    timed = rows.timed(places)
    spent_s = map(add, rows.pick("cpu_user_s", timed), rows.pick("cpu_sys_s", timed))
    return Group(
        episodes=len(places),
        failures=len(places) - sum(rows.pick("success", places)),
        peak_rss_bytes=max(rows.pick("peak_rss_bytes", places), default=0),
        walls_s=sorted(rows.pick("wall_clock_s", timed)),
        cpus_s=sorted(spent_s),
    )


def write_formats(
    folder: str, formats: tuple[str, ...], figures: Figures, summary: JsonObject
) -> dict[str, str]:
    """Write the files of ``formats``; gives their paths, by what they are.

    Raises:
        OutputError: One of them could not be written.
    """
    paths = {}
    for kind, (format_, name, document_of) in FILES.items():
        if format_ in formats:
            paths[kind] = os.path.join(folder, name)
            document = json_document(document_of(figures, summary))
            write_atomic(paths[kind], document, fsync=True)
    return paths


# --- github-action-benchmark


def github_benchmark(figures: Figures, summary: JsonObject) -> list[JsonObject]:
    """The entries for its tool ``customSmallerIsBetter``.

    What has no value has no entry: null would be read as 0.
    """
    entries = []
    for name, group in figures.items():
        if group.walls_s:
            entries += [
                _time_entry(f"{name} / wall median", group.walls_s, _extra(group)),
                _time_entry(f"{name} / cpu median", group.cpus_s, f"n={group.episodes}"),
            ]
        entries += _amount_entries(
            (f"{name} / peak rss", "bytes", group.peak_rss_bytes or None),
            (f"{name} / failures", "episodes", group.failures),
        )
    if summary["episodes"]:
        entries += _amount_entries((f"{ALL} / failures", "episodes", summary["failure_count"]))
    return entries


def github_benchmark_bigger(_figures: Figures, summary: JsonObject) -> list[JsonObject]:
    """The entries for its tool ``customBiggerIsBetter``."""
    totals = summary["summary"]
    return _amount_entries(
        (f"{ALL} / throughput", "episodes/s", totals["throughput_eps"]),
        (f"{ALL} / success rate", "share", totals["success_rate"]),
    )


def _amount_entries(*amounts: tuple[str, str, float | None]) -> list[JsonObject]:
    return [
        {"name": name, "unit": unit, "value": value}
        for name, unit, value in amounts
        if value is not None
    ]


def _time_entry(name: str, seconds: Sequence[float], extra: str) -> JsonObject:
    middle_s = nearest_rank(seconds, 50)
    distances = sorted(abs(value - middle_s) for value in seconds)
    spread_ms = MAD_TO_SIGMA * nearest_rank(distances, 50) * 1000
    return {
        "name": name,
        "unit": "ms",
        "value": middle_s * 1000,
        "range": f"± {spread_ms:.6g}",
        "extra": extra,
    }


def _extra(group: Group) -> str:
    return "\n".join(
        [
            f"n={group.episodes}",
            f"p95={nearest_rank(group.walls_s, 95) * 1000:.6g} ms",
            f"cpu={nearest_rank(group.cpus_s, 50) * 1000:.6g} ms",
            "range: 1.4826 MAD of the episodes within this run",
        ]
    )


# --- Bencher


def bencher_metrics(
    figures: Figures, summary: JsonObject
) -> dict[str, dict[str, dict[str, float]]]:
    """``{benchmark: {measure: {value, lower_value, upper_value}}}``; bounds are p5 and p95 of the
    episodes.

    ``latency`` and ``cpu-time`` are nanoseconds, ``peak-rss`` bytes, ``failures`` episodes,
    ``throughput`` episodes per second.
    """
    benchmarks = {}
    for name, group in figures.items():
        times = {"latency": group.walls_s, "cpu-time": group.cpus_s} if group.walls_s else {}
        amounts = {"peak-rss": group.peak_rss_bytes or None, "failures": group.failures}
        benchmarks[name] = {kind: _nanoseconds(seconds) for kind, seconds in times.items()}
        benchmarks[name] |= _values(amounts)
    if summary["episodes"]:
        throughput_eps = summary["summary"]["throughput_eps"]
        benchmarks[ALL] = _values(
            {"failures": summary["failure_count"], "throughput": throughput_eps}
        )
    return benchmarks


def _values(amounts: Mapping[str, float | None]) -> dict[str, dict[str, float]]:
    return {kind: {"value": amount} for kind, amount in amounts.items() if amount is not None}


def _nanoseconds(seconds: Sequence[float]) -> dict[str, float]:
    names = {"value": 50, "lower_value": 5, "upper_value": 95}
    return {name: nearest_rank(seconds, percent) * 1e9 for name, percent in names.items()}


# By what it is: its format, its name, and what makes it.
FILES: Final[dict[str, tuple[str, str, Callable[[Figures, JsonObject], Any]]]] = {
    "github_benchmark": ("github-benchmark", GITHUB_FILE, github_benchmark),
    "github_benchmark_bigger": ("github-benchmark", GITHUB_BIGGER_FILE, github_benchmark_bigger),
    "bmf": ("bmf", BMF_FILE, bencher_metrics),
}
