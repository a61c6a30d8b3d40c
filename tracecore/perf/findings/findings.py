"""The questions that a reviewer asks of a slice, answered: what stands out, how sure that is, and
how to see it again.

Takes the rows in one pass and keeps them in columns: 8 bytes or less per episode and figure. No
    clock, no disk.
"""

from collections.abc import Callable
from typing import Final

from tracecore.perf.documents.summary import reason_text
from tracecore.perf.findings import rules
from tracecore.perf.findings.columns import Columns
from tracecore.perf.findings.rules import Finding
from tracecore.perf.host.noise import UNKNOWN, HostNoise
from tracecore.perf.slice.commands import repro_command
from tracecore.perf.slice.second_runs import Determinism
from tracecore.records import EpisodeResult, JsonObject

FAILURES_SHOWN: Final = 20
KINDS: Final = (
    "determinism_mismatch",
    "failure_cluster",
    "scenario_spike",
    "late_drift",
    "memory_growth",
    "artifact_growth_nonlinear",
    "noisy_host",
    "tail_outliers",
    "cold_start",
)


class Findings:
    """Reduces rows to the findings of a slice."""

    def __init__(
        self,
        *,
        is_resumed: bool = False,
        repro: Callable[[EpisodeResult | JsonObject], str] = repro_command,
        slice_command: str | None = None,
    ) -> None:
        """Begin.

        Args:
            is_resumed: Whether the slice ran in parts, whose clocks each began at zero.
            repro: From an episode to the command that repeats it.
            slice_command: The command that repeats the whole slice, for what no single episode
                shows.
        """
        self._columns = Columns(is_resumed=is_resumed)
        self._repro, self._slice_command = repro, slice_command
        self._failures: list[JsonObject] = []

    def add(self, row: EpisodeResult) -> None:
        """Take one finished episode; they come by index."""
        self._columns.add(row)
        if not row.success and len(self._failures) < FAILURES_SHOWN:
            self._failures.append(self._failure(row))

    def document(
        self,
        *,
        host: HostNoise = UNKNOWN,
        determinism: JsonObject | None = None,
    ) -> JsonObject:
        """What the summary gains: ``findings``, ``finding_counts``, ``failures`` and
        ``failure_spread``.

        A kind whose count is null could not be looked for: the slice is too short, or the figures
            are not there.

        Args:
            host: What else the machine did.
            determinism: The block of the second runs.
        """
        found = self._look(host, determinism or Determinism().document())
        return {
            "findings": [
                self._told(finding) for findings in found.values() for finding in findings or ()
            ],
            "finding_counts": {
                kind: None if found[kind] is None else len(found[kind] or ()) for kind in KINDS
            },
            "failures": self._failures,
            "failure_spread": self._failure_spread(found["failure_cluster"] or []),
        }

    def _look(self, host: HostNoise, determinism: JsonObject) -> dict[str, list[Finding] | None]:
        columns = self._columns
        if not len(columns):
            return dict.fromkeys(KINDS)
        outliers, course = rules.find_outliers(columns), rules.chart_course(columns)
        spikes, spiked = rules.scenario_spike(columns, outliers)
        return {
            "determinism_mismatch": rules.determinism_mismatch(columns, determinism),
            "failure_cluster": rules.failure_cluster(columns),
            "scenario_spike": spikes,
            "late_drift": rules.late_drift(columns, course),
            "memory_growth": rules.memory_growth(columns, course, host),
            "artifact_growth_nonlinear": rules.artifact_growth(columns, course),
            "noisy_host": rules.noisy_host(columns, host),
            "tail_outliers": rules.tail_outliers(columns, outliers, spiked),
            "cold_start": rules.cold_start(columns),
        }

    def _told(self, finding: Finding) -> JsonObject:
        return {
            "id": finding.id,
            "severity": finding.severity,
            "text": finding.text,
            "evidence": finding.evidence,
            "episodes": list(finding.episodes),
            "repro": self._slice_command
            if finding.repro_place is None
            else self._repro_at(finding.repro_place),
        }

    def _repro_at(self, place: int) -> str:
        agent, task_ref = self._columns.groups[self._columns.scenario[place]]
        return self._repro(
            {"agent": agent, "task_ref": task_ref, "seed": self._columns.seeds[place]}
        )

    def _failure(self, row: EpisodeResult) -> JsonObject:
        return {
            "episode": row.episode,
            "run_id": row.run_id,
            "agent": row.agent,
            "task_ref": row.task_ref,
            "seed": row.seed,
            "termination_reason": row.termination_reason,
            "error": reason_text(row),
            "repro": self._repro(row),
        }

    def _failure_spread(self, clusters: list[Finding]) -> str | None:
        """``clustered``, ``even`` or ``too_few``; null without any failure."""
        if not self._columns.failed:
            return None
        if len(self._columns.failed) < rules.LEAST_CLUSTERED:
            return "too_few"
        return "clustered" if clusters else "even"
