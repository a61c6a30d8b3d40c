"""Episodes far slower than the others of their scenario, and the first ones of each worker."""

import math
from collections import Counter
from typing import Final

from tracecore.perf.findings.columns import (
    CHANCE,
    LEAST_CLUSTERED,
    LEFT_OUT,
    Columns,
    Finding,
    middle,
    shown,
)
from tracecore.ranks import holm
from tracecore.record import record
from tracecore.stats import MAD_TO_SIGMA, hypergeometric_tail, nearest_rank

CLOCK_GRAIN_S: Final = 1e-6
OUTLIER_SIGMAS: Final = 10.0  # robust ones, and also
OUTLIER_RATIO: Final = 1.5  # times the median
TAIL_LEAST, TAIL_SHARE = 5, 0.01  # outliers of no scenario in particular
EXTREME_RATIO, EXTREME_S = 10.0, 1.0  # one episode alone is a finding beyond both
COLD_RATIO, COLD_SHARE, COLD_PERCENT = 1.5, 0.05, 95.0


@record
class Outliers:
    """Episodes far slower than the others of their scenario."""

    # the place of each, and how many times its scenario's median it took; the worst first
    found: list[tuple[int, float]]
    timed: Counter[int]  # how many episodes of each scenario have a time
    middles_s: list[float]  # median of each scenario


def find_outliers(columns: Columns) -> Outliers:
    """Look through every scenario with hyperfine's rule, and a floor on what matters."""
    middles_s, limits_s, timed = [], [], Counter[int]()
    for number in range(len(columns.groups)):
        own = columns.of_scenario(columns.walls_s, number)
        timed[number] = len(own)
        centre_s = nearest_rank(own, 50) if own else LEFT_OUT
        spread_s = middle(abs(wall_s - centre_s) for wall_s in own) if own else LEFT_OUT
        middles_s.append(centre_s)
        sigma_s = MAD_TO_SIGMA * max(spread_s, CLOCK_GRAIN_S)
        limits_s.append(max(centre_s + OUTLIER_SIGMAS * sigma_s, OUTLIER_RATIO * centre_s))
    found = [
        (place, wall_s / middles_s[number] if middles_s[number] > 0 else math.inf)
        for place, (wall_s, number) in enumerate(
            zip(columns.walls_s, columns.scenario, strict=True)
        )
        if wall_s > limits_s[number]
    ]
    found.sort(key=lambda outlier: -outlier[1])
    return Outliers(found, timed, middles_s)


def scenario_spike(columns: Columns, outliers: Outliers) -> tuple[list[Finding], set[int]]:
    """Scenarios with more than their share of the outliers, and their numbers."""
    counts = Counter(columns.scenario[place] for place, _ in outliers.found)
    timed_total = outliers.timed.total()
    p_values = [
        hypergeometric_tail(counts[number], timed_total, counts.total(), timed)
        for number, timed in outliers.timed.items()
    ]
    corrected = holm(p_values)
    spiked = {
        number
        for number, p in zip(outliers.timed, corrected, strict=True)
        if p < CHANCE and counts[number] >= LEAST_CLUSTERED
    }
    return [_spike_finding(columns, outliers, number) for number in sorted(spiked)], spiked


def _spike_finding(columns: Columns, outliers: Outliers, number: int) -> Finding:
    places = [place for place, _ in outliers.found if columns.scenario[place] == number]
    agent, task_ref = columns.groups[number]
    worst_s = columns.walls_s[places[0]]
    return Finding(
        text=(
            f"{len(places)} of {outliers.timed[number]} episodes of {task_ref} ({agent}) took far"
            f" longer than its median of {outliers.middles_s[number]:.3g} s, the worst"
            f" {worst_s:.3g} s; other scenarios have fewer such episodes."
        ),
        evidence={
            "task_ref": task_ref,
            "agent": agent,
            "outliers": len(places),
            "outliers_total": len(outliers.found),
            "episodes": outliers.timed[number],
            "median_s": outliers.middles_s[number],
            "worst_s": worst_s,
        },
        episodes=shown(columns, places),
        repro_place=places[0],
    )


def tail_outliers(columns: Columns, outliers: Outliers, spiked: set[int]) -> list[Finding]:
    """Outliers that no scenario in particular has, where there are many or a single one
    is extreme.
    """
    own = [one for one in outliers.found if columns.scenario[one[0]] not in spiked]
    if not own:
        return []
    place, ratio = own[0]
    worst_s = columns.walls_s[place]
    is_extreme = ratio > EXTREME_RATIO and worst_s - worst_s / ratio > EXTREME_S
    timed = sum(count for number, count in outliers.timed.items() if number not in spiked)
    share = len(own) / timed
    if not is_extreme and (len(own) < TAIL_LEAST or share < TAIL_SHARE):
        return []
    which, none = ("other ", "no other scenario") if spiked else ("", "no scenario")
    return [
        Finding(
            text=(
                f"{len(own)} of {timed} {which}episodes took far longer than the median of their"
                f" scenario, the worst {worst_s:.3g} s, {ratio:.3g} times it; {none} stands out."
            ),
            evidence={
                "outliers": len(own),
                "episodes": timed,
                "share": share,
                "worst_s": worst_s,
                "worst_ratio": ratio,
            },
            episodes=shown(columns, [place for place, _ in own]),
            repro_place=place,
        )
    ]


def cold_start(columns: Columns) -> list[Finding] | None:
    """Whether the first episode of each worker was slow, and that cost a part of the whole."""
    relative = columns.relative(columns.walls_s)
    firsts = {place for place in columns.first_places.values() if not math.isnan(relative[place])}
    rest = sorted(
        ratio
        for place, ratio in enumerate(relative)
        if place not in firsts and not math.isnan(ratio)
    )
    if not firsts or len(rest) < len(firsts):
        return None
    usual = nearest_rank(rest, COLD_PERCENT)
    ratios = sorted(relative[place] for place in firsts)
    slow = sum(ratio > usual for ratio in ratios)
    # In seconds: a cold start of a long scenario costs more than one of a short.
    excess = sum(
        columns.walls_s[place] * (1 - 1 / relative[place])
        for place in firsts
        if relative[place] > 0
    ) / sum(wall_s for wall_s in columns.walls_s if not math.isnan(wall_s))
    ratio = middle(ratios)
    if 4 * slow < 3 * len(ratios) or ratio < COLD_RATIO or excess < COLD_SHARE:
        return []
    return [
        Finding(
            text=(
                f"First episodes of workers took {ratio:.3g} times their scenario's median; the"
                f" excess is {excess:.0%} of all time."
            ),
            evidence={"workers": len(ratios), "median_ratio": ratio, "share_of_time": excess},
            episodes=shown(columns, sorted(firsts, key=lambda place: -relative[place])),
        )
    ]
