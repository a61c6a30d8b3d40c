#!/usr/bin/env python3
"""What a cluster costs: the same slice on this machine and on a Dask cluster on loopback of as many
slots, in turns.

Prints, for each pair of runs, the ratio of their times, and the medians: of the running alone,
    which is what a longer slice
approaches, and of the whole command. Exit 3 if the median of the running is over --most.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
UP_S = 120.0


def main() -> int:
    """Measure; 0, or 3 where the cluster costs more than it may."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--episodes", type=int, default=3000, help="of each run (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="pairs of runs (default: %(default)s)"
    )
    parser.add_argument(
        "--slots", type=int, default=3, help="on either side (default: %(default)s)"
    )
    parser.add_argument(
        "--most", type=float, default=1.15, help="ratio that is still good (default: %(default)s)"
    )
    arguments = parser.parse_args()
    running, whole = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(pathlib.Path(folder), arguments.slots) as address,
    ):
        for number in range(arguments.rounds):
            here = ("--workers", str(arguments.slots))
            sides = [here, ("--cluster", address)]
            if number % 2:
                sides.reverse()
            ends = {side: run(pathlib.Path(folder), arguments.episodes, side) for side in sides}
            (here_s, here_whole_s, here_hashes), (there_s, there_whole_s, there_hashes) = (
                ends[here],
                ends["--cluster", address],
            )
            if here_hashes != there_hashes:
                print("the hashes differ")
                return 1
            running.append(there_s / here_s)
            whole.append(there_whole_s / here_whole_s)
            times = f"running {here_s:.2f} s here, {there_s:.2f} s there, ratio {running[-1]:.3f}"
            print(
                f"{times}; whole command {here_whole_s:.2f} s, {there_whole_s:.2f} s, ratio"
                f" {whole[-1]:.3f}",
                flush=True,
            )
    print(
        f"medians of {arguments.rounds}: running {statistics.median(running):.3f}, whole"
        f" {statistics.median(whole):.3f}"
    )
    return 3 if statistics.median(running) > arguments.most else 0


def run(
    folder: pathlib.Path, episodes: int, side: tuple[str, ...]
) -> tuple[float, float, list[str]]:
    """One slice: seconds of its running, seconds of the whole command, and the hashes of its
    episodes.
    """
    fixed = (
        "--episodes",
        str(episodes),
        "--progress",
        "never",
        "--runs-dir",
        "runs",
        "--output-dir",
        "out",
    )
    begun_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "perf_harness.py"), *fixed, *side],
        cwd=folder,
        stdout=subprocess.PIPE,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    whole_s = time.monotonic() - begun_s
    paths = json.loads(done.stdout)["artifacts"]
    summary, series = (
        json.loads((folder / paths[kind]).read_bytes()) for kind in ("summary", "series")
    )
    return float(summary["elapsed_s"]), whole_s, [row["artifact_hash"] for row in series]


@contextlib.contextmanager
def cluster(folder: pathlib.Path, slots: int) -> Iterator[str]:
    """A scheduler and ``slots`` workers of one thread each, as a user starts them; gives the
    address.
    """
    started = [
        dask(
            folder,
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            "s.json",
        )
    ]
    try:
        address = str(wait_for(lambda: json.loads((folder / "s.json").read_text())["address"]))
        for number in range(slots):
            options = (
                "--nworkers",
                "1",
                "--nthreads",
                "1",
                "--no-dashboard",
                "--local-directory",
                str(folder / f"w{number}"),
            )
            started.append(dask(folder, "worker", address, "--name", f"w{number}", *options))
        log = folder / "log"
        wait_for(lambda: log.read_text().count("Registered to") >= slots or None)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def dask(folder: pathlib.Path, *words: str) -> "subprocess.Popen[bytes]":
    """A process of dask's, which finds this clone."""
    with (folder / "log").open("ab") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "dask", *words]
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


def wait_for(ask: Any) -> Any:
    """What ``ask`` gives, once it gives something."""
    deadline_s = time.monotonic() + UP_S
    while True:
        with contextlib.suppress(OSError, ValueError):
            if (found := ask()) is not None:
                return found
        if time.monotonic() > deadline_s:
            raise TimeoutError("the cluster did not come up")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
