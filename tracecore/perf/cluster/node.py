"""What a worker of the cluster is asked: what machine it is, to run a chunk, and to end a slice.

These functions run inside a foreign process, which has threads and children of its own and may
be a daemon that multiprocessing forbids any: so each chunk gets a process beside it
(:mod:`tracecore.perf.cluster.chunk_process`), which ends with the end of its standard input,
however the worker of the cluster dies. Nothing of a slice outlives its chunks here.
"""

import asyncio
import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Final

from tracecore import __version__, canon, frames, processes
from tracecore.clock import monotonic_s
from tracecore.confinement import doctor
from tracecore.perf.cluster.chunks import Chunk, ChunkEnd
from tracecore.perf.host import provenance
from tracecore.perf.host.facts import host_block, machine_class
from tracecore.records import EpisodeResult, JsonObject, Limits
from tracecore.runtime.task.catalog import PACKAGE_FOLDER
from tracecore.runtime.task.folder import read_folder

LEAVE_PATIENCE_S: Final = 5.0  # for a chunk's process whose line has ended: it kills and reaps

# One chunk at a time: it fills all slots of the node.
_turn = threading.Lock()
_running: dict[str, "subprocess.Popen[bytes]"] = {}  # that of this turn, by its slice


def about() -> JsonObject:
    """Which tracecore and which Python this is; where one differs, episodes may end differently."""
    sources = {name: canon.sha256(data) for name, data in read_folder(PACKAGE_FOLDER).kept.items()}
    return {
        "tracecore": __version__,
        "sources": canon.digest(sources),
        "python": f"{sys.implementation.name} {'.'.join(map(str, sys.version_info[:3]))}",
    }


async def describe_node(
    method: str, limits: JsonObject, runs_dir: str, dask_worker: Any = None
) -> JsonObject:
    """What the machine is: ``about``, ``hostname``, ``host``, ``machine_class``,
    ``confinement`` and ``runs_dir``.

    Args:
        method: How processes are started: auto, fork or spawn.
        limits: Of agents, by name.
        runs_dir: Of artifacts that stay here, as it was written.
        dask_worker: Filled in by Dask.
    """
    # In a thread, like all that takes long: the worker's own loop keeps its heartbeat going.
    name = str(getattr(dask_worker, "name", ""))
    return await asyncio.to_thread(_describe, method, limits, runs_dir, name)


def _describe(method: str, limits: JsonObject, runs_dir: str, name: str) -> JsonObject:
    method = processes.method_of(method)
    host = host_block(method, provenance.git_state())
    return {
        "about": about(),
        "name": name,
        "hostname": socket.gethostname(),
        "host": host,
        "machine_class": machine_class(host),
        "confinement": doctor.probe(Limits(**limits), method, thorough=False),
        "runs_dir": os.path.abspath(runs_dir),
    }


def run_chunk(chunk: Chunk, slots: dict[str, int]) -> ChunkEnd:
    """Run the episodes of a chunk in a process beside this one, on all slots of this node.

    Args:
        chunk: What to run.
        slots: How many each node has, by its address.
    """
    from distributed import get_worker  # noqa: PLC0415  (on a worker of a cluster it is there)

    worker = get_worker()
    with (
        _turn,
        tempfile.TemporaryDirectory(
            prefix="tracecore-", dir=worker.local_directory, ignore_cleanup_errors=True
        ) as folder,
    ):
        return _run_beside(chunk, folder, slots[worker.address], worker.address)


async def end_slice(slice_id: str) -> None:
    """End whatever runs of the slice on this node."""
    if process := _running.pop(slice_id, None):
        await asyncio.to_thread(_hang_up, process)


def _run_beside(chunk: Chunk, folder: str, slots: int, node: str) -> ChunkEnd:
    # The very modules that this process has, wherever they come from.
    paths = [os.path.dirname(PACKAGE_FOLDER)]
    code = (
        f"import sys; sys.path[:0] = {paths!r};"
        " from tracecore.perf.cluster.chunk_process import serve; serve()"
    )
    begun_s = monotonic_s()
    rows: list[tuple[EpisodeResult, bytes]] = []
    trouble = death = None
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal of a cluster's worker is for that worker
    ) as process:
        _running[chunk.slice_id] = process
        try:
            for answer in _answers(process, pickle.dumps((chunk, folder, slots))):
                if isinstance(answer, str):
                    trouble = answer
                else:
                    rows.append(answer)
        except (frames.ChannelClosed, OSError):
            _hang_up(process)
            death = processes.describe_code(process.returncode)
        finally:
            _running.pop(chunk.slice_id, None)
            _hang_up(process)
    return ChunkEnd(
        node=node,
        rows=tuple(rows),
        trouble=trouble,
        death=death,
        spent_s=monotonic_s() - begun_s,
    )


def _answers(process: "subprocess.Popen[bytes]", request: bytes) -> Iterator[Any]:
    """Rows with their artifacts, or the trouble of the process in words."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        frames.write_message(process.stdin.fileno(), request)
    while (answer := pickle.loads(frames.read_message(process.stdout.fileno()))) is not None:  # noqa: S301  (from our own process)
        yield answer


def _hang_up(process: "subprocess.Popen[bytes]") -> None:
    """End its line: it ends what it runs, and leaves; killed where it does not."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(LEAVE_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
