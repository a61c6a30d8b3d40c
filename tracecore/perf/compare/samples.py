"""What times are judged by: per scenario row and metric one number of each run; what so many runs
can show.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final

from tracecore.perf.compare.columns import AMOUNTS, RowKey
from tracecore.perf.compare.runs import RunRecord
from tracecore.ranks import smallest_p
from tracecore.record import record
from tracecore.stats import median

ALPHA: Final = 0.05  # of any false alarm among the gating metrics
METRICS: Final = tuple(AMOUNTS)
ROWS_TO_ADJUST: Final = 4
RUNS_TO_ADJUST: Final = 3  # of the base, unless the runs of both sides took turns
OVERALL: Final = "overall"
# A metric, and the same of a row next to the other rows of its run. That may come of them: where
# two tasks of four became faster, the others look slower. So the metric by itself must show at
# least half as much.
ADJUSTED: Final[Mapping[str, str]] = {"cpu": "cpu_adjusted", "wall": "wall_adjusted"}


@record
class Power:
    """Whether so many runs can show anything at all."""

    base_runs: int
    new_runs: int
    tests: int
    smallest_p: float  # that the design can reach, before correction
    is_enough: bool


def power_of(base_runs: int, new_runs: int, tests: int) -> Power:
    """What a design can reach, before anything has run."""
    least = smallest_p(base_runs, new_runs) if base_runs and new_runs else 1.0
    return Power(base_runs, new_runs, tests, least, least * max(tests, 1) < ALPHA)


def rounds_needed(tests: int) -> int:
    """The fewest runs per side by which one of so many tests can come out."""
    return next(n for n in itertools.count(1) if power_of(n, n, tests).is_enough)


@record
class Sample:
    """One metric of one scenario row: a value per run."""

    row: str
    metric: str
    base: tuple[float, ...]  # logarithms of the run's median
    new: tuple[float, ...]
    gates: bool
    is_beside: bool = False  # whether it is of a row that can be held against the others


def gather_samples(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    names: Mapping[RowKey, str],
    gate_on: Sequence[str],
    *,
    in_turns: bool = False,
) -> list[Sample]:
    """Per metric and scenario row one number of each run; see :func:`make_samples`."""
    runs = [run.columns for run in [*base, *new]]
    medians: dict[str, dict[str, list[float]]] = {}
    for metric in METRICS:
        logs = [run.logs(metric) for run in runs]
        found = {
            name: _medians([run.by_seed(row) for run in runs], logs) for row, name in names.items()
        }
        medians[metric] = {name: values for name, values in found.items() if values}
    return make_samples(medians, len(base), gate_on, in_turns=in_turns)


def make_samples(
    medians: Mapping[str, Mapping[str, Sequence[float]]],
    split: int,
    gate_on: Sequence[str],
    *,
    in_turns: bool = False,
) -> list[Sample]:
    """The samples to decide on: each row by itself, each next to the others of its run, and the
    mean of all.

    What slows a whole run, the host or the code, moves all rows alike. Next to the median of the
    others of the same run a row shows what is its own, whatever the host does; the mean over all
    rows shows what they share. It takes four rows, so that one that changed does not move the
    median that the others are held against.

    Args:
        medians: By metric and scenario row, the logarithm of each run's median: first those of the
            base, then the new ones.
        split: How many of them are the base's.
        gate_on: The metrics that can fail the comparison.
        in_turns: Whether the runs of both sides took turns, so that one or two of each will do to
            judge a row next to the others.
    """
    samples: list[Sample] = []
    for metric, rows in medians.items():
        gates = metric in gate_on
        is_beside = metric in ADJUSTED and len(rows) >= ROWS_TO_ADJUST
        # A row gates once: every further test would make each of them harder to pass.
        is_adjusted = is_beside and (in_turns or split >= RUNS_TO_ADJUST)
        adjusted = _adjust(rows, split) if is_beside else {}
        found = [(row, metric, values, not is_adjusted) for row, values in rows.items()]
        found += [(row, ADJUSTED[metric], own, is_adjusted) for row, own in adjusted.items()]
        if len(rows) > 1:
            means = [sum(values) / len(values) for values in zip(*rows.values(), strict=True)]
            found.append((OVERALL, metric, means, True))
        samples += [
            Sample(
                row=row,
                metric=name,
                base=tuple(values[:split]),
                new=tuple(values[split:]),
                gates=gates and own,
                is_beside=is_beside and row != OVERALL,
            )
            for row, name, values, own in found
        ]
    return samples


def tests_of(rows: int, gate_on: Sequence[str]) -> int:
    """How many of :func:`make_samples`' samples gate for so many scenario rows."""
    return len(gate_on) * (rows + (rows > 1))


def _adjust(rows: Mapping[str, Sequence[float]], split: int) -> dict[str, list[float]]:
    """Each row's values less what the median of the other rows of its run is beyond its usual."""
    adjusted = {}
    for row, values in rows.items():
        others = [
            median(run)
            for run in zip(*(rows[other] for other in rows if other != row), strict=True)
        ]
        usual = median(others[:split])
        adjusted[row] = [
            value - (other - usual) for value, other in zip(values, others, strict=True)
        ]
    return adjusted


def _medians(by_seed: Sequence[Mapping[int, int]], logs: Sequence[Sequence[float]]) -> list[float]:
    """Of each run the median over the same seeds; none where there is no episode that all have,
    measured, and none cut short.
    """
    runs = list(zip(by_seed, logs, strict=True))
    shared = [
        seed
        for seed in by_seed[0]
        if all(seed in places and not math.isnan(own[places[seed]]) for places, own in runs)
    ]
    return [median([own[places[seed]] for seed in shared]) for places, own in runs if shared]
