"""Copies of this clone that differ in one thing each, and runs of them: what
``measure_judgement.py`` compares.
"""

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, ROOT)

from tracecore.perf.compare.runs import RunRecord, read_run  # noqa: E402
from tracecore.perf.documents.archive import read_sets  # noqa: E402
from tracecore.stats import median  # noqa: E402

BURNS: Final = {  # where a slow-down is planted: the file, and what is put behind its end
    "task": (
        "tracecore/tasks/{task}/setup.py",
        (
            "\n\n_setup = setup\n\n\ndef setup(seed, env):\n"
            "    for _ in range({loops}):\n        pass\n    _setup(seed, env)\n"
        ),
    ),
    "task-c": (
        "tracecore/tasks/{task}/setup.py",
        (
            "\n\n_setup = setup\n\n\ndef setup(seed, env):\n"
            "    sum(range({loops}))\n    _setup(seed, env)\n"
        ),
    ),
    "runtime": (
        "tracecore/runtime/episode.py",
        (
            "\n\n_run_episode = run_episode\n\n\ndef run_episode(*arguments, **options):\n"
            "    for _ in range({loops}):\n        pass\n"
            "    return _run_episode(*arguments, **options)\n"
        ),
    ),
}
FIRST_LOOPS: Final = 200_000


def copy_clone(folder: str) -> str:
    """A copy of what a run needs."""
    for name in ("scripts", "tracecore"):
        shutil.copytree(
            os.path.join(ROOT, name),
            os.path.join(folder, name),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return folder


def plant(options: argparse.Namespace, plain: str, slow: str, where: str, share: float) -> int:
    """Make the copy ``slow`` take the share more CPU time that is asked for, in the chosen task or
    in the runtime; the loops it takes.
    """
    name, burn = BURNS[where]
    path = os.path.join(slow, name.format(task=options.task))
    with open(path, encoding="utf-8") as file:
        source = file.read()

    def write(loops: int) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(source + burn.format(loops=loops))

    write(FIRST_LOOPS)
    task = options.task if where.startswith("task") else ""
    pairs = [
        [median(cpu_s(run_arm(options, folder), task)) for folder in (plain, slow)]
        for _ in range(6)
    ]
    # the first one compiles
    base_s, slow_s = (statistics.median(values) for values in zip(*pairs[1:], strict=True))
    loops = max(1, int(FIRST_LOOPS * share * base_s / (slow_s - base_s)))
    write(loops)
    return loops


def plant_line(folder: str) -> None:
    """Make every task's validator, which is called once a step, execute one more line."""
    tasks = os.path.join(folder, "tracecore", "tasks")
    for name in os.listdir(tasks):
        path = os.path.join(tasks, name, "validate.py")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                source = file.read()
            more, count = re.subn(r"(\ndef validate\(.*:\n)", r"\1    _ = None\n", source)
            assert count == 1, path
            with open(path, "w", encoding="utf-8") as file:
                file.write(more)


def run_arm(options: argparse.Namespace, folder: str, *more: str) -> RunRecord:
    """One run of one copy."""
    words = [sys.executable, os.path.join(folder, "scripts", "perf_harness.py")]
    words += ["--episodes", str(options.episodes), "--workers", str(options.workers)]
    words += ["--output-dir", "perf", "--runs-dir", "runs", *more]
    done = subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    (archived,) = read_sets(os.path.join(folder, json.loads(done.stdout)["artifacts"]["summary"]))
    run = read_run(archived)
    for name in ("perf", "runs"):
        shutil.rmtree(os.path.join(folder, name))
    return run


def run_counted(options: argparse.Namespace, arms: Mapping[str, str]) -> dict[str, list[RunRecord]]:
    """A handful of counted runs of each copy, which are as exact as many."""
    return {
        name: [run_arm(options, folder, "--work") for _ in range(options.counted_runs)]
        for name, folder in arms.items()
    }


def cpu_s(run: RunRecord, task: str) -> list[float]:
    """The median CPU time of each scenario row, or of one task's."""
    logs = run.columns.logs("cpu")
    return [
        math.exp(statistics.median(logs[place] for place in places))
        for row, places in run.columns.rows.items()
        if row.task_ref.startswith(f"{task}@" if task else "")
    ]
