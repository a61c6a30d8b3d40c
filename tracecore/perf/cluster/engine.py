"""The running of a slice on a cluster: which node gets which chunk, and what becomes of a chunk
whose node is lost.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Final

from tracecore import clock
from tracecore.errors import EngineError
from tracecore.files import write_atomic
from tracecore.perf.cluster import node
from tracecore.perf.cluster.chunks import Chunk, Chunks
from tracecore.perf.cluster.connection import Cluster, ClusterOptions, Node, check_extra
from tracecore.perf.cluster.node_slice import NodeSlice, chunk_of
from tracecore.perf.cluster.sources import pack_sources
from tracecore.perf.slice.interrupt import Interruption
from tracecore.perf.slice.journal import row_from
from tracecore.perf.slice.options import SliceOptions
from tracecore.perf.slice.scenario import Plan
from tracecore.record import field, mutable_record, record, replace
from tracecore.records import Ended, EpisodeResult, Job, JsonObject, Running, Usage, WorkerLost
from tracecore.runtime.artifact import keep_returned
from tracecore.runtime.job import settle

ATTEMPTS_MOST: Final = 2  # of one episode, when its node is lost
LOOK_S: Final = 1.0  # between two looks at which nodes there are
# looks in a row that get no answer; at the next the scheduler is taken to be gone
MISSES_MOST: Final = 2
TAKE_S: Final = 300.0  # for a node to take the slice in
NODES_PATIENCE_S: Final = 30.0  # for a new node, when all are lost
TICK_S: Final = 0.1  # between two looks at what is running
LET_GO_S: Final = 2.5  # for nodes to end what they run: people wait for it after Ctrl-C


Look = Callable[[Sequence[Running]], None]


@contextlib.contextmanager
def use_cluster(
    options: SliceOptions, interruption: Interruption, say: Callable[[str], None]
) -> Iterator["ClusterEngine"]:
    """A cluster that has been asked and checked, until the end of the ``with`` block.

    Raises:
        OptionError: What it needs is not installed, nobody answers at its address, or a node of it
            cannot be used.
        KeyboardInterrupt: Somebody did not want to wait.
    """
    check_extra()
    cluster_options = ClusterOptions(
        address=options.cluster or "",
        method=options.method,
        limits=options.limits,
        artifacts=options.artifacts or "return",
        runs_dir=options.runs_dir,
        slots_most=options.workers_asked,
    )
    with Cluster(cluster_options, interruption, say) as cluster:
        yield ClusterEngine(cluster, cluster_options)


class ClusterEngine:
    """Runs episodes on a cluster, as the harness sees it."""

    def __init__(self, cluster: Cluster, options: ClusterOptions) -> None:
        self._cluster, self._options = cluster, options

    @property
    def slots(self) -> int:
        """How many episodes run at the same time."""
        return self._cluster.slots

    @property
    def is_gone(self) -> bool:
        """Whether its scheduler was lost: the slice is then finished on this machine, or on another
        cluster.
        """
        return self._cluster.is_gone

    def host(self) -> JsonObject:
        """What the host blocks of the nodes have in common."""
        return self._cluster.host()

    def machine_class(self) -> str:
        """The class that all nodes are of, or ``mixed:`` and all classes."""
        return self._cluster.machine_class()

    def document(self) -> JsonObject:
        """The ``cluster`` block of the manifest."""
        about = {"artifacts": self._options.artifacts, "machine_class": self.machine_class()}
        return {"address": self._cluster.address, **about, "nodes": self._cluster.node_documents()}

    def episodes(
        self, the_plan: Plan, jobs: Iterator[Job], count: int, look: Look | None = None
    ) -> Generator[EpisodeResult, None, None]:
        """The rows of ``jobs`` of a plan, as :func:`run_on_cluster` gives them."""
        options, settings = self._options, the_plan.settings
        # Where artifacts stay on the node, a relative folder is one of the node's.
        runs_dir = options.runs_dir if options.artifacts == "node" else settings.runs_dir
        the_slice = NodeSlice(
            slice_id=f"{the_plan.slice_id}-{os.urandom(4).hex()}",
            settings=replace(settings, runs_dir=runs_dir),
            method=options.method,
            artifacts=options.artifacts,
            pairs=the_plan.sources,
            allowances=the_plan.allowances,
        )
        with _shared(the_slice) as shown:
            yield from run_on_cluster(self._cluster, shown, jobs, count, look)

    def episodes_again(
        self, the_plan: Plan, jobs: Iterator[Job], count: int
    ) -> Generator[EpisodeResult, None, None]:
        """The same for second runs, whose artifacts always come back: somebody reads them."""
        again = ClusterEngine(self._cluster, replace(self._options, artifacts="return"))
        return again.episodes(the_plan, jobs, count)


@contextlib.contextmanager
def _shared(the_slice: NodeSlice) -> Iterator[NodeSlice]:
    """Put a file into a shared runs folder, by which a node can see that its own is the same one."""
    if the_slice.artifacts != "shared":
        yield the_slice
        return
    token = f".tracecore-shared-{the_slice.slice_id}"
    path = os.path.join(the_slice.settings.runs_dir, token)
    write_atomic(path, b"")
    try:
        yield replace(the_slice, token=token)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


class SchedulerLost(EngineError):
    """The scheduler is gone; what had finished is in the journal."""


def run_on_cluster(
    cluster: Cluster,
    the_slice: NodeSlice,
    jobs: Iterator[Job],
    count: int,
    look: Look | None = None,
) -> Generator[EpisodeResult, None, None]:
    """The rows of ``jobs`` as their chunks end, until they all have or somebody interrupts.

    Args:
        cluster: Where.
        the_slice: What the jobs share.
        jobs: Taken as they are needed.
        count: How many there are.
        look: Called with what is running, as time goes by.

    Raises:
        EngineError: The scheduler is gone, or no node is left that can run them.
        OutputError: An artifact that came back could not be written.
    """
    run = _ClusterRun(cluster, the_slice, Chunks(jobs, count, cluster.slots), look)
    try:
        while (rows := cluster.loop.run_until_complete(run.next_rows())) is not None:
            yield from rows
    finally:
        cluster.loop.run_until_complete(run.end())


@record
class _Asked:
    """A chunk that a node has been handed."""

    chunk: Chunk
    since_s: float


@mutable_record
class _Member:
    """A node that has taken the slice in, and what it has been handed, in that order."""

    node: Node
    asked: "dict[asyncio.Task[bytes], _Asked]" = field(default_factory=dict)


class _ClusterRun:
    def __init__(
        self, cluster: Cluster, the_slice: NodeSlice, chunks: Chunks, look: Look | None
    ) -> None:
        self._cluster, self._slice, self._chunks, self._look = cluster, the_slice, chunks, look
        self._parcel = pack_sources(the_slice.pairs)
        self._begun_s = clock.monotonic_s()
        self._members: dict[str, _Member] = {}  # by address
        self._joining: dict[str, asyncio.Task[None]] = {}  # by address
        self._looking: asyncio.Task[None] | None = None
        self._alone_since_s: float | None = None
        self._asked_ever = 0
        # of episodes that took their nodes down with them
        self._lost_rows: list[EpisodeResult] = []

    async def next_rows(self) -> list[EpisodeResult] | None:
        """The rows of the next chunks to end; None when all have, or somebody has interrupted."""
        self._begin()
        while not self._cluster.woken.done():
            self._check_scheduler()
            self._hand_out()
            asked = [task for member in self._members.values() for task in member.asked]
            if not asked and self._chunks.is_empty:
                return None
            waiting: set[Any] = {*asked, *self._joining.values(), self._cluster.woken}
            await asyncio.wait(waiting, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
            self._tick()
            self._check_scheduler()
            if rows := self._hear_all():
                return rows
            self._check_nodes()
        return None

    async def end(self) -> None:
        """Take back what is still out, and have all nodes end what they run."""
        tasks = [task for member in self._members.values() for task in member.asked]
        tasks += [*self._joining.values(), *([self._looking] if self._looking else [])]  # type: ignore[list-item]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LET_GO_S)
        addresses = [
            member.node.address for member in self._members.values() if not member.node.is_lost
        ]
        if addresses and not self._cluster.is_gone:
            # whatever has gone by now: a runner that hears nothing leaves by itself
            with contextlib.suppress(Exception):
                letting_go = self._cluster.client.run(
                    node.let_go, self._slice.slice_id, workers=addresses, on_error="ignore"
                )
                await asyncio.wait_for(letting_go, LET_GO_S)

    # --- nodes ---

    def _begin(self) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_again_and_again())
            for one in self._cluster.nodes.values():
                if not one.refused:
                    self._join(one.address, one.slots)

    async def _look_again_and_again(self) -> None:
        misses = 0
        while misses <= MISSES_MOST:
            try:
                self._see_threads(await self._cluster.ask_threads())
                misses = 0
            except Exception:  # whatever dask raises for a scheduler that does not answer
                misses += 1
            await asyncio.sleep(LOOK_S)
        self._cluster.is_gone = True

    def _check_scheduler(self) -> None:
        if self._cluster.is_gone or self._cluster.client.status != "running":
            self._cluster.is_gone = True
            raise SchedulerLost(f"the scheduler of {self._cluster.address} is gone")

    def _see_threads(self, threads: Mapping[str, int]) -> None:
        """Which nodes there are now: new ones join, missing ones are lost."""
        for address in threads.keys() - self._joining.keys():
            known = self._cluster.nodes.get(address)
            if known is None or known.is_lost:
                self._join(address, threads[address])
        for member in list(self._members.values()):
            if member.node.address not in threads and not member.node.is_lost:
                self._lose(member)

    def _join(self, address: str, threads: int) -> None:
        self._joining[address] = asyncio.get_running_loop().create_task(
            self._admit(address, threads)
        )

    async def _admit(self, address: str, threads: int) -> None:
        """Check a node that is new, and hand the slice to it."""
        cluster = self._cluster
        one = cluster.nodes.get(address)
        try:
            if one is None or one.is_lost:
                about = await cluster.describe(address)
                complaint = cluster.complaint_of(address, about)
                one = cluster.add_node(address, 0 if complaint else threads, about)
                if complaint:
                    self._refuse(one, str(complaint))
                    return
            document = json.dumps(self._slice.as_json())
            taking = cluster.client.run(node.take_slice, document, self._parcel, workers=[address])
            answer = json.loads((await asyncio.wait_for(taking, TAKE_S))[address])
            one.runs_dir = answer["runs_dir"]
            if answer["trouble"]:
                self._refuse(one, f"{one.words} cannot run the slice: {answer['trouble']}")
            else:
                one.is_used = True
                self._members[address] = _Member(one)
        # whatever dask raises for a node that goes while it is being asked
        except Exception as error:
            if one:
                self._refuse(
                    one, f"{one.words} did not take the slice: {type(error).__name__}: {error}"
                )
                one.is_lost = True  # if it is still there, it may join again
        finally:
            self._joining.pop(address, None)

    def _refuse(self, one: Node, why: str) -> None:
        one.refused = why
        self._cluster.say(f"{why}; it gets no more episodes")

    def _lose(self, member: _Member) -> None:
        """A node is gone: what it was running is tried once more elsewhere; what only waited there
        goes elsewhere unblamed.
        """
        one = member.node
        one.is_lost, one.refused = True, f"{one.words} was lost"
        asked, member.asked = member.asked, {}
        self._cluster.say(f"{one.words} was lost; what it ran is tried once more elsewhere")
        for place, (task, what) in enumerate(asked.items()):
            task.cancel()
            if place < one.slots:
                self._blame(what, one, "was lost")
            else:
                self._chunks.put_back(what.chunk)

    def _usable(self) -> list[_Member]:
        return [
            member
            for member in self._members.values()
            if member.node.refused is None and member.node.slots
        ]

    def _check_nodes(self) -> None:
        """Whether there is a node to go on with, or may soon be one."""
        if (
            self._usable()
            or self._joining
            or any(member.asked for member in self._members.values())
        ):
            self._alone_since_s = None
            return
        now_s = clock.monotonic_s()
        self._alone_since_s = self._alone_since_s or now_s
        nodes = self._cluster.nodes.values()
        if now_s - self._alone_since_s > NODES_PATIENCE_S or not any(one.is_lost for one in nodes):
            raise EngineError(
                "no node of the cluster is left: "
                + "; ".join(one.refused for one in nodes if one.refused)
            )

    # --- chunks ---

    def _hand_out(self) -> None:
        """Hand each node as much as it can run at once, and, of short chunks, as much again to wait
        there.
        """
        usable = self._usable()
        for depth in range(1 + self._chunks.ahead):
            for member in usable:
                while len(member.asked) < member.node.slots * (1 + depth):
                    chunk = self._chunks.take(member.node.address, is_only=len(usable) == 1)
                    if chunk is None:
                        break
                    self._asked_ever += 1
                    asking = self._ask(member.node.address, chunk, self._asked_ever)
                    member.asked[asyncio.get_running_loop().create_task(asking)] = _Asked(
                        chunk, clock.monotonic_s()
                    )

    async def _ask(self, address: str, chunk: Chunk, number: int) -> bytes:
        future = self._cluster.client.submit(
            node.run_chunk,
            self._slice.slice_id,
            json.dumps(chunk_of(chunk.jobs)),
            chunk.attempt,
            key=f"tracecore-{self._slice.slice_id}-{os.urandom(4).hex()}-{number}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        try:
            answer: bytes = await future
            return answer
        finally:
            with contextlib.suppress(Exception):
                if not future.done():
                    await asyncio.wait_for(future.cancel(), 1.0)
                future.release()

    def _hear_all(self) -> list[EpisodeResult]:
        rows = []
        for member in self._members.values():
            for task in [task for task in member.asked if task.done()]:
                rows += self._hear(member, task)
        rows += self._lost_rows
        self._lost_rows = []
        return rows

    def _hear(self, member: _Member, task: "asyncio.Task[bytes]") -> list[EpisodeResult]:
        """What a chunk came to."""
        asked, one = member.asked.pop(task), member.node
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        if failure is not None:
            self._blame(asked, one, f"failed it: {type(failure).__name__}: {failure}")
            if isinstance(failure, LookupError) and one.address not in self._joining:
                self._members.pop(one.address)  # another worker stands at this address now
                self._join(one.address, one.slots)
            return []
        head, files = node.read_answer(task.result())
        rows = self._rows(one, asked.chunk, head, files)
        self._chunks.learn(len(rows), head["spent_s"])
        done = {row.index for row in rows}
        left = replace(
            asked.chunk, jobs=tuple(job for job in asked.chunk.jobs if job.index not in done)
        )
        if head["trouble"]:
            self._chunks.put_back(replace(left, avoid=one.address))
            if not one.refused:
                self._refuse(one, f"{one.words} cannot go on: {head['trouble']}")
        elif head["death"]:
            self._blame(
                _Asked(left, asked.since_s),
                one,
                f"lost the process that ran it, which {head['death']}",
            )
        return rows

    def _rows(
        self, one: Node, chunk: Chunk, head: JsonObject, files: list[bytes]
    ) -> list[EpisodeResult]:
        """The rows as they stand in this slice, with the artifacts that came with them kept."""
        jobs = {job.index: job for job in chunk.jobs}
        # its clock began at another time
        shift_s = clock.monotonic_s() - self._begun_s - head["now_offset_s"]
        rows = []
        for place, values in enumerate(head["rows"]):
            row = row_from(values)
            usage = replace(
                row.usage,
                start_offset_s=max(0.0, row.usage.start_offset_s + shift_s),
                end_offset_s=max(0.0, row.usage.end_offset_s + shift_s),
                worker=one.first_slot + head["slot"],
                attempt=max(row.usage.attempt, chunk.attempt),
            )
            row = replace(row, usage=usage, host=one.about["hostname"])
            if files and row.artifact_name:
                row = keep_returned(jobs[row.index], row, files[place])
            rows.append(row)
        return rows

    def _blame(self, asked: _Asked, one: Node, how: str) -> None:
        """A chunk went down with what ran it: each of its episodes is tried once more, alone, or
        given up.
        """
        chunk = asked.chunk
        if chunk.attempt < ATTEMPTS_MOST:
            self._chunks.put_back(*chunk.parts(one.address))
            return
        usage = Usage(wall_clock_s=clock.monotonic_s() - asked.since_s, attempt=chunk.attempt)
        ending = WorkerLost(chunk.attempt, f"{one.words} {how}")
        self._lost_rows += [settle(Ended(job, ending, usage)) for job in chunk.jobs]

    def _tick(self) -> None:
        if self._look:
            running = [
                asked
                for member in self._members.values()
                for asked in [*member.asked.values()][: member.node.slots]
            ]
            self._look([Running(asked.chunk.jobs[0], asked.since_s) for asked in running])
