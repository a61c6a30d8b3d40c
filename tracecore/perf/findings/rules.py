"""The rules by which a slice's figures become findings; each gives None where there is too little
to look at.

Every rule asks for two things at once: that chance does not explain what is seen, and that it is
    large enough to
matter. Tests alone cry wolf: on identical slices a plain test for drift at p < .05 fired in five
cases of six, since neighbouring episodes share the state of the machine.
"""

import itertools
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from tracecore.perf.findings.columns import LEFT_OUT, Columns
from tracecore.perf.findings.trends import (
    BLOCKS,
    LEAST_PER_BLOCK,
    Trend,
    block_means,
    block_middles,
    boundaries,
    count_distinct,
    count_repeated,
    cut_into_blocks,
    middle,
    sort,
    trend,
)
from tracecore.perf.host.noise import HostNoise
from tracecore.ranks import holm
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.stats import MAD_TO_SIGMA, fisher_greater, hypergeometric_tail, nearest_rank

KeyOf = Callable[[int], Any]

EPISODES_SHOWN: Final = 10
LEAST_FOR_A_TREND: Final = BLOCKS * LEAST_PER_BLOCK  # episodes
CLOCK_GRAIN_S: Final = 1e-6
OUTLIER_SIGMAS: Final = 10.0  # robust ones, and also
OUTLIER_RATIO: Final = 1.5  # times the median
CHANCE: Final = 0.01  # of any false alarm among the tests of one rule, by Holm
LEAST_CLUSTERED: Final = 3  # episodes
CLUSTERS_MOST: Final = 10  # beyond that, the failures have no one cause
TAIL_LEAST, TAIL_SHARE = 5, 0.01  # outliers of no scenario in particular
EXTREME_RATIO, EXTREME_S = 10.0, 1.0  # one episode alone is a finding beyond both
COLD_RATIO, COLD_SHARE, COLD_PERCENT = 1.5, 0.05, 95.0
GROWTH_LEAST_BYTES: Final = 64  # of an artifact
MEMORY_LEAST_BYTES: Final = 4 << 20
HARNESS_LEAST_BYTES: Final = 64 << 20
HARNESS_BYTES_PER_EPISODE: Final = 1 << 10  # it keeps about a tenth of that
LOAD_PER_CPU: Final = 1.25
STEAL_SHARE: Final = 0.02
WORKERS_PER_CPU: Final = 2  # the pool goes beyond one only while the cores are not busy


@record
class Finding:
    """Something that a reader of the slice should know."""

    id: str  # which rule
    severity: str  # "fail", "warn" or "info"
    text: str  # in a sentence
    evidence: JsonObject  # the figures behind it
    episodes: tuple[int, ...] = ()  # 1-based; the worst first, ten at most
    repro_place: int | None = None  # of the episode that shows it best; None: the whole slice does


# --- failures --------------------------------------------------------------------------------------------------------


def failure_cluster(columns: Columns) -> list[Finding]:
    """Failures that share an agent, task, seed, worker or time, beyond what chance would deal out.

    The clearest cluster is taken out before the next is looked for: the two tasks of an agent that
        always fails are told
    by its name alone.
    """
    dimensions = _dimensions(columns)
    left = bytearray(b"\1") * len(columns)
    findings: list[Finding] = []
    while len(findings) < CLUSTERS_MOST and (suspect := _clearest(columns, dimensions, left)):
        key_of = dimensions[suspect.kind]
        findings.append(_cluster_finding(columns, suspect, left, key_of))
        for place in range(len(columns)):
            if key_of(place) == suspect.key:
                left[place] = 0
    return findings


@record
class _Suspect:
    kind: str
    key: Any
    failed: int
    episodes: int
    p: float


def _dimensions(columns: Columns) -> dict[str, KeyOf]:
    """What failures may have in common; each gives its value for the episode at a place."""
    tenths = cut_into_blocks(columns.starts, boundaries(columns.starts, 10))
    return {
        "task": lambda place: columns.groups[columns.scenario[place]][1],
        "agent": lambda place: columns.groups[columns.scenario[place]][0],
        "seed": lambda place: columns.seeds[place],
        "worker": lambda place: columns.workers[place],
        "time": lambda place: tenths[place],
    }


def _clearest(
    columns: Columns, dimensions: Mapping[str, KeyOf], left: bytearray
) -> _Suspect | None:
    failed = array("q", (place for place in columns.failed if left[place]))
    if len(failed) < LEAST_CLUSTERED:
        return None
    suspects = [
        suspect
        for kind in dimensions
        for suspect in _suspects(kind, dimensions[kind], failed, left)
    ]
    # A seed is looked at because it failed repeatedly: its chance is shared among all seeds there
    # are.
    corrected = holm([suspect.p for suspect in suspects] + [1.0] * _other_seeds(columns, suspects))
    clustered = [suspect for suspect, p in zip(suspects, corrected, strict=False) if p < CHANCE]
    return min(clustered, key=lambda suspect: suspect.p, default=None)


def _suspects(kind: str, key_of: KeyOf, failed: "array[int]", left: bytearray) -> list[_Suspect]:
    population = sum(left)
    if kind == "seed":  # there may be as many as episodes, and most failed once
        counts: Mapping[Any, int] = count_repeated(array("q", map(key_of, failed)), LEAST_CLUSTERED)
        totals = Counter(
            key
            for place, is_left in enumerate(left)
            if is_left and (key := key_of(place)) in counts
        )
    else:
        counts = Counter(map(key_of, failed))
        totals = Counter(key_of(place) for place, is_left in enumerate(left) if is_left)
    return [
        _Suspect(
            kind,
            key,
            counts.get(key, 0),
            total,
            _chance(counts.get(key, 0), population, len(failed), total),
        )
        for key, total in totals.items()
        if total < population
    ]


def _chance(count: int, population: int, failed: int, total: int) -> float:
    """Of so many of the failures, or more, among the episodes with one value in common."""
    return (
        hypergeometric_tail(count, population, failed, total) if count >= LEAST_CLUSTERED else 1.0
    )


def _other_seeds(columns: Columns, suspects: Sequence[_Suspect]) -> int:
    own = sum(suspect.kind == "seed" for suspect in suspects)
    return count_distinct(columns.seeds) - own if own else 0


def _cluster_finding(
    columns: Columns, suspect: _Suspect, left: bytearray, key_of: KeyOf
) -> Finding:
    name = (
        f"tenth {suspect.key + 1} of the slice's time"
        if suspect.kind == "time"
        else f"{suspect.kind} {suspect.key}"
    )
    failures_total, episodes_total = sum(left[place] for place in columns.failed), sum(left)
    which = "" if episodes_total == len(columns) else "other "
    text = (
        f"{suspect.failed} of {failures_total} {which}failures are in {name}, which ran"
        f" {suspect.episodes} of {episodes_total} {which}episodes."
    )
    evidence = {
        "dimension": suspect.kind,
        "value": suspect.key,
        "failures": suspect.failed,
        "failures_total": failures_total,
        "episodes": suspect.episodes,
        "episodes_total": episodes_total,
        "p": suspect.p,
    }
    own = (place for place in columns.failed if left[place] and key_of(place) == suspect.key)
    places = list(itertools.islice(own, EPISODES_SHOWN))
    return Finding("failure_cluster", "warn", text, evidence, _shown(columns, places), places[0])


# --- outliers --------------------------------------------------------------------------------------------------------


@record
class Outliers:
    """Episodes far slower than the others of their scenario."""

    places: "array[int]"
    ratios: "array[float]"  # of each, to its scenario's median
    timed: Counter[int]  # how many episodes of each scenario have a time
    middles_s: list[float]  # median of each scenario


def find_outliers(columns: Columns) -> Outliers:
    """Look through every scenario with hyperfine's rule, and a floor on what matters."""
    middles_s, limits_s, timed = [], [], Counter[int]()
    for number in range(len(columns.groups)):
        own = sort(
            wall_s
            for wall_s in columns.of_scenario(columns.walls_s, number)
            if not math.isnan(wall_s)
        )
        timed[number] = len(own)
        centre_s = nearest_rank(own, 50) if own else LEFT_OUT
        spread_s = middle(abs(wall_s - centre_s) for wall_s in own) if own else LEFT_OUT
        middles_s.append(centre_s)
        sigma_s = MAD_TO_SIGMA * max(spread_s, CLOCK_GRAIN_S)
        limits_s.append(max(centre_s + OUTLIER_SIGMAS * sigma_s, OUTLIER_RATIO * centre_s))
    places, ratios = array("q"), array("d")
    for place, (wall_s, number) in enumerate(zip(columns.walls_s, columns.scenario, strict=True)):
        if wall_s > limits_s[number]:
            places.append(place)
            ratios.append(wall_s / middles_s[number] if middles_s[number] > 0 else math.inf)
    return Outliers(places, ratios, timed, middles_s)


def scenario_spike(columns: Columns, outliers: Outliers) -> tuple[list[Finding], set[int]]:
    """Scenarios with more than their share of the outliers, and their numbers."""
    counts = Counter(columns.scenario[place] for place in outliers.places)
    timed_total = outliers.timed.total()
    p_values = [
        fisher_greater(
            counts[number],
            timed - counts[number],
            counts.total() - counts[number],
            timed_total - timed - counts.total() + counts[number],
        )
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
    own = _worst_first(
        (place, ratio)
        for place, ratio in zip(outliers.places, outliers.ratios, strict=True)
        if columns.scenario[place] == number
    )
    agent, task_ref = columns.groups[number]
    worst_s = columns.walls_s[own[0][0]]
    text = (
        f"{len(own)} of {outliers.timed[number]} episodes of {task_ref} ({agent}) took far longer"
        f" than its median of {outliers.middles_s[number]:.3g} s, the worst {worst_s:.3g} s; other"
        " scenarios have fewer such episodes."
    )
    evidence = {
        "task_ref": task_ref,
        "agent": agent,
        "outliers": len(own),
        "outliers_total": len(outliers.places),
        "episodes": outliers.timed[number],
        "median_s": outliers.middles_s[number],
        "worst_s": worst_s,
    }
    places = [place for place, _ in own]
    return Finding("scenario_spike", "warn", text, evidence, _shown(columns, places), places[0])


def tail_outliers(columns: Columns, outliers: Outliers, spiked: set[int]) -> list[Finding]:
    """Outliers that no scenario in particular has, where there are many or a single one is extreme."""
    own = _worst_first(
        (place, ratio)
        for place, ratio in zip(outliers.places, outliers.ratios, strict=True)
        if columns.scenario[place] not in spiked
    )
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
    text = (
        f"{len(own)} of {timed} {which}episodes took far longer than the median of their scenario,"
        f" the worst {worst_s:.3g} s, {ratio:.3g} times it; {none} stands out."
    )
    evidence = {
        "outliers": len(own),
        "episodes": timed,
        "share": share,
        "worst_s": worst_s,
        "worst_ratio": ratio,
    }
    return [
        Finding(
            "tail_outliers",
            "info",
            text,
            evidence,
            _shown(columns, [place for place, _ in own]),
            place,
        )
    ]


def _worst_first(found: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


# --- over the course of the slice ------------------------------------------------------------------------------------


@record
class Course:
    """Which block of the slice's course each episode belongs to, once all workers were there."""

    blocks: "array[int]"
    # what started before this is left out: fewer workers shared the machine then
    steady_from: float

    def kept(self, columns: Columns, values: Iterable[float]) -> "array[float]":
        """The values, NaN where an episode began too early."""
        return array(
            "d",
            (
                value if start >= self.steady_from else LEFT_OUT
                for value, start in zip(values, columns.starts, strict=True)
            ),
        )


def chart_course(columns: Columns) -> Course | None:
    """Cut the slice into blocks by start time; None where it is too short for a trend."""
    if len(columns) < LEAST_FOR_A_TREND:
        return None
    # A worker that replaces a lost one begins late and is no part of the beginning.
    first_quarter, *_ = boundaries(columns.starts, 4)
    begins = [columns.starts[place] for place in columns.first_places.values()]
    steady_from = max((begin for begin in begins if begin <= first_quarter), default=0.0)
    steady = array("d", (start for start in columns.starts if start >= steady_from))
    return Course(cut_into_blocks(columns.starts, boundaries(steady, BLOCKS)), steady_from)


def late_drift(columns: Columns, course: Course | None) -> list[Finding] | None:
    """Whether episodes took longer and longer."""
    found = _middles_trend(columns, course, columns.walls_s)
    if found is None:
        return None
    if not found.is_rise:
        return []
    text = (
        f"Episodes at the end took {_percent(found.ratio)} longer than at the beginning, relative"
        " to their scenario's median."
    )
    return [Finding("late_drift", "warn", text, _told(found))]


def memory_growth(columns: Columns, course: Course | None, host: HostNoise) -> list[Finding] | None:
    """Whether episodes needed more and more memory, or the harness kept some of each."""
    sizes = array("d", (size or LEFT_OUT for size in columns.peak_rss_bytes))  # 0: not measured
    found = _middles_trend(columns, course, sizes)
    own = _harness_growth(columns, host)
    if found is None:
        return own or None
    median_bytes = middle(size for size in sizes if not math.isnan(size))
    if not found.is_rise or (found.ratio - 1) * median_bytes < MEMORY_LEAST_BYTES:
        return own
    text = (
        f"Episodes at the end needed {_percent(found.ratio)} more memory than at the beginning, at"
        " their highest."
    )
    return [
        *own,
        Finding("memory_growth", "warn", text, {**_told(found), "median_bytes": median_bytes}),
    ]


def _harness_growth(columns: Columns, host: HostNoise) -> list[Finding]:
    growth_bytes = host.harness_growth_bytes or 0
    if growth_bytes < max(HARNESS_LEAST_BYTES, HARNESS_BYTES_PER_EPISODE * len(columns)):
        return []
    text = f"The harness itself grew by {growth_bytes / 1e6:.3g} MB over {len(columns)} episodes."
    return [
        Finding(
            "memory_growth",
            "warn",
            text,
            {"harness_growth_bytes": growth_bytes, "episodes": len(columns)},
        )
    ]


def artifact_growth(columns: Columns, course: Course | None) -> list[Finding] | None:
    """Whether the bytes of artifacts grow faster than the episodes: an artifact's size is no matter
    of when it is made.
    """
    if course is None:
        return None
    relative = course.kept(columns, columns.relative(columns.artifact_bytes))
    found = trend(block_means(course.blocks, relative))
    if found is None:
        return None
    mean_bytes = sum(columns.artifact_bytes) / len(columns)
    if not found.is_rise or (found.ratio - 1) * mean_bytes < GROWTH_LEAST_BYTES:
        return []
    text = (
        f"Artifacts at the end are {_percent(found.ratio)} larger than at the beginning: their"
        " bytes grow faster than the number of episodes."
    )
    return [
        Finding(
            "artifact_growth_nonlinear", "warn", text, {**_told(found), "mean_bytes": mean_bytes}
        )
    ]


def cold_start(columns: Columns) -> list[Finding] | None:
    """Whether the first episode of each worker was slow, and that cost a part of the whole."""
    relative = columns.relative(columns.walls_s)
    firsts = {place for place in columns.first_places.values() if not math.isnan(relative[place])}
    rest = sort(
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
    excess_s = sum(
        columns.walls_s[place] * (1 - 1 / relative[place])
        for place in firsts
        if relative[place] > 0
    )
    excess = excess_s / sum(wall_s for wall_s in columns.walls_s if not math.isnan(wall_s))
    if 4 * slow < 3 * len(ratios) or middle(ratios) < COLD_RATIO or excess < COLD_SHARE:
        return []
    ratio = middle(ratios)
    text = (
        f"First episodes of workers took {ratio:.3g} times their scenario's median; the excess is"
        f" {excess:.0%} of all time."
    )
    evidence = {"workers": len(ratios), "median_ratio": ratio, "share_of_time": excess}
    places = sorted(firsts, key=lambda place: -relative[place])
    return [Finding("cold_start", "info", text, evidence, _shown(columns, places))]


def _middles_trend(
    columns: Columns, course: Course | None, values: Iterable[float]
) -> Trend | None:
    if course is None:
        return None
    return trend(block_middles(course.blocks, course.kept(columns, columns.relative(values))))


def _told(found: Trend) -> JsonObject:
    return {
        "ratio": found.ratio,
        "slope_per_block": found.slope,
        "p": found.p,
        "blocks": list(found.blocks),
    }


def _percent(ratio: float) -> str:
    return f"{ratio - 1:.0%}"


# --- around the slice ------------------------------------------------------------------------------------------------


def noisy_host(columns: Columns, host: HostNoise) -> list[Finding] | None:
    """Whether the machine was too busy with something else for its times to mean much."""
    workers = len(columns.first_places)
    cpus = host.cpus_usable or 0
    signs = {
        "load1_before": (
            _beyond(host.load1_before, LOAD_PER_CPU * (host.cpus_total or 0))
            if _is_still_busy(host)
            else None
        ),
        "steal_share": _beyond(host.steal_share, STEAL_SHARE),
        "workers": _beyond(float(workers), WORKERS_PER_CPU * cpus) if cpus else None,
    }
    if host.load1_before is None and host.steal_share is None:
        return None
    seen = {name: sign for name, sign in signs.items() if sign}
    if not seen:
        return []
    words = "; ".join(_NOISE_WORDS[name].format(*sign) for name, sign in seen.items())
    evidence = {
        name: {"observed": observed, "limit": limit} for name, (observed, limit) in seen.items()
    }
    return [
        Finding(
            "noisy_host",
            "warn",
            f"The machine was not quiet: {words}. Times of this slice say little.",
            evidence,
        )
    ]


def _is_still_busy(host: HostNoise) -> bool:
    """Whether a high load is one of now: the average of a minute still holds the slice that ended a
    moment ago.
    """
    return bool(host.cpus_total) and (
        host.running_before is None or host.running_before >= (host.cpus_total or 0)
    )


_NOISE_WORDS: Final = {
    "load1_before": "{:.3g} processes wanted to run in the minute before, {:.3g} is the limit",
    "steal_share": "{:.1%} of CPU time went to other guests, {:.0%} is the limit",
    "workers": "{:.0f} workers ran, {:.0f} is the limit for these CPUs",
}


def _beyond(observed: float | None, limit: float | None) -> tuple[float, float] | None:
    return (
        (observed, limit)
        if observed is not None and limit is not None and observed > limit
        else None
    )


def determinism_mismatch(columns: Columns, determinism: JsonObject) -> list[Finding] | None:
    """Whether a second run of the same inputs left something else."""
    differing = determinism["differing"]
    if differing is None:
        return None
    if not differing:
        return []
    first = determinism["differences"][0]
    where = "its artifact" if first["field"] is None else f"{first['field'] or 'the whole step'}"
    step = f"step {first['step']}, " if first["step"] is not None else ""
    text = (
        f"{differing} of {determinism['checked']} episodes did something else when they ran again;"
        f" episode {first['episode']} ({first['task_ref']}, seed {first['seed']}) first differs in"
        f" {step}{where}."
    )
    episodes = tuple(
        difference["episode"] for difference in determinism["differences"][:EPISODES_SHOWN]
    )
    evidence = {name: determinism[name] for name in ("checked", "differing", "differences")}
    place = columns.indices.index(first["episode_index"])
    return [Finding("determinism_mismatch", "fail", text, evidence, episodes, place)]


def _shown(columns: Columns, places: Sequence[int]) -> tuple[int, ...]:
    return tuple(columns.episode(place) for place in places[:EPISODES_SHOWN])
