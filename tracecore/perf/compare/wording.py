"""How a comparison words what it found."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tracecore.errors import one_line
from tracecore.perf.compare.behaviour import ExactChange
from tracecore.perf.compare.runs import Mismatch, RunRecord
from tracecore.perf.compare.samples import ADJUSTED
from tracecore.perf.compare.timing import Decision
from tracecore.perf.compare.work import BOTH, WorkChange
from tracecore.records import JsonObject
from tracecore.units import counted

Found = ExactChange | WorkChange | Decision

UNITS: Final = {  # of a metric: its words, and the factor to the unit it is shown in
    "cpu": ("CPU time", 1e3, "ms"),
    "cpu_adjusted": ("CPU time next to the other rows", 1e3, "ms"),
    "wall": ("wall clock", 1e3, "ms"),
    "wall_adjusted": ("wall clock next to the other rows", 1e3, "ms"),
    "rss": ("peak memory", 1 / (1 << 20), "MiB"),
}
# Verdicts on a scenario row that one side alone has.
ONE_SIDED: Final = {
    "new": "new, the base has no such row",
    "missing": "missing, the base alone has this row",
}
HEADLINES: Final = {
    "regressed": "FAIL",
    "improved": "PASS",
    "unchanged": "PASS",
    "no_gross_change": "PASS",
    "inconclusive": "NO ANSWER",
    "not_comparable": "FAIL",
}
UNKNOWN: Final = "\N{EN DASH}"
ROWS_NAMED: Final = 5


def named(rows: Iterable[str]) -> str:
    """The first few of some scenario rows, each once."""
    names = list(dict.fromkeys(rows))
    more = len(names) - ROWS_NAMED
    return ", ".join(names[:ROWS_NAMED]) + (f" and {more} more" if more > 0 else "")


def runs_text(base: int, new: int) -> str:
    """``5 runs against 1``."""
    return f"{counted(base, 'run')} against {new}"


def table_rows(
    rows: Sequence[JsonObject],
    decisions: Sequence[Decision],
    changes: Sequence[ExactChange],
    work: Mapping[str, str],
) -> list[JsonObject]:
    """The one table of a comparison, its cells as text.

    Args:
        rows: The document's.
        decisions: On all samples.
        changes: Of behaviour.
        work: What was counted of each row, by its name.
    """
    by_key = {(one.row, one.metric): one for one in decisions}
    return [
        {
            "row": row["row"],
            "behaviour": _behaviour_cell(row, changes),
            "work": work.get(row["row"], UNKNOWN),
            **{
                metric: _time_cell(
                    by_key.get((row["row"], metric)), by_key.get((row["row"], ADJUSTED[metric]))
                )
                for metric in ADJUSTED
            },
        }
        for row in rows
    ]


def _behaviour_cell(row: JsonObject, changes: Sequence[ExactChange]) -> str:
    if row["verdict"] in ONE_SIDED:
        return str(row["verdict"])
    found = [one for one in changes if one.row == row["row"] and one.quantity != "artifact_bytes"]
    episodes = row["compared_episodes"]
    if not found:
        return f"same in {episodes:,}" if episodes else UNKNOWN
    return f"changed in {max(one.changed for one in found):,} of {episodes:,}"


def _time_cell(plain: Decision | None, own: Decision | None) -> str:
    if plain is None:
        return UNKNOWN
    _, factor, unit = UNITS[plain.metric]
    text = f"{plain.base * factor:.2f} to {plain.new * factor:.2f} {unit} {share_text(plain.ratio)}"
    return f"{text} ({share_text(own.ratio)} next to the others)" if own else text


def share_text(ratio: float) -> str:
    """A ratio as a change in percent, as ``+12.5%``."""
    return f"{100 * (ratio - 1):+.1f}%"


def bracketed_share(ratio: float | None) -> str:
    """The same as `` (+12.5%)``; nothing where there is no ratio."""
    return f" ({share_text(ratio)})" if ratio else ""


def work_cell(base: int | None, new: int | None) -> str:
    """What was counted of a row: lines before and now."""
    if base is None or new is None:
        return UNKNOWN
    if base == new:
        return f"{new:,} lines, the same"
    return f"{base:,} to {new:,} lines" + (f" {share_text(new / base)}" if base else "")


# --- what was found, a sentence each ---


def text_of(found: Found) -> str:
    """Whatever was found, in a sentence."""
    if isinstance(found, Decision):
        return decision_text(found)
    return work_text(found) if isinstance(found, WorkChange) else change_text(found)


def decision_text(decision: Decision) -> str:
    """One figure with its interval and verdict."""
    words, factor, unit = UNITS[decision.metric]
    verdict: str = decision.verdict.replace("_", " ")
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
        f" {unit} ({share_text(decision.ratio)}{bounds}, p {decision.p_corrected:.2g}):"
        f" {verdict}; {decision.why}"
    )


def change_text(change: ExactChange) -> str:
    """One change of behaviour with its first example."""
    if change.quantity == "artifact_bytes":
        return (
            f"{change.row}: artifact bytes: {change.verdict if change.gates else 'a warning'};"
            f" {change.why}"
        )
    example = ""
    if change.examples:
        first = change.examples[0]
        example = f" (seed {first['seed']}: {first['base']!r} to {first['new']!r})"
    verdict = change.verdict if change.gates else f"{change.verdict}, does not gate"
    quantity = change.quantity.replace("_", " ")
    return one_line(
        f"{change.row}: {quantity} changed in {change.changed} of {change.compared}"
        f" episodes{example}: {verdict}; {change.why}"
    )


def work_text(change: WorkChange) -> str:
    """One change of what is executed, with the functions and modules that grew most."""
    where = "" if change.process == BOTH else f" in the {change.process}'s process"
    quantity = change.quantity.replace("_", " ")
    quantity = f"Python {quantity}" if change.quantity in {"lines", "calls"} else quantity
    verdict = "a warning" if change.warns else change.verdict
    if change.verdict == "regressed" and change.gates:
        verdict = "regressed"
    counts = f"{change.base:,} to {change.new:,}{bracketed_share(change.ratio)}"
    text = f"{change.row}: {quantity}{where} {counts}: {verdict}"
    grew = [
        f"{one['module']}:{one['function']} {one['base']:,} to {one['new']:,}"
        for one in change.grew
    ]
    return one_line(f"{text}; grew most: {', '.join(grew)}" if grew else text)


def behaviour_reasons(rows: Sequence[JsonObject], changes: Sequence[ExactChange]) -> list[str]:
    """What is exactly not as it was, gravest first; then rows that one side alone has."""
    order = ("regressed", "improved", "inconclusive", "not_comparable", "unchanged")
    ordered = sorted(changes, key=lambda one: order.index(one.verdict))
    one_sided = [row for row in rows if row["verdict"] in ONE_SIDED]
    return [
        *map(change_text, ordered),
        *(f"{row['row']}: {ONE_SIDED[row['verdict']]}" for row in one_sided),
    ]


def work_reasons(changes: Sequence[WorkChange]) -> list[str]:
    """What is executed more or less: of each row its lines and calls, and whatever warns."""
    return [work_text(one) for one in changes if one.gates or one.warns]


def time_reasons(decisions: Sequence[Decision]) -> list[str]:
    """What times and memory show, gravest first."""
    gating = [one for one in decisions if one.gates]
    others = [
        one for one in decisions if one.warns or (one.verdict == "regressed" and not one.gates)
    ]
    return [
        decision_text(one)
        for group in (
            [one for one in gating if one.verdict == "regressed"],
            [one for one in gating if one.verdict == "improved"],
            others,
            [one for one in gating if one.verdict == "inconclusive"],
        )
        for one in group
    ]


def mismatch_text(mismatch: Mismatch) -> str:
    """Where two sides are not alike, and what follows."""
    follows = "times not comparable" if mismatch.of_times_alone else "not comparable"
    return one_line(
        f"{follows}: {mismatch.field} is {mismatch.base} on the base side and"
        f" {mismatch.new} on the new"
    )


def shared_text(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> list[str]:
    """That some runs stand on both sides, if any do."""
    shared = len({run.identity for run in base} & {run.identity for run in new})
    if not shared:
        return []
    runs = "1 run stands" if shared == 1 else f"{shared} runs stand"
    return [f"{runs} on both sides, which makes them look more alike than they are"]


def answer_text(
    verdict: str, legs: Sequence[Any], worse: Sequence[str], better: Sequence[str]
) -> str:
    """The whole comparison in a sentence.

    Args:
        verdict: Of the comparison.
        legs: The four, each with leg, verdict, sentence and needs.
        worse: Names of the scenario rows that got worse; ``better`` likewise.
        better: Of those that got better.
    """
    found = [leg for leg in legs if leg.verdict == verdict]
    joined = " and ".join(leg.leg for leg in found)
    match verdict:
        case "regressed":
            return f"worse in {joined}: {named(worse) or 'all rows together'}"
        case "improved":
            rows = named(better) or "all rows together"
            return f"better in {joined}: {rows}; nothing got worse"
        case "inconclusive":
            needs = "; ".join(dict.fromkeys(leg.needs for leg in found if leg.needs))
            return f"no answer on {joined}" + (f"; it takes {needs}" if needs else "")
        case "no_gross_change":
            same = " and ".join(leg.leg for leg in legs if leg.verdict == "unchanged")
            return (f"no change in {same}; " if same else "") + str(found[0].sentence)
        case "unchanged":
            return "no change that matters"
        case _:
            return "not comparable"
