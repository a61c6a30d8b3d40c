"""Whether failures have something in common, and whether episodes do the same thing twice."""

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tracecore.perf.findings.columns import (
    CHANCE,
    EPISODES_SHOWN,
    LEAST_CLUSTERED,
    Columns,
    Finding,
    boundaries,
    cut_into_blocks,
    shown,
)
from tracecore.ranks import holm
from tracecore.record import record
from tracecore.records import JsonObject
from tracecore.stats import hypergeometric_tail

KeyOf = Callable[[int], Any]

CLUSTERS_MOST: Final = 10  # beyond that, the failures have no one cause


def failure_cluster(columns: Columns) -> list[Finding]:
    """Failures that share an agent, task, seed, worker or time, beyond what chance would deal out.

    The clearest cluster is taken out before the next is looked for: two tasks of an agent that
    always fails are one cluster, under its name.
    """
    dimensions = _dimensions(columns)
    left = bytearray(b"\1") * len(columns)
    findings: list[Finding] = []
    while len(findings) < CLUSTERS_MOST and (suspect := _clearest(columns, dimensions, left)):
        key_of = dimensions[suspect.kind]
        findings.append(_cluster_finding(columns, suspect, left, key_of))
        left = bytearray(
            is_left and key_of(place) != suspect.key for place, is_left in enumerate(left)
        )
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
        "seed": columns.seeds.__getitem__,
        "worker": columns.workers.__getitem__,
        "time": tenths.__getitem__,
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
    seeds = sum(suspect.kind == "seed" for suspect in suspects)
    others = len(set(columns.seeds)) - seeds if seeds else 0
    corrected = holm([suspect.p for suspect in suspects] + [1.0] * others)
    clustered = [suspect for suspect, p in zip(suspects, corrected, strict=False) if p < CHANCE]
    return min(clustered, key=lambda suspect: suspect.p, default=None)


def _suspects(kind: str, key_of: KeyOf, failed: "array[int]", left: bytearray) -> list[_Suspect]:
    """The values of a dimension with the chance of so many of the failures, or more, among the
    episodes that have each.
    """
    population, counts = sum(left), Counter(map(key_of, failed))
    keys: Iterator[Any] = itertools.compress(map(key_of, range(len(left))), left)
    if kind == "seed":  # there may be as many as episodes, and most failed once
        keys = (key for key in keys if counts[key] >= LEAST_CLUSTERED)
    totals: Counter[Any] = Counter(keys)
    return [
        _Suspect(
            kind,
            key,
            counts[key],
            total,
            hypergeometric_tail(counts[key], population, len(failed), total)
            if counts[key] >= LEAST_CLUSTERED
            else 1.0,
        )
        for key, total in totals.items()
        if total < population
    ]


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
    own = (place for place in columns.failed if left[place] and key_of(place) == suspect.key)
    places = list(itertools.islice(own, EPISODES_SHOWN))
    return Finding(
        text=(
            f"{suspect.failed} of {failures_total} {which}failures are in {name}, which ran"
            f" {suspect.episodes} of {episodes_total} {which}episodes."
        ),
        evidence={
            "dimension": suspect.kind,
            "value": suspect.key,
            "failures": suspect.failed,
            "failures_total": failures_total,
            "episodes": suspect.episodes,
            "episodes_total": episodes_total,
            "p": suspect.p,
        },
        episodes=shown(columns, places),
        repro_place=places[0],
    )


def determinism_mismatch(columns: Columns, determinism: JsonObject) -> list[Finding] | None:
    """Whether a second run of the same inputs left something else."""
    differing = determinism["differing"]
    if differing is None:
        return None
    if not differing:
        return []
    first = determinism["differences"][0]
    where = "its artifact" if first["field"] is None else first["field"] or "the whole step"
    step = f"step {first['step']}, " if first["step"] is not None else ""
    return [
        Finding(
            text=(
                f"{differing} of {determinism['checked']} episodes did something else when they ran"
                f" again; episode {first['episode']} ({first['task_ref']}, seed {first['seed']})"
                f" first differs in {step}{where}."
            ),
            evidence={name: determinism[name] for name in ("checked", "differing", "differences")},
            episodes=tuple(
                difference["episode"] for difference in determinism["differences"][:EPISODES_SHOWN]
            ),
            repro_place=columns.indices.index(first["episode_index"]),
        )
    ]
