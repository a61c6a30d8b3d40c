"""Runs against runs: what changed, whether that is more than chance, and whether they may be
compared at all.

The unit of replication is the run: each leaves one number per scenario row and metric, the median
    over the episodes that
all runs have. Behaviour is compared exactly, by agent, task and seed, and one run of each suffices.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tracecore.errors import InputError, one_line
from tracecore.perf.compare.behaviour import ExactChange, Verdict, compare_exactly
from tracecore.perf.compare.run_columns import AMOUNTS, RowKey, RunColumns, log_median
from tracecore.perf.compare.timing import (
    ADJUSTED,
    FLOORS,
    OVERALL,
    Decision,
    Power,
    Sample,
    Subject,
    decide,
    power_of,
    rounds_needed,
)
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.host.facts import stable_facts
from tracecore.record import as_dict, record, replace
from tracecore.records import JsonObject
from tracecore.stats import median

EXIT_GOOD: Final = 0
EXIT_BAD_INPUT: Final = 2
EXIT_REGRESSED: Final = 3

METRICS: Final = AMOUNTS
ROWS_TO_ADJUST: Final = 4
RUNS_MOST: Final = 200  # of one side
REASONS_MOST: Final = 50

UNITS: Final = {  # of a metric: its words, and the factor to the unit it is shown in
    "cpu": ("CPU time", 1e3, "ms"),
    "cpu_adjusted": ("CPU time next to the other rows", 1e3, "ms"),
    "wall": ("wall clock", 1e3, "ms"),
    "wall_adjusted": ("wall clock next to the other rows", 1e3, "ms"),
    "rss": ("peak memory", 1 / (1 << 20), "MiB"),
}


@record
class CompareOptions:
    """How strict a comparison is."""

    gate_on: tuple[str, ...] = ("cpu",)  # metrics that can fail it; the others warn
    compare_anyway: bool = False  # show figures of what is not comparable; nothing can fail then
    require_conclusive: bool = False  # fail for want of an answer as well
    accept_changes: bool = False  # report changed behaviour without failing for it
    # a difference there makes everything not comparable, not only the rows in question
    expect_same_scenario: bool = True


@record
class RunRecord:
    """One run of a comparison."""

    path: str
    stamp: str
    manifest: JsonObject
    columns: RunColumns

    @property
    def identity(self) -> tuple[str, str]:
        """What no other run has, wherever copies of this one lie."""
        return self.stamp, self.columns.digest()

    def about(self) -> JsonObject:
        """What a document says of it."""
        host = self.manifest.get("host") or {}
        identity = self.manifest.get("runtime_identity") or {}
        return {
            "path": self.path,
            "stamp": self.stamp,
            "machine_class": self.manifest.get("machine_class"),
            "git_sha": identity.get("git_sha", host.get("git_sha")),
            "dirty": identity.get("dirty", host.get("dirty")),
            "episodes": self.manifest["episodes"],
        }


# Verdicts on a scenario row that one side alone has, and what is said of it.
ONE_SIDED: Final = {
    "new": "new, the base has no such row",
    "missing": "missing, the base alone has this row",
}

Sides = tuple[Sequence[RunRecord], Sequence[RunRecord]]  # base and new


@record
class Difference:
    """Something in which the two sides must agree, and do not."""

    field: str
    base: Any
    new: Any


def compare_paths(base: Sequence[str], new: Sequence[str], options: CompareOptions) -> JsonObject:
    """Compare archived sets; see :func:`compare_runs` for what comes back.

    Raises:
        InputError: One of them cannot be read, is empty, or is not complete.
    """
    return compare_runs(read_runs(base), read_runs(new), options)


def read_runs(paths: Iterable[str]) -> list[RunRecord]:
    """The complete runs at these paths: summaries, zips or folders. A run that is given more than
    once counts once.

    Raises:
        InputError: One cannot be read, is empty or was interrupted, or there are too many.
    """
    sets = [archived for path in paths for archived in read_sets(path)]
    if len(sets) > RUNS_MOST:
        raise InputError(sets[0].path, "", f"{len(sets)} sets", f"at most {RUNS_MOST} on one side")
    # Five copies of one run agree perfectly, and would prove anything.
    runs = {run.identity: run for run in map(read_run, sets)}
    return list(runs.values())


def read_run(archived: ArchivedSet) -> RunRecord:
    """A complete run.

    Raises:
        InputError: It is damaged, empty, or was interrupted: that could pass for fast.
    """
    name, summary = archived.names["summary"], archived.summary
    asked = summary.get("episodes_requested", archived.manifest["episodes"])
    if summary.get("interrupted"):
        raise InputError(name, "interrupted", True, "a slice that ran to its end")
    if not summary["episodes"]:
        raise InputError(name, "episodes", 0, "at least one")
    if summary["episodes"] != asked:
        raise InputError(name, "episodes", summary["episodes"], f"all {asked} that were asked for")
    columns = RunColumns()
    for row in archived.series():
        columns.add(row)
    return RunRecord(archived.path, archived.stamp, archived.manifest, columns)


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
        reasons = [_say_difference(difference) for difference in found]
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
        same_sources=_same_sources(base, new),
        same_runtime=_same_runtime(base, new),
        accept_changes=options.accept_changes,
    )
    if not may_gate:
        changes = [replace(change, gates=False) for change in changes]
    power = power_of(len(base), len(new), sum(sample.gates for sample in samples))
    rows = judge_rows(base, new, names, decisions, changes)
    verdict = "not_comparable" if found else overall_verdict(rows, decisions, changes)
    behaviour = say_behaviour(rows, changes, names)
    breaches = say_breaches(decisions, changes, names)
    reasons = [*(_say_difference(difference) for difference in found)]
    # What makes it fail comes first, whether it is behaviour or time.
    reasons += sorted(
        [*behaviour, *say_times(decisions, power)], key=lambda reason: reason not in breaches
    )
    reasons = reasons or [_say_sameness(rows, decisions)]
    reasons += _say_shared(base, new)
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
        return EXIT_REGRESSED
    return EXIT_GOOD


# --- may they be compared --------------------------------------------------------------------------------------------


def find_differences(
    base: Sequence[RunRecord], new: Sequence[RunRecord], *, expect_same_scenario: bool = True
) -> list[Difference]:
    """Where runs differ in what must be the same for their times to mean the same; runs of one side
    among themselves too.
    """
    found: list[Difference] = []
    for field in ("machine_class", "scenario", "workers", "strict_spec"):
        if field == "scenario" and not expect_same_scenario:
            continue
        sides = [
            list(dict.fromkeys(_condition(run.manifest, field) for run in side))
            for side in (base, new)
        ]
        if len(set(itertools.chain(*sides))) > 1 or (field == "machine_class" and None in sides[0]):
            shown = _where_scenarios_part(sides) if field == "scenario" else sides
            old, now = (
                ", ".join("unknown" if value is None else str(value) for value in side)
                for side in shown
            )
            found.append(Difference(field, old, now))
            if field == "machine_class":
                found += _host_differences(base, new)
    return found


def _condition(manifest: JsonObject, field: str) -> Any:
    if field != "scenario":
        return manifest.get(field)
    # Not the files' hashes: a changed task under the same reference is what a comparison may be
    # about, and is told apart.
    return tuple(
        f"{row['agent']} on {row['task_ref']} from seed {row['seed']}"
        for row in manifest["scenario"]
    )


def _where_scenarios_part(sides: Sequence[Sequence[Sequence[str]]]) -> list[list[str]]:
    """Each scenario by its length and the first row that is not the same in all: there may be
    thousands of rows.
    """
    rows = itertools.zip_longest(*itertools.chain(*sides))
    place = next(place for place, row in enumerate(rows) if len(set(row)) > 1)
    return [[_say_row(scenario, place) for scenario in side] for side in sides]


def _say_row(scenario: Sequence[str], place: int) -> str:
    count = len(scenario)
    row = scenario[place] if place < count else "nothing"
    return f"{row} in row {place + 1} of {count}"


def _host_differences(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> list[Difference]:
    facts = [[stable_facts(run.manifest.get("host") or {}) for run in side] for side in (base, new)]
    found = []
    for name in facts[0][0]:
        old, now = ([one[name] for one in side] for side in facts)
        if any(value != old[0] for value in [*old, *now]):
            found.append(Difference(f"host.{name}", _one_or_all(old), _one_or_all(now)))
    return found


def _one_or_all(values: Sequence[Any]) -> Any:
    return (
        values[0]
        if all(value == values[0] for value in values)
        else ", ".join(dict.fromkeys(map(str, values)))
    )


def _same_sources(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> dict[RowKey, bool]:
    hashes: dict[RowKey, set[Any]] = {}
    for run in [*base, *new]:
        for row in run.manifest["scenario"]:
            key = RowKey(row["agent"], row["task_ref"], row["seed"])
            hashes.setdefault(key, set()).add((row.get("agent_hash"), row.get("task_hash")))
    return {key: len(found) == 1 for key, found in hashes.items()}


def _same_runtime(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> bool:
    identities = [run.manifest.get("runtime_identity") or {} for run in [*base, *new]]
    return len({(one.get("git_sha"), one.get("version")) for one in identities}) == 1


# --- figures ---------------------------------------------------------------------------------------------------------


def row_names(runs: Iterable[RunColumns]) -> dict[RowKey, str]:
    """A short name for each scenario row: its task, and of agent and seed as much as it takes to
    tell them apart.
    """
    rows = list(dict.fromkeys(row for run in runs for row in run.rows))
    tasks = Counter(row.task_ref for row in rows)
    pairs = Counter((row.task_ref, row.agent) for row in rows)
    names = {}
    for row in rows:
        names[row] = row.task_ref
        if tasks[row.task_ref] > 1:
            names[row] += f" / {row.agent}"
        if pairs[row.task_ref, row.agent] > 1:
            names[row] += f" / {row.seed}"
        names[row] = one_line(names[row])  # archived sets may come from anywhere
    return names


def gather_samples(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    names: Mapping[RowKey, str],
    gate_on: Sequence[str],
) -> list[Sample]:
    """Per metric and scenario row one number of each run; see :func:`make_samples`."""
    runs = [run.columns for run in [*base, *new]]
    medians: dict[str, dict[str, list[float]]] = {}
    for metric in METRICS:
        if not any(metric in run.lacks for run in runs):
            medians[metric] = {
                name: found
                for row, name in names.items()
                if (found := _row_medians(runs, row, metric))
            }
    return make_samples(medians, len(base), gate_on)


def make_samples(
    medians: Mapping[str, Mapping[str, Sequence[float]]], split: int, gate_on: Sequence[str]
) -> list[Sample]:
    """The samples to decide on: each row by itself, each next to the others of its run, and the
    mean of all.

    What slows a whole run, the host or the code, moves all rows alike. Next to the median of the
    others of the same run a row shows what is its own, whatever the host does; the mean over all
    rows shows what they share. It takes four rows, so that one that changed does not move the
    median that the others are held against.

    Args:
        medians: By metric and scenario row, the logarithm of each run's median: first those of the
            base, then the new ones.
        split: How many of them are the base's.
        gate_on: The metrics that can fail the comparison.
    """
    samples: list[Sample] = []
    for metric, rows in medians.items():
        gates = metric in gate_on
        is_adjusted = metric in ADJUSTED and len(rows) >= ROWS_TO_ADJUST
        # A row gates once: every further test would make each of them harder to pass.
        samples += [
            _sample(row, metric, values, split, gates and not is_adjusted)
            for row, values in rows.items()
        ]
        if is_adjusted:
            samples += [
                _sample(row, ADJUSTED[metric], values, split, gates)
                for row, values in _adjust(rows, split).items()
            ]
        if len(rows) > 1:
            means = [sum(values) / len(values) for values in zip(*rows.values(), strict=True)]
            samples.append(_sample(OVERALL, metric, means, split, gates))
    return samples


def tests_of(rows: int, gate_on: Sequence[str]) -> int:
    """How many of :func:`make_samples`' samples gate for so many scenario rows."""
    return len(gate_on) * (rows + (rows > 1))


def _adjust(rows: Mapping[str, Sequence[float]], split: int) -> dict[str, list[float]]:
    """Each row's values less what the median of the other rows in the same run is beyond its usual."""
    adjusted = {}
    for row, values in rows.items():
        others = [
            median(run)
            for run in zip(*(rows[other] for other in rows if other != row), strict=True)
        ]
        usual = median(others[:split])
        adjusted[row] = [
            value - (other - usual) for value, other in zip(values, others, strict=True)
        ]
    return adjusted


def _sample(row: str, metric: str, values: Sequence[float], split: int, gates: bool) -> Sample:
    return Sample(row, metric, tuple(values[:split]), tuple(values[split:]), gates)


def _row_medians(runs: Sequence[RunColumns], row: RowKey, metric: str) -> list[float] | None:
    """Of each run the median over the same seeds; None where there is no episode that all have and
    none cut short.
    """
    if any(row not in run.rows for run in runs):
        return None
    columns = [run.rows[row] for run in runs]
    places = [one.places() for one in columns]
    shared = set(places[0]).intersection(*places[1:])
    whole = [
        seed
        for seed in shared
        if all(one.is_whole[place[seed]] for one, place in zip(columns, places, strict=True))
    ]
    if not whole:
        return None
    return [
        log_median(one, metric, [place[seed] for seed in whole])
        for one, place in zip(columns, places, strict=True)
    ]


# --- verdicts --------------------------------------------------------------------------------------------------------


def judge_rows(
    base: Sequence[RunRecord],
    new: Sequence[RunRecord],
    names: Mapping[RowKey, str],
    decisions: Sequence[Decision],
    changes: Sequence[ExactChange],
) -> list[JsonObject]:
    """One line per scenario row: the gravest that was found there."""
    sources = _same_sources(base, new)
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


# --- words -----------------------------------------------------------------------------------------------------------


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


def _say_sameness(rows: Sequence[JsonObject], decisions: Sequence[Decision]) -> str:
    episodes, figures = (
        sum(row["compared_episodes"] for row in rows),
        sum(one.gates for one in decisions),
    )
    return (
        f"behaviour is the same in {episodes} episodes, and each of {figures} figures that gate"
        " stays within its floor"
    )


def _say_shared(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> list[str]:
    shared = len({run.identity for run in base} & {run.identity for run in new})
    if not shared:
        return []
    runs = "1 run stands" if shared == 1 else f"{shared} runs stand"
    return [f"{runs} on both sides, which makes them look more alike than they are"]


def _say_difference(difference: Difference) -> str:
    return one_line(
        f"not comparable: {difference.field} is {difference.base} on the base side and"
        f" {difference.new} on the new"
    )


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
