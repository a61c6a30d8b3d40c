"""Whether runs may be compared at all: in what they must agree and do not."""

import itertools
from collections.abc import Sequence
from typing import Any, Final

from tracecore.perf.compare.runs import RunRecord
from tracecore.perf.host.facts import stable_facts
from tracecore.record import record
from tracecore.records import JsonObject

OF_TIMES: Final = frozenset({"machine_class", "workers"})


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


def _where_scenarios_part(sides: Sequence[Sequence[Sequence[str]]]) -> list[list[str]]:
    """Each scenario by its length and the first row that is not the same in all: there may be
    thousands of rows.
    """
    rows = itertools.zip_longest(*itertools.chain(*sides))
    place = next(place for place, row in enumerate(rows) if len(set(row)) > 1)
    return [[_row_text(scenario, place) for scenario in side] for side in sides]


def _row_text(scenario: Sequence[str], place: int) -> str:
    count = len(scenario)
    row = scenario[place] if place < count else "nothing"
    return f"{row} in row {place + 1} of {count}"


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
