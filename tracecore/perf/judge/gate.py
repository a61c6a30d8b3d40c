"""Which conditions a slice must meet, read before anything runs.

Without a gate option nothing is gated. ``--gate`` puts the built-in profile on, ``--thresholds``
and ``--threshold`` add their own or work alone, and ``--no-gate`` takes all of them off, though a
mistake in one is still refused.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Final

from tracecore.errors import ThresholdError
from tracecore.perf.documents.rows import CPU_S, OMITTED, Rows
from tracecore.perf.documents.summary import SliceFacts, summary_document
from tracecore.perf.findings.findings import Circumstances, findings_document
from tracecore.perf.host.facts import FIGURES as SAMPLE_FIGURES
from tracecore.perf.judge.thresholds import (
    PLANNED_FIELDS,
    WORK_FIELDS,
    Threshold,
    leaf_paths,
    nearest,
    parse_threshold,
    read_thresholds,
)
from tracecore.perf.slice.options import JudgeOptions
from tracecore.perf.slice.second_runs import Determinism
from tracecore.record import field_names, record
from tracecore.records import EpisodeResult
from tracecore.runtime.endings import FAILURE_TYPE_OF, FAILURE_TYPES
from tracecore.stats import wilson_interval

SMALL_SLICE: Final = 100  # episodes; up to here a slice is too short to show a trend
DEFAULT_EPISODES: Final = 24
VERIFIED_MOST: Final = 16  # episodes that the built-in profile runs a second time
SURE: Final = 0.95  # of the interval that a large slice's success rate must keep to
# Paths that have no value before the slice has ended, so that nothing can be ended by them.
KNOWN_AT_THE_END: Final = (
    "work.",
    "elapsed_s",
    "summary.throughput_eps",
    "system_samples.",
    "finding_counts.",
    "determinism.",
)


@record
class Gate:
    """What a slice is held against."""

    thresholds: tuple[Threshold, ...] = ()
    profile: str | None = None  # "small" or "large": the built-in one that is on
    is_off: bool = False  # --no-gate: a comparison's breaches do not count either
    # episodes to run a second time; None: one per scenario row under a profile, else none
    verify: int | None = None
    counts_work: bool = False  # one episode per scenario row at least runs a second time for that

    def episodes_to_verify(self, episodes: int, scenario_rows: int) -> int:
        """How many of ``episodes`` are to run a second time."""
        count = min(scenario_rows, episodes, VERIFIED_MOST) if self.profile else 0
        if self.verify is not None:
            count = min(self.verify, episodes)
        return max(count, min(scenario_rows, episodes)) if self.counts_work else count


def read_gate(options: JudgeOptions, *, episodes: int, keep_runs: str = "all") -> Gate:
    """Read every condition, before anything runs.

    Args:
        options: What is asked for.
        episodes: Of the slice; the built-in profile goes by it.
        keep_runs: Which run artifacts stay on disk: all, failed or none.

    Raises:
        ThresholdError: One of them is wrong; it names the place, and for an unknown name the
            nearest that there is.
    """
    paths, names = summary_paths(), series_fields()
    parse = functools.partial(parse_threshold, paths=paths, fields=names)
    thresholds = [
        one
        for path in options.thresholds
        for one in read_thresholds(path, paths=paths, fields=names)
    ]
    thresholds += [parse(text, "--threshold") for text in options.threshold]
    for threshold in thresholds:
        name = threshold.path or threshold.metric or ""
        if threshold.abort and name.startswith(KNOWN_AT_THE_END):
            expected = (
                "with abort = true a figure that is known while the slice runs, such as"
                " failure_count"
            )
            raise ThresholdError(threshold.source, "", name, expected)
    verify = options.verify_determinism
    if options.no_gate:
        return Gate(is_off=True, verify=verify, counts_work=options.work)
    texts = builtin_expressions(episodes, keep_runs=keep_runs) if options.gate else ()
    if verify or (options.gate and verify is None):
        texts = (*texts, "determinism.differing == 0")
    profile = "small" if episodes <= SMALL_SLICE else "large"
    own = tuple(parse(text, "--gate") for text in texts)
    return Gate(
        thresholds=(*own, *thresholds),
        profile=profile if options.gate else None,
        verify=verify,
        counts_work=options.work or any(one.metric in WORK_FIELDS for one in thresholds),
    )


def check_selectors(
    thresholds: Sequence[Threshold], rows: Sequence[tuple[str, str, int]], episodes: int
) -> None:
    """Refuse a threshold that selects no episode of the slice: it would have no data, at its end.

    Args:
        thresholds: All of them.
        rows: Agent, task reference and seed of each scenario row.
        episodes: Of the slice.

    Raises:
        ThresholdError: It names the value, and the nearest that the scenario has.
    """
    for threshold in thresholds:
        wanted = {name: value for name, value in threshold.selector if name in PLANNED_FIELDS}
        if not wanted or any(
            _is_selected(wanted, row, range(row[2] + place, row[2] + episodes, len(rows)))
            for place, row in enumerate(rows)
        ):
            continue
        name, value = next(iter(wanted.items()))
        known = {str(dict(zip(PLANNED_FIELDS, row, strict=True))[name]) for row in rows}
        expected = f"{name}s of the scenario that go together{nearest(value, known)}"
        found = ",".join(f"{name}={value}" for name, value in wanted.items())
        raise ThresholdError(threshold.source, threshold.text, f"{{{found}}}", expected)


def _is_selected(wanted: Mapping[str, str], row: tuple[str, str, int], seeds: range) -> bool:
    """Whether an episode of a scenario row, which has these seeds, has all these values."""
    agent, task_ref, _ = row
    text = wanted.get("seed", str(seeds.start))
    try:
        seed = int(text)
    except ValueError:
        return False
    return (
        wanted.get("agent", agent) == agent
        and wanted.get("task_ref", task_ref) == task_ref
        and seed in seeds
        and str(seed) == text
    )


def builtin_expressions(episodes: int, *, keep_runs: str = "all") -> tuple[str, ...]:
    """The built-in profile, in the language of all thresholds.

    Args:
        episodes: Of the slice.
        keep_runs: Which run artifacts stay on disk; where not all do, what was written is counted
            instead.
    """
    if episodes > SMALL_SLICE:
        # Not below the interval that the default slice leaves, all of whose episodes succeed.
        lowest = wilson_interval(DEFAULT_EPISODES, DEFAULT_EPISODES, SURE)[0]
        drifts = ("late_drift", "artifact_growth_nonlinear", "memory_growth")
        return (
            f"summary.success_rate >= {lowest:.3f}",
            *(f"finding_counts.{name} == 0" for name in drifts),
        )
    total_limit = round(2_000_000 * max(1.0, episodes / DEFAULT_EPISODES))
    written = "telemetry_verbosity.artifact_bytes_total", "telemetry_verbosity.artifact_bytes_avg"
    kept = "run_artifacts.total_bytes", "run_artifacts.avg_bytes"
    total, average = kept if keep_runs == "all" else written
    return (
        "failure_count == 0",
        "max_wall_clock_s <= 15",
        f"{total} <= {total_limit}",
        f"{average} <= 150_000",
    )


@functools.cache
def summary_paths() -> tuple[str, ...]:
    """Every number of the summary that a threshold may name."""
    whole = {
        **summary_document(Rows(), SliceFacts()),
        **findings_document(Rows(), Circumstances()),
        "determinism": Determinism().document(),
        "system_samples": dict.fromkeys(("available", *SAMPLE_FIGURES)),
        "failure_types": dict.fromkeys(sorted(FAILURE_TYPES)),
        "termination_reasons": dict.fromkeys(FAILURE_TYPE_OF),
    }
    return leaf_paths(whole)


@functools.cache
def series_fields() -> tuple[str, ...]:
    """Every field of the series that a threshold may name."""
    own = (name for name in field_names(EpisodeResult) if name not in OMITTED)
    return (*own, CPU_S)
