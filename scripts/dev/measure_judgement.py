#!/usr/bin/env python3
"""How often comparisons are wrong: false alarms on identical code, and a slow-down of one task that
they must find and pin, by ``ab`` and against archived runs.

Gathers a pool of short real runs of three copies of this clone in turns, round by round: two
    identical ones, and one whose
chosen task burns a fixed amount of computation in its setup. Then it replays ``ab`` on the pool,
with its own functions for every decision: a trial takes seven successive rounds, two for the screen
and five for the rounds, as they ran.

What makes many trials of few runs, and why that is sound: the two identical copies are exchangeable
    within a round, so that
which of them is called new is drawn by lot anew in each trial; a planted copy is compared with
either of the identical ones. Windows overlap, so that trials are not independent: the number of
windows that do not overlap is reported beside the rates, and their intervals count no more trials
than that.
"""

import argparse
import json
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from judgement_pool import Logs, Pool, make_pool, read_pool, write_pool

from tracecore.perf.compare.ab import ratios_in, subjects_that_moved
from tracecore.perf.compare.samples import METRICS, OVERALL, Sample, make_samples
from tracecore.perf.compare.timing import Conditions, Decision, decide
from tracecore.record import as_dict
from tracecore.stats import MAD_TO_SIGMA, mad, wilson_interval

SCREEN_ROUNDS = 2
IN_TURNS = Conditions(in_turns=True)
Sides = tuple[list[Logs], list[Logs]]  # base and new


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
    parser.add_argument("--seed", type=int, help="of the draws (default: a new one, which is told)")
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
    pool = read_pool(options.replay) if options.replay else make_pool(options, scratch)
    if options.keep:
        write_pool(options.keep, pool)
    window = SCREEN_ROUNDS + options.rounds
    logs = pool.logs
    rounds = len(logs["one"])
    if rounds < window:
        raise SystemExit(
            f"{rounds} rounds gathered, {window} are needed for one trial: allow more --minutes"
        )
    task = next(row for row, _ in logs["one"][0] if row.startswith(f"{options.task}@"))
    null = [replay(null_sides(logs, chance, window), options.rounds) for _ in range(options.trials)]
    planted = [
        replay(planted_sides(logs, chance, window), options.rounds) for _ in range(options.trials)
    ]
    archived: dict[str, Any] = {}
    for runs in (1, 3, 5):
        alike, slow = (
            [
                replay_archived(archived_sides(logs, chance, runs, new))
                for _ in range(options.trials)
            ]
            for new in (("one", "two"), ("slow",))
        )
        independent = rounds // (runs + 1)
        archived |= {
            f"1_against_{runs}_false_alarms": rate(
                alike, independent, lambda found: bool(found["regressed"])
            ),
            f"1_against_{runs}_found": rate(
                slow, independent, lambda found: task in found["regressed"]
            ),
        }
    independent = rounds // window
    return {
        "rounds": rounds,
        **pool.about,
        "independent_windows": independent,
        "trials": options.trials,
        "planted": {"task": task, "measured": planted_share(logs, task)},
        "false_alarms": rate(null, independent, lambda found: bool(found["regressed"])),
        "false_improvements": rate(null, independent, lambda found: bool(found["improved"])),
        "screen_alone_settles_identical_code": rate(
            null, independent, lambda found: not found["went_on"]
        ),
        "found": rate(planted, independent, lambda found: task in found["regressed"]),
        "found_and_pinned_alone": rate(
            planted, independent, lambda found: found["regressed"] == [task]
        ),
        "named_wrongly": rate(
            planted, independent, lambda found: bool(set(found["regressed"]) - {task, OVERALL})
        ),
        **archived,
        "spread_between_runs": spreads(pool),
    }


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


def archived_sides(
    logs: dict[str, list[Logs]], chance: random.Random, runs: int, new: Sequence[str]
) -> Sides:
    """One run of one of the copies ``new``, against so many of an identical copy before it."""
    start = chance.randrange(len(logs["one"]) - runs)
    base = chance.choice(("one", "two"))
    others = [name for name in new if name != base]
    return logs[base][start : start + runs], [logs[chance.choice(others)][start + runs]]


def replay(sides: Sides, rounds: int) -> dict[str, Any]:
    """``ab`` on these runs: the rows that its verdict names."""
    base, new = sides
    screened = decide(samples(base[:SCREEN_ROUNDS], new[:SCREEN_ROUNDS], in_turns=True), IN_TURNS)
    screen = {"decisions": [as_dict(one) for one in screened], "legs": [], "work": [], "rows": []}
    if not subjects_that_moved(screen):
        return {"went_on": False, "regressed": [], "improved": []}
    rounds_run = samples(base[-rounds:], new[-rounds:], in_turns=True)
    return {"went_on": True, **named(decide(rounds_run, IN_TURNS, screen=ratios_in(screen)))}


def replay_archived(sides: Sides) -> dict[str, Any]:
    """``compare`` on these runs: the rows that legs on times name."""
    return named(decide(samples(*sides)))


def named(made: Sequence[Decision]) -> dict[str, Any]:
    """The rows that verdicts name."""
    gating = [one for one in made if one.gates]
    return {
        verdict: list(dict.fromkeys(one.row for one in gating if one.verdict == verdict))
        for verdict in ("regressed", "improved")
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
    lines = [
        (
            f"seed {report['seed']}: {report['trials']} trials of each kind, replayed on"
            f" {report['rounds']} rounds"
        )
    ]
    lines.append(
        f"({report['independent_windows']} windows do not overlap); load at the start"
        f" {report['load_at_start'][0]:.2f}"
    )
    lines += [
        _line(name, figure)
        for name, figure in report.items()
        if isinstance(figure, dict) and "rate" in figure
    ]
    planted = report["planted"]
    lines.append(
        f"planted in {planted['task']}: {report['asked']:.0%} asked for, {planted['measured']:.1%}"
        " measured"
    )
    lines.append("spread between identical runs")
    for name, spread in report["spread_between_runs"].items():
        lines.append(f"  {name:34} {spread:7.2%}")
    print("\n".join(lines), file=sys.stderr)


def _line(name: str, figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"  {name.replace('_', ' '):36} {figure['rate']:6.1%}   ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    sys.exit(main())
