"""The pool of real runs that ``measure_judgement.py`` replays: three copies of this clone in
turns, two identical and one that is slower in one place.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from judgement_arms import copy_clone, plant, plant_line, run_arm, run_counted

from tracecore.perf.compare.comparison import compare_runs
from tracecore.perf.compare.runs import RunRecord, row_names
from tracecore.perf.compare.samples import gather_samples
from tracecore.perf.slice.options import JudgeOptions
from tracecore.record import record

Logs = dict[tuple[str, str], float]  # by scenario row and metric: the logarithm of a run's median


@record
class Pool:
    """What was gathered."""

    about: dict[str, Any]  # of the machine, and of what was asked for
    logs: dict[str, list[Logs]]  # by copy and round

    def half(self, which: str) -> "Pool":
        """The first or the second half of the rounds: one to tune on, one to report on."""
        middle = len(self.logs["one"]) // 2
        part = {"first": slice(middle), "second": slice(middle, None)}.get(which, slice(None))
        return Pool(self.about, {name: runs[part] for name, runs in self.logs.items()})


def make_pool(options: argparse.Namespace, scratch: str) -> Pool:
    """Run everything."""
    arms = {name: copy_clone(os.path.join(scratch, name)) for name in ("one", "two", "slow")}
    loops = plant(options, arms["one"], arms["slow"], options.plant, options.slower)
    for folder in arms.values():
        run_arm(options, folder)
    runs = gather(options, arms)
    first = runs["one"][0].manifest
    about = {
        "episodes": options.episodes,
        "workers": options.workers,
        "machine_class": first["machine_class"],
        "load_at_start": first["host"]["load_averages"],
        "loops": loops,
        "plant": options.plant,
        "asked": options.slower,
    }
    logs = {name: [logs_of(run) for run in made] for name, made in runs.items()}
    return Pool(about, logs)


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


def logs_of(run: RunRecord) -> Logs:
    """The figures of a run as comparisons take them; all runs have the same episodes, so that none
    depends on the others.
    """
    samples = gather_samples([run], [run], row_names([run.columns]), ("cpu",))
    return {
        (sample.row, sample.metric): sample.base[0]
        for sample in samples
        if not sample.metric.endswith("_adjusted")
    }


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
    return Pool({"plant": "task", **kept["about"]}, logs)


# --- the exact legs ---


def measure_exact_legs(options: argparse.Namespace, scratch: str) -> dict[str, Any]:
    """How often behaviour and work are wrong, by every pair of counted runs: of identical copies,
    of one that executes one more line of Python per step, and of one whose runtime takes 10% more
    CPU time in Python.
    """
    names = ("plain", "again", "one_more_line", "runtime_10_percent")
    arms = {name: copy_clone(os.path.join(scratch, name)) for name in names}
    plant_line(arms["one_more_line"])
    plant(options, arms["plain"], arms["runtime_10_percent"], "runtime", 0.10)
    runs = run_counted(options, arms)
    alike = [*runs["plain"], *runs["again"]]
    pairs = [(one, two) for one in alike for two in alike if one is not two]
    found = {name: [(one, two) for one in alike for two in runs[name]] for name in names[2:]}
    return {
        "exact_pairs_of_identical_runs": len(pairs),
        "behaviour_false_alarms": _share(pairs, "behaviour"),
        "work_false_alarms": _share(pairs, "work"),
        **{f"{name}_found_by_work": _share(made, "work") for name, made in found.items()},
    }


def _share(pairs: Sequence[tuple[RunRecord, RunRecord]], leg: str) -> float:
    """Of the pairs, those in which a leg has anything to report."""
    reported = 0
    for base, new in pairs:
        document = compare_runs([base], [new], JudgeOptions())
        changes = document["work"] if leg == "work" else document["exact"]["changes"]
        # page faults beyond 10% warn, and are no count of Python
        reported += any(one["quantity"] in {"lines", "calls"} or leg != "work" for one in changes)
    return reported / len(pairs)
