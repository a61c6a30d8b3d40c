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

from helpers.slices import wait_until

LEAVE_S = 60.0


@dataclass
class DaskCluster:
    """A scheduler and its workers, whose logs lie in ``folder``."""

    clone: pathlib.Path  # where their tracecore lies
    folder: pathlib.Path
    scheduler: subprocess.Popen[bytes] = field(init=False)
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", "scheduler.json")
        self.scheduler = self._start("scheduler", *where)

    @property
    def address(self) -> str:
        path = self.folder / "scheduler.json"
        wait_until(lambda: path.exists() and path.read_text().endswith("}"))
        return str(json.loads(path.read_text())["address"])

    def add_worker(self, name: str, *, nanny: bool = False) -> None:
        """Start one; a nanny, which Dask gives a worker unless it is asked not to, is a process
        more.
        """
        options = ("--name", name, "--local-directory", str(self.folder / name))
        shape = ("--nworkers", "1", "--nthreads", "1", "--nanny" if nanny else "--no-nanny")
        self.workers[name] = self._start("worker", self.address, *options, *shape)

    def wait_for_workers(self) -> "DaskCluster":
        """Until each has said in its log that it is registered."""
        wait_until(lambda: all("Registered to" in self.log(name) for name in self.workers))
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

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        name = options[options.index("--name") + 1] if "--name" in options else what
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", what, "--no-dashboard", *options],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(self.clone), "PYTHONWARNINGS": ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


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
