#!/usr/bin/env python3
"""What the engine costs and reaches, as one Markdown table: each figure with what is aimed at.

Contestants take turns, round by round, so that a machine whose speed drifts slows all of them
alike; a ratio is the median of the ratios within the rounds. Trust ratios and counts; rates and
seconds mean something on a quiet machine alone. Rows of the README's table are marked with an R.
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
from typing import Any, Final

import psutil

ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
HARNESS: Final = os.path.join(ROOT, "scripts", "perf_harness.py")
sys.path.insert(0, ROOT)

# The clone that this file lies in comes first. What other pools are handed must import as little as
# ours does, so that this script, unlike the harness, reaches below perf/.
from tracecore import descendants  # noqa: E402
from tracecore.batch.pool import BatchOptions, run_batch  # noqa: E402
from tracecore.perf.slice.plan import Finders, plan  # noqa: E402
from tracecore.perf.slice.scenario import DEFAULT_SCENARIO  # noqa: E402
from tracecore.record import record  # noqa: E402
from tracecore.records import Job, Returned, Settings  # noqa: E402
from tracecore.runtime.job import run_job_in_process  # noqa: E402
from tracecore.runtime.task.catalog import find_agent, find_task  # noqa: E402

CORES: Final = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
IS_OLD: Final = sys.version_info < (3, 12)  # where no object can be made immortal
FEW: Final = 16  # episodes of a contestant that starts an interpreter for each
FLOOR_PATIENCE_S: Final = 600.0
LOOK_INTERVAL_S: Final = 0.5
WAITING_STEPS: Final = 8
WAITING_AGENT: Final = """\
import time
class Agent:
    def reset(self, spec): self.step = 0
    def observe(self, observation): pass
    def act(self):
        self.step += 1
        time.sleep({seconds})
        return {{"type": "look"}} if self.step < {steps} else {{"type": "finish"}}
"""
LIMIT_S: Final = 2.0  # of episodes that never end


@record
class Row:
    """One line of the table."""

    what: str
    figure: str
    aim: str = ""
    in_readme: bool = False


def main() -> int:
    """Run everything; prints the table to stdout, and what goes on to stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, default, words in (
        ("--rounds", 3, "of all contestants"),
        ("--episodes", 600, "of each fast contestant"),
    ):
        parser.add_argument(flag, type=int, default=default, help=f"{words} (default: %(default)s)")
    parser.add_argument(
        "--long", type=int, metavar="N", help="only compare a slice of N episodes with one of 1000"
    )
    parser.add_argument(
        "--counts", action="store_true", help="only what does not depend on the hour"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        if options.long:
            print_rows(long_rows(options.long, scratch))
        elif options.counts:
            print_rows(count_rows(scratch))
        else:
            print_rows(rows(options, scratch))
    return 0


def rows(options: argparse.Namespace, scratch: str) -> Iterator[Row]:
    """The whole table."""
    rates: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name, contestant in contestants(options.episodes, scratch).items():
            rates.setdefault(name, []).append(contestant())
            write_line(f"round {number + 1}: {name} {rates[name][-1]:.1f}/s")
    ours = rates["tracecore"]
    share = "0.25" if IS_OLD else "0.3"
    yield Row(
        what="**tracecore**, default slice, of the rate of two bare forks per episode",
        figure=f"{median_ratio(ours, rates['two bare forks per episode']):.2f}",
        aim=f">= {share}",
        in_readme=True,
    )
    for slots in (8, 64):
        ratio = median_ratio(rates[f"tracecore, --workers {slots}"], ours)
        yield Row(
            f"default slice, `--workers {slots}` beside as many as cores",
            f"{ratio:.2f}",
            ">= 0.95",
        )
    yield from waiting_rows(scratch)
    yield Row(
        what="24 episodes, `--workers 4`, shell to exit",
        figure=f"{startup_s(options.rounds, scratch):.2f} s",
        aim="<= 0.7 s",
        in_readme=True,
    )
    yield overshoot_row(scratch)
    yield from count_rows(scratch)
    in_process_ms = 1000 / statistics.median(rates["in one process, nothing isolated"])
    yield Row("runtime alone, in process, per episode", f"{in_process_ms:.2f} ms", "<= 1.2 ms")
    for name, values in rates.items():
        rate = statistics.median(values)
        yield Row(f"{name}: episodes/s", f"{rate:.1f} ({1000 / rate:.2f} ms each)")


def count_rows(scratch: str) -> Iterator[Row]:
    """What does not depend on the hour."""
    yield Row(
        what="page faults per episode, everything in the tree",
        figure=f"{faults(scratch):.0f}",
        aim=f"<= {'1,200' if IS_OLD else '900'}",
        in_readme=True,
    )
    bare, strict = (calls(scratch, is_strict=is_strict) for is_strict in (False, True))
    yield Row("runtime alone, Python calls per episode", f"{bare:.0f}", "<= 700")
    yield Row("the same with the strict check", f"{strict:.0f}")


def print_rows(table: Iterator[Row]) -> None:
    """As Markdown, each line as soon as its figure is known."""
    print(f"{machine()}\n\n| | work | reached | aim |\n| --- | --- | --- | --- |", flush=True)
    for row in table:
        mark = "R" if row.in_readme else ""
        print(f"| {mark} | {row.what} | {row.figure} | {row.aim} |", flush=True)


# --- the default scenario -------------------------------------------------------------------------


def contestants(episodes: int, scratch: str) -> dict[str, Callable[[], float]]:
    """Each gives a rate in episodes per second."""

    def ours(count: int, workers: int, *words: str) -> Callable[[], float]:
        return lambda: rate_of(run_harness(count, workers, scratch, "--strict-spec", *words))

    found = {
        "two bare forks per episode": lambda: floor(episodes),
        "tracecore": ours(episodes, CORES),
        "tracecore, --workers 8": ours(episodes, 8),
        "tracecore, --workers 64": ours(episodes, 64),
        "in one process, nothing isolated": lambda: in_process_rate(episodes, scratch),
        "tracecore, --start-method spawn": ours(FEW, CORES, "--start-method", "spawn"),
    }
    for method in ("spawn", "forkserver"):  # not fork: both pools fork from a process with threads
        for name, pool in (
            ("ProcessPoolExecutor", executor_map),
            ("multiprocessing.Pool", pool_map),
        ):
            found[f"`{name}`, {method}"] = functools.partial(pool_rate, pool, method, scratch)
    return found


def run_harness(count: int, workers: int, scratch: str, *words: str) -> list[Any]:
    """One slice in folders of its own; its summary and its series."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        done = subprocess.run(
            [
                *(sys.executable, HARNESS, "--episodes", str(count), "--workers", str(workers)),
                *("--output-dir", f"{folder}/perf", "--runs-dir", f"{folder}/runs", *words),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode in {0, 1}, done.returncode  # 1: episodes have failed
        paths = json.loads(done.stdout)["artifacts"]
        found = []
        for kind in ("summary", "series"):
            with open(os.path.join(folder, paths[kind]), encoding="utf-8") as file:
                found.append(json.load(file))
        return found


def rate_of(documents: list[Any]) -> float:
    """Episodes per second, all of which must have succeeded."""
    summary = documents[0]["summary"]
    assert summary["passed"] == summary["total"], summary
    return float(summary["throughput_eps"])


def floor(episodes: int) -> float:
    """Two bare forks, exits and waits per episode, in every worker at once, from the image of a
    worker.
    """
    each = max(1, episodes // CORES)
    options = BatchOptions(slots=CORES, limit_s=lambda _forks: FLOOR_PATIENCE_S)
    seconds = [0.0]
    for ended in run_batch(fork_repeatedly, [2 * each] * CORES, options):
        assert isinstance(ended.ending, Returned), ended.ending
        seconds.append(float(ended.ending.value))
    return CORES * each / max(seconds)


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


def executor_map(jobs: Iterator[Job], context: Any) -> Iterator[Any]:
    """What became of the jobs, in an executor."""
    with concurrent.futures.ProcessPoolExecutor(
        CORES, mp_context=context, max_tasks_per_child=1
    ) as pool:
        yield from pool.map(run_job_in_process, jobs)


def pool_map(jobs: Iterator[Job], context: Any) -> Iterator[Any]:
    """The same in a ``multiprocessing.Pool``."""
    with context.Pool(CORES, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(run_job_in_process, jobs, chunksize=1)


def pool_rate(
    pool: Callable[[Iterator[Job], Any], Iterator[Any]], method: str, scratch: str
) -> float:
    """The same episodes, agent in process, in a pool that gives each a process of its own."""
    start_s = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=scratch) as runs:
        for row in pool(default_jobs(FEW, runs), multiprocessing.get_context(method)):
            assert row.success
    return FEW / (time.perf_counter() - start_s)


def in_process_rate(episodes: int, scratch: str) -> float:
    """The runtime alone: no process is started."""
    with tempfile.TemporaryDirectory(dir=scratch) as runs:
        jobs, start_s = list(default_jobs(episodes, runs)), time.perf_counter()
        assert all(run_job_in_process(job).success for job in jobs)
        return episodes / (time.perf_counter() - start_s)


def default_jobs(episodes: int, runs_dir: str, *, is_strict: bool = True) -> Iterator[Job]:
    """The jobs of a slice of the default scenario."""
    settings = Settings(runs_dir=runs_dir, strict_spec=is_strict)
    finders = Finders(find_agent, find_task)
    return plan(DEFAULT_SCENARIO, episodes, settings, finders, slice_id=os.urandom(8).hex()).jobs()


def startup_s(rounds: int, scratch: str) -> float:
    """Seconds from the shell prompt to the exit, the median."""
    found = []
    for _ in range(rounds):
        start_s = time.perf_counter()
        run_harness(24, 4, scratch, "--strict-spec")
        found.append(time.perf_counter() - start_s)
    return statistics.median(found)


def faults(scratch: str) -> float:
    """Page faults per episode of the default scenario, of every process of the tree, the start not
    counted.
    """
    few, many = 40, 120
    counts = []
    for episodes in (few, many):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        run_harness(episodes, CORES, scratch, "--strict-spec", "--sample-interval", "0")
        counts.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before)
    return (counts[1] - counts[0]) / (many - few)


def calls(scratch: str, *, is_strict: bool) -> float:
    """Python functions that are called per episode of the default scenario, in process."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event == "call"

    with tempfile.TemporaryDirectory(dir=scratch) as runs:
        for job in default_jobs(40, runs):  # what is done once is done
            run_job_in_process(job)
        jobs = list(default_jobs(40, runs, is_strict=is_strict))
        sys.setprofile(count)
        try:
            for job in jobs:
                run_job_in_process(job)
        finally:
            sys.setprofile(None)
    return counted / len(jobs)


# --- episodes that wait ---------------------------------------------------------------------------


def waiting_rows(scratch: str) -> Iterator[Row]:
    """Episodes that wait in every step: the share of the rate that waiting alone would allow, and
    the memory of each.
    """
    for count, slots, seconds in ((256, 64, 0.2), (512, 256, 1.0), (1024, 1024, 1.0)):
        documents, pss_mb = waiting(count, slots, seconds, scratch)
        share = rate_of(documents) * WAITING_STEPS * seconds / slots
        work = f"{count} episodes that wait {WAITING_STEPS} x {seconds:g} s, `--workers {slots}`"
        write_line(f"{work}: {share:.2f}, {pss_mb:.2f} MB")
        is_first = slots == 64
        if slots == 1024:
            yield Row(f"{work}: most in flight, no error", f"{most_in_flight(documents[1])}", "")
            continue
        yield Row(
            what=f"{work}: share of the ideal rate",
            figure=f"{share:.2f}",
            aim=">= 0.75",
            in_readme=is_first,
        )
        if is_first:
            yield Row(
                what="memory (PSS) per waiting episode, all its processes, its share of the rest",
                figure=f"{pss_mb:.1f} MB",
                aim="<= 6 MB",
                in_readme=True,
            )


def waiting(count: int, slots: int, seconds: float, scratch: str) -> tuple[list[Any], float]:
    """A slice of such episodes, and the most memory (PSS of the whole tree, MB) for each slot."""
    words = write_waiting(seconds, scratch)
    memory: list[float] = []
    over = threading.Event()
    looking = threading.Thread(target=look_at_memory, args=(over, memory))
    looking.start()
    try:
        documents = run_harness(count, slots, scratch, *words)
    finally:
        over.set()
        looking.join()
    return documents, memory[0] / slots


def write_waiting(seconds: float, scratch: str) -> tuple[str, ...]:
    """An agent that waits in each step, and a task for it; the options that run them."""
    folder = tempfile.mkdtemp(dir=scratch)
    task = os.path.join(folder, "tasks", "plain")
    shutil.copytree(os.path.join(ROOT, "tests", "helpers", "tasks", "plain"), task)
    manifest = os.path.join(task, "task.toml")
    with open(manifest, encoding="utf-8") as file:
        text = file.read().replace("= 4\n", "= 20\n")
    agent, scenario = os.path.join(folder, "agent.py"), os.path.join(folder, "scenario.json")
    for path, content in (
        (manifest, text),
        (agent, WAITING_AGENT.format(seconds=seconds, steps=WAITING_STEPS)),
        (scenario, json.dumps([{"agent": agent, "task_ref": "plain@1"}])),
    ):
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    return "--scenario", scenario, "--tasks-dir", os.path.dirname(task)


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


def most_in_flight(series: Any) -> int:
    """How many episodes of a series ran at one time, at most."""
    changes = [(row["start_offset_s"], 1) for row in series]
    changes += [(row["end_offset_s"], -1) for row in series]
    running = most = 0
    for _at_s, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def overshoot_row(scratch: str) -> Row:
    """How long behind its time limit an episode was at most ended and swept, with 64 in flight that
    never end.
    """
    words = (*write_waiting(600.0, scratch), "--timeout", f"{LIMIT_S:g}")
    series: Any = run_harness(128, 64, scratch, *words)[1]
    assert {row["termination_reason"] for row in series} == {"timeout"}, series
    worst_s = max(row["wall_clock_s"] for row in series) - LIMIT_S
    return Row(
        "worst overshoot of a time limit, 64 in flight that never end",
        f"{worst_s:.2f} s",
        "<= 0.5 s",
    )


# --- a long slice ---------------------------------------------------------------------------------


def long_rows(episodes: int, scratch: str) -> Iterator[Row]:
    """Rate, peak memory of the harness process alone, how much of the run was its end, and what it
    held while it ran.

    Of open files (of the harness and its workers) and of processes (its whole tree), the most that
    were seen in the first, second and last third of the run: what grows with the run would grow
    from one to the next.
    """
    for count in (1000, episodes):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            start_s = time.perf_counter()
            process = subprocess.Popen(
                [
                    *(sys.executable, HARNESS, "--episodes", str(count), "--workers", str(CORES)),
                    *("--strict-spec", "--compress", "--keep-runs", "none"),
                    *("--output-dir", f"{folder}/perf", "--runs-dir", f"{folder}/runs"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            held = list(look_until_it_ends(process.pid))
            _pid, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            whole_s = time.perf_counter() - start_s
            assert process.stdout is not None
            rate = json.load(process.stdout)["summary"]["summary"]["throughput_eps"]
            process.stdout.close()
        thirds = [held[len(held) * part // 3 : len(held) * (part + 1) // 3] for part in range(3)]
        work = f"a slice of {count}:"
        yield Row(f"{work} episodes/s", f"{rate:.1f}")
        yield Row(f"{work} peak memory of the harness", f"{usage.ru_maxrss / 1024:.1f} MB")
        yield Row(f"{work} end of the run", f"{max(0.0, 1 - count / rate / whole_s):.1%}")
        for name, index in (("open files", 0), ("processes", 1)):
            most = [str(max(look[index] for look in third)) for third in thirds if third]
            yield Row(f"{work} {name} at most, in each third", ", ".join(most))


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


# --- words ----------------------------------------------------------------------------------------


def median_ratio(ours: list[float], others: list[float]) -> float:
    """The median of the ratios of the rounds: each compares what ran next to each other."""
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))


def machine() -> str:
    """What the figures were made on."""
    cpu = platform.processor() or "unknown"
    with (
        contextlib.suppress(OSError, StopIteration),
        open("/proc/cpuinfo", encoding="utf-8") as file,
    ):
        cpu = next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{CORES} cores, {cpu}, {platform.system()} {platform.release()}, {python}"


def write_line(words: str) -> None:
    """What goes on, on stderr."""
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # By its name: by that the processes of jobs import what they are handed.
    import bench_engine

    sys.exit(bench_engine.main())
