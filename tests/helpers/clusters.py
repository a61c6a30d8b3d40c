"""Dask clusters on loopback, each process started as its users start it."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

UP_S = 300.0
LEAVE_S = 60.0


@dataclass
class DaskCluster:
    """A scheduler and its workers, whose logs lie in ``folder``."""

    clone: pathlib.Path  # where their tracecore lies
    folder: pathlib.Path
    scheduler: subprocess.Popen[bytes] = field(init=False)
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = (
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            "scheduler.json",
        )
        self.scheduler = self._start("scheduler", *options)

    @property
    def address(self) -> str:
        return str(self._wait_for_file("scheduler.json")["address"])

    def add_worker(self, name: str, *options: str, **more: str) -> None:
        threads = () if "--nthreads" in options else ("--nthreads", "1")
        where = ("--local-directory", str(self.folder / name))
        all_options = (
            self.address,
            "--name",
            name,
            "--nworkers",
            "1",
            "--no-dashboard",
            *where,
            *threads,
            *options,
        )
        self.workers[name] = self._start("worker", *all_options, **more)

    def wait_for_workers(self) -> "DaskCluster":
        """Until each has said in its log that it is registered."""
        deadline_s = time.monotonic() + UP_S
        while missing := [name for name in self.workers if "Registered to" not in self.log(name)]:
            assert time.monotonic() < deadline_s, f"{missing}: {self.log(missing[0])}"
            time.sleep(0.05)
        return self

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """At once, with what dask keeps beside it; not with the processes of episodes, which are in
        sessions of their own.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """In good order first: only then does dask take back the semaphores that it keeps in
        /dev/shm.
        """
        everything = (*self.workers.values(), self.scheduler)
        for process in everything:
            process.terminate()
        deadline_s = time.monotonic() + LEAVE_S
        for process in everything:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline_s - time.monotonic()))
            self.kill(process)

    def _start(self, what: str, *options: str, **more: str) -> subprocess.Popen[bytes]:
        name = options[options.index("--name") + 1] if "--name" in options else what
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", what, *options],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(self.clone), "PYTHONWARNINGS": "", **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_for_file(self, name: str) -> dict[str, str]:
        deadline_s = time.monotonic() + UP_S
        while True:
            with contextlib.suppress(OSError, ValueError):
                found: dict[str, str] = json.loads((self.folder / name).read_text())
                return found
            assert time.monotonic() < deadline_s, self.log("scheduler")
            time.sleep(0.05)


@contextlib.contextmanager
def dask_cluster(clone: pathlib.Path, folder: pathlib.Path, *workers: str) -> Iterator[DaskCluster]:
    folder.mkdir(exist_ok=True)
    cluster = DaskCluster(clone, folder)
    try:
        for name in workers:
            cluster.add_worker(name)
        yield cluster.wait_for_workers()
    finally:
        cluster.close()
