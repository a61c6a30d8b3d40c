"""How much Python an episode executes, before and now: counted, exact, and the same under any load.

A run holds counts of one episode per scenario row (``work`` in its summary), taken in the episode's
process and in its agent's. They are compared within one Python version alone: another interpreter
executes the same source in other lines.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tracecore.errors import InputError
from tracecore.perf.compare.behaviour import Judgement
from tracecore.perf.compare.columns import RowKey
from tracecore.record import record
from tracecore.records import JsonObject

PROCESSES: Final = ("episode", "agent")
BOTH: Final = "both"
OF_PROCESSES: Final = ("lines", "calls", "page_faults")  # counted in each process
OF_EPISODES: Final = ("messages", "bytes_written")
# What a row's lines and calls must exceed to warn and to fail; the others warn alone. Page faults
# follow the allocator and the kernel as well as the code.
GATING: Final = frozenset({(BOTH, "lines"), (BOTH, "calls")})
WARN_SHARE: Final = 0.02
FAIL_SHARE: Final = 0.10
# Up to 15% was seen between runs of one row, in which a buffer was new or not.
FAULTS_SHARE: Final = 0.25
CALLS_SLACK: Final = 1  # on 3.13 one call comes or goes from run to run
GREW_MOST: Final = 5  # functions, and modules, named of one row

Lines = Mapping[tuple[str, str], int]  # by process and function, as "module:name"
Measure = tuple[str, str]  # process, or both, and quantity
MEASURES: Final[tuple[Measure, ...]] = (
    *((process, name) for name in OF_PROCESSES for process in (BOTH, *PROCESSES)),
    *((BOTH, name) for name in OF_EPISODES),
)


@record
class CountedEpisode:
    """What one episode executed."""

    row: RowKey
    episode_index: int
    counts: Mapping[Measure, int]
    lines: Lines


@record
class CountedRun:
    """What was counted in one run; no episodes where nothing was."""

    python: str | None = None  # as "3.11"
    episodes: tuple[CountedEpisode, ...] = ()


@record
class WorkChange:
    """One count of one scenario row that is not what it was."""

    row: str
    process: str
    quantity: str
    verdict: Judgement
    gates: bool
    warns: bool
    base: int
    new: int
    ratio: float | None  # None where one of them is 0
    # What grew most, by lines: {process, module, function, base, new}; and modules as a whole.
    grew: tuple[JsonObject, ...]
    modules: tuple[JsonObject, ...]


@record
class WorkFound:
    """What comparing counts came to."""

    rows: tuple[str, ...]  # of which both sides counted the same episodes
    changes: tuple[WorkChange, ...]
    missing: str | None  # why nothing could be compared


def read_work(name: str, manifest: JsonObject, summary: JsonObject) -> CountedRun:
    """The counts that a run recorded.

    Raises:
        InputError: They are none; ``name`` is the file they were read from.
    """
    version = (manifest.get("host") or {}).get("python_version")
    python = ".".join(version.split(".")[:2]) if isinstance(version, str) else None
    try:
        counted = (one for one in summary.get("work") or () if one["counts"] is not None)
        return CountedRun(python, tuple(map(_read_episode, counted)))
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        expected = "counts per scenario row, as --work writes them"
        raise InputError(name, "work", str(error), expected) from error


def _read_episode(one: JsonObject) -> CountedEpisode:
    found = one["counts"]
    named: dict[Measure, Any] = {
        (process, name): found[process].get(name) for process in PROCESSES for name in OF_PROCESSES
    }
    named |= {(BOTH, name): total_of(found, name) for name in (*OF_PROCESSES, *OF_EPISODES)}
    counts = {measure: _count(count) for measure, count in named.items() if count is not None}
    lines = {
        (process, str(name)): _count(figures[0])
        for process, functions in (found.get("functions") or {}).items()
        for name, figures in functions.items()
    }
    row = RowKey(str(one["agent"]), str(one["task_ref"]), int(one["seed"]))
    return CountedEpisode(row, _count(one["episode_index"]), counts, lines)


def total_of(counts: JsonObject, quantity: str) -> Any:
    """What an episode counted of a quantity, in both of its processes together; None where one of
    them did not count it.
    """
    if quantity in OF_EPISODES:
        return counts.get(quantity)
    parts = [counts.get(process, {}).get(quantity) for process in PROCESSES]
    return None if None in parts else sum(parts)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def compare_work(
    names: Mapping[RowKey, str], base: Sequence[CountedRun], new: Sequence[CountedRun]
) -> WorkFound:
    """Every count of every scenario row that both sides counted, where it changed.

    Where the runs of one side do not agree on a count among themselves, it changed only if it lies
    beyond all of them: that is the slack which their own differences leave.
    """
    old, now = _by_episode(base), _by_episode(new)
    both = [key for key in old if key in now]
    versions = {run.python for run in [*base, *new]}
    why = None
    if not old or not now:
        sides = " and the ".join(name for name, side in (("base", old), ("new", now)) if not side)
        why = f"not counted on the {sides} side; --work counts it"
    elif len(versions) > 1:
        pythons = " and ".join(sorted(version or "unknown" for version in versions))
        why = f"counted under Python {pythons}, which execute the same source in other lines"
    elif not both:
        why = "no episode was counted on both sides"
    if why:
        return WorkFound((), (), why)
    changes = [
        change
        for key in both
        for measure in MEASURES
        if (change := _change(names[key[0]], measure, old[key], now[key]))
    ]
    return WorkFound(tuple(dict.fromkeys(names[row] for row, _ in both)), tuple(changes), None)


def _by_episode(runs: Iterable[CountedRun]) -> dict[tuple[RowKey, int], list[CountedEpisode]]:
    found: dict[tuple[RowKey, int], list[CountedEpisode]] = {}
    for run in runs:
        for one in run.episodes:
            found.setdefault((one.row, one.episode_index), []).append(one)
    return found


def _change(
    row: str, measure: Measure, old: Sequence[CountedEpisode], now: Sequence[CountedEpisode]
) -> WorkChange | None:
    """The change of one count, judged; None where there is none, or no data on one side."""
    before, after = (
        [n for one in side if (n := one.counts.get(measure)) is not None] for side in (old, now)
    )
    if not before or not after:
        return None
    base, new = max(before), min(after)
    if new <= base:
        base, new = min(before), max(after)
        if new >= base:
            return None
    process, quantity = measure
    if quantity == "calls" and abs(new - base) <= CALLS_SLACK:
        return None
    share = new / base - 1 if base else float(new > 0)
    if quantity == "page_faults" and abs(share) <= FAULTS_SHARE:
        return None  # a few come and go from run to run
    verdict: Judgement = "unchanged"
    if quantity in {"lines", "calls"} and abs(share) > FAIL_SHARE:
        verdict = "regressed" if share > 0 else "improved"
    gates = measure in GATING
    floor = FAULTS_SHARE if quantity == "page_faults" else WARN_SHARE
    lines = [old[0].lines, now[0].lines] if gates and new > base else [{}, {}]
    return WorkChange(
        row=row,
        process=process,
        quantity=quantity,
        verdict=verdict,
        gates=gates,
        warns=share > floor and not (gates and verdict == "regressed"),
        base=base,
        new=new,
        ratio=new / base if base and new else None,
        grew=_most(*lines),
        modules=_most(*map(_by_module, lines)),
    )


def _by_module(functions: Lines) -> Lines:
    modules: Counter[tuple[str, str]] = Counter()
    for (process, name), count in functions.items():
        modules[process, name.partition(":")[0]] += count
    return modules


def _most(before: Lines, now: Lines) -> tuple[JsonObject, ...]:
    """Those that execute more than before, by how many lines more."""
    both = {key: (before.get(key, 0), now.get(key, 0)) for key in {**before, **now}}
    grown = sorted(both.items(), key=lambda one: one[1][0] - one[1][1])[:GREW_MOST]
    return tuple(
        {
            "process": process,
            "module": name.partition(":")[0],
            **({"function": name.partition(":")[2]} if ":" in name else {}),
            "base": base,
            "new": new,
        }
        for (process, name), (base, new) in grown
        if new > base
    )
