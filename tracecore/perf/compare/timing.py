"""Whether times differ: the decision rule, from medians of runs to judgements. No clock, no disk,
no chance.

The unit of replication is the run. Everything works on logarithms: a difference is the logarithm of
a ratio.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from tracecore.perf.compare.behaviour import Judgement
from tracecore.perf.compare.samples import ADJUSTED, ALPHA, Sample, power_of
from tracecore.ranks import (
    benjamini_hochberg,
    hodges_lehmann,
    hodges_lehmann_interval,
    holm,
    mann_whitney_greater,
)
from tracecore.record import record, replace
from tracecore.stats import (
    MAD_TO_SIGMA,
    Interval,
    mad,
    median,
    normal_quantile,
    normal_tail,
    student_quantile,
    student_tail,
)

FALSE_SHARE: Final = 0.10  # of false ones among the warnings
CONFIDENCE: Final = 0.95  # of an interval
HISTORY_RUNS: Final = 10  # from so many base runs on, their own noise may widen a floor
NOISE_WIDTHS: Final = 3.0
# A prediction interval takes its spread from the runs, from three base runs on, and never less than
# what identical runs were measured to differ by: absolute times on a shared host by 15% and more,
# by 3% in turns; a row next to the other rows of its run by 1.3%, and by some 3% where the host is
# busy.
PREDICTING_RUNS: Final = 3
SPREAD: Final = 0.15
SPREAD_IN_TURNS: Final = 0.03
# Against one or two runs, which show no spread of their own, what all rows share may be the host's
# of another day.
SPREAD_SHARED: Final = 0.35
SPREADS: Final = {"cpu_adjusted": 0.015, "wall_adjusted": 0.03, "rss": 0.05}
SPREADS_NOISY: Final = {**SPREADS, "cpu_adjusted": 0.05, "wall_adjusted": 0.10}
NOISY: Final = "a host was too busy with other things for times to mean anything"

Subject = tuple[str, str]  # scenario row or "overall", and metric
OWN_SHARE: Final = 0.5

_PLAIN: Final = {adjusted: metric for metric, adjusted in ADJUSTED.items()}


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


@record
class Decision:
    """What is to be thought of one sample."""

    row: str
    metric: str
    verdict: Judgement
    gates: bool
    warns: bool  # more than chance and more than the lower floor, but no failure
    base: float  # median of the runs' medians, in the metric's unit
    new: float
    ratio: float  # Hodges-Lehmann, or of the means where it is a prediction
    interval: Interval | None  # of the ratio; None where so few runs give no bound
    p: float  # one-sided, in the direction of the ratio
    p_corrected: float
    floor: float  # the share that had to be exceeded
    why: str


@record
class Conditions:
    """What the runs of a comparison ran under."""

    in_turns: bool = False  # both sides alternated on one host
    noisy: bool = False  # a host was too busy for absolute times to mean anything


APART: Final = Conditions()  # runs of any time, on a quiet host


def decide(
    samples: Sequence[Sample],
    conditions: Conditions = APART,
    *,
    screen: Mapping[Subject, float] | None = None,
) -> list[Decision]:
    """A judgement of every sample: by exact tests where so many runs can reach significance, by
    Student's prediction interval where not.

    Args:
        samples: Those that gate form one family, corrected by Holm; the others are reported under
            Benjamini and Hochberg.
        conditions: Of the runs.
        screen: The ratios that an earlier, independent stage found; only what it found too can be a
            regression.
    """
    if not samples:
        return []
    runs = len(samples[0].base), len(samples[0].new)
    is_exact = power_of(*runs, sum(sample.gates for sample in samples)).is_enough
    tests = [_test_exactly(one) if is_exact else _predict(one, conditions) for one in samples]
    up = _correct(samples, [test.up for test in tests])
    down = _correct(samples, [test.down for test in tests])
    shifts = {(one.row, one.metric): test.shift for one, test in zip(samples, tests, strict=True)}
    decisions = []
    for sample, test, p_up, p_down in zip(samples, tests, up, down, strict=True):
        p_corrected = p_up if test.shift >= 0 else p_down
        own = _counterpart(sample, shifts, is_exact=is_exact)
        decision = _judge(sample, test, p_corrected, screen, own)
        # A share of its own run stands whatever the host does; an absolute time does not.
        is_withdrawn = conditions.noisy and sample.metric not in _PLAIN
        decisions.append(withdrawn(decision, NOISY) if is_withdrawn else decision)
    return decisions


def _counterpart(
    sample: Sample, shifts: Mapping[Subject, float], *, is_exact: bool
) -> float | None:
    """The shift that must bear out that of a row: of the metric by itself where the row is held
    against the others, which may be what moved; and the other way round, where the host may be.
    None where there is nothing to ask.
    """
    if sample.metric not in _PLAIN:
        return shifts.get((sample.row, ADJUSTED.get(sample.metric, ""))) if sample.gates else None
    # One run's absolute times move with the host: they are asked only where another row fell by
    # more than the floor, so that this one may look slower for that alone.
    fell = -math.log1p(FLOORS[sample.metric].fail)
    others_fell = any(
        shift < fell
        for (row, metric), shift in shifts.items()
        if metric == sample.metric and row != sample.row
    )
    if is_exact or others_fell:
        return shifts.get((sample.row, _PLAIN[sample.metric]))
    return None


def withdrawn(decision: Decision, why: str) -> Decision:
    """The same figures without an answer."""
    return replace(decision, verdict="inconclusive", warns=False, why=why)


def _correct(samples: Sequence[Sample], p_values: list[float]) -> list[float]:
    corrected = [1.0] * len(samples)
    for gates, correction in ((True, holm), (False, benjamini_hochberg)):
        places = [place for place, sample in enumerate(samples) if sample.gates is gates]
        for place, p in zip(places, correction([p_values[place] for place in places]), strict=True):
            corrected[place] = p
    return corrected


# --- two ways to test ---


@record
class _Test:
    """What one sample came to, before anything is judged."""

    shift: float  # the logarithm of the ratio
    bounds: Interval | None  # of the shift
    up: float  # one-sided p that the new side takes more
    down: float  # and less
    base: float  # in the metric's unit
    new: float
    is_gross: bool  # by prediction from absolute times: small changes do not show


def _test_exactly(sample: Sample) -> _Test:
    return _Test(
        shift=hodges_lehmann(sample.base, sample.new),
        bounds=hodges_lehmann_interval(sample.base, sample.new, CONFIDENCE),
        up=mann_whitney_greater(sample.base, sample.new),
        down=mann_whitney_greater(sample.new, sample.base),
        base=math.exp(median(sample.base)),
        new=math.exp(median(sample.new)),
        is_gross=False,
    )


def _predict(sample: Sample, conditions: Conditions) -> _Test:
    """Student's prediction interval on logarithms: whether the new runs lie beyond what base runs
    of such a spread leave open.
    """
    base, new = fmean(sample.base), fmean(sample.new)
    error, freedom = _error(sample, conditions)
    reach = error * _quantile(freedom)
    t = (new - base) / error
    return _Test(
        shift=new - base,
        bounds=(new - base - reach, new - base + reach),
        up=_tail(t, freedom),
        down=_tail(-t, freedom),
        base=math.exp(base),
        new=math.exp(new),
        is_gross=sample.metric not in ADJUSTED.values() and len(sample.base) >= PREDICTING_RUNS,
    )


def detectable_share(
    samples: Sequence[Sample], tests: int, conditions: Conditions = APART
) -> float | None:
    """The smallest slow-down, as a share, that a prediction would have shown in each of these
    samples, among so many tests; None without any.
    """
    errors = [_error(sample, conditions) for sample in samples]
    shares = (math.expm1(error * _quantile(freedom, ALPHA / tests)) for error, freedom in errors)
    return max(shares, default=None)


def _error(sample: Sample, conditions: Conditions) -> tuple[float, int | None]:
    """The standard deviation of the difference between the sides' means, and its degrees of
    freedom; None where the spread between runs is given and not estimated.
    """
    is_given = len(sample.base) < PREDICTING_RUNS and not conditions.in_turns
    known = SPREADS_NOISY if conditions.noisy else SPREADS
    least = known.get(sample.metric, SPREAD_IN_TURNS if conditions.in_turns else SPREAD)
    if is_given and sample.metric != "rss":
        least = SPREAD if sample.is_beside else SPREAD_SHARED
    freedom = len(sample.base) + len(sample.new) - 2
    squares = sum(
        (value - fmean(side)) ** 2 for side in (sample.base, sample.new) for value in side
    )
    spread = max(least, math.sqrt(squares / freedom) if freedom else 0.0)
    error = spread * math.sqrt(1 / len(sample.base) + 1 / len(sample.new))
    return error, None if is_given or not freedom else freedom


def _tail(t: float, freedom: int | None) -> float:
    return normal_tail(t) if freedom is None else student_tail(t, freedom)


def _quantile(freedom: int | None, tail: float = (1 - CONFIDENCE) / 2) -> float:
    return normal_quantile(1 - tail) if freedom is None else student_quantile(1 - tail, freedom)


# --- one judgement ---


def _judge(
    sample: Sample,
    test: _Test,
    p_corrected: float,
    screen: Mapping[Subject, float] | None,
    own_shift: float | None,
) -> Decision:
    """The decision on a sample; ``own_shift`` is that of its counterpart."""
    floor, shift, bounds = FLOORS[sample.metric], test.shift, test.bounds
    fail, sign = max(floor.fail, _own_noise(sample.base)), math.copysign(1.0, shift)
    is_absolute = abs(test.new - test.base) > floor.absolute
    is_sure = p_corrected < (ALPHA if sample.gates else FALSE_SHARE)
    is_large = abs(shift) > math.log1p(fail) and is_absolute
    is_notable = abs(shift) > math.log1p(floor.warn) and is_absolute
    screened = math.log((screen or {}).get((sample.row, sample.metric), 1.0)) * sign
    agrees = screen is None or screened > math.log1p(floor.warn)
    is_own = own_shift is None or own_shift * sign >= OWN_SHARE * abs(shift)
    verdict: Judgement = "inconclusive"
    if is_sure and is_large and agrees and is_own:
        verdict = "regressed" if shift > 0 else "improved"
        why = f"more than {fail:.0%} and more than chance"
    elif bounds and -math.log1p(fail) <= bounds[0] and bounds[1] <= math.log1p(fail):
        verdict, why = "unchanged", f"the whole interval lies within {fail:.0%}"
    elif test.is_gross and not is_sure:
        verdict, why = "no_gross_change", "within what such runs differ by; less would not show"
    elif is_sure and is_large and not agrees:
        why = "the stage before it did not show it"
    elif is_sure and is_large:
        moved = "the other rows" if sample.metric in _PLAIN else "the host, which moves all rows,"
        why = f"it may be {moved} that changed"
    elif is_large:
        why = "large enough to matter, but so few or so noisy runs may differ by chance"
    elif bounds:
        why = "the interval reaches beyond the floor: too noisy to call it unchanged"
    else:
        why = "too few runs to bound the ratio"
    is_failure = verdict == "regressed" and sample.gates
    return Decision(
        row=sample.row,
        metric=sample.metric,
        verdict=verdict,
        gates=sample.gates,
        warns=shift > 0 and is_sure and is_notable and is_own and not is_failure,
        base=test.base,
        new=test.new,
        ratio=math.exp(shift),
        interval=(math.exp(bounds[0]), math.exp(bounds[1])) if bounds else None,
        p=test.up if shift >= 0 else test.down,
        p_corrected=p_corrected,
        floor=fail,
        why=why,
    )


def _own_noise(base: Sequence[float]) -> float:
    """The share by which runs of the base differ among themselves, three robust deviations wide; 0
    where they are too few.
    """
    if len(base) < HISTORY_RUNS:
        return 0.0
    return math.expm1(NOISE_WIDTHS * MAD_TO_SIGMA * mad(base[-HISTORY_RUNS:]))
