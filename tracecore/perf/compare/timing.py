"""Whether times differ: the decision rule, from medians of runs to judgements. No clock, no disk, no
chance.

The unit of replication is the run. Everything works on logarithms: a difference is the logarithm of
a ratio.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from tracecore.perf.compare.behaviour import Verdict
from tracecore.perf.compare.samples import ADJUSTED, Sample
from tracecore.ranks import (
    benjamini_hochberg,
    hodges_lehmann,
    hodges_lehmann_interval,
    holm,
    mann_whitney_greater,
    smallest_p,
)
from tracecore.record import record
from tracecore.stats import MAD_TO_SIGMA, Interval, mad, median

ALPHA: Final = 0.05  # of any false alarm among the gating metrics
FALSE_SHARE: Final = 0.10  # of false ones among the warnings
CONFIDENCE: Final = 0.95  # of an interval
HISTORY_RUNS: Final = 10  # from so many base runs on, their own noise may widen a floor
NOISE_WIDTHS: Final = 3.0

Subject = tuple[str, str]  # scenario row or "overall", and metric


@record
class Floor:
    """The smallest effect that counts."""

    warn: float  # a share: 0.05 is five percent
    fail: float
    absolute: float  # what a change must exceed besides, in the metric's own unit


# Five milliseconds of CPU were right for episodes of a hundred; here one takes ten, and is counted
# to the microsecond.
FLOORS: Final[Mapping[str, Floor]] = {
    "cpu": Floor(0.05, 0.10, 0.0005),
    "cpu_adjusted": Floor(0.05, 0.10, 0.0005),
    "wall": Floor(0.10, 0.15, 0.001),
    "wall_adjusted": Floor(0.10, 0.15, 0.001),
    "rss": Floor(0.05, 0.10, 4 << 20),
}

OWN_SHARE: Final = 0.5


@record
class Decision:
    """What is to be thought of one sample."""

    row: str
    metric: str
    verdict: Verdict
    gates: bool
    warns: bool  # more than chance and more than the lower floor, but no failure
    base: float  # median of the runs' medians, in the metric's unit
    new: float
    ratio: float  # Hodges-Lehmann
    interval: Interval | None  # of the ratio; None where so few runs give no bound
    p: float  # one-sided, exact, in the direction of the ratio
    p_corrected: float
    floor: float  # the share that had to be exceeded
    why: str


@record
class Power:
    """Whether so many runs can say anything at all."""

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
    rounds = 1
    while not power_of(rounds, rounds, tests).is_enough:
        rounds += 1
    return rounds


def decide(
    samples: Sequence[Sample], *, screen: Mapping[Subject, float] | None = None
) -> list[Decision]:
    """A verdict for every sample.

    Args:
        samples: Those that gate form one family, corrected by Holm; the others are reported under
            Benjamini and Hochberg.
        screen: The ratios that a first, independent stage found; only what it found too can be a
            regression.
    """
    plain = {adjusted: metric for metric, adjusted in ADJUSTED.items()}
    own = {(one.row, one.metric): hodges_lehmann(one.base, one.new) for one in samples}
    up = [mann_whitney_greater(sample.base, sample.new).p for sample in samples]
    down = [mann_whitney_greater(sample.new, sample.base).p for sample in samples]
    up_corrected, down_corrected = _correct(samples, up), _correct(samples, down)
    return [
        _decide_one(
            sample,
            up[place],
            down[place],
            up_corrected[place],
            down_corrected[place],
            screen,
            own.get((sample.row, plain.get(sample.metric, sample.metric))),
        )
        for place, sample in enumerate(samples)
    ]


def _correct(samples: Sequence[Sample], p_values: list[float]) -> list[float]:
    corrected = [1.0] * len(samples)
    for gates, correction in ((True, holm), (False, benjamini_hochberg)):
        places = [place for place, sample in enumerate(samples) if sample.gates is gates]
        for place, p in zip(places, correction([p_values[place] for place in places]), strict=True):
            corrected[place] = p
    return corrected


def _decide_one(
    sample: Sample,
    up: float,
    down: float,
    up_corrected: float,
    down_corrected: float,
    screen: Mapping[Subject, float] | None,
    own_shift: float | None,
) -> Decision:
    shift = hodges_lehmann(sample.base, sample.new)
    bounds = hodges_lehmann_interval(sample.base, sample.new, CONFIDENCE)
    floor = FLOORS[sample.metric]
    fail = max(floor.fail, _own_noise(sample.base))
    p, p_corrected = (up, up_corrected) if shift >= 0 else (down, down_corrected)
    base, new = math.exp(median(sample.base)), math.exp(median(sample.new))
    is_sure = p_corrected < (ALPHA if sample.gates else FALSE_SHARE)
    is_large = abs(shift) > math.log1p(fail) and abs(new - base) > floor.absolute
    is_notable = abs(shift) > math.log1p(floor.warn) and abs(new - base) > floor.absolute
    agrees = screen is None or _agrees(shift, screen.get((sample.row, sample.metric)), floor)
    is_own = own_shift is None or own_shift * math.copysign(1.0, shift) >= OWN_SHARE * abs(shift)
    verdict: Verdict
    if is_sure and is_large and agrees and is_own:
        verdict = "regressed" if shift > 0 else "improved"
        why = f"more than {fail:.0%} and more than chance"
    elif bounds and -math.log1p(fail) <= bounds[0] and bounds[1] <= math.log1p(fail):
        verdict, why = "unchanged", f"the whole interval lies within {fail:.0%}"
    else:
        verdict, why = (
            "inconclusive",
            _why_open(
                is_sure=is_sure, is_large=is_large, agrees=agrees, has_bounds=bounds is not None
            ),
        )
    interval = (math.exp(bounds[0]), math.exp(bounds[1])) if bounds else None
    warns = (
        shift > 0
        and is_sure
        and is_notable
        and is_own
        and not (verdict == "regressed" and sample.gates)
    )
    ratio = math.exp(shift)
    return Decision(
        sample.row,
        sample.metric,
        verdict,
        sample.gates,
        warns,
        base,
        new,
        ratio,
        interval,
        p,
        p_corrected,
        fail,
        why,
    )


def _own_noise(base: Sequence[float]) -> float:
    """The share by which runs of the base differ among themselves, three robust deviations wide; 0
    where too few tell.
    """
    if len(base) < HISTORY_RUNS:
        return 0.0
    return math.expm1(NOISE_WIDTHS * MAD_TO_SIGMA * mad(base[-HISTORY_RUNS:]))


def _agrees(shift: float, screened: float | None, floor: Floor) -> bool:
    if screened is None:
        return False
    return math.log(screened) * math.copysign(1.0, shift) > math.log1p(floor.warn)


def _why_open(*, is_sure: bool, is_large: bool, agrees: bool, has_bounds: bool) -> str:
    if is_sure and is_large:
        return (
            "the screen did not show it" if not agrees else "it may be the other rows that changed"
        )
    if is_large:
        return "large enough to matter, but so few or so noisy runs may differ by chance"
    if not has_bounds:
        return "too few runs to bound the ratio"
    return "the interval reaches beyond the floor: too noisy to call it unchanged"
