#!/usr/bin/env python3
"""How often ``ab`` is wrong: false alarms on identical code, and a slow-down of one task that it
must find and pin.

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
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, ROOT)

from tracecore.perf.compare.ab import (  # noqa: E402
    ratios_in,
    subjects_that_moved,
)
from tracecore.perf.compare.runs import RunRecord, read_run, row_names  # noqa: E402
from tracecore.perf.compare.samples import (  # noqa: E402
    METRICS,
    OVERALL,
    Sample,
    gather_samples,
    make_samples,
)
from tracecore.perf.compare.timing import decide  # noqa: E402
from tracecore.perf.documents.archive import read_sets  # noqa: E402
from tracecore.record import as_dict, record  # noqa: E402
from tracecore.stats import MAD_TO_SIGMA, mad, wilson_interval  # noqa: E402

SCREEN_ROUNDS = 2
BURN = """

_setup = setup


def setup(seed, env):
    for _ in range({loops}):
        pass
    _setup(seed, env)
"""
Logs = dict[tuple[str, str], float]  # by scenario row and metric: the logarithm of a run's median


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
        "spread_between_runs": spreads(pool),
    }


# --- the pool --------------------------------------------------------------------------------------------------------


@record
class Pool:
    """What was gathered."""

    about: dict[str, Any]  # of the machine, and of what was asked for
    logs: dict[str, list[Logs]]  # by copy and round


def make_pool(options: argparse.Namespace, scratch: str) -> Pool:
    """Run everything."""
    arms = {name: copy_clone(os.path.join(scratch, name)) for name in ("one", "two", "slow")}
    loops = plant(options, arms)
    runs = gather(options, arms)
    manifest = runs["one"][0].manifest
    about = {
        "episodes": options.episodes,
        "workers": options.workers,
        "machine_class": manifest["machine_class"],
        "load_at_start": manifest["host"]["load_averages"],
        "loops": loops,
        "asked": options.slower,
    }
    logs = {name: [logs_of(run) for run in made] for name, made in runs.items()}
    return Pool(about, logs)


def write_pool(path: str, pool: Pool) -> None:
    """Keep it as JSON, which has no tuples for keys."""
    logs = {
        name: [[[*key, value] for key, value in run.items()] for run in runs]
        for name, runs in pool.logs.items()
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"about": pool.about, "logs": logs}, file)


def read_pool(path: str) -> Pool:
    """What :func:`write_pool` kept."""
    with open(path, encoding="utf-8") as file:
        kept = json.load(file)
    logs = {
        name: [{(row, kind): value for row, kind, value in run} for run in runs]
        for name, runs in kept["logs"].items()
    }
    return Pool(kept["about"], logs)


def copy_clone(folder: str) -> str:
    """A copy of what a run needs."""
    for name in ("scripts", "tracecore"):
        shutil.copytree(
            os.path.join(ROOT, name),
            os.path.join(folder, name),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return folder


def plant(options: argparse.Namespace, arms: dict[str, str]) -> int:
    """Make the slow arm's task take the share more that was asked for; how many loops that takes."""
    setup = os.path.join("tracecore", "tasks", options.task, "setup.py")
    with open(os.path.join(ROOT, setup), encoding="utf-8") as file:
        source = file.read()

    def write(loops: int) -> None:
        with open(os.path.join(arms["slow"], setup), "w", encoding="utf-8") as file:
            file.write(source + BURN.format(loops=loops))

    loops = 200_000
    write(loops)
    pairs = [
        [task_cpu_s(run_arm(options, arms[name]), options.task) for name in ("one", "slow")]
        for _ in range(6)
    ]
    # the first one compiles
    base_s, slow_s = (statistics.median(values) for values in zip(*pairs[1:], strict=True))
    loops = max(1, int(loops * float(options.slower) * base_s / (slow_s - base_s)))
    write(loops)
    for folder in arms.values():
        run_arm(options, folder)
    return loops


def gather(options: argparse.Namespace, arms: dict[str, str]) -> dict[str, list[RunRecord]]:
    """Runs of all arms in turns that mirror each other, for so many minutes."""
    pool: dict[str, list[RunRecord]] = {name: [] for name in arms}
    deadline_s = time.monotonic() + 60 * options.minutes
    while time.monotonic() < deadline_s and len(pool["one"]) < options.most_rounds:
        turns = list(arms.items())
        for name, folder in turns if len(pool["one"]) % 2 == 0 else reversed(turns):
            pool[name].append(run_arm(options, folder))
        print(f"round {len(pool['one'])}", file=sys.stderr)
    return pool


def run_arm(options: argparse.Namespace, folder: str) -> RunRecord:
    """One run of one copy."""
    script = os.path.join(folder, "scripts", "perf_harness.py")
    words = [
        sys.executable,
        script,
        "--episodes",
        str(options.episodes),
        "--workers",
        str(options.workers),
    ]
    words += ["--output-dir", "perf", "--runs-dir", "runs"]
    done = subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    (archived,) = read_sets(os.path.join(folder, json.loads(done.stdout)["artifacts"]["summary"]))
    run = read_run(archived)
    for name in ("perf", "runs"):
        shutil.rmtree(os.path.join(folder, name))
    return run


def logs_of(run: RunRecord) -> Logs:
    """The figures of a run as ``ab`` takes them; all runs have the same episodes, so that none
    depends on the others.
    """
    samples = gather_samples([run], [run], row_names([run.columns]), ("cpu",))
    return {(sample.row, sample.metric): sample.base[0] for sample in samples}


def task_cpu_s(run: RunRecord, task: str) -> float:
    """The median CPU time of one task's episodes."""
    return next(
        math.exp(value)
        for (row, metric), value in logs_of(run).items()
        if row.startswith(f"{task}@") and metric == "cpu"
    )


# --- replayed trials -------------------------------------------------------------------------------------------------

Sides = tuple[list[Logs], list[Logs]]


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


def replay(sides: Sides, rounds: int) -> dict[str, Any]:
    """``ab`` on these runs: the rows that its verdict names."""
    base, new = sides
    screen = {
        "decisions": [
            as_dict(one) for one in decide(samples(base[:SCREEN_ROUNDS], new[:SCREEN_ROUNDS]))
        ]
    }
    if not subjects_that_moved(screen):
        return {"went_on": False, "regressed": [], "improved": []}
    made = decide(samples(base[-rounds:], new[-rounds:]), screen=ratios_in(screen))
    gating = [one for one in made if one.gates]
    return {
        "went_on": True,
        **{
            verdict: list(dict.fromkeys(one.row for one in gating if one.verdict == verdict))
            for verdict in ("regressed", "improved")
        },
    }


def samples(base: list[Logs], new: list[Logs]) -> list[Sample]:
    """What ``ab`` would decide on."""
    medians: dict[str, dict[str, list[float]]] = {}
    for row, metric in base[0]:
        if row != OVERALL and metric in METRICS:
            medians.setdefault(metric, {})[row] = [run[row, metric] for run in [*base, *new]]
    return make_samples(medians, len(base), ("cpu",))


# --- figures ---------------------------------------------------------------------------------------------------------


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
