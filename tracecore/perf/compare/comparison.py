"""Runs against runs: what changed, and whether that is more than chance.

The unit of replication is the run: each leaves one number per scenario row and metric, the median
over the episodes that all runs have. Behaviour is compared exactly, by agent, task and seed, and
one run of each suffices.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tracecore.exit_codes import EXIT_BAD_INPUT, EXIT_BREACHED, EXIT_GOOD
from tracecore.perf.compare.behaviour import ExactChange, Verdict, compare_exactly
from tracecore.perf.compare.columns import RowKey
from tracecore.perf.compare.comparable import find_differences
from tracecore.perf.compare.runs import (
    RunRecord,
    Sides,
    read_runs,
    row_names,
    same_runtime,
    same_sources,
)
from tracecore.perf.compare.samples import METRICS, OVERALL, gather_samples
from tracecore.perf.compare.timing import (
    FLOORS,
    Decision,
    Subject,
    decide,
    power_of,
    rounds_needed,
)
from tracecore.perf.compare.wording import (
    ONE_SIDED,
    say_behaviour,
    say_breaches,
    say_difference,
    say_sameness,
    say_shared,
    say_times,
)
from tracecore.record import as_dict, record, replace
from tracecore.records import JsonObject

REASONS_MOST: Final = 50


@record
class CompareOptions:
    """How strict a comparison is."""

    gate_on: tuple[str, ...] = ("cpu",)  # metrics that can fail it; the others warn
    compare_anyway: bool = False  # show figures of what is not comparable; nothing can fail then
    require_conclusive: bool = False  # fail for want of an answer as well
    accept_changes: bool = False  # report changed behaviour without failing for it
    # a difference there makes everything not comparable, not only the rows in question
    expect_same_scenario: bool = True


def compare_paths(base: Sequence[str], new: Sequence[str], options: CompareOptions) -> JsonObject:
    """Compare archived sets; see :func:`compare_runs` for what comes back.

    Raises:
        InputError: One of them cannot be read, is empty, or is not complete.
    """
    return compare_runs(read_runs(base), read_runs(new), options)


def compare_runs(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    options: CompareOptions,
    *,
    screen: Mapping[Subject, float] | None = None,
    seen: Sides = ((), ()),
) -> JsonObject:
    """The comparison as a document: ``verdict`` and ``reasons`` first, then what they rest on.

    Args:
        base: The runs of the one side, at least one.
        new: The runs of the other.
        options: How strict it is.
        screen: What a first stage found; see :func:`tracecore.perf.compare.timing.decide`.
        seen: The runs of that stage, of either side: their behaviour counts too, their times do
            not.
    """
    found = find_differences(base, new, expect_same_scenario=options.expect_same_scenario)
    head = {"base": [run.about() for run in base], "new": [run.about() for run in new]}
    differences = [as_dict(difference) for difference in found]
    if found and not options.compare_anyway:
        reasons = [say_difference(difference) for difference in found]
        return {
            "verdict": "not_comparable",
            "reasons": reasons,
            "breaches": [],
            "gates": False,
            **head,
            "differences": differences,
        }
    names = row_names(run.columns for run in [*base, *new])
    may_gate = not found
    samples = gather_samples(base, new, names, options.gate_on if may_gate else ())
    decisions = decide(samples, screen=screen)
    changes = compare_exactly(
        [run.columns for run in [*base, *seen[0]]],
        [run.columns for run in [*new, *seen[1]]],
        same_sources=same_sources(base, new),
        same_runtime=same_runtime(base, new),
        accept_changes=options.accept_changes,
    )
    if not may_gate:
        changes = [replace(change, gates=False) for change in changes]
    power = power_of(len(base), len(new), sum(sample.gates for sample in samples))
    rows = judge_rows(base, new, names, decisions, changes)
    verdict = "not_comparable" if found else overall_verdict(rows, decisions, changes)
    behaviour = say_behaviour(rows, changes, names)
    breaches = say_breaches(decisions, changes, names)
    reasons = [*(say_difference(difference) for difference in found)]
    # What makes it fail comes first, whether it is behaviour or time.
    reasons += sorted(
        [*behaviour, *say_times(decisions, power)], key=lambda reason: reason not in breaches
    )
    reasons = reasons or [say_sameness(rows, decisions)]
    reasons += say_shared(base, new)
    return {
        "verdict": verdict,
        "reasons": list(dict.fromkeys(reasons))[:REASONS_MOST],
        "breaches": breaches[:REASONS_MOST],
        "gates": may_gate,
        **head,
        "differences": differences,
        "rows": rows,
        "exact": {
            "compared_episodes": sum(row["compared_episodes"] for row in rows),
            "reasons": behaviour[:REASONS_MOST],
            "changes": [{**as_dict(change), "row": names[change.row]} for change in changes],
        },
        "power": {
            **as_dict(power),
            "runs_needed": rounds_needed(power.tests) if power.tests else None,
        },
        "floors": {name: as_dict(floor) for name, floor in FLOORS.items()},
        "decisions": [as_dict(decision) for decision in decisions],
    }


def exit_code_of(document: JsonObject, options: CompareOptions) -> int:
    """0, or 3 where something got worse (or, if that is asked for, nobody knows), or 2 where
    nothing can be compared.
    """
    verdict = document["verdict"]
    if verdict == "not_comparable":
        return EXIT_GOOD if options.compare_anyway else EXIT_BAD_INPUT
    if verdict == "regressed" or (options.require_conclusive and verdict == "inconclusive"):
        return EXIT_BREACHED
    return EXIT_GOOD


def judge_rows(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    names: Mapping[RowKey, str],
    decisions: Sequence[Decision],
    changes: Sequence[ExactChange],
) -> list[JsonObject]:
    """One line per scenario row: the gravest that was found there."""
    sources = same_sources(base, new)
    lines: list[JsonObject] = []
    for row, name in names.items():
        old, now = (_seeds(side, row) for side in (base, new))
        verdict: Verdict
        if not old or not now:
            verdict = "missing" if old else "new"
        else:
            here: list[Verdict] = [
                one.verdict for one in decisions if one.row == name and one.gates
            ]
            here += [change.verdict for change in changes if change.row == row and change.gates]
            verdict = gravest(here or ["inconclusive"])
        lines.append(
            {
                "row": name,
                **row._asdict(),
                "verdict": verdict,
                "compared_episodes": len(old & now),
                "only_in_base": len(old - now),
                "only_in_new": len(now - old),
                "cut_short": {"base": _cut_short(base, row), "new": _cut_short(new, row)},
                "same_sources": sources.get(row, False),
            }
        )
    return lines


def _seeds(side: Sequence[RunRecord], row: RowKey) -> set[int]:
    return {seed for run in side if row in run.columns.rows for seed in run.columns.rows[row].seeds}


def _cut_short(side: Sequence[RunRecord], row: RowKey) -> int:
    return sum(run.columns.rows[row].is_whole.count(0) for run in side if row in run.columns.rows)


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that a reader must know of first."""
    order: tuple[Verdict, ...] = ("regressed", "inconclusive", "improved", "unchanged")
    found = set(verdicts)
    return next((verdict for verdict in order if verdict in found), "inconclusive")


def overall_verdict(
    rows: Sequence[JsonObject], decisions: Sequence[Decision], changes: Sequence[ExactChange]
) -> Verdict:
    """The verdict of the whole comparison; rows that one side lacks are told, and decide nothing."""
    verdicts: list[Verdict] = [row["verdict"] for row in rows if row["verdict"] not in ONE_SIDED]
    # What all rows have in common leaves nothing open that each row by itself has settled.
    by_itself = {one.verdict for one in decisions if one.row != OVERALL and one.metric in METRICS}
    verdicts += [
        one.verdict
        for one in decisions
        if one.gates
        and one.row == OVERALL
        and (one.verdict != "inconclusive" or "inconclusive" in by_itself)
    ]
    verdicts += [change.verdict for change in changes if change.gates]
    return gravest(verdicts)
