"""Episodes on an existing Dask cluster: chunks go out to its workers, rows come back as they
finish.

::

    harness ──chunks──▶ scheduler ──▶ worker of the cluster ──▶ chunk's process: run_batch
            ◀───────rows, and artifacts if they return───────

Here is the connection, and what is known of each node. Nothing waits without a limit.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any, Final

from tracecore import clock, processes
from tracecore.command_line.options import require_packages
from tracecore.errors import InputError, OptionError, one_line
from tracecore.perf.cluster import node
from tracecore.perf.cluster.nodes import Node, common, complaint_of
from tracecore.perf.slice.interrupt import Interruption
from tracecore.perf.slice.options import ClusterOptions, RunOptions
from tracecore.record import as_dict
from tracecore.records import JsonObject

CONNECT_S: Final = 10.0  # for a scheduler to answer, and for a first worker to join
DESCRIBE_S: Final = 60.0  # for a node to try out what it has
ANSWER_S: Final = 5.0  # for the scheduler to list its nodes
CLOSE_S: Final = 2.0
CLOSE_LOCAL_S: Final = 5.0  # for workers of our own to end


class Cluster:
    """A connection to a cluster whose nodes have been checked. To be closed.

    Attributes:
        address: Of its scheduler, or ``local:N``.
        artifacts: Where those of episodes are left: return, node or shared.
        runs_dir: Where they are left, as a node is asked for it.
        method: How processes are started: auto, fork or spawn.
        nodes: Every worker that has been used, by its address.
        client: Dask's.
        is_gone: Whether its scheduler was lost.
        loop: Where everything of it runs; not between two calls.
        woken: Done when an interruption has come.
        mine: What this machine's tracecore and Python are.
    """

    def __init__(
        self,
        run: RunOptions,
        asked: ClusterOptions,
        interruption: Interruption,
        write: Callable[[str], None],
    ) -> None:
        """Connect.

        Args:
            run: How episodes are run.
            asked: Which cluster.
            interruption: Ends the wait, and later the run.
            write: For people: a node that is refused, or lost.

        Raises:
            OptionError: What it needs is not installed, no scheduler answers there, it has no
                worker, or a node has another tracecore or Python.
            KeyboardInterrupt: A signal came while it was waited for.
        """
        require_packages("--cluster", "distributed")
        self._interruption, self._write = interruption, write
        self.method, self._limits, self._slots_most = run.method, run.limits, run.workers
        self.address, self.artifacts = asked.address or "", asked.artifacts or "return"
        # Where artifacts stay on the node, a relative folder is one of the node's.
        is_nodes_own = self.artifacts == "node"
        self.runs_dir = run.runs_dir if is_nodes_own else os.path.abspath(run.runs_dir)
        self.mine = node.about()
        self.nodes: dict[str, Node] = {}
        self.client: Any = None
        self.is_gone = False
        self._local: Any = None
        self.loop = asyncio.new_event_loop()
        self.woken: asyncio.Future[None] = self.loop.create_future()
        self.loop.add_reader(interruption.wake_fd, self._wake)
        try:
            self.loop.run_until_complete(self._connect_unless_woken())
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """How many episodes run at the same time."""
        return max(1, sum(one.slots for one in self.nodes.values()))

    def node_documents(self) -> list[JsonObject]:
        """The nodes as the manifest lists them."""
        names = ("name", "hostname", "machine_class", "confinement", "host")
        return [
            {
                "slots": one.slots,
                "runs_dir": one.runs_dir,
                "refused": one.refused,
                **{name: one.about[name] for name in names},
            }
            for one in self.nodes.values()
        ]

    def host(self) -> JsonObject:
        """The host block of the nodes: what they agree in, and of the rest all that there is."""
        blocks = [one.about["host"] for one in self._used()]
        return {name: common([block.get(name) for block in blocks]) for name in blocks[0]}

    def machine_class(self) -> str:
        """The class that all nodes are of, or ``mixed:`` and all classes."""
        classes = sorted({one.about["machine_class"] for one in self._used()})
        return classes[0] if len(classes) == 1 else "mixed:" + "+".join(classes)

    def _used(self) -> list[Node]:
        """The nodes that have taken the slice in, or else all."""
        nodes = list(self.nodes.values())
        return [one for one in nodes if one.is_used] or nodes

    def close(self) -> None:
        """Let go of the cluster; one of our own ends. Never raises, and never waits long."""
        with contextlib.suppress(Exception):
            self.loop.run_until_complete(self._disconnect())
        self.loop.remove_reader(self._interruption.wake_fd)
        with contextlib.suppress(Exception):
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    # --- connecting ---

    def _wake(self) -> None:
        self.loop.remove_reader(self._interruption.wake_fd)
        self.woken.set_result(None)

    async def _connect_unless_woken(self) -> None:
        connecting = asyncio.create_task(self._connect())
        await asyncio.wait({connecting, self.woken}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting}, timeout=CLOSE_S)
            raise KeyboardInterrupt
        await connecting

    async def _connect(self) -> None:
        """Open the connection, and check the nodes that are there.

        Raises:
            OptionError: There is none, or one of them cannot be used; it is named.
        """
        await self._open_client()
        deadline_s = clock.monotonic_s() + CONNECT_S
        while not (threads := await self.ask_threads()):
            if clock.monotonic_s() > deadline_s:
                found = f"{self.address} without a worker"
                raise OptionError("--cluster", "", found, "a scheduler with a worker")
            await asyncio.sleep(0.2)
        abouts = await asyncio.gather(*map(self.describe, threads))
        for address, about in zip(threads, abouts, strict=True):
            if complaint := self.take_in(address, threads[address], about):
                raise complaint

    async def _open_client(self) -> None:
        address = self.address
        try:
            # imported only where a cluster is asked for
            distributed: Any = importlib.import_module("distributed")

            # It logs about its own insides; what matters of it is written here in other words.
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            logging.getLogger("tornado").setLevel(logging.CRITICAL)
            warnings.filterwarnings("ignore", module="distributed")
            if address.startswith("local:"):
                # lets signals through again when the first process starts it
                resource_tracker.ensure_running()
                with processes.interrupts_held():
                    self._local = await distributed.LocalCluster(
                        n_workers=int(address.removeprefix("local:")),
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address=None,
                        silence_logs=logging.CRITICAL,
                        asynchronous=True,
                    )
            self.client = await asyncio.wait_for(
                distributed.Client(
                    self._local or address,
                    asynchronous=True,
                    timeout=CONNECT_S,
                    set_as_default=False,
                ),
                CONNECT_S + 1,
            )
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            words = str(error) or type(error).__name__
            raise OptionError(
                "--cluster", "", address, f"the address of a scheduler that answers ({words})"
            ) from error

    async def ask_threads(self) -> dict[str, int]:
        """How many threads each worker of the cluster has, by its address; raises OSError or
        TimeoutError.
        """
        return dict(await asyncio.wait_for(self.client.nthreads(), ANSWER_S))

    async def describe(self, address: str) -> JsonObject:
        """What the node says of itself; or ``failure``, why it does not."""
        method, limits = self.method, as_dict(self._limits)
        try:
            asking = self.client.run(
                node.describe_node, method, limits, self.runs_dir, workers=[address]
            )
            return dict((await asyncio.wait_for(asking, DESCRIBE_S))[address])
        # whatever dask raises for a node that has gone, or that cannot import what it is asked for
        except Exception as error:
            failure = str(error) or type(error).__name__
            nothing = {"name": "", "host": {}, "machine_class": "", "confinement": {}}
            return {**nothing, "hostname": address, "failure": failure}

    def take_in(self, address: str, threads: int, about: JsonObject) -> InputError | None:
        """Know a node by what it says of itself; why it cannot be used, which gives it no slots."""
        complaint = complaint_of(address, about, self.mine, self._limits)
        numbered = sum(one.slots for one in self.nodes.values())
        used = sum(one.slots for one in self.nodes.values() if not one.refused)
        free = threads if self._slots_most is None else self._slots_most - used
        slots = 0 if complaint else max(0, min(threads, free))
        runs_dir = None if self.artifacts == "return" else about.get("runs_dir")
        self.nodes[address] = Node(address, about, numbered, slots, runs_dir=runs_dir)
        return complaint

    def write_line(self, words: str) -> None:
        """Write a line for people."""
        self._write(f"perf_harness: {one_line(words)}")

    async def _disconnect(self) -> None:
        for closing, patience_s in ((self.client, CLOSE_S), (self._local, CLOSE_LOCAL_S)):
            if closing is not None:
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await asyncio.wait_for(closing.close(), patience_s)
