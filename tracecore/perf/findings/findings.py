"""The questions that a reviewer asks of a slice, answered: what stands out, how sure that is, and
how to see it again. A function over its rows. No clock, no disk.
"""

from collections.abc import Callable
from typing import Final

from tracecore.perf.documents.rows import Rows
from tracecore.perf.documents.summary import reason_text
from tracecore.perf.findings.columns import LEAST_CLUSTERED, Columns, Finding
from tracecore.perf.findings.drift import artifact_growth, chart_course, late_drift, memory_growth
from tracecore.perf.findings.failures import determinism_mismatch, failure_cluster
from tracecore.perf.findings.outliers import (
    cold_start,
    find_outliers,
    scenario_spike,
    tail_outliers,
)
from tracecore.perf.host.noise import HostNoise
from tracecore.perf.slice.commands import repro_command
from tracecore.perf.slice.second_runs import Determinism
from tracecore.record import field, record
from tracecore.records import EpisodeResult, JsonObject

# Each with how grave it is.
KINDS: Final = {
    "determinism_mismatch": "fail",
    "failure_cluster": "warn",
    "scenario_spike": "warn",
    "late_drift": "warn",
    "memory_growth": "warn",
    "artifact_growth_nonlinear": "warn",
    "noisy_host": "warn",
    "oversubscribed": "info",
    "tail_outliers": "info",
    "cold_start": "info",
}


@record
class Circumstances:
    """What findings rest on beside the rows."""

    host: HostNoise = HostNoise()  # what else the machine did
    # the block of the second runs
    determinism: JsonObject = field(default_factory=lambda: Determinism().document())
    is_resumed: bool = False  # whether the slice ran in parts, whose clocks each began at zero
    # from an episode to the command that repeats it
    repro: Callable[[EpisodeResult | JsonObject], str] = repro_command
    # the command that repeats the whole slice, for what no single episode shows
    slice_command: str | None = None


def findings_document(rows: Rows, about: Circumstances) -> JsonObject:
    """What the summary gains: ``findings``, ``finding_counts``, ``failures``,
    ``failure_spread`` and ``slowest``.

    A kind whose count is null could not be looked for: the slice is too short, or the figures are
    not there.

    Args:
        rows: By episode index.
        about: What findings rest on beside them.
    """
    columns = Columns(rows, is_resumed=about.is_resumed)
    found = _look(columns, about) if len(rows) else dict.fromkeys(KINDS)
    return {
        "findings": [
            _document(kind, finding, columns, about)
            for kind, findings in found.items()
            for finding in findings or ()
        ],
        "finding_counts": {
            kind: None if (own := found[kind]) is None else len(own) for kind in KINDS
        },
        "failures": [_episode(row, about) for row in rows.failures],
        "failure_spread": _failure_spread(len(columns.failed), found["failure_cluster"] or []),
        "slowest": [_episode(row, about) for row in rows.slowest],
    }


def _look(columns: Columns, about: Circumstances) -> dict[str, list[Finding] | None]:
    outliers, course = find_outliers(columns), chart_course(columns)
    spikes, spiked = scenario_spike(columns, outliers)
    return {
        "determinism_mismatch": determinism_mismatch(columns, about.determinism),
        "failure_cluster": failure_cluster(columns),
        "scenario_spike": spikes,
        "late_drift": late_drift(columns, course),
        "memory_growth": memory_growth(columns, course, about.host),
        "artifact_growth_nonlinear": artifact_growth(columns, course),
        "noisy_host": noisy_host(about.host),
        "oversubscribed": oversubscribed(columns, about.host),
        "tail_outliers": tail_outliers(columns, outliers, spiked),
        "cold_start": cold_start(columns),
    }


def _document(kind: str, finding: Finding, columns: Columns, about: Circumstances) -> JsonObject:
    repro, place = about.slice_command, finding.repro_place
    if place is not None:
        agent, task_ref = columns.groups[columns.scenario[place]]
        repro = about.repro({"agent": agent, "task_ref": task_ref, "seed": columns.seeds[place]})
    return {
        "id": kind,
        "severity": KINDS[kind],
        "text": finding.text,
        "evidence": finding.evidence,
        "episodes": list(finding.episodes),
        "repro": repro,
    }


def _episode(row: EpisodeResult, about: Circumstances) -> JsonObject:
    return {
        "episode": row.episode,
        "run_id": row.run_id,
        "agent": row.agent,
        "task_ref": row.task_ref,
        "seed": row.seed,
        "termination_reason": row.termination_reason,
        "error": None if row.success else reason_text(row.error or row.termination_reason),
        "wall_clock_s": row.wall_clock_s,
        "artifact": row.artifact,
        "repro": about.repro(row),
    }


def _failure_spread(failed: int, clusters: list[Finding]) -> str | None:
    """``clustered``, ``even`` or ``too_few``; null without any failure."""
    if failed < LEAST_CLUSTERED:
        return "too_few" if failed else None
    return "clustered" if clusters else "even"


LOAD_PER_CPU: Final = 1.25
STEAL_SHARE: Final = 0.02
BUSY_SHARE: Final = 0.90  # of all CPU time between the first start and the last end


def noisy_host(host: HostNoise) -> list[Finding] | None:
    """Whether the machine was too busy with something else for its times to mean much."""
    if host.load1_before is None and host.steal_share is None:
        return None
    limits = {"steal_share": STEAL_SHARE}
    cpus, running = host.cpus_total, host.running_before
    # The average of a minute still holds the slice that ended a moment ago: a high load counts
    # where as many processes run now.
    if cpus and (running is None or running >= cpus):
        limits = {"load1_before": LOAD_PER_CPU * cpus, **limits}
    observed = {name: getattr(host, name) or 0.0 for name in limits}
    signs = {
        name: {"observed": observed[name], "limit": limit}
        for name, limit in limits.items()
        if observed[name] > limit
    }
    if not signs:
        return []
    words = "; ".join(_NOISE_WORDS[name].format(**sign) for name, sign in signs.items())
    return [
        Finding(
            text=f"The machine was not quiet: {words}. Times of this slice say little.",
            evidence=signs,
        )
    ]


_NOISE_WORDS: Final = {
    "load1_before": (
        "{observed:.3g} processes wanted to run in the minute before, {limit:.3g} is the limit"
    ),
    "steal_share": "{observed:.1%} of CPU time went to other guests, {limit:.0%} is the limit",
}


def oversubscribed(columns: Columns, host: HostNoise) -> list[Finding] | None:
    """Whether more episodes were in flight than CPUs, and had them all to do: each then waits for
    its turn, and its times are those of the queue.
    """
    rows, cpus = columns.rows, host.cpus_usable
    if not cpus or columns.is_resumed:
        return None
    slots, cpu_s = max(rows["slot"]) + 1, sum(rows["cpu_user_s"]) + sum(rows["cpu_sys_s"])
    span_s = max(rows["end_offset_s"]) - min(rows["start_offset_s"])
    share = cpu_s / (span_s * cpus) if span_s > 0 else 0.0
    if slots <= cpus or share < BUSY_SHARE:
        return []
    return [
        Finding(
            text=(
                f"{slots} episodes were in flight on {cpus} CPUs and kept them busy {share:.0%} of"
                " the time: they waited for each other, and their wall clocks hold that."
            ),
            evidence={
                "slots": slots,
                "cpus_usable": cpus,
                "busy_share": share,
                "limit": BUSY_SHARE,
            },
        )
    ]
