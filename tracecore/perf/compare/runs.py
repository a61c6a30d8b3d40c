"""The runs of a comparison, as archived sets or slices of now give them; whether they may be
compared at all.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tracecore.errors import InputError, one_line
from tracecore.perf.compare.columns import RowKey, RunColumns
from tracecore.perf.compare.work import BOTH, CountedRun, read_work
from tracecore.perf.documents.archive import ArchivedSet, read_sets
from tracecore.perf.documents.rows import Rows
from tracecore.perf.host.facts import stable_facts
from tracecore.record import record
from tracecore.records import JsonObject

RUNS_MOST: Final = 200  # of one side
OF_TIMES: Final = frozenset({"machine_class", "workers"})


@record
class RunRecord:
    """One run of a comparison."""

    path: str
    stamp: str
    manifest: JsonObject
    columns: RunColumns
    work: CountedRun = CountedRun()
    noise: str | None = None  # why the host was too busy for times, if it was

    @property
    def identity(self) -> tuple[str, str]:
        """What no other run has, wherever copies of this one lie."""
        return self.stamp, self.columns.digest()

    def about(self) -> JsonObject:
        """It, as documents show it."""
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


Sides = tuple[list[RunRecord], list[RunRecord]]  # base and new


def read_runs(paths: Iterable[str]) -> list[RunRecord]:
    """The complete runs at these paths: summaries, zips or folders. A run that is given more than
    once counts once.

    Raises:
        InputError: One cannot be read, is empty or was interrupted, or there are too many.
    """
    sets = [
        archived for path in paths for folder in folders_of(path) for archived in read_sets(folder)
    ]
    if len(sets) > RUNS_MOST:
        raise InputError(sets[0].path, "", f"{len(sets)} sets", f"at most {RUNS_MOST} on one side")
    # Five copies of one run agree perfectly, and would prove anything.
    runs = {run.identity: run for run in map(read_run, sets)}
    return list(runs.values())


def folders_of(path: str) -> list[str]:
    """``path`` itself, or where it is a folder without perf files, the folders below it that have
    some: ``--repeat`` and ``ab --output-dir`` leave one per run.
    """
    found = []
    for folder, below, names in os.walk(path, followlinks=True):
        below.sort()
        if any(name.startswith("perf-") and name.endswith((".json", ".zip")) for name in names):
            found.append(folder)
            below.clear()
    return found or [path]


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
    return RunRecord(
        path=archived.path,
        stamp=archived.stamp,
        manifest=archived.manifest,
        columns=RunColumns(Rows(archived.series())),
        work=read_work(name, archived.manifest, summary),
        noise=noise_of(summary),
    )


def noise_of(summary: JsonObject) -> str | None:
    """The text of the summary's finding of a noisy host; None where there is none."""
    for finding in summary.get("findings", ()):
        if finding.get("id") == "noisy_host":
            return one_line(str(finding.get("text") or "noisy host"))
    return None


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


def lines_of(side: Iterable[RunRecord], row: RowKey) -> int | None:
    """The lines of Python that the first counted episode of a scenario row executed, in the first
    run of a side to count them.
    """
    counts = (
        one.counts.get((BOTH, "lines"))
        for run in side
        for one in sorted(run.work.episodes, key=lambda one: one.episode_index)
        if one.row == row
    )
    return next((count for count in counts if count is not None), None)


def same_sources(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> dict[RowKey, bool]:
    """Of each scenario row, whether all runs had the same agent and the same task, by their
    hashes.
    """
    hashes: dict[RowKey, set[Any]] = {}
    for run in [*base, *new]:
        for row in run.manifest["scenario"]:
            key = RowKey(row["agent"], row["task_ref"], row["seed"])
            hashes.setdefault(key, set()).add((row.get("agent_hash"), row.get("task_hash")))
    return {key: len(found) == 1 for key, found in hashes.items()}


def same_runtime(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> bool:
    """Whether all runs are of one commit and version."""
    identities = [run.manifest.get("runtime_identity") or {} for run in [*base, *new]]
    return len({(one.get("git_sha"), one.get("version")) for one in identities}) == 1


# --- in what runs must agree ---


@record
class Mismatch:
    """Something in which the two sides must agree, and do not."""

    field: str
    base: Any
    new: Any
    # behaviour and work are the same on every machine, with any number of workers
    of_times_alone: bool


def find_mismatches(
    base: Sequence[RunRecord], new: Sequence[RunRecord], *, expect_same_scenario: bool = True
) -> list[Mismatch]:
    """Where runs differ in what must be the same for their times to mean the same; runs of one side
    among themselves too.
    """
    found: list[Mismatch] = []
    scenario = ("scenario",) if expect_same_scenario else ()
    for field in ("machine_class", *scenario, "workers", "strict_spec"):
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
            found.append(Mismatch(field, old, now, of_times_alone=field in OF_TIMES))
            if field == "machine_class":
                found += _host_mismatches(base, new)
    return found


def _condition(manifest: JsonObject, field: str) -> Any:
    if field != "scenario":
        return manifest.get(field)
    # Not the files' hashes: a changed task under the same reference is what a comparison may be
    # about, and is known by its hash.
    return tuple(
        f"{row['agent']} on {row['task_ref']} from seed {row['seed']}"
        for row in manifest["scenario"]
    )


def _where_scenarios_part(sides: Sequence[Sequence[tuple[str, ...]]]) -> list[list[str]]:
    """Each scenario by its length and the first row that is not the same in all: there may be
    thousands of rows.
    """
    scenarios = list(itertools.chain(*sides))
    rows = enumerate(itertools.zip_longest(*scenarios, fillvalue="nothing"), 1)
    number, parted = next((number, row) for number, row in rows if len(set(row)) > 1)
    texts = {
        scenario: f"{row} in row {number} of {len(scenario)}"
        for scenario, row in zip(scenarios, parted, strict=True)
    }
    return [[texts[scenario] for scenario in side] for side in sides]


def _host_mismatches(base: Sequence[RunRecord], new: Sequence[RunRecord]) -> list[Mismatch]:
    facts = [[stable_facts(run.manifest.get("host") or {}) for run in side] for side in (base, new)]
    found = []
    for name in facts[0][0]:
        old, now = ([one[name] for one in side] for side in facts)
        if any(value != old[0] for value in [*old, *now]):
            found.append(
                Mismatch(f"host.{name}", _one_or_all(old), _one_or_all(now), of_times_alone=True)
            )
    return found


def _one_or_all(values: Sequence[Any]) -> Any:
    return (
        values[0]
        if all(value == values[0] for value in values)
        else ", ".join(dict.fromkeys(map(str, values)))
    )
