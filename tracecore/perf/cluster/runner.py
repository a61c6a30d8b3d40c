"""The process beside a cluster's worker that runs episodes: one slot, one batch, fed chunk by
chunk.

::

    dask worker ──slice, then chunks of jobs──▶ runner: run_batch(run_job) ─▶ worker ─▶ episode,
    agent
                ◀──a row per episode──────────

It is a process of its own since a dask worker has threads, children and signals of its own, among
which nothing may be forked, adopted or swept. It leaves, with everything below it, at the end of
its line: however its dask worker dies.
"""

import contextlib
import json
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tracecore import frames
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.clock import monotonic_s
from tracecore.errors import TracecoreError, one_line
from tracecore.perf.cluster.node_slice import NodeSlice
from tracecore.perf.slice.journal import row_values
from tracecore.perf.slice.options import limit_behind_timeout
from tracecore.records import Job, Running
from tracecore.runtime.agent.process import Preparation
from tracecore.runtime.job import make_ready, run_job, settle

ROWS: Final = b"r"
TROUBLE: Final = b"t"  # why it cannot go on
IDLE_S: Final = 60.0  # without a chunk, after which it leaves: whoever planned the slice is gone
LOOK_INTERVAL_S: Final = 5.0
# rows of a chunk are told together, but none waits longer than this for a later one
TELL_INTERVAL_S: Final = 0.5
SLOTS_MOST: Final = 4096  # of one machine


def serve(fd: int) -> None:
    """Run the chunks that come over the socket ``fd`` until it ends, or nothing has come for a
    minute.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    os.set_inheritable(fd, False)
    slot = _take_slot()
    try:
        _share_core(slot)
        the_slice = NodeSlice.from_json(json.loads(frames.read_message(fd)))
        _run(fd, the_slice)
    except (frames.ChannelClosed, BrokenPipeError, ConnectionResetError, _Idle):
        return
    except TracecoreError as error:
        with contextlib.suppress(OSError):
            frames.write_message(
                fd, TROUBLE + one_line(str(error)).encode("utf-8", "backslashreplace")
            )
        sys.exit(1)
    finally:
        if slot:
            slot.close()


def _run(fd: int, the_slice: NodeSlice) -> None:
    feed = _Feed(fd, the_slice)
    options = BatchOptions(
        workers=1,
        limit_s=limit_behind_timeout(the_slice.method),
        prepare=Preparation(the_slice.settings.limits, the_slice.secret),
        make_ready=make_ready,
        method=the_slice.method,
        adopt_orphans=True,
        more_fd=fd,
        on_tick=feed.look,
        tick_s=LOOK_INTERVAL_S,
    )
    rows: list[list[Any]] = []
    told_s = monotonic_s()
    with contextlib.closing(run_batch(run_job, feed, options)) as endings:
        for ended in endings:
            rows.append(row_values(settle(ended)))
            feed.running -= 1
            if not feed.running or monotonic_s() - told_s > TELL_INTERVAL_S:
                frames.write_message(fd, ROWS + json.dumps(rows, allow_nan=False).encode("ascii"))
                rows, told_s = [], monotonic_s()


class _Idle(Exception):
    """Nothing has come for long."""


class _Feed:
    """The jobs of the chunks, in the order in which they come; None while there is none.

    Attributes:
        running: How many have come that have not ended; whoever sees one end counts it off.
    """

    def __init__(self, fd: int, the_slice: NodeSlice) -> None:
        self._fd, self._slice = fd, the_slice
        self._waiting = select.poll()
        self._waiting.register(fd, select.POLLIN)
        self._jobs: deque[Job] = deque()
        self._used_s = monotonic_s()
        self.running = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Job | None:
        while not self._jobs and self._waiting.poll(0):
            chunk = json.loads(frames.read_message(self._fd))
            self._jobs.extend(self._slice.jobs(chunk))
            self.running += len(chunk)
        return self._jobs.popleft() if self._jobs else None

    def look(self, running: Sequence[Running]) -> None:
        """See whether anybody still wants something."""
        if running or self.running:
            self._used_s = monotonic_s()
        elif monotonic_s() - self._used_s > IDLE_S:
            raise _Idle


def _take_slot() -> socket.socket | None:
    """The first slot of this machine that no other runner holds, whichever dask worker it belongs
    to.

    A name in the abstract namespace of the system is taken by one socket, and free when its process
    is gone.
    """
    if sys.platform != "linux":
        return None
    for number in range(SLOTS_MOST):
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(f"\0tracecore-slot-{os.getuid()}-{number}")
        except OSError:
            held.close()
        else:
            return held
    return None


def _share_core(slot: socket.socket | None) -> None:
    """Keep to the core of the slot: a message between processes on one core costs a tenth of one
    between two.
    """
    if slot is None:
        return
    number = int(bytes(slot.getsockname()).rpartition(b"-")[2])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
