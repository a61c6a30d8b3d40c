"""What a cluster's worker is asked to do: describe its machine, take a slice in, run chunks of it,
and let go of it.

Everything goes in and out as JSON or plain bytes. These functions run inside a foreign process that
has threads: nothing is forked here, and every episode runs below a process of its own
(:mod:`tracecore.perf.cluster.runner`).
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import zlib
from typing import Any, Final

from tracecore import __version__, canon, frames, processes, provenance
from tracecore.clock import monotonic_s
from tracecore.confinement import doctor
from tracecore.confinement.readable import secret_folders
from tracecore.errors import MISSING, InputError, OptionError, TracecoreError
from tracecore.perf.cluster.node_slice import NodeSlice
from tracecore.perf.cluster.runner import ROWS
from tracecore.perf.cluster.sources import TASKS, lay_out_sources
from tracecore.perf.documents.files import check_writable
from tracecore.perf.host.facts import host_block, machine_class
from tracecore.perf.slice.cleanup import remove_doubtful_artifacts
from tracecore.record import field_names
from tracecore.records import EpisodeResult, JsonObject, Limits
from tracecore.runtime.task.catalog import PACKAGE_FOLDER
from tracecore.runtime.task.folder import read_folder

RUNS: Final = "runs"
# without a chunk: whoever planned the slice was killed, and will not let go of it
FORGOTTEN_S: Final = 3600.0
LEAVE_PATIENCE_S: Final = 2.0  # for runners whose line has ended: they kill, reap and exit

_ARTIFACT_NAME: Final = field_names(EpisodeResult).index("artifact_name")

_slices: dict[str, "_Slice"] = {}  # of this process, by id
_guard = threading.Lock()


def about() -> JsonObject:
    """Which tracecore and which Python this is; where one differs, episodes may end differently."""
    return {
        "tracecore": __version__,
        "sources": canon.digest(
            {name: canon.sha256(data) for name, data in read_folder(PACKAGE_FOLDER).kept.items()}
        ),
        "python": f"{sys.implementation.name} {'.'.join(map(str, sys.version_info[:3]))}",
    }


async def describe_node(method: str, limits: str, dask_worker: Any = None) -> str:
    """What the machine is: JSON of ``about``, ``hostname``, ``host``, ``machine_class`` and
    ``confinement``.

    Args:
        method: How processes are started: auto, fork or spawn.
        limits: Of agents, as JSON.
        dask_worker: Filled in by dask.
    """
    # In a thread, like all that takes long: the worker's own loop goes on telling the scheduler
    # that it lives.
    return await asyncio.to_thread(_describe, method, limits, str(getattr(dask_worker, "name", "")))


def _describe(method: str, limits: str, name: str) -> str:
    method = processes.method_of(method)
    host = host_block(method, provenance.git_state())
    document = {
        "about": about(),
        "name": name,
        "hostname": socket.gethostname(),
        "host": host,
        "machine_class": machine_class(host),
        "confinement": doctor.probe(Limits(**json.loads(limits)), method, thorough=False),
    }
    return json.dumps(document)


async def take_slice(document: str, parcel: bytes, dask_worker: Any = None) -> str:
    """Take a slice in: its files are laid out in a folder of the worker's own, and verified.

    Gives JSON of ``trouble`` (why the slice cannot run here, or null) and ``runs_dir``.
    """
    return await asyncio.to_thread(_take_slice, document, parcel, str(dask_worker.local_directory))


def _take_slice(document: str, parcel: bytes, local_folder: str) -> str:
    sent = NodeSlice.from_json(json.loads(document))
    folder = os.path.join(os.path.realpath(local_folder), f"tracecore-{sent.slice_id}")
    for forgotten in [slice_id for slice_id, one in _slices.items() if one.is_forgotten()]:
        _let_go(forgotten)
    try:
        the_slice = _prepare(sent, parcel, folder)
    except (TracecoreError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        return json.dumps({"trouble": str(error), "runs_dir": None})
    with _guard:
        _slices[sent.slice_id] = _Slice(the_slice, folder)
    # Where artifacts return, none stays.
    return json.dumps(
        {
            "trouble": None,
            "runs_dir": None if sent.artifacts == "return" else the_slice.settings.runs_dir,
        }
    )


def _prepare(sent: NodeSlice, parcel: bytes, folder: str) -> NodeSlice:
    if sent.method == processes.FORK and processes.default_method() != processes.FORK:
        raise OptionError("--start-method", "", sent.method, "spawn on this node's platform")
    pairs = lay_out_sources(parcel, folder, sent.pairs)
    # "return": a folder that is gone with the slice. Else as it was written: relative to where the
    # worker was started.
    runs_dir = (
        os.path.join(folder, RUNS)
        if sent.artifacts == "return"
        else os.path.abspath(sent.settings.runs_dir)
    )
    check_writable(runs_dir)
    if sent.token and not os.path.exists(os.path.join(runs_dir, sent.token)):
        raise InputError(
            runs_dir,
            "",
            "another folder of that name",
            "the one folder that harness and nodes share",
        )
    for path in (path for allowance in sent.allowances for path in allowance.read):
        if not os.path.exists(path):
            raise InputError(
                path,
                "",
                MISSING,
                "a file or folder that the scenario allows, at the same place on each node",
            )
    return sent.placed(pairs, runs_dir, secret_folders((), os.path.join(folder, TASKS), runs_dir))


def pack_answer(head: JsonObject, files: list[bytes]) -> bytes:
    """What a chunk came to, on its way to the harness."""
    return zlib.compress(
        frames.pack(json.dumps(head, allow_nan=False).encode("ascii")) + b"".join(files), 1
    )


def read_answer(answer: bytes) -> tuple[JsonObject, list[bytes]]:
    """What :func:`run_chunk` gave: a head with ``rows``, ``trouble`` and ``death``; and, where they
    return, the artifacts.
    """
    data = zlib.decompress(answer)
    at = frames.HEADER_BYTES + int.from_bytes(data[: frames.HEADER_BYTES], "big")
    head: JsonObject = json.loads(data[frames.HEADER_BYTES : at])
    files = []
    for size in head["sizes"]:
        files.append(data[at : at + size])
        at += size
    return head, files


def run_chunk(slice_id: str, chunk: str, attempt: int) -> bytes:
    """Run a chunk of a slice that was taken in; gives what :func:`read_answer` reads.

    Args:
        slice_id: Of the slice.
        chunk: JSON of what :func:`tracecore.perf.cluster.node_slice.chunk_of` gives.
        attempt: From 2 on, its episodes went down with a node before.

    Raises:
        LookupError: The slice was not taken in, or has been let go of.
    """
    the_slice = _slices.get(slice_id)
    if the_slice is None:
        raise LookupError(f"slice {slice_id}")
    return the_slice.run(json.loads(chunk), attempt)


async def let_go(slice_id: str) -> None:
    """End whatever runs of the slice, and remove what was laid out for it."""
    await asyncio.to_thread(_let_go, slice_id)


def _let_go(slice_id: str) -> None:
    with _guard:
        the_slice = _slices.pop(slice_id, None)
    if the_slice:
        the_slice.close()


class _Slice:
    """A slice in this process: its runners, one per chunk that runs at the same time."""

    def __init__(self, the_slice: NodeSlice, folder: str) -> None:
        self._slice, self._folder = the_slice, folder
        self._lock = threading.Lock()
        self._idle: list[_Runner] = []
        self._runners: list[_Runner] = []
        self._closed = False
        self._used_s = monotonic_s()

    def is_forgotten(self) -> bool:
        """Whether nobody will come for it any more."""
        with self._lock:
            is_busy = len(self._runners) > len(self._idle)
        return not is_busy and monotonic_s() - self._used_s > FORGOTTEN_S

    def run(self, chunk: list[list[Any]], attempt: int) -> bytes:
        if attempt > 1:
            # What took the node down may have killed an agent first: a crash that its episode wrote
            # down would be none.
            remove_doubtful_artifacts(
                self._slice.settings.runs_dir, (run_id for _, run_id, _ in chunk)
            )
        begun_s = monotonic_s()
        runner = self._take_runner()
        rows, trouble, death = runner.run(chunk)
        self._give_back(runner, is_usable=trouble is None and death is None)
        self._used_s = monotonic_s()
        files = self._take_artifacts(rows) if self._slice.artifacts == "return" else []
        now_s = monotonic_s()
        head = {
            "rows": rows,
            "trouble": trouble,
            "death": death,
            "slot": runner.number,
            "spent_s": now_s - begun_s,
            "now_offset_s": now_s - runner.epoch_s,
            "sizes": [len(data) for data in files],
        }
        return pack_answer(head, files)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            runners = list(self._runners)
            self._runners.clear()
        for runner in runners:
            runner.hang_up()
        deadline_s = monotonic_s() + LEAVE_PATIENCE_S
        for runner in runners:
            runner.wait(deadline_s)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _take_runner(self) -> "_Runner":
        with self._lock:
            if self._closed:
                raise LookupError("the slice has been let go of")
            while self._idle:
                runner = self._idle.pop()
                if runner.is_alive():
                    return runner
                self._runners.remove(runner)  # it has waited too long for a chunk, and left
                runner.wait(0.0)
            taken = {runner.number for runner in self._runners}
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            runner = _Runner(self._slice, number)
            self._runners.append(runner)
            return runner

    def _give_back(self, runner: "_Runner", *, is_usable: bool) -> None:
        with self._lock:
            if is_usable and not self._closed:
                self._idle.append(runner)
                return
            if runner in self._runners:
                self._runners.remove(runner)
        runner.hang_up()
        runner.wait(monotonic_s() + LEAVE_PATIENCE_S)

    def _take_artifacts(self, rows: list[list[Any]]) -> list[bytes]:
        """The artifacts of these rows, which do not stay; b"" for one that was not kept."""
        return [self._take_artifact(name) if (name := row[_ARTIFACT_NAME]) else b"" for row in rows]

    def _take_artifact(self, name: str) -> bytes:
        path = os.path.join(self._slice.settings.runs_dir, name)
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        return data


class _Runner:
    """A runner process, as the thread that hands it a chunk sees it."""

    def __init__(self, the_slice: NodeSlice, number: int) -> None:
        self.number = number  # among those of this process
        self.epoch_s = monotonic_s()
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                _command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Ctrl-C in the terminal of a dask worker is for that worker
                start_new_session=True,
            )
        self._send(the_slice.as_json())

    def run(self, chunk: list[list[Any]]) -> tuple[list[list[Any]], str | None, str | None]:
        """The rows of the chunk; and if they are not all, either why it could not go on, or how the
        runner died.
        """
        rows: list[list[Any]] = []
        self._send(chunk)
        try:
            while len(rows) < len(chunk):
                message = frames.read_message(self._line.fileno())
                if message[:1] != ROWS:
                    return rows, message[1:].decode("utf-8", "replace"), None
                rows += json.loads(message[1:])
        except (frames.ChannelClosed, OSError):
            self.wait(monotonic_s() + LEAVE_PATIENCE_S)
            return rows, None, processes.describe_code(self._process.returncode)
        return rows, None, None

    def is_alive(self) -> bool:
        """Whether it can take a chunk."""
        return self._process.poll() is None

    def hang_up(self) -> None:
        """End its line: it kills what it runs, and leaves. Whoever waits for a row of it wakes up."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def wait(self, deadline_s: float) -> None:
        """Wait until it is gone; kill it if that takes too long."""
        try:
            self._process.wait(max(0.0, deadline_s - monotonic_s()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, document: Any) -> None:
        # it is gone, and whoever waits for its rows will see that
        with contextlib.suppress(OSError):
            frames.write_message(self._line.fileno(), json.dumps(document).encode("ascii"))


def _command(fd: int) -> list[str]:
    # The very modules that this process has, wherever they come from; -P: not what happens to lie
    # in the current folder.
    paths = [path for path in sys.path if path]
    code = (
        f"import sys; sys.path[:] = {paths!r}; from tracecore.perf.cluster.runner import serve;"
        f" serve({fd})"
    )
    return [sys.executable, "-P", "-c", code]
