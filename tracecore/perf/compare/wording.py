"""How a comparison words what it found."""

from collections.abc import Mapping, Sequence
from typing import Final

from tracecore.errors import one_line
from tracecore.perf.compare.behaviour import ExactChange
from tracecore.perf.compare.columns import RowKey
from tracecore.perf.compare.comparable import Difference
from tracecore.perf.compare.runs import RunRecord
from tracecore.perf.compare.timing import Decision, Power, rounds_needed
from tracecore.records import JsonObject

UNITS: Final = {  # of a metric: its words, and the factor to the unit it is shown in
    "cpu": ("CPU time", 1e3, "ms"),
    "cpu_adjusted": ("CPU time next to the other rows", 1e3, "ms"),
    "wall": ("wall clock", 1e3, "ms"),
    "wall_adjusted": ("wall clock next to the other rows", 1e3, "ms"),
    "rss": ("peak memory", 1 / (1 << 20), "MiB"),
}

# Verdicts on a scenario row that one side alone has, and what is said of it.
ONE_SIDED: Final = {
    "new": "new, the base has no such row",
    "missing": "missing, the base alone has this row",
}


def tell(document: JsonObject) -> str:
    """The comparison for people: the verdict, why, and the table of figures."""
    lines = [f"compared: {document['verdict'].replace('_', ' ')}"]
    lines += [f"  {reason}" for reason in document["reasons"]]
    decisions = [
        one for one in document.get("decisions", ()) if one["metric"] == "cpu" or one["gates"]
    ]
    if decisions:
        width = max(len(one["row"]) for one in decisions)
        lines.append(
            f"  {'':{width}}  {'metric':13} {'base':>8} {'new':>8}      change  interval          "
            " verdict"
        )
        lines += [f"  {_table_line(one, width)}" for one in decisions]
    return "\n".join(lines)


def _table_line(one: JsonObject, width: int) -> str:
    _, factor, unit = UNITS[one["metric"]]
    interval = "unbounded"
    if one["interval"]:
        interval = " to ".join(f"{100 * (bound - 1):+.1f}" for bound in one["interval"]) + "%"
    change = f"{100 * (one['ratio'] - 1):+.1f}%"
    values = f"{one['base'] * factor:8.2f} {one['new'] * factor:8.2f} {unit}"
    return (
        f"{one['row']:{width}}  {one['metric']:13} {values} {change:>8}  {interval:17} "
        f" {one['verdict']}"
    )


def say_power(power: Power) -> str:
    """Whether so many runs can say anything, as a sentence."""
    if not power.tests:
        return "nothing about time can fail this comparison: no metric gates"
    sides = f"{power.base_runs} run{'s' * (power.base_runs != 1)} against {power.new_runs}"
    if power.is_enough:
        return f"{sides}: enough to tell in each of {power.tests} tests"
    return (
        f"underpowered: {sides} cannot reach significance in {power.tests} tests (p is at least"
        f" {min(1.0, power.smallest_p * power.tests):.3g} after correction); times stay"
        f" inconclusive, {rounds_needed(power.tests)} runs per side would do"
    )


def say_breaches(
    decisions: Sequence[Decision], changes: Sequence[ExactChange], names: Mapping[RowKey, str]
) -> list[str]:
    """What alone makes the comparison fail."""
    told = [
        say_change(one, names[one.row])
        for one in changes
        if one.gates and one.verdict == "regressed"
    ]
    return told + [
        say_decision(one) for one in decisions if one.gates and one.verdict == "regressed"
    ]


def say_behaviour(
    rows: Sequence[JsonObject], changes: Sequence[ExactChange], names: Mapping[RowKey, str]
) -> list[str]:
    """What is exactly not as it was, gravest first."""
    order = ("regressed", "improved", "inconclusive", "not_comparable", "unchanged")
    told = [
        say_change(change, names[change.row])
        for change in sorted(changes, key=lambda one: order.index(one.verdict))
    ]
    return told + [
        f"{row['row']}: {ONE_SIDED[row['verdict']]}" for row in rows if row["verdict"] in ONE_SIDED
    ]


def say_times(decisions: Sequence[Decision], power: Power) -> list[str]:
    """What times and memory say, gravest first; why they say nothing, if so few runs cannot."""
    told = [
        say_decision(one)
        for verdict in ("regressed", "improved")
        for one in decisions
        if one.gates and one.verdict == verdict
    ]
    told += [
        say_decision(one)
        for one in decisions
        if one.warns or (one.verdict == "regressed" and not one.gates)
    ]
    if power.is_enough:
        return told + [
            say_decision(one) for one in decisions if one.gates and one.verdict == "inconclusive"
        ]
    return [*told, say_power(power)]


def say_decision(decision: Decision) -> str:
    """One figure with its interval and verdict."""
    words, factor, unit = UNITS[decision.metric]
    verdict: str = decision.verdict
    if not decision.gates:
        verdict = (
            f"warning, does not gate ({verdict})" if decision.warns else f"{verdict}, does not gate"
        )
    elif decision.warns:
        verdict += ", with a warning"
    bounds = ""
    if decision.interval:
        low, high = (f"{100 * (bound - 1):+.1f}" for bound in decision.interval)
        bounds = f", 95% interval {low} to {high}%"
    return (
        f"{decision.row}: {words} {decision.base * factor:.2f} to {decision.new * factor:.2f}"
        f" {unit} ({100 * (decision.ratio - 1):+.1f}%{bounds}, p {decision.p_corrected:.2g}):"
        f" {verdict}; {decision.why}"
    )


def say_change(change: ExactChange, name: str) -> str:
    """One change of behaviour with its first example."""
    if change.quantity == "artifact_bytes":
        return (
            f"{name}: artifact bytes: {change.verdict if change.gates else 'a warning'};"
            f" {change.why}"
        )
    example = ""
    if change.examples:
        first = change.examples[0]
        example = f" (seed {first['seed']}: {first['base']!r} to {first['new']!r})"
    verdict = change.verdict if change.gates else f"{change.verdict}, does not gate"
    quantity = change.quantity.replace("_", " ")
    return one_line(
        f"{name}: {quantity} changed in {change.changed} of {change.compared} episodes{example}:"
        f" {verdict}; {change.why}"
    )


def say_sameness(rows: Sequence[JsonObject], decisions: Sequence[Decision]) -> str:
    episodes, figures = (
        sum(row["compared_episodes"] for row in rows),
        sum(one.gates for one in decisions),
    )
    return (
        f"behaviour is the same in {episodes} episodes, and each of {figures} figures that gate"
        " stays within its floor"
    )


def say_shared(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> list[str]:
    shared = len({run.identity for run in base} & {run.identity for run in new})
    if not shared:
        return []
    runs = "1 run stands" if shared == 1 else f"{shared} runs stand"
    return [f"{runs} on both sides, which makes them look more alike than they are"]


def say_difference(difference: Difference) -> str:
    return one_line(
        f"not comparable: {difference.field} is {difference.base} on the base side and"
        f" {difference.new} on the new"
    )
