"""The pool of real runs that ``measure_judgement.py`` replays: three copies of this clone in
turns, two identical and one whose chosen task burns a fixed amount of computation in its setup.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, ROOT)

from tracecore.perf.compare.runs import RunRecord, read_run, row_names  # noqa: E402
from tracecore.perf.compare.samples import gather_samples  # noqa: E402
from tracecore.perf.documents.archive import read_sets  # noqa: E402
from tracecore.record import record  # noqa: E402

BURN = """

_setup = setup


def setup(seed, env):
    for _ in range({loops}):
        pass
    _setup(seed, env)
"""
Logs = dict[tuple[str, str], float]  # by scenario row and metric: the logarithm of a run's median


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
    """Make the slow arm's task take the share more that was asked for; the loops it takes."""
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
