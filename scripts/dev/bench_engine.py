#!/usr/bin/env python3
"""What the engine costs, beside a floor and the pools of the standard library: medians and ratios
made in one run.

The contestants take turns, round by round, so that a machine whose speed drifts slows all of them
alike. Rates are episodes per second; trust the ratios, and the rates only on a quiet machine.
"""

import argparse
import concurrent.futures
import contextlib
import functools
import json
import multiprocessing
import os
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
HARNESS = os.path.join(ROOT, "scripts", "perf_harness.py")
sys.path.insert(0, ROOT)

# The clone that this file lies in comes first. What other pools are handed must import as little as
# ours does, so that this script, unlike the harness, reaches below perf/.
from tracecore.batch.endings import describe_ending  # noqa: E402
from tracecore.batch.pool import BatchOptions, run_batch  # noqa: E402
from tracecore.perf.slice.plan import Finders, plan  # noqa: E402
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO  # noqa: E402
from tracecore.records import Job, Returned, Settings  # noqa: E402
from tracecore.runtime.job import run_job_in_process  # noqa: E402
from tracecore.runtime.task.catalog import find_agent, find_task  # noqa: E402

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
RATIOS = (  # name, contestant, other, what is aimed at
    ("tracecore / spawn", "tracecore", "tracecore spawn", ">= 30"),
    ("tracecore / floor", "tracecore", "floor", ">= 0.5"),
)
FLOOR_PATIENCE_S = 600.0
LOOK_INTERVAL_S = 0.5  # at what a long slice holds
POOLS = ("spawn", "forkserver")  # not fork: both pools fork from a process that runs threads


def main() -> int:
    """Run what was asked for; prints a table to stderr and one JSON object to stdout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of all contestants (default: %(default)s)"
    )
    parser.add_argument(
        "--episodes", type=int, default=600, help="of the fast contestants (default: %(default)s)"
    )
    parser.add_argument(
        "--slow-episodes", type=int, default=16, help="of the slow ones (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=CORES, help="of all (default: usable cores, %(default)s)"
    )
    parser.add_argument(
        "--startup", action="store_true", help="also time --help and a slice of 24, shell to exit"
    )
    parser.add_argument(
        "--many-workers", action="store_true", help="also compare 2, 8 and 64 workers"
    )
    parser.add_argument(
        "--long", type=int, metavar="N", help="also compare a slice of N episodes with one of 1000"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        report = measure(options, scratch)
    print_table(report)
    print(json.dumps(report))
    return 0


def measure(options: argparse.Namespace, scratch: str) -> dict[str, Any]:
    """All figures."""
    rates: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name, contestant in contestants(options, scratch):
            rates.setdefault(name, []).append(contestant())
            print(f"round {number + 1}: {name} {rates[name][-1]:.1f}/s", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    report = {
        "machine": {
            "cores": CORES,
            "cpu": cpu_model(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "workers": options.workers,
        "episodes_per_s": medians,
        "rates": rates,
        "ratios": {
            name: {"median": median_ratio(rates[a], rates[b]), "aim": aim}
            for name, a, b, aim in RATIOS
        },
        "in_process_ms_per_episode": 1000 / medians["in process"],
    }
    if options.startup:
        report["startup_s"] = startup(scratch, options.rounds)
    if options.many_workers:
        report["many_workers_eps"] = many_workers(options, scratch)
    if options.long:
        report["long"] = {
            str(count): long_slice(count, options.workers, scratch)
            for count in (1000, options.long)
        }
    return report


def contestants(
    options: argparse.Namespace, scratch: str
) -> Iterator[tuple[str, Callable[[], float]]]:
    """Name and a function that gives a rate in episodes per second."""
    fast, slow, workers = options.episodes, options.slow_episodes, options.workers
    yield "floor", lambda: floor(fast, workers)
    yield "tracecore", lambda: harness_rate(fast, workers, scratch)
    yield "tracecore spawn", lambda: harness_rate(slow, workers, scratch, "--start-method", "spawn")
    for method in POOLS:
        yield (
            f"ProcessPoolExecutor {method}",
            functools.partial(executor_rate, slow, workers, scratch, method),
        )
        yield (
            f"multiprocessing.Pool {method}",
            functools.partial(pool_rate, slow, workers, scratch, method),
        )
    yield "in process", lambda: in_process_rate(fast, scratch)


def floor(episodes: int, workers: int) -> float:
    """Two bare forks, exits and waits per episode, in every worker at once, from the image of a
    worker.
    """
    each = max(1, episodes // workers)
    options = BatchOptions(slots=workers, limit_s=lambda _forks: FLOOR_PATIENCE_S)
    seconds = [0.0]
    for ended in run_batch(fork_repeatedly, [2 * each] * workers, options):
        assert isinstance(ended.ending, Returned), describe_ending(ended.ending)
        seconds.append(float(ended.ending.value))
    return workers * each / max(seconds)


def fork_repeatedly(forks: int, link: Any) -> float:
    """In the process of a job, whose image is its worker's: fork, leave, wait, again and again;
    gives the seconds.
    """
    del link
    start_s = time.monotonic()
    for _ in range(forks):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.wait4(pid, 0)
    return time.monotonic() - start_s


def harness_rate(episodes: int, workers: int, scratch: str, *arguments: str) -> float:
    """The default scenario through the command line, strict spec on, artifacts written: what its
    summary says.
    """
    return float(
        run_harness(episodes, workers, scratch, *arguments)["summary"]["summary"]["throughput_eps"]
    )


def run_harness(episodes: int, workers: int, scratch: str, *arguments: str) -> dict[str, Any]:
    """One slice in folders of its own; the document that it prints."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        words = [
            "--episodes",
            str(episodes),
            "--workers",
            str(workers),
            "--strict-spec",
            *arguments,
        ]
        folders = ["--output-dir", f"{folder}/perf", "--runs-dir", f"{folder}/runs"]
        done = subprocess.run(
            [sys.executable, HARNESS, *words, *folders],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def executor_rate(episodes: int, workers: int, scratch: str, method: str) -> float:
    """The same episodes, agent in process, in an executor that gives each a process of its own."""
    context = multiprocessing.get_context(method)
    with tempfile.TemporaryDirectory(dir=scratch) as runs:
        jobs, start_s = default_jobs(episodes, runs), time.perf_counter()
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, max_tasks_per_child=1
        ) as pool:
            for row in pool.map(run_job_in_process, jobs):
                assert row.success
        return episodes / (time.perf_counter() - start_s)


def pool_rate(episodes: int, workers: int, scratch: str, method: str) -> float:
    """The same in a multiprocessing.Pool."""
    context = multiprocessing.get_context(method)
    with tempfile.TemporaryDirectory(dir=scratch) as runs:
        jobs, start_s = default_jobs(episodes, runs), time.perf_counter()
        with context.Pool(workers, maxtasksperchild=1) as pool:
            for row in pool.imap_unordered(run_job_in_process, jobs, chunksize=1):
                assert row.success
        return episodes / (time.perf_counter() - start_s)


def in_process_rate(episodes: int, scratch: str) -> float:
    """The runtime alone: no process is started."""
    with tempfile.TemporaryDirectory(dir=scratch) as runs:
        jobs, start_s = default_jobs(episodes, runs), time.perf_counter()
        assert all(run_job_in_process(job).success for job in jobs)
        return episodes / (time.perf_counter() - start_s)


def default_jobs(episodes: int, runs_dir: str) -> Iterator[Job]:
    """The jobs of a slice of the default scenario, strict spec on."""
    settings = Settings(runs_dir=runs_dir, strict_spec=True)
    return plan(
        DEFAULT_SCENARIO,
        episodes,
        settings,
        Finders(find_agent, find_task),
        slice_id=os.urandom(8).hex(),
    ).jobs()


def startup(scratch: str, rounds: int) -> dict[str, float]:
    """Seconds from the shell prompt to the exit, medians."""
    helps, slices, bare = [], [], []
    for _ in range(rounds):
        bare.append(wall_s([sys.executable, "-c", "pass"], scratch))
        helps.append(wall_s([sys.executable, HARNESS, "--help"], scratch))
        slices.append(
            wall_s(
                [sys.executable, HARNESS, "--episodes", "24", "--workers", "4", "--strict-spec"],
                scratch,
            )
        )
    median = statistics.median
    return {
        "python -c pass": median(bare),
        "--help": median(helps),
        "24 episodes, 4 workers": median(slices),
    }


def wall_s(command: list[str], folder: str) -> float:
    """Wall clock of a command that must succeed."""
    start_s = time.perf_counter()
    subprocess.run(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - start_s


def many_workers(options: argparse.Namespace, scratch: str) -> dict[str, float]:
    """Rates with as many workers as cores, and with more."""
    counts = sorted({CORES, 8, 64})
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(options.rounds):
        for count in counts:
            rates[count].append(harness_rate(options.episodes, count, scratch))
    return {str(count): statistics.median(values) for count, values in rates.items()}


def long_slice(episodes: int, workers: int, scratch: str) -> dict[str, Any]:
    """Rate, peak memory of the harness process alone, how much of the run was its end, and what it
    held while it ran.

    Of open files (of the harness and its workers) and of processes (its whole tree), the most that
    were seen in the first, second and last third of the run: what grows with the run would grow
    from one to the next.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        words = [
            "--episodes",
            str(episodes),
            "--workers",
            str(workers),
            "--strict-spec",
            "--compress",
            "--keep-runs",
            "none",
        ]
        folders = ["--output-dir", f"{folder}/perf", "--runs-dir", f"{folder}/runs"]
        start_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, HARNESS, *words, *folders],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        held = list(look_until_it_ends(process.pid))
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        whole_s = time.perf_counter() - start_s
        assert process.stdout is not None
        document = json.load(process.stdout)
        process.stdout.close()
        rate = document["summary"]["summary"]["throughput_eps"]
        thirds = [held[len(held) * part // 3 : len(held) * (part + 1) // 3] for part in range(3)]
        return {
            "episodes_per_s": rate,
            "peak_rss_mb": usage.ru_maxrss / 1024,
            "end_share": max(0.0, 1 - episodes / rate / whole_s),
            "open_files_most": [max(files for files, _ in third) for third in thirds if third],
            "processes_most": [
                max(processes for _, processes in third) for third in thirds if third
            ],
        }


def look_until_it_ends(pid: int) -> Iterator[tuple[int, int]]:
    """Every half second, open files of the harness and its workers, and processes of its whole
    tree.
    """
    died, died_fd, harness = select.poll(), os.pidfd_open(pid), psutil.Process(pid)
    died.register(died_fd, select.POLLIN)
    while not died.poll(LOOK_INTERVAL_S * 1000):
        with contextlib.suppress(psutil.Error):  # one of them ended while it was looked at
            files = sum(one.num_fds() for one in (harness, *harness.children()))
            yield files, 1 + len(harness.children(recursive=True))
    os.close(died_fd)


def median_ratio(ours: list[float], others: list[float]) -> float:
    """The median of the ratios of the rounds: each compares what ran next to each other."""
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))


def cpu_model() -> str:
    """As the kernel names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def print_table(report: dict[str, Any]) -> None:
    """The figures for a person, on stderr."""
    lines = [f"{'contestant':34} {'episodes/s':>11} {'ms/episode':>11} {'tracecore / it':>14}"]
    ours = report["episodes_per_s"]["tracecore"]
    for name, rate in report["episodes_per_s"].items():
        lines.append(f"{name:34} {rate:11.1f} {1000 / rate:11.2f} {ours / rate:13.2f}")
    for name, ratio in report["ratios"].items():
        lines.append(f"{name:34} {ratio['median']:11.2f}   aim {ratio['aim']}")
    for name in ("startup_s", "many_workers_eps", "long"):
        for key, value in report.get(name, {}).items():
            lines.append(f"{name + ' ' + key:34} {json.dumps(value)}")
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
