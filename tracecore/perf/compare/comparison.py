"""Runs against runs: what changed, and whether that is more than chance.

Four legs, each with its own power: behaviour and work are exact and take one run of each; shape, a
row next to the other rows of its run, takes three base runs; time shows gross changes from there
on, and small ones with several runs on both sides. The unit of replication is the run: each leaves
one number per scenario row and metric, the median over the episodes that all runs have.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tracecore.exit_codes import EXIT_BAD_INPUT, EXIT_BREACHED, EXIT_GOOD
from tracecore.perf.compare.behaviour import ExactChange, Judgement, compare_exactly
from tracecore.perf.compare.columns import RowKey
from tracecore.perf.compare.legs import (
    Leg,
    Times,
    behaviour_leg,
    gravest,
    shape_leg,
    time_leg,
    work_leg,
)
from tracecore.perf.compare.runs import (
    RunRecord,
    Sides,
    find_mismatches,
    lines_of,
    read_runs,
    row_names,
    same_runtime,
    same_sources,
)
from tracecore.perf.compare.samples import FLOORS, Sample, gather_samples, power_of, rounds_needed
from tracecore.perf.compare.timing import Conditions, Decision, Subject, decide
from tracecore.perf.compare.wording import (
    HEADLINES,
    ONE_SIDED,
    answer_text,
    behaviour_reasons,
    change_text,
    decision_text,
    mismatch_text,
    shared_text,
    table_rows,
    time_reasons,
    work_cell,
    work_reasons,
    work_text,
)
from tracecore.perf.compare.work import WorkChange, WorkFound, compare_work
from tracecore.perf.slice.options import JudgeOptions
from tracecore.record import as_dict, record, replace
from tracecore.records import JsonObject

REASONS_MOST: Final = 50


@record
class Turns:
    """That the runs of both sides took turns on one host: what it did fell on both."""

    # the ratios that an earlier stage found; see :func:`tracecore.perf.compare.timing.decide`
    screen: Mapping[Subject, float] | None = None
    # the runs of earlier stages: their behaviour and work count too, their times do not
    seen: Sides = ([], [])
    revise: Callable[[Decision], Decision] | None = None  # a later look at each decision on times


@record
class _Found:
    """All that a comparison rests on."""

    names: Mapping[RowKey, str]
    changes: Sequence[ExactChange]
    work: WorkFound
    times: Times
    gates: bool  # whether anything can fail

    def worked(self) -> list[WorkChange]:
        """The changes of work that can fail the comparison."""
        return [one for one in self.work.changes if one.gates and self.gates]


def compare_paths(base: Sequence[str], new: Sequence[str], options: JudgeOptions) -> JsonObject:
    """Compare archived sets; see :func:`compare_runs` for what comes back.

    Raises:
        InputError: One of them cannot be read, is empty, or is not complete.
    """
    return compare_runs(read_runs(base), read_runs(new), options)


def compare_runs(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    options: JudgeOptions,
    turns: Turns | None = None,
) -> JsonObject:
    """The comparison as a document: ``verdict``, ``answer`` and ``legs`` first, then what they
    rest on.

    Args:
        base: The runs of the one side, at least one.
        new: The runs of the other.
        options: How strict it is.
        turns: Given where both sides took turns. Scenarios may differ then: what is compared are
            two versions of them.
    """
    mismatches = find_mismatches(base, new, expect_same_scenario=turns is None)
    refusals = [mismatch_text(one) for one in mismatches]
    is_closed = not all(one.of_times_alone for one in mismatches)
    document: JsonObject = {
        "base": [run.about() for run in base],
        "new": [run.about() for run in new],
        "differences": [{"field": m.field, "base": m.base, "new": m.new} for m in mismatches],
    }
    if is_closed and not options.compare_anyway:
        return {**_head("not_comparable", (), refusals, []), "gates": False, **document}
    seen = turns.seen if turns else ([], [])
    everything = [*base, *seen[0]], [*new, *seen[1]]
    names = row_names(run.columns for run in [*base, *new])
    times = _times(names, base, new, options, turns, refusals)
    found = _Found(
        names=names,
        changes=_behaviour(names, *everything, options, gates=not is_closed),
        work=compare_work(names, *([run.work for run in side] for side in everything)),
        times=times,
        gates=not is_closed,
    )
    rows = judge_rows(base, new, found)
    legs = (
        behaviour_leg(rows, found.changes),
        work_leg(rows, found.work, gates=found.gates),
        shape_leg(found.times, len(rows)),
        time_leg(found.times, _untimed(rows, found.times.decisions)),
    )
    verdict = "not_comparable" if is_closed else verdict_of(legs)
    behaviour = behaviour_reasons(rows, found.changes)
    breaches = [
        *(change_text(one) for one in found.changes if one.gates and one.verdict == "regressed"),
        *(work_text(one) for one in found.worked() if one.verdict == "regressed"),
        *(
            decision_text(one)
            for one in times.decisions
            if one.gates and one.verdict == "regressed"
        ),
    ]
    # What makes it fail comes first, whatever it is.
    reasons = [*behaviour, *work_reasons(found.work.changes), *time_reasons(times.decisions)]
    reasons = [*refusals, *sorted(reasons, key=lambda reason: reason not in breaches)]
    reasons += shared_text(base, new)
    tests = sum(sample.gates for sample in found.times.samples)
    return {
        **_head(verdict, legs, reasons, breaches, rows),
        "gates": found.gates,
        **document,
        "table": table_rows(
            rows, found.times.decisions, found.changes, _work_cells(found, *everything)
        ),
        "rows": rows,
        "exact": {
            "compared_episodes": sum(row["compared_episodes"] for row in rows),
            "reasons": behaviour[:REASONS_MOST],
            "changes": [as_dict(change) for change in found.changes],
        },
        "work": [as_dict(change) for change in found.work.changes],
        "power": {
            **as_dict(power_of(len(base), len(new), tests)),
            "runs_needed": rounds_needed(tests) if tests else None,
        },
        "floors": {name: as_dict(floor) for name, floor in FLOORS.items()},
        "decisions": [as_dict(decision) for decision in found.times.decisions],
    }


def exit_code_of(document: JsonObject, options: JudgeOptions) -> int:
    """0, or 3 where something got worse (or, if that is asked for, where an answer is wanting), or
    2 where nothing can be compared.
    """
    verdict = document["verdict"]
    if verdict == "not_comparable":
        return EXIT_GOOD if options.compare_anyway else EXIT_BAD_INPUT
    is_open = verdict in {"inconclusive", "no_gross_change"}
    if verdict == "regressed" or (options.require_conclusive and is_open):
        return EXIT_BREACHED
    return EXIT_GOOD


def verdict_of(legs: Sequence[Leg]) -> Judgement:
    """The verdict of a comparison: the gravest of the legs that could be asked."""
    return gravest(leg.verdict for leg in legs if leg.verdict != "not_asked")


def _head(
    verdict: Judgement,
    legs: Sequence[Leg],
    reasons: Sequence[str],
    breaches: Sequence[str],
    rows: Sequence[JsonObject] = (),
) -> JsonObject:
    worse, better = (
        [row["row"] for row in rows if row["verdict"] == name] for name in ("regressed", "improved")
    )
    answer = answer_text(verdict, legs, worse, better)
    return {
        "verdict": verdict,
        "headline": HEADLINES[verdict],
        "answer": answer,
        "legs": [as_dict(leg) for leg in legs],
        "reasons": list(dict.fromkeys(reasons))[:REASONS_MOST] or [answer],
        "breaches": list(breaches)[:REASONS_MOST],
    }


# --- what is compared ---


def _behaviour(
    names: Mapping[RowKey, str],
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    options: JudgeOptions,
    *,
    gates: bool,
) -> list[ExactChange]:
    changes = compare_exactly(
        names,
        [run.columns for run in base],
        [run.columns for run in new],
        same_sources=same_sources(base, new),
        same_runtime=same_runtime(base, new),
        accept_changes=options.accept_changes,
    )
    return changes if gates else [replace(change, gates=False) for change in changes]


def _times(
    names: Mapping[RowKey, str],
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    options: JudgeOptions,
    turns: Turns | None,
    refusals: Sequence[str],
) -> Times:
    samples: Sequence[Sample] = ()
    if not refusals or options.compare_anyway:
        gate_on = () if refusals else options.gate_on
        samples = gather_samples(base, new, names, gate_on, in_turns=turns is not None)
    noise = next((run.noise for run in [*new, *base] if run.noise), None)
    noise = None if turns else noise
    conditions = Conditions(in_turns=turns is not None, noisy=noise is not None)
    decisions = decide(samples, conditions, screen=turns.screen if turns else None)
    return Times(
        samples=tuple(samples),
        decisions=tuple(map(turns.revise, decisions) if turns and turns.revise else decisions),
        base_runs=len(base),
        new_runs=len(new),
        closed=refusals[0] if refusals else None,
        conditions=conditions,
        noise=noise,
    )


def _untimed(rows: Sequence[JsonObject], decisions: Sequence[Decision]) -> list[str]:
    timed = {one.row for one in decisions if one.gates}
    both = [row["row"] for row in rows if row["verdict"] not in ONE_SIDED]
    return [name for name in both if name not in timed]


def judge_rows(
    base: Sequence[RunRecord], new: Sequence[RunRecord], found: _Found
) -> list[JsonObject]:
    """One line per scenario row: the gravest that was found there."""
    sources = same_sources(base, new)
    lines: list[JsonObject] = []
    for row, name in found.names.items():
        old, now = (_seeds(side, row) for side in (base, new))
        verdict: Judgement
        if not old or not now:
            verdict = "missing" if old else "new"
        else:
            here = [one.verdict for one in found.times.decisions if one.row == name and one.gates]
            here += [one.verdict for one in found.changes if one.row == name and one.gates]
            here += [one.verdict for one in found.worked() if one.row == name]
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
                "is_counted": name in found.work.rows,
            }
        )
    return lines


def _seeds(side: Sequence[RunRecord], row: RowKey) -> set[int]:
    return {seed for run in side for seed in run.columns.by_seed(row)}


def _cut_short(side: Sequence[RunRecord], row: RowKey) -> int:
    return sum(run.columns.cut_off(row) for run in side)


def _work_cells(
    found: _Found, base: Sequence[RunRecord], new: Sequence[RunRecord]
) -> dict[str, str]:
    return {
        name: work_cell(lines_of(base, row), lines_of(new, row))
        for row, name in found.names.items()
        if name in found.work.rows
    }
