"""One run of jobs on a cluster: which chunks are out, and what comes of them."""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from tracecore import clock
from tracecore.errors import EngineError
from tracecore.perf.cluster import node
from tracecore.perf.cluster.chunks import Chunk, ChunkEnd, Chunks, Share
from tracecore.perf.cluster.connection import Cluster
from tracecore.perf.cluster.nodes import Node
from tracecore.perf.slice.engine import Look
from tracecore.record import record, replace
from tracecore.records import Ended, EpisodeResult, Job, Running, Usage, WorkerLost
from tracecore.runtime.artifact import keep_returned
from tracecore.runtime.job import settle

# Of one episode, beside the other nodes on which Dask tries its chunk when a node is lost.
ATTEMPTS_MOST: Final = 2
LOOK_S: Final = 1.0  # between two looks at which nodes there are
# Looks in a row without an answer; at the next the scheduler is taken to be gone.
MISSES_MOST: Final = 2
NODES_PATIENCE_S: Final = 30.0  # for a new node, when all are lost
TICK_S: Final = 0.1  # between two looks at what is running
LET_GO_S: Final = 2.5  # for nodes to end what they run: Ctrl-C is waiting


@record
class _Asked:
    """A chunk that is out."""

    share: Share
    nodes: tuple[str, ...]  # the addresses that may run it
    since_s: float


class ClusterRun:
    """One run of jobs: which chunks are out, and the nodes that may take them."""

    def __init__(self, cluster: Cluster, empty: Chunk, chunks: Chunks, look: Look | None) -> None:
        self._cluster, self._empty, self._chunks, self._look = cluster, empty, chunks, look
        self._begun_s = clock.monotonic_s()
        self._asked: dict[asyncio.Task[ChunkEnd], _Asked] = {}
        self._joining: dict[str, asyncio.Task[None]] = {}  # by address
        self._watching = cluster.loop.create_task(self._watch_nodes())
        self._alone_since_s: float | None = None

    async def next_rows(self) -> list[EpisodeResult] | None:
        """The rows of the next chunks to end; None when all have, or an interruption has come."""
        while not self._cluster.woken.done():
            self._hand_out()
            if not self._asked and self._chunks.is_empty:
                return None
            waiting: set[Any] = {*self._asked, *self._joining.values(), self._cluster.woken}
            await asyncio.wait(waiting, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
            if self._look:
                out = self._asked.values()
                self._look([Running(one.share.jobs[0], one.since_s) for one in out])
            self._check_scheduler()
            ended = [task for task in self._asked if task.done()]
            if rows := [row for task in ended for row in self._take(task)]:
                return rows
            self._check_nodes()
        return None

    async def end(self) -> None:
        """Take back what is still out, and have all nodes end what they run of it."""
        tasks: list[asyncio.Task[Any]] = [self._watching, *self._asked, *self._joining.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=LET_GO_S)
        if self._asked and not self._cluster.is_gone:
            addresses = [one.address for one in self._cluster.nodes.values() if not one.is_lost]
            # Whatever has gone by now: the processes of a chunk end with the worker beside them.
            with contextlib.suppress(Exception):
                ending = self._cluster.client.run(
                    node.end_slice, self._empty.slice_id, workers=addresses, on_error="ignore"
                )
                await asyncio.wait_for(ending, LET_GO_S)

    # --- nodes ---

    async def _watch_nodes(self) -> None:
        misses = 0
        while misses <= MISSES_MOST:
            try:
                self._see_threads(await self._cluster.ask_threads())
                misses = 0
            except Exception:  # whatever Dask raises for a scheduler that does not answer
                misses += 1
            await asyncio.sleep(LOOK_S)
        self._cluster.is_gone = True

    def _check_scheduler(self) -> None:
        if self._cluster.is_gone or self._cluster.client.status != "running":
            # What had finished is in the journal.
            self._cluster.is_gone = True
            raise EngineError(f"the scheduler of {self._cluster.address} is gone")

    def _see_threads(self, threads: Mapping[str, int]) -> None:
        """Which nodes there are now: new ones are checked, missing ones are lost."""
        for address in threads.keys() - self._joining.keys():
            known = self._cluster.nodes.get(address)
            if known is None or known.is_lost:
                joining = self._admit(address, threads[address])
                self._joining[address] = asyncio.create_task(joining)
        for one in self._cluster.nodes.values():
            if one.address not in threads and not one.is_lost:
                one.is_lost, one.refused = True, f"{one.words} was lost"
                self._cluster.write_line(
                    f"{one.words} was lost; what it ran is tried again elsewhere"
                )
        lost = {one.address for one in self._cluster.nodes.values() if one.is_lost}
        for task, asked in self._asked.items():
            if lost.issuperset(asked.nodes):  # Dask would wait for one of them for ever
                task.cancel()

    async def _admit(self, address: str, threads: int) -> None:
        """Check a node that is new."""
        try:
            about = await self._cluster.describe(address)
            if complaint := self._cluster.take_in(address, threads, about):
                self._refuse(self._cluster.nodes[address], str(complaint))
        finally:
            self._joining.pop(address, None)

    def _refuse(self, one: Node, why: str) -> None:
        if not one.refused:
            one.refused = why
            self._cluster.write_line(f"{why}; it gets no more episodes")

    def _usable(self) -> list[str]:
        nodes = self._cluster.nodes.values()
        return [one.address for one in nodes if one.refused is None and one.slots]

    def _check_nodes(self) -> None:
        """Whether there is a node to go on with, or may soon be one.

        Raises:
            EngineError: There is none.
        """
        if self._usable() or self._joining:
            self._alone_since_s = None
            return
        now_s = clock.monotonic_s()
        self._alone_since_s = self._alone_since_s or now_s
        nodes = self._cluster.nodes.values()
        if now_s - self._alone_since_s > NODES_PATIENCE_S or not any(one.is_lost for one in nodes):
            why = "; ".join(one.refused for one in nodes if one.refused)
            raise EngineError(f"no node of the cluster is left: {why}")

    # --- chunks ---

    def _hand_out(self) -> None:
        """One chunk for each usable node; Dask places them."""
        usable = tuple(self._usable())
        while len(self._asked) < len(usable) and not self._chunks.is_empty:
            share = self._chunks.take(max(1, self._cluster.slots // len(usable)), len(usable))
            asking = asyncio.create_task(self._ask(share.jobs, usable))
            self._asked[asking] = _Asked(share, usable, clock.monotonic_s())

    async def _ask(self, jobs: tuple[Job, ...], usable: tuple[str, ...]) -> ChunkEnd:
        chunk = replace(self._empty, jobs=jobs)
        slots = {address: self._cluster.nodes[address].slots for address in usable}
        future = self._cluster.client.submit(
            node.run_chunk,
            chunk,
            slots,
            key=f"{self._empty.slice_id}-{os.urandom(8).hex()}",
            workers=list(usable),
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        try:
            end: ChunkEnd = await future
            return end
        finally:
            with contextlib.suppress(Exception):
                if not future.done():
                    await asyncio.wait_for(future.cancel(), 1.0)
                future.release()

    def _take(self, task: "asyncio.Task[ChunkEnd]") -> list[EpisodeResult]:
        """What a chunk came to."""
        asked = self._asked.pop(task)
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        if failure is not None:
            words = f"{type(failure).__name__}: {failure}".partition("\n")[0]
            return self._blame(asked, asked.share.jobs, f"the cluster gave it up: {words}")
        end = task.result()
        one = self._cluster.nodes[end.node]
        one.is_used = True
        rows = self._rows(asked, end, one)
        self._chunks.learn(len(rows), sum(row.wall_clock_s for row in rows))
        done = {row.episode_index for row in rows}
        left = tuple(job for job in asked.share.jobs if job.index not in done)
        if end.trouble:
            self._chunks.put_back(replace(asked.share, jobs=left))
            self._refuse(one, f"{one.words} cannot go on: {end.trouble}")
        elif end.death:
            why = f"{one.words} lost the process that ran it, which {end.death}"
            rows += self._blame(asked, left, why)
        return rows

    def _rows(self, asked: _Asked, end: ChunkEnd, one: Node) -> list[EpisodeResult]:
        """The rows as they stand in this slice, with the artifacts that came with them kept."""
        jobs = {job.index: job for job in asked.share.jobs}
        # The clock of its batch began about when the chunk did.
        shift_s = clock.monotonic_s() - end.spent_s - self._begun_s
        rows = []
        for row, artifact in end.rows:
            here = replace(
                row,
                start_offset_s=max(0.0, row.start_offset_s + shift_s),
                end_offset_s=max(0.0, row.end_offset_s + shift_s),
                worker=one.first_slot + row.worker,
                host=one.about["hostname"],
            )
            job = jobs[row.episode_index]
            rows.append(keep_returned(job, here, artifact) if artifact else here)
        return rows

    def _blame(self, asked: _Asked, jobs: tuple[Job, ...], why: str) -> list[EpisodeResult]:
        """Jobs went down with what ran them: each is tried once more, alone, or else given up."""
        attempts = asked.share.attempt
        if attempts < ATTEMPTS_MOST:
            self._chunks.put_back(*(Share((job,), attempts + 1) for job in jobs))
            return []
        usage = Usage(wall_clock_s=clock.monotonic_s() - asked.since_s, attempt=attempts)
        return [settle(Ended(job, WorkerLost(attempts, why), usage)) for job in jobs]
