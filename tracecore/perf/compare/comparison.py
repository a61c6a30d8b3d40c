"""Runs against runs: what changed, and whether that is more than chance.

Four legs, each with its own power: behaviour and work are exact and take one run of each; shape, a
row next to the other rows of its run, takes three base runs; time shows gross changes from there
on, and small ones with several runs on both sides. The unit of replication is the run: each leaves
one number per scenario row and metric, the median over the episodes that all runs have.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

from tracecore.exit_codes import EXIT_BAD_INPUT, EXIT_BREACHED, EXIT_GOOD
from tracecore.perf.compare.behaviour import Judgement, compare_exactly
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
from tracecore.perf.compare.samples import Sample, gather_samples, power_of, rounds_needed
from tracecore.perf.compare.timing import FLOORS, Conditions, Decision, Subject, decide
from tracecore.perf.compare.wording import (
    HEADLINES,
    Found,
    answer_text,
    behaviour_reasons,
    mismatch_text,
    shared_text,
    table_rows,
    text_of,
    time_reasons,
    work_cell,
    work_reasons,
)
from tracecore.perf.compare.work import compare_work
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
    gates = all(one.of_times_alone for one in mismatches)
    document: JsonObject = {
        "base": [run.about() for run in base],
        "new": [run.about() for run in new],
        "differences": [{"field": m.field, "base": m.base, "new": m.new} for m in mismatches],
    }
    if not gates and not options.compare_anyway:
        return {**_head("not_comparable", (), refusals, []), "gates": False, **document}
    seen = turns.seen if turns else ([], [])
    old, now = [*base, *seen[0]], [*new, *seen[1]]
    names = row_names(run.columns for run in [*base, *new])
    times = _times(names, base, new, options, turns, refusals)
    changes = compare_exactly(
        names,
        [run.columns for run in old],
        [run.columns for run in now],
        same_sources=same_sources(old, now),
        same_runtime=same_runtime(old, now),
        accept_changes=options.accept_changes,
    )
    changes = changes if gates else [replace(change, gates=False) for change in changes]
    work = compare_work(names, [run.work for run in old], [run.work for run in now])
    found: list[Found] = [*changes, *(work.changes if gates else ()), *times.decisions]
    gating = [one for one in found if one.gates]
    rows = judge_rows(base, new, names, gating, work.rows)
    legs = (
        behaviour_leg(rows, changes),
        work_leg(rows, work, gates=gates),
        shape_leg(times, len(rows)),
        time_leg(times, rows),
    )
    behaviour = behaviour_reasons(rows, changes)
    breaches = [text_of(one) for one in gating if one.verdict == "regressed"]
    # What makes it fail comes first, whatever it is.
    reasons = [*behaviour, *work_reasons(work.changes), *time_reasons(times.decisions)]
    reasons = [*refusals, *sorted(reasons, key=lambda reason: reason not in breaches)]
    reasons += shared_text(base, new)
    cells = {
        name: work_cell(lines_of(old, row), lines_of(now, row))
        for row, name in names.items()
        if name in work.rows
    }
    tests = times.power.tests
    return {
        **_head(
            gravest(leg.verdict for leg in legs) if gates else "not_comparable",
            legs,
            reasons,
            breaches,
            rows,
        ),
        "gates": gates,
        **document,
        "table": table_rows(rows, times.decisions, changes, cells),
        "rows": rows,
        "exact": {
            "compared_episodes": sum(row["compared_episodes"] for row in rows),
            "reasons": behaviour[:REASONS_MOST],
            "changes": [as_dict(change) for change in changes],
        },
        "work": [as_dict(change) for change in work.changes],
        "power": {
            **as_dict(times.power),
            "runs_needed": rounds_needed(tests) if tests else None,
        },
        "floors": {name: as_dict(floor) for name, floor in FLOORS.items()},
        "decisions": [as_dict(decision) for decision in times.decisions],
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
        power=power_of(len(base), len(new), sum(sample.gates for sample in samples)),
        closed=refusals[0] if refusals else None,
        conditions=conditions,
        noise=noise,
    )


def judge_rows(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    names: Mapping[RowKey, str],
    gating: Sequence[Found],
    counted: Container[str],
) -> list[JsonObject]:
    """One line per scenario row: the gravest that was found there.

    Args:
        base: The runs of the one side.
        new: The runs of the other.
        names: Of the scenario rows.
        gating: What was found that can fail the comparison.
        counted: The rows whose work was compared.
    """
    sources = same_sources(base, new)
    lines: list[JsonObject] = []
    for row, name in names.items():
        old, now = (
            {seed for run in side for seed in run.columns.by_seed(row)} for side in (base, new)
        )
        verdict = gravest(one.verdict for one in gating if one.row == name)
        if not old or not now:
            verdict = "missing" if old else "new"
        cut_short = {
            which: sum(run.columns.cut_off(row) for run in side)
            for which, side in (("base", base), ("new", new))
        }
        lines.append(
            {
                "row": name,
                **row._asdict(),
                "verdict": verdict,
                "compared_episodes": len(old & now),
                "only_in_base": len(old - now),
                "only_in_new": len(now - old),
                "cut_short": cut_short,
                "same_sources": sources.get(row, False),
                "is_counted": name in counted,
            }
        )
    return lines
