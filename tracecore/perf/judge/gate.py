"""Which conditions a slice must meet, when they end it early, and the verdict in words.

Without a gate option nothing is gated. ``--gate`` puts the built-in profile on, ``--thresholds``
and ``--threshold`` add their own or work alone, and ``--no-gate`` takes all of them off, though a
mistake in one is still told.
"""

from collections.abc import Sequence
from typing import Any, Final

from tracecore.errors import ThresholdError
from tracecore.perf.documents.rows import series_row
from tracecore.perf.documents.summary import Summary
from tracecore.perf.findings.findings import Findings
from tracecore.perf.host.facts import FIGURES as SAMPLE_FIGURES
from tracecore.perf.judge.aggregates import SeriesAggregates, ThresholdStatus, evaluate, figure_text
from tracecore.perf.judge.thresholds import Threshold, leaf_paths, parse_threshold, read_thresholds
from tracecore.perf.slice.second_runs import Determinism
from tracecore.record import as_dict, field_names, record
from tracecore.records import EpisodeResult, JsonObject, Usage, Verdict
from tracecore.stats import wilson_interval

EXIT_GOOD: Final = 0
EXIT_FAILED: Final = 1
EXIT_BREACHED: Final = 3
EXIT_UNWRITTEN: Final = 4
EXIT_INCOMPLETE: Final = 5
EXIT_INTERRUPTED: Final = 130
# gravest first
EXIT_CODES: Final = (
    EXIT_UNWRITTEN,
    EXIT_INTERRUPTED,
    EXIT_INCOMPLETE,
    EXIT_FAILED,
    EXIT_BREACHED,
    EXIT_GOOD,
)

SMALL_SLICE: Final = 100  # episodes; up to here a slice is too short to show a trend
DEFAULT_EPISODES: Final = 24
VERIFIED_MOST: Final = 16  # episodes that the built-in profile runs a second time
SURE: Final = 0.95  # of the interval that a large slice's success rate must keep to
CHECK_EVERY: Final = 100  # an aborting threshold is looked at when a hundredth more has finished
# Paths that have no value before the slice has ended, so that nothing can be ended by them.
KNOWN_AT_THE_END: Final = (
    "elapsed_s",
    "summary.throughput_eps",
    "system_samples.",
    "finding_counts.",
    "determinism.",
)

FAILURE_TYPES: Final = (
    "budget_exhausted",
    "invalid_action",
    "sandbox_violation",
    "logic_failure",
    "timeout",
    "non_termination",
)
TERMINATION_REASONS: Final = (
    "success",
    "steps_exhausted",
    "tool_calls_exhausted",
    "invalid_action",
    "action_exception",
    "sandbox_violation",
    "timeout",
    "agent_exception",
    "agent_crashed",
    "task_exception",
    "validator_exception",
    "episode_crashed",
    "logic_failure",
)


@record
class Gate:
    """What a slice is held against."""

    thresholds: tuple[Threshold, ...] = ()
    profile: str | None = None  # "small" or "large": the built-in one that is on
    is_off: bool = False  # --no-gate: a comparison's breaches do not count either
    # episodes to run a second time; None: one per scenario row under a profile, else none
    verify: int | None = None

    def episodes_to_verify(self, episodes: int, scenario_rows: int) -> int:
        """How many of ``episodes`` are to run a second time."""
        if self.verify is not None:
            return min(self.verify, episodes)
        return min(scenario_rows, episodes, VERIFIED_MOST) if self.profile else 0


# --- read ------------------------------------------------------------------------------------------------------------


def read_gate(
    *,
    episodes: int,
    builtin: bool = False,
    off: bool = False,
    files: Sequence[str] = (),
    expressions: Sequence[str] = (),
    verify: int | None = None,
    keep_runs: str = "all",
) -> Gate:
    """Read every condition, before anything runs.

    Args:
        episodes: Of the slice; the built-in profile goes by it.
        builtin: Whether the built-in profile is on.
        off: Whether nothing gates, whatever else is given.
        files: Of thresholds, TOML.
        expressions: Thresholds as they stand on the command line.
        verify: How many episodes are to run a second time, if somebody said so.
        keep_runs: Which run artifacts stay on disk: all, failed or none.

    Raises:
        ThresholdError: One of them is wrong; it names the place, and for an unknown name the
            nearest that there is.
    """
    paths, names = summary_paths(), series_fields()
    thresholds: list[Threshold] = []
    for path in files:
        thresholds += read_thresholds(path, paths=paths, fields=names)
    thresholds += [
        parse_threshold(text, "--threshold", paths=paths, fields=names) for text in expressions
    ]
    for threshold in thresholds:
        if (
            threshold.abort
            and threshold.path is not None
            and threshold.path.startswith(KNOWN_AT_THE_END)
        ):
            expected = (
                "with abort = true a figure that is known while the slice runs, such as"
                " failure_count"
            )
            raise ThresholdError(threshold.source, "", threshold.path, expected)
    if off:
        return Gate(is_off=True, verify=verify)
    texts = builtin_expressions(episodes, keep_runs=keep_runs) if builtin else ()
    if verify or (builtin and verify is None):
        texts = (*texts, "determinism.differing == 0")
    own = tuple(parse_threshold(text, "--gate", paths=paths, fields=names) for text in texts)
    return Gate((*own, *thresholds), profile_name(episodes) if builtin else None, verify=verify)


def profile_name(episodes: int) -> str:
    """The built-in profile for a slice of so many episodes."""
    return "small" if episodes <= SMALL_SLICE else "large"


def builtin_expressions(
    episodes: int,
    *,
    keep_runs: str = "all",
    default_slice: tuple[int, int] = (DEFAULT_EPISODES, DEFAULT_EPISODES),
) -> tuple[str, ...]:
    """The built-in profile, in the language that everybody else's thresholds are written in.

    Args:
        episodes: Of the slice.
        keep_runs: Which run artifacts stay on disk; where not all do, what was written is counted
            instead.
        default_slice: How many episodes of the default slice succeed, and how many it has: a large
            slice's success rate must not lie below the interval that this leaves for it.
    """
    if episodes > SMALL_SLICE:
        lowest = wilson_interval(*default_slice, SURE)[0]
        drifts = ("late_drift", "artifact_growth_nonlinear", "memory_growth")
        return (
            f"summary.success_rate >= {lowest:.3f}",
            *(f"finding_counts.{name} == 0" for name in drifts),
        )
    total_limit = round(2_000_000 * max(1.0, episodes / DEFAULT_EPISODES))
    kept = keep_runs == "all"
    return (
        "failure_count == 0",
        "max_wall_clock_s <= 15",
        (
            f"{'run_artifacts.total_bytes' if kept else 'telemetry_verbosity.artifact_bytes_total'}"
            f" <= {total_limit}"
        ),
        (
            f"{'run_artifacts.avg_bytes' if kept else 'telemetry_verbosity.artifact_bytes_avg'} <="
            " 150_000"
        ),
    )


def summary_paths() -> tuple[str, ...]:
    """Every number of the summary that a threshold may name."""
    whole = {
        **_summary_document(Summary(), 0),
        **Findings().document(),
        "determinism": Determinism().document(),
        "system_samples": dict.fromkeys(("available", *SAMPLE_FIGURES)),
        "failure_types": dict.fromkeys(FAILURE_TYPES),
        "termination_reasons": dict.fromkeys(TERMINATION_REASONS),
    }
    return leaf_paths(whole)


def series_fields() -> tuple[str, ...]:
    """Every field of the series that a threshold may name."""
    values: dict[str, Any] = dict.fromkeys(field_names(EpisodeResult), 0)
    return tuple(series_row(EpisodeResult(**{**values, "usage": Usage(0.0)})))


def _summary_document(summary: Summary, episodes: int) -> JsonObject:
    return summary.document(
        episodes_requested=episodes,
        workers=0,
        runs_root="",
        system_samples={"available": False},
        elapsed_s=None,
    )


# --- while it runs ---------------------------------------------------------------------------------------------------


class AbortWatch:
    """Looks, as episodes finish, whether a threshold with ``abort = true`` has failed.

    Costs nothing where there is none.
    """

    def __init__(self, thresholds: Sequence[Threshold], episodes: int) -> None:
        self._thresholds = [threshold for threshold in thresholds if threshold.abort]
        self._episodes = episodes
        self._summary, self._readings = Summary(), GateReadings(self._thresholds)
        self._finished = self._next_look = 0

    @property
    def is_watching(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._thresholds)

    def add(self, row: EpisodeResult) -> ThresholdStatus | None:
        """Count one finished episode; gives the threshold that ends the slice now. Missing data
        ends nothing yet.
        """
        if not self._thresholds:
            return None
        self._summary.add(row)
        self._readings.add(row)
        self._finished += 1
        if self._finished < self._next_look and self._finished < self._episodes:
            return None
        # A percentile costs more the longer the slice is: looked for as often, it would cost more
        # than the episodes do.
        self._next_look = self._finished + max(1, self._finished // CHECK_EVERY)
        return self._look()

    def _look(self) -> ThresholdStatus | None:
        document = _summary_document(self._summary, self._episodes)
        for threshold in self._thresholds:
            if self._finished >= max(1, threshold.delay_episodes):
                status = self._readings.status(threshold, document)
                if status.status == "failed":
                    return status
        return None


class GateReadings:
    """What thresholds ask of the series, gathered row by row."""

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self._aggregates = SeriesAggregates(thresholds)
        self._is_needed = any(threshold.metric is not None for threshold in thresholds)

    def add(self, row: EpisodeResult) -> None:
        """Count one finished episode."""
        if self._is_needed:
            self._aggregates.add(series_row(row))

    def status(self, threshold: Threshold, summary_document: JsonObject) -> ThresholdStatus:
        """How one of the thresholds comes out."""
        return evaluate(threshold, summary_document, self._aggregates)


# --- the verdict -----------------------------------------------------------------------------------------------------


@record
class Evidence:
    """What a slice is judged by, beside its summary."""

    statuses: tuple[ThresholdStatus, ...] = ()
    trouble: str | None = None  # why the run could not go on
    aborted: str | None = None  # the threshold that ended it early
    breaches: tuple[str, ...] = ()  # of a comparison, as sentences: each counts as a failed gate
    warnings: tuple[str, ...] = ()  # of a comparison, as sentences


def judge(summary: JsonObject, evidence: Evidence) -> Verdict:
    """The verdict on a slice: the gravest exit code that holds, and every reason in a sentence.

    Args:
        summary: The summary document: ``episodes``, ``episodes_requested``, ``interrupted``,
            ``failure_count`` and ``failure_reasons`` are looked at.
        evidence: Everything else.
    """
    breaches = [*_broken(evidence.statuses, "fail"), *evidence.breaches]
    found = {
        EXIT_UNWRITTEN: _trouble(evidence),
        EXIT_INTERRUPTED: _interruption(summary),
        EXIT_INCOMPLETE: _gaps(summary, evidence),
        EXIT_FAILED: _failures(summary),
        EXIT_BREACHED: breaches,
    }
    codes = tuple(code for code in EXIT_CODES if found.get(code)) or (EXIT_GOOD,)
    reasons = [reason for code in codes for reason in found.get(code, ())] or _praise(
        summary, evidence
    )
    return Verdict(
        exit_code=codes[0],
        exit_codes=codes,
        reasons=tuple(reasons),
        breaches=tuple(breaches),
        warnings=(*_broken(evidence.statuses, "warn"), *evidence.warnings),
        thresholds=tuple(map(threshold_document, evidence.statuses)),
    )


def verdict_document(verdict: Verdict, gate: Gate) -> JsonObject:
    """The ``verdict`` block of the summary."""
    return {
        "exit_code": verdict.exit_code,
        "exit_codes": list(verdict.exit_codes),
        "profile": gate.profile,
        "gate_off": gate.is_off,
        "reasons": list(verdict.reasons),
        "breaches": list(verdict.breaches),
        "warnings": list(verdict.warnings),
        "thresholds": list(verdict.thresholds),
    }


def threshold_document(status: ThresholdStatus) -> JsonObject:
    """One of the ``thresholds`` of the ``verdict`` block."""
    margin = None if status.margin is None else status.margin + 0.0  # which makes 0.0 of -0.0
    return {**as_dict(status), "margin": margin}


def _trouble(evidence: Evidence) -> list[str]:
    return [f"The run could not go on: {evidence.trouble}."] if evidence.trouble else []


def _interruption(summary: JsonObject) -> list[str]:
    finished, asked = summary["episodes"], summary["episodes_requested"]
    return (
        [f"The slice was interrupted after {finished} of {asked} episodes."]
        if summary["interrupted"]
        else []
    )


def _gaps(summary: JsonObject, evidence: Evidence) -> list[str]:
    finished, asked = summary["episodes"], summary["episodes_requested"]
    if finished >= asked:
        return []
    if evidence.aborted:
        return [
            (
                f"The threshold {evidence.aborted} ended the slice after {finished} of {asked}"
                " episodes."
            )
        ]
    return [f"{asked - finished} of {asked} episodes have no result."]


def _failures(summary: JsonObject) -> list[str]:
    failed, finished = summary["failure_count"], summary["episodes"]
    if not failed:
        return []
    reason, count = next(iter(summary["failure_reasons"].items()))
    return [f"{failed} of {finished} episodes failed; most often ({count}): {reason}."]


def _broken(statuses: Sequence[ThresholdStatus], severity: str) -> list[str]:
    return [
        _sentence(status)
        for status in statuses
        if status.severity == severity and status.status != "passed"
    ]


def _sentence(status: ThresholdStatus) -> str:
    if status.observed is None or status.margin is None:
        return f"{status.text} has no data to judge, which counts as a breach."
    distance = (
        f"which is off by {figure_text(abs(status.margin))}"
        if status.margin
        else "which is the limit itself"
    )
    return f"{status.text} does not hold: observed {figure_text(status.observed)}, {distance}."


def _praise(summary: JsonObject, evidence: Evidence) -> list[str]:
    reasons = [f"All {summary['episodes']} episodes succeeded."]
    held = sum(status.status == "passed" for status in evidence.statuses)
    if held:
        reasons.append(f"{held} of {len(evidence.statuses)} thresholds hold.")
    return reasons
