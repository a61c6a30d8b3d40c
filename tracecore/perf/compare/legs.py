"""The four legs of a comparison: behaviour, work, shape and time. Each gives what it found, or what
it takes to find anything.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from tracecore.perf.compare.behaviour import ExactChange, Judgement
from tracecore.perf.compare.samples import (
    ADJUSTED,
    METRICS,
    OVERALL,
    ROWS_TO_ADJUST,
    RUNS_TO_ADJUST,
    Power,
    Sample,
    rounds_needed,
)
from tracecore.perf.compare.timing import FLOORS, Conditions, Decision, detectable_share
from tracecore.perf.compare.wording import ONE_SIDED, bracketed_share, named, runs_text, share_text
from tracecore.perf.compare.work import BOTH, WorkChange, WorkFound
from tracecore.record import record, replace
from tracecore.records import JsonObject
from tracecore.units import counted

QUIET: Final = "a quieter host, or `ab`, whose runs take turns"
SHAPE_METRICS: Final = frozenset(ADJUSTED.values())
# Gravest first: what a reader must know before all else. Improvements come before what is left
# open in part, since nothing got worse there that could be seen.
ORDER: Final[tuple[Judgement, ...]] = (
    "regressed",
    "inconclusive",
    "improved",
    "no_gross_change",
    "unchanged",
)


@record
class Leg:
    """One question of a comparison and its answer."""

    leg: str
    verdict: Judgement
    sentence: str
    needs: str | None = None  # what it would take to answer, where it cannot
    runs_needed: int | None = None  # on each side, or of the base for ``shape``
    detects: float | None = None  # the smallest slow-down that would have shown, as a share


@record
class Times:
    """What legs about times are judged by."""

    samples: tuple[Sample, ...]
    decisions: tuple[Decision, ...]
    power: Power
    closed: str | None  # why times cannot be compared at all
    conditions: Conditions
    noise: str | None  # why they mean nothing


def gravest(verdicts: Iterable[Judgement]) -> Judgement:
    """The one that a reader must know of first."""
    found = set(verdicts)
    return next((verdict for verdict in ORDER if verdict in found), "inconclusive")


def behaviour_leg(rows: Sequence[JsonObject], changes: Sequence[ExactChange]) -> Leg:
    """Whether the same agents do the same, exactly."""
    episodes = sum(row["compared_episodes"] for row in rows)
    if not episodes:
        return Leg("behaviour", "inconclusive", "no episode is on both sides", "episodes in common")
    unjudged = {one.row for one in changes if one.verdict == "not_comparable"}
    unsteady = {one.row for one in changes if one.verdict == "inconclusive"}
    gating = [one for one in changes if one.gates and one.verdict != "unchanged"]
    moved = {one.row for one in changes} - unjudged - unsteady
    parts = (
        ("changed in {}", moved),
        ("not judged in {}, changed themselves", unjudged),
        ("the base runs disagree in {}", unsteady),
    )
    found = [words.format(named(sorted(rows_of))) for words, rows_of in parts if rows_of]
    sentence = "; ".join(found) or f"the same in {counted(episodes, 'episode')}"
    if gating:
        return Leg("behaviour", gravest(one.verdict for one in gating), sentence)
    if unsteady:
        return Leg("behaviour", "inconclusive", sentence, "base runs that agree among themselves")
    return Leg("behaviour", "unchanged", sentence)


def work_leg(rows: Sequence[JsonObject], found: WorkFound, *, gates: bool) -> Leg:
    """Whether the same episodes execute as much Python, exactly."""
    if found.missing:
        return Leg("work", "not_asked", found.missing)
    left_out = [row["row"] for row in rows if row["compared_episodes"] and not row["is_counted"]]
    rest = [f"not counted in {named(left_out)}"] if left_out else []
    if not found.changes:
        same = f"the same in {counted(len(found.rows), 'scenario row')}"
        return Leg("work", "unchanged", "; ".join([same, *rest]))
    totals = [one for one in found.changes if one.process == BOTH and one.quantity == "lines"]
    shown = sorted(totals, key=_by_growth) or sorted(found.changes, key=_by_growth)
    parts = [
        f"{one.row} {one.base:,} to {one.new:,} {one.quantity.replace('_', ' ')}"
        f"{bracketed_share(one.ratio)}"
        for one in shown[:2]
    ]
    more = len({one.row for one in found.changes} - {one.row for one in shown[:2]})
    parts += [f"and {counted(more, 'more row')}"] if more else []
    judged = [one.verdict for one in found.changes if one.gates and gates]
    return Leg("work", gravest([*judged, "unchanged"]), "; ".join([*parts, *rest]))


def _by_growth(change: WorkChange) -> float:
    return change.base - change.new


def shape_leg(times: Times, rows: int) -> Leg:
    """Whether one row takes more of its run than before, next to the other rows."""
    if times.closed:
        return Leg("shape", "inconclusive", times.closed, "runs of one machine class and size")
    if rows < ROWS_TO_ADJUST:
        sentence = f"it takes {ROWS_TO_ADJUST} scenario rows to hold one against the others"
        return Leg("shape", "not_asked", sentence)
    gating = [one for one in times.decisions if one.gates and one.metric in SHAPE_METRICS]
    if not gating:
        if any(one.gates for one in times.decisions) and times.power.base_runs < RUNS_TO_ADJUST:
            return Leg(
                "shape",
                "inconclusive",
                f"{counted(times.power.base_runs, 'base run')} cannot show it",
                f"{RUNS_TO_ADJUST} base runs",
                RUNS_TO_ADJUST,
            )
        return Leg("shape", "not_asked", "no metric that gates was measured in four rows")
    return _leg_of("shape", gating, times, "every row takes the share of its run that it took")


def time_leg(times: Times, rows: Sequence[JsonObject]) -> Leg:
    """Whether times of all rows together, or of rows by themselves where they cannot be held
    against others, are what they were.
    """
    if times.closed:
        return Leg("time", "inconclusive", times.closed, "runs of one machine class and size")
    gating = [one for one in times.decisions if one.gates and one.metric in METRICS]
    if not gating:
        needs = "episodes that both sides measured and that ended by themselves"
        return Leg("time", "inconclusive", "no time that gates was measured", needs)
    if times.noise:
        return Leg("time", "inconclusive", times.noise, QUIET)
    by_itself = [one for one in times.decisions if one.metric in METRICS and one.row != OVERALL]
    # What all rows have in common leaves nothing open that each row by itself has settled.
    is_open = any(one.verdict == "inconclusive" for one in by_itself)
    settled = [
        one for one in gating if one.row != OVERALL or one.verdict != "inconclusive" or is_open
    ]
    rest = [one for one in by_itself if one.verdict != "regressed"]
    leg = _leg_of("time", settled or rest or gating, times, "no change beyond the floor")
    timed = {one.row for one in times.decisions if one.gates}
    both = [row["row"] for row in rows if row["verdict"] not in ONE_SIDED]
    untimed = [name for name in both if name not in timed]
    if untimed and leg.verdict not in {"regressed", "inconclusive"}:
        sentence = f"no time that gates could be compared in {named(untimed)}"
        return replace(
            leg, verdict="inconclusive", sentence=sentence, needs="episodes that end there"
        )
    return leg


def _leg_of(leg: str, gating: Sequence[Decision], times: Times, sameness: str) -> Leg:
    verdict = gravest(one.verdict for one in gating)
    found = [one for one in gating if one.verdict == verdict]
    figures = ", ".join(f"{one.row} {share_text(one.ratio)}" for one in found[:3])
    power, rounds = times.power, rounds_needed(times.power.tests)
    is_of_shape = leg == "shape"
    mine = [
        one for one in times.samples if one.gates and (one.metric in SHAPE_METRICS) is is_of_shape
    ]
    detects = None if power.is_enough else detectable_share(mine, power.tests, times.conditions)
    asked = runs_text(power.base_runs, power.new_runs)
    floor = max(FLOORS[one.metric].fail for one in gating)
    better = f"{rounds} runs against {rounds} show {floor:+.0%}"
    match verdict:
        case "unchanged":
            return Leg(leg, verdict, sameness, detects=detects)
        case "no_gross_change":
            seen = f"from {detects:+.0%} on, {asked} would have shown it" if detects else asked
            return Leg(leg, verdict, f"no gross change ({seen}; {better})", None, rounds, detects)
        case "inconclusive":
            needs = f"{rounds} runs against {rounds}"
            if times.noise:
                needs = QUIET
            elif power.is_enough:
                needs = "a quieter host, more runs, or more episodes in each"
            elif power.base_runs < RUNS_TO_ADJUST:
                needs = f"{RUNS_TO_ADJUST} base runs for gross changes, {needs} for {floor:+.0%}"
            sentence = f"{asked} leave it open"
            return Leg(leg, verdict, sentence, needs, rounds, detects)
        case _:
            return Leg(leg, verdict, figures, detects=detects)
