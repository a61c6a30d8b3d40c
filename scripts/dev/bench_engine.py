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
import resource
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
HARNESS = os.path.join(ROOT, "scripts", "perf_harness.py")
sys.path.insert(0, ROOT)

# The clone that this file lies in comes first. What other pools are handed must import as little as
# ours does, so that this script, unlike the harness, reaches below perf/.
from tracecore import descendants  # noqa: E402
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
    ("tracecore / floor", "tracecore", "floor", ">= 0.25"),
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
        "--slots",
        action="store_true",
        help="only what slots give: waiting episodes, their memory, 8 and 64 slots, page faults",
    )
    parser.add_argument(
        "--waiting",
        default="256x64x0.2",
        metavar="NxSLOTSxS",
        help="episodes that wait S seconds in each of eight steps (default: %(default)s)",
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
    if options.slots:
        return {"machine": machine(), "slots": slots_table(options, scratch)}
    rates: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name, contestant in contestants(options, scratch):
            rates.setdefault(name, []).append(contestant())
            print(f"round {number + 1}: {name} {rates[name][-1]:.1f}/s", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    report = {
        "machine": machine(),
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
    report["slots"] = slots_table(options, scratch)
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


def slots_table(options: argparse.Namespace, scratch: str) -> dict[str, Any]:
    """What slots give: each figure with what is aimed at."""
    count, slots, seconds = options.waiting.split("x")
    share, pss_mb = waiting(int(count), int(slots), float(seconds), scratch)
    cores = harness_rate(options.episodes, CORES, scratch)
    rates = {n: harness_rate(options.episodes, n, scratch) / cores for n in (8, 64)}
    return {
        f"{options.waiting} waiting: share of the ideal rate": (share, ">= 0.75"),
        "PSS per waiting episode, MB": (pss_mb, "<= 6"),
        "8 slots / as many as cores": (rates[8], ">= 0.95"),
        "64 slots / as many as cores": (rates[64], ">= 0.95"),
        "page faults per episode, whole tree": (faults(scratch), "<= 1200 (3.11), 900 (3.13)"),
    }


WAITING_STEPS = 8
WAITING_AGENT = """\
import time
class Agent:
    def reset(self, spec): self.step = 0
    def observe(self, observation): pass
    def act(self):
        self.step += 1
        time.sleep({seconds})
        return {{"type": "look"}} if self.step < {steps} else {{"type": "finish"}}
"""


def waiting(count: int, slots: int, seconds: float, scratch: str) -> tuple[float, float]:
    """Episodes that wait in every step: the share of the rate that waiting alone would allow, and
    the most memory (PSS of the whole tree) for each slot.
    """
    task = os.path.join(scratch, "tasks", "plain")
    shutil.copytree(os.path.join(ROOT, "tests", "helpers", "tasks", "plain"), task)
    manifest = os.path.join(task, "task.toml")
    with open(manifest, encoding="utf-8") as file:
        text = file.read().replace("= 4\n", "= 20\n")
    with open(manifest, "w", encoding="utf-8") as file:
        file.write(text)
    agent = os.path.join(scratch, "agent.py")
    with open(agent, "w", encoding="utf-8") as file:
        file.write(WAITING_AGENT.format(seconds=seconds, steps=WAITING_STEPS))
    scenario = os.path.join(scratch, "scenario.json")
    with open(scenario, "w", encoding="utf-8") as file:
        json.dump([{"agent": agent, "task_ref": "plain@1"}], file)
    words = ["--scenario", scenario, "--tasks-dir", os.path.dirname(task)]
    memory: list[float] = []
    over = threading.Event()
    looking = threading.Thread(target=look_at_memory, args=(over, memory))
    looking.start()
    try:
        rate = harness_rate(count, slots, scratch, *words)
    finally:
        over.set()
        looking.join()
    ideal = slots / (WAITING_STEPS * seconds)
    return rate / ideal, memory[0] / slots


def look_at_memory(over: threading.Event, memory: list[float]) -> None:
    """Every half second until it is over: the most PSS, in MB, of all below this process."""
    most = 0.0
    while not over.wait(LOOK_INTERVAL_S):
        total = 0
        for pid in descendants.tree_below(descendants.children_of(os.getpid())):
            with (
                contextlib.suppress(OSError, IndexError),
                open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file,
            ):
                total += int(file.read().partition("\nPss:")[2].split()[0])
        most = max(most, total / 1024)
    memory.append(most)


def faults(scratch: str) -> float:
    """Page faults per episode of the default scenario, of every process of the tree, the start not
    counted.
    """
    few, many = 40, 120
    counts = []
    for episodes in (few, many):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        run_harness(episodes, CORES, scratch, "--sample-interval", "0")
        counts.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before)
    return (counts[1] - counts[0]) / (many - few)


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    return {
        "cores": CORES,
        "cpu": cpu_model(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


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
    rates = report.get("episodes_per_s", {})
    for name, rate in rates.items():
        ours = rates["tracecore"] / rate
        lines.append(f"{name:34} {rate:11.1f} {1000 / rate:11.2f} {ours:13.2f}")
    for name, ratio in report.get("ratios", {}).items():
        lines.append(f"{name:34} {ratio['median']:11.2f}   aim {ratio['aim']}")
    for name, (figure, aim) in report["slots"].items():
        lines.append(f"{name:50} {figure:8.2f}   aim {aim}")
    for name in ("startup_s", "long"):
        for key, value in report.get(name, {}).items():
            lines.append(f"{name + ' ' + key:34} {json.dumps(value)}")
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
