"""What must be the same from run to run: compared by agent, task and seed, without statistics."""

from collections.abc import Sequence
from typing import Final, Literal

from tracecore.perf.compare.columns import COUNTS, EXACT, HASHES, RowColumns, RowKey, RunColumns
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

    row: RowKey
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
    base: Sequence[RunColumns],
    new: Sequence[RunColumns],
    *,
    same_sources: dict[RowKey, bool],
    same_runtime: bool,
    accept_changes: bool = False,
) -> list[ExactChange]:
    """Every quantity of every scenario row of both sides that changed.

    Args:
        base: The runs of the one side.
        new: The runs of the other.
        same_sources: Of each row, whether agent and task are the same files on both sides. Where
            they are not, other behaviour is reported and cannot be judged; success and failure
            reasons always are.
        same_runtime: Whether both sides ran the same commit: only then are artifact hashes
            comparable.
        accept_changes: Report changed behaviour without failing for it.
    """
    changes: list[ExactChange] = []
    lacking = set().union(*(run.lacks for run in [*base, *new]))
    for row in base[0].rows:
        sides = ([run.rows[row] for run in side if row in run.rows] for side in (base, new))
        old_columns, new_columns = sides
        if not old_columns or not new_columns:
            continue
        pairs = _Pairs(old_columns, new_columns)
        for quantity in EXACT:
            if quantity in lacking or (quantity == "artifact_hash" and not same_runtime):
                continue
            change = _compare_quantity(
                row, quantity, pairs, same_sources.get(row, False), accept_changes, [*base, *new]
            )
            if change:
                changes.append(change)
        change = _compare_bytes(row, pairs)
        if change:
            changes.append(change)
    return changes


class _Pairs:
    """The episodes of one row that both sides have, by seed."""

    def __init__(self, base: list[RowColumns], new: list[RowColumns]) -> None:
        self._base = [(columns, columns.places()) for columns in base]
        self._new = [(columns, columns.places()) for columns in new]
        in_new = set().union(*(places for _, places in self._new))
        self.seeds = sorted(set().union(*(places for _, places in self._base)) & in_new)

    def values(self, quantity: str, seed: int) -> tuple[set[int], set[int]]:
        """What each side's runs have there: one value each, if they agree."""
        old = {
            columns.exact[quantity][places[seed]]
            for columns, places in self._base
            if seed in places
        }
        new = {
            columns.exact[quantity][places[seed]] for columns, places in self._new if seed in places
        }
        return old, new

    def mean_bytes(self) -> tuple[float, float]:
        return _mean_bytes(self._base, self.seeds), _mean_bytes(self._new, self.seeds)


def _mean_bytes(side: list[tuple[RowColumns, dict[int, int]]], seeds: list[int]) -> float:
    sizes = [
        columns.artifact_bytes[places[seed]]
        for columns, places in side
        for seed in seeds
        if seed in places
    ]
    return sum(sizes) / len(sizes)


def _compare_quantity(
    row: RowKey,
    quantity: str,
    pairs: _Pairs,
    same_sources: bool,
    accept_changes: bool,
    runs: Sequence[RunColumns],
) -> ExactChange | None:
    unsteady_base = unsteady_new = 0
    changed: list[tuple[int, int, int]] = []
    for seed in pairs.seeds:
        old, now = pairs.values(quantity, seed)
        if old == now and len(old) == 1:
            continue
        if quantity == "failure_reason" and 0 in old | now:
            continue  # a success on one side: success itself tells of it
        if len(old) > 1:
            unsteady_base += 1
        elif len(now) > 1:
            unsteady_new += 1
            changed.append((seed, min(old), min(now - old)))
        else:
            changed.append((seed, min(old), min(now)))
    if not changed and not unsteady_base:
        return None
    verdict, why, gates = _judge(
        quantity, changed, unsteady_base, unsteady_new, same_sources, accept_changes
    )
    is_count = quantity in COUNTS
    return ExactChange(
        row,
        quantity,
        verdict,
        len(pairs.seeds),
        len(changed) or unsteady_base,
        sum(old for _, old, _ in changed) if is_count else None,
        sum(now for _, _, now in changed) if is_count else None,
        tuple(_example(quantity, change, runs) for change in changed[:EXAMPLES_MOST]),
        why,
        gates,
    )


def _judge(
    quantity: str,
    changed: list[tuple[int, int, int]],
    unsteady_base: int,
    unsteady_new: int,
    same_sources: bool,
    accept_changes: bool,
) -> tuple[Judgement, str, bool]:
    if not changed:
        return (
            "inconclusive",
            f"the base runs do not agree among themselves in {unsteady_base} episodes",
            False,
        )
    if quantity == "success":
        if any(now < old for _, old, now in changed):
            return "regressed", "episodes fail that succeeded", True
        return "improved", "episodes succeed that failed", True
    if quantity == "failure_reason":
        return "regressed", "episodes fail for another reason", True
    if not same_sources:
        return (
            "not_comparable",
            "its agent or task was changed too, so that other behaviour is no news",
            False,
        )
    gates = not accept_changes
    if unsteady_new:
        return (
            "regressed",
            f"the new runs do not agree among themselves in {unsteady_new} episodes",
            gates,
        )
    return "regressed", "the same agent and task behave differently", gates


def _example(quantity: str, change: tuple[int, int, int], runs: Sequence[RunColumns]) -> JsonObject:
    seed, *values = change
    shown: list[object] = list(values)
    if quantity == "success":
        shown = [bool(value) for value in values]
    elif quantity not in COUNTS:
        shown = [
            _text_of(value, "hashes" if quantity in HASHES else "texts", runs) for value in values
        ]
    return {"seed": seed, "base": shown[0], "new": shown[1]}


def _text_of(number: int, kept: Literal["texts", "hashes"], runs: Sequence[RunColumns]) -> str:
    return next(
        (text[:300] for run in runs if (text := getattr(run, kept).get(number)) is not None),
        "(not kept)",
    )


def _compare_bytes(row: RowKey, pairs: _Pairs) -> ExactChange | None:
    if not pairs.seeds:
        return None
    old, now = pairs.mean_bytes()
    share = now / old - 1 if old else float(now > 0)
    if abs(share) <= BYTES_WARN_SHARE and abs(now - old) <= BYTES_WARN:
        return None
    verdict: Judgement = "unchanged"
    if abs(share) > BYTES_FAIL_SHARE:
        verdict = "regressed" if share > 0 else "improved"
    why = f"artifacts are {old:.0f} bytes before and {now:.0f} now on average"
    count = len(pairs.seeds)
    return ExactChange(
        row, "artifact_bytes", verdict, count, count, old, now, (), why, verdict != "unchanged"
    )
