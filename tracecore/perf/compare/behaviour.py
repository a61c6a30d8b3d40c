"""What must be the same from run to run: compared by agent, task and seed, without statistics."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from tracecore.perf.compare.columns import COUNTS, EXACT, REASON, RowKey, RunColumns
from tracecore.record import record
from tracecore.records import JsonObject

# Of a row, a leg or a whole comparison. "no_gross_change": of times, where small ones cannot show;
# "not_asked": of a leg, where the runs hold nothing to ask; "new" and "missing": of a row that one
# side lacks.
Judgement = Literal[
    "regressed",
    "improved",
    "unchanged",
    "no_gross_change",
    "inconclusive",
    "not_comparable",
    "not_asked",
    "new",
    "missing",
]

EXAMPLES_MOST: Final = 5  # episodes shown of one change
# Ids, timestamps and latencies are in an artifact, and their digits vary by a few bytes: it is
# never exactly as long twice.
BYTES_WARN_SHARE: Final = 0.01
BYTES_WARN: Final = 64.0  # per episode
BYTES_FAIL_SHARE: Final = 0.05


@record
class ExactChange:
    """One quantity of one scenario row that is not what it was."""

    row: str
    quantity: str
    verdict: Judgement
    compared: int  # episodes that both sides have
    changed: int
    # of the changed episodes, where the quantity is a count; for bytes the mean of all compared
    base_total: float | None
    new_total: float | None
    examples: tuple[JsonObject, ...]  # {seed, base, new}
    why: str  # in words
    gates: bool


def compare_exactly(
    names: Mapping[RowKey, str],
    base: Sequence[RunColumns],
    new: Sequence[RunColumns],
    *,
    same_sources: Mapping[RowKey, bool],
    same_runtime: bool,
    accept_changes: bool = False,
) -> list[ExactChange]:
    """Every quantity of every scenario row of both sides that changed.

    Args:
        names: Of the scenario rows.
        base: The runs of the one side.
        new: The runs of the other.
        same_sources: Of each row, whether agent and task are the same files on both sides. Where
            they are not, other behaviour is reported and cannot be judged; success and failure
            reasons always are.
        same_runtime: Whether both sides ran the same commit: only then are artifact hashes
            comparable.
        accept_changes: Report changed behaviour without failing for it.
    """
    quantities = [one for one in EXACT if one != "artifact_hash" or same_runtime]
    changes: list[ExactChange | None] = []
    for row, name in names.items():
        pairs, is_same = _Pairs(row, name, base, new), same_sources.get(row, False)
        if pairs.seeds:
            changes += [
                _change(pairs, quantity, is_judged=is_same, is_accepted=accept_changes)
                for quantity in quantities
            ]
            changes.append(_compare_bytes(pairs))
    return [change for change in changes if change]


class _Pairs:
    """The episodes of one row that both sides have, by seed."""

    def __init__(
        self, row: RowKey, name: str, base: Sequence[RunColumns], new: Sequence[RunColumns]
    ) -> None:
        self.name = name
        self.sides = [[(run, run.by_seed(row)) for run in side] for side in (base, new)]
        old, now = (set().union(*(places for _, places in side)) for side in self.sides)
        self.seeds = sorted(old & now)

    def values(self, quantity: str, seed: int) -> list[set[int]]:
        """What each side's runs have there: one value each, if they agree."""
        return [
            {run.number(quantity, places[seed]) for run, places in side if seed in places}
            for side in self.sides
        ]

    def example(self, quantity: str, seed: int, values: Sequence[int]) -> JsonObject:
        """A changed episode as it is shown."""
        shown: list[object] = list(values)
        if quantity == "success":
            shown = [bool(value) for value in values]
        elif quantity not in COUNTS:
            shown = [
                next(self._texts(quantity, seed, value), "(not kept)")[:300] for value in values
            ]
        return {"seed": seed, "base": shown[0], "new": shown[1]}

    def _texts(self, quantity: str, seed: int, value: int) -> Iterator[str]:
        for run, places in (pair for side in self.sides for pair in side):
            if seed in places and run.number(quantity, places[seed]) == value:
                text = run.text(quantity, places[seed])
                if text is not None:
                    yield text


def _change(
    pairs: _Pairs, quantity: str, *, is_judged: bool, is_accepted: bool
) -> ExactChange | None:
    unsteady_base = unsteady_new = 0  # episodes in which runs of one side differ among themselves
    changed: list[tuple[int, int, int]] = []  # seed, and a value of each side
    for seed in pairs.seeds:
        old, now = pairs.values(quantity, seed)
        # A reason of 0 is a success on one side, which success itself shows.
        if (old == now and len(old) == 1) or (quantity == REASON and 0 in old | now):
            continue
        if len(old) > 1:
            unsteady_base += 1
            continue
        unsteady_new += len(now) > 1
        changed.append((seed, min(old), min(now - old)))
    if changed:
        verdict, why = _judge(quantity, changed, unsteady_new, is_judged=is_judged)
    elif unsteady_base:
        verdict = "inconclusive"
        why = f"the base runs do not agree among themselves in {unsteady_base} episodes"
    else:
        return None
    is_excused = is_accepted and quantity not in {"success", REASON}
    is_count = quantity in COUNTS
    return ExactChange(
        row=pairs.name,
        quantity=quantity,
        verdict=verdict,
        compared=len(pairs.seeds),
        changed=len(changed) or unsteady_base,
        base_total=sum(old for _, old, _ in changed) if is_count else None,
        new_total=sum(now for _, _, now in changed) if is_count else None,
        examples=tuple(
            pairs.example(quantity, seed, values) for seed, *values in changed[:EXAMPLES_MOST]
        ),
        why=why,
        gates=verdict in {"regressed", "improved"} and not is_excused,
    )


def _judge(
    quantity: str, changed: Sequence[tuple[int, int, int]], unsteady_new: int, *, is_judged: bool
) -> tuple[Judgement, str]:
    if quantity == REASON:
        return "regressed", "episodes fail for another reason"
    if quantity == "success" and any(now < old for _, old, now in changed):
        return "regressed", "episodes fail that succeeded"
    if quantity == "success":
        return "improved", "episodes succeed that failed"
    if not is_judged:
        return "not_comparable", (
            "its agent or task was changed too, so that other behaviour is no news"
        )
    if unsteady_new:
        why = f"the new runs do not agree among themselves in {unsteady_new} episodes"
        return "regressed", why
    return "regressed", "the same agent and task behave differently"


def _compare_bytes(pairs: _Pairs) -> ExactChange | None:
    old, now = (
        statistics.fmean(
            run.number("artifact_bytes", places[seed])
            for run, places in side
            for seed in pairs.seeds
            if seed in places
        )
        for side in pairs.sides
    )
    share = now / old - 1 if old else float(now > 0)
    if abs(share) <= BYTES_WARN_SHARE and abs(now - old) <= BYTES_WARN:
        return None
    verdict: Judgement = "unchanged"
    if abs(share) > BYTES_FAIL_SHARE:
        verdict = "regressed" if share > 0 else "improved"
    count = len(pairs.seeds)
    return ExactChange(
        row=pairs.name,
        quantity="artifact_bytes",
        verdict=verdict,
        compared=count,
        changed=count,
        base_total=old,
        new_total=now,
        examples=(),
        why=f"artifacts are {old:.0f} bytes before and {now:.0f} now on average",
        gates=verdict != "unchanged",
    )
