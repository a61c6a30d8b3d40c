#!/usr/bin/env python3
"""How often comparisons are wrong: false alarms on identical code, and slow-downs that they must
find and pin, by ``ab`` and against archived runs, leg by leg.

Gathers a pool of short real runs of three copies of this clone in turns, round by round: two
identical ones, and one that is slower in one place. Then it replays comparisons on the pool, with
their own functions for every decision. A trial of ``ab`` takes twelve successive rounds as they
ran: two for the screen, five for the rounds, five to confirm them. A trial against archived runs
takes successive rounds for those, and any later round for the new run. Behaviour and work are
exact: ``--counted-runs`` of four copies are compared in all pairs.

What makes many trials of few runs, and why that is sound: the two identical copies are exchangeable
within a round, so that which of them is called new is drawn by lot anew in each trial; the slow
copy is compared with either of the identical ones. Windows overlap, so that trials are not
independent: the number of windows that do not overlap is reported beside the rates, and their
intervals count no more trials than that.
"""

import argparse
import functools
import json
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from judgement_pool import (
    Logs,
    Pool,
    make_pool,
    measure_exact_legs,
    read_pool,
    write_pool,
)

from tracecore.perf.compare.ab import ratios_in, subjects_that_moved
from tracecore.perf.compare.legs import SHAPE_METRICS
from tracecore.perf.compare.samples import METRICS, OVERALL, Sample, make_samples
from tracecore.perf.compare.timing import APART, Conditions, Decision, decide
from tracecore.record import as_dict
from tracecore.stats import MAD_TO_SIGMA, mad, wilson_interval

SCREEN_ROUNDS = 2
UNIFORM = 0.10
IN_TURNS = Conditions(in_turns=True)
ARCHIVED = (1, 2, 3, 5)  # runs of the base, against one
Sides = tuple[list[Logs], list[Logs]]  # base and new
Found = dict[str, Any]


def main() -> int:
    """Gather, replay, report: a table on stderr, one JSON object on stdout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="for gathering the pool (default: %(default)s)"
    )
    parser.add_argument(
        "--most-rounds", type=int, default=200, help="of the pool (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of a trial (default: %(default)s)")
    parser.add_argument(
        "--episodes", type=int, default=384, help="of each run (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="(default: usable cores)"
    )
    parser.add_argument(
        "--task",
        default="rate_limited_api",
        help="where the slow-down is planted (default: %(default)s)",
    )
    parser.add_argument(
        "--slower",
        type=float,
        default=0.15,
        help="share of the task's CPU time (default: %(default)s)",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=1000,
        help="replayed trials of each kind (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        metavar="FILE",
        help="write the pool's figures there, for --replay (default: nowhere)",
    )
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="gather nothing: take the pool from there (default: gather one)",
    )
    parser.add_argument(
        "--plant",
        default="task",
        choices=("task", "task-c", "runtime"),
        help="where: in a task's Python, within one call of C there, or in the runtime's Python"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--half",
        default="both",
        choices=("both", "first", "second"),
        help="of the pool's rounds: tune on the first, report on the second (default: %(default)s)",
    )
    parser.add_argument(
        "--counted-runs",
        type=int,
        default=0,
        help="of each copy, for behaviour and work (default: none)",
    )
    parser.add_argument(
        "--seed", type=int, help="of the draws (default: a new one, which is printed)"
    )
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    with tempfile.TemporaryDirectory(prefix="tracecore-judgement-") as scratch:
        report = measure(options, scratch, random.Random(seed))  # noqa: S311  (repeatable on purpose)
    report = {"seed": seed, **report}
    print_table(report)
    print(json.dumps(report))
    return 0


def measure(options: argparse.Namespace, scratch: str, chance: random.Random) -> dict[str, Any]:
    """All figures."""
    exact = measure_exact_legs(options, scratch) if options.counted_runs else {}
    if options.counted_runs and not (options.minutes or options.replay):
        return exact
    pool = read_pool(options.replay) if options.replay else make_pool(options, scratch)
    if options.keep:
        write_pool(options.keep, pool)
    pool = pool.half(options.half)
    window, logs, rounds = SCREEN_ROUNDS + 2 * options.rounds, pool.logs, len(pool.logs["one"])
    if rounds < window:
        raise SystemExit(
            f"{rounds} rounds gathered, {window} are needed for one trial: allow more --minutes"
        )
    task = next(row for row, _ in logs["one"][0] if row.startswith(f"{options.task}@"))
    target = OVERALL if pool.about["plant"] == "runtime" else task

    def trials(make: Callable[[], Sides], judge: Callable[[Sides], Found]) -> list[Found]:
        return [judge(make()) for _ in range(options.trials)]

    def ab(sides: Sides) -> Found:
        return replay(sides, options.rounds)

    null = trials(lambda: null_sides(logs, chance, window), ab)
    planted = trials(lambda: planted_sides(logs, chance, window), ab)
    uniform = trials(lambda: slower_on_paper(null_sides(logs, chance, window)), ab)
    independent = rounds // window
    report = {
        **exact,
        "rounds": rounds,
        **pool.about,
        "independent_windows": independent,
        "trials": options.trials,
        "planted": {"task": target, "measured": planted_share(logs, target)},
        "false_alarms": rate(null, independent, is_false_alarm),
        "false_improvements": rate(null, independent, lambda found: bool(found["improved"])),
        "screen_settles_identical_code": rate(
            null, independent, lambda found: found["stage"] == "screen"
        ),
        "rounds_alone_would_give_false_alarms": rate(
            null, independent, lambda found: found["stage"] == "confirmation"
        ),
        "found_by_rounds": rate(
            planted, independent, lambda found: target in found["found_by_rounds"]
        ),
        "found": rate(planted, independent, lambda found: target in found["regressed"]),
        "found_and_pinned_alone": rate(
            planted,
            independent,
            lambda found: set(found["regressed"]) - {OVERALL} == {target} - {OVERALL},
        ),
        "uniform_10_percent_on_paper_found": rate(uniform, independent, is_false_alarm),
        "named_wrongly": rate(
            planted, independent, lambda found: bool(set(found["regressed"]) - {target, OVERALL})
        ),
    }
    for runs in ARCHIVED:
        alike = trials(
            functools.partial(archived_sides, logs, chance, runs, ("one", "two")), replay_archived
        )
        slow = trials(
            functools.partial(archived_sides, logs, chance, runs, ("slow",)), replay_archived
        )
        uniform = [
            replay_archived(slower_on_paper(archived_sides(logs, chance, runs, ("one", "two"))))
            for _ in range(options.trials)
        ]
        independent, name = rounds // (runs + 1), f"1_against_{runs}"
        report[f"{name}_uniform_10_percent_on_paper_found"] = rate(
            uniform, independent, is_false_alarm
        )
        report[f"{name}_false_alarms"] = rate(alike, independent, is_false_alarm)
        for leg in ("shape", "time"):
            report[f"{name}_false_alarms_of_{leg}"] = rate(
                alike, independent, lambda found, leg=leg: bool(found[leg])
            )
        report[f"{name}_found"] = rate(
            slow, independent, lambda found: target in found["regressed"]
        )
    return {**report, "spread_between_runs": spreads(pool)}


def is_false_alarm(found: Found) -> bool:
    """Whether runs of identical code are judged slower."""
    return bool(found["regressed"])


def null_sides(logs: dict[str, list[Logs]], chance: random.Random, window: int) -> Sides:
    """A window of the identical copies; in each round it is drawn which of them is called new."""
    start = chance.randrange(len(logs["one"]) - window + 1)
    pairs = [(logs["one"][place], logs["two"][place]) for place in range(start, start + window)]
    drawn = [pair if chance.random() < 0.5 else pair[::-1] for pair in pairs]
    return [base for base, _ in drawn], [new for _, new in drawn]


def planted_sides(logs: dict[str, list[Logs]], chance: random.Random, window: int) -> Sides:
    """A window of the slow copy against one of the others, drawn in each round."""
    start = chance.randrange(len(logs["one"]) - window + 1)
    places = range(start, start + window)
    return [logs[chance.choice(("one", "two"))][place] for place in places], [
        logs["slow"][place] for place in places
    ]


def slower_on_paper(sides: Sides) -> Sides:
    """The same with all rows of the new runs slower, as a slower runtime makes them."""
    base, new = sides
    return base, [{key: value + math.log1p(UNIFORM) for key, value in run.items()} for run in new]


def archived_sides(
    logs: dict[str, list[Logs]], chance: random.Random, runs: int, new: Sequence[str]
) -> Sides:
    """One run of one of the copies ``new``, against so many of an identical copy before it: next to
    them or long after.
    """
    start = chance.randrange(len(logs["one"]) - runs)
    place = chance.randrange(start + runs, len(logs["one"]))
    base = chance.choice(("one", "two"))
    others = [name for name in new if name != base]
    return logs[base][start : start + runs], [logs[chance.choice(others)][place]]


def replay(sides: Sides, rounds: int) -> Found:
    """``ab`` on these runs: the rows that its verdict names, and the stage that it ends in. Work is
    taken for the same where it is not Python that was made slower, as it would be counted.
    """
    base, new = sides
    screened = decide(samples(base[:SCREEN_ROUNDS], new[:SCREEN_ROUNDS], in_turns=True), IN_TURNS)
    rows = [{"row": one.row, "is_counted": True} for one in screened if one.row != OVERALL]
    screen = {
        "decisions": [as_dict(one) for one in screened],
        "legs": [],
        "work": [],
        "rows": rows,
    }
    if not subjects_that_moved(screen):
        return {"stage": "screen", **named(()), "found_by_rounds": []}
    first = slice(SCREEN_ROUNDS, SCREEN_ROUNDS + rounds)
    made = decide(
        samples(base[first], new[first], in_turns=True), IN_TURNS, screen=ratios_in(screen)
    )
    found = named(made)
    by_rounds = found["regressed"]
    if not (by_rounds or found["improved"]):
        return {"stage": "rounds", **found, "found_by_rounds": by_rounds}
    ratios = {(one.row, one.metric): one.ratio for one in made}
    last = decide(samples(base[-rounds:], new[-rounds:], in_turns=True), IN_TURNS, screen=ratios)
    return {"stage": "confirmation", **named(last), "found_by_rounds": by_rounds}


def replay_archived(sides: Sides) -> Found:
    """``compare`` on these runs: the rows that legs on times name."""
    return named(decide(samples(*sides), APART))


def named(made: Sequence[Decision]) -> Found:
    """The rows that verdicts name, and those of each leg."""
    gating = [one for one in made if one.gates]
    worse = [one for one in gating if one.verdict == "regressed"]
    return {
        **{
            verdict: list(dict.fromkeys(one.row for one in gating if one.verdict == verdict))
            for verdict in ("regressed", "improved")
        },
        "shape": [one.row for one in worse if one.metric in SHAPE_METRICS],
        "time": [one.row for one in worse if one.metric not in SHAPE_METRICS],
    }


def samples(base: list[Logs], new: list[Logs], *, in_turns: bool = False) -> list[Sample]:
    """What would be decided on."""
    medians: dict[str, dict[str, list[float]]] = {}
    for row, metric in base[0]:
        if row != OVERALL and metric in METRICS:
            medians.setdefault(metric, {})[row] = [run[row, metric] for run in [*base, *new]]
    return make_samples(medians, len(base), ("cpu",), in_turns=in_turns)


def rate(found: list[dict[str, Any]], independent: int, happened: Any) -> dict[str, Any]:
    """How often something happened, with an interval for as many trials as there are independent
    windows.
    """
    share = sum(map(happened, found)) / len(found)
    low, high = wilson_interval(round(share * independent), independent, 0.95)
    return {"rate": share, "interval": [low, high]}


def planted_share(logs: dict[str, list[Logs]], task: str) -> float:
    """How much slower the planted task really is, over the whole pool."""
    ratios = [
        slow[task, "cpu"] - one[task, "cpu"]
        for slow, one in zip(logs["slow"], logs["one"], strict=True)
    ]
    return math.expm1(statistics.median(ratios))


def spreads(pool: Pool) -> dict[str, float]:
    """Robust standard deviation of a run's figure between identical runs."""
    runs = [*pool.logs["one"], *pool.logs["two"]]
    figures: dict[str, float] = {}
    for row, metric in runs[0]:
        if metric != "rss":
            figures[f"{row} {metric}"] = MAD_TO_SIGMA * mad([run[row, metric] for run in runs])
    return figures


def print_table(report: dict[str, Any]) -> None:
    """The figures for a person."""
    exact = [
        name
        for name in report
        if name.endswith(("_pairs_of_identical_runs", "_alarms", "_by_work"))
    ]
    lines = [
        f"  {name.replace('_', ' '):44} {report[name]:g}"
        for name in exact
        if not isinstance(report[name], dict)
    ]
    if "trials" in report:
        planted = report["planted"]
        lines.append(
            f"seed {report['seed']}: {report['trials']} trials of each kind on"
            f" {report['rounds']} rounds ({report['independent_windows']} windows do not overlap)"
            f" of {report['episodes']} episodes; load at the start"
            f" {report['load_at_start'][0]:.1f}"
        )
        lines.append(
            f"planted in {planted['task']}: {report['asked']:.0%} asked for,"
            f" {planted['measured']:.1%} measured"
        )
        lines += [
            _line(name, figure)
            for name, figure in report.items()
            if isinstance(figure, dict) and "rate" in figure
        ]
        lines.append("spread between identical runs")
        lines += [
            f"  {name:44} {spread:6.1%}" for name, spread in report["spread_between_runs"].items()
        ]
    print("\n".join(lines), file=sys.stderr)


def _line(name: str, figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"  {name.replace('_', ' '):44} {figure['rate']:6.1%}   ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    sys.exit(main())
