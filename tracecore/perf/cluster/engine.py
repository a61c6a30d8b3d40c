"""The running of a slice on a cluster: chunks go out as tasks of Dask, rows come back with them.

Placement, the retry of a chunk whose node is lost, and the backlog are Dask's. What is decided
here is which nodes may run chunks at all, how large chunks are, and what becomes of episodes that
take one node after another down.
"""

import contextlib
import os
import tempfile
from collections.abc import Generator, Iterator

from tracecore.errors import as_output_error
from tracecore.perf.cluster.chunks import Chunk, Chunks
from tracecore.perf.cluster.connection import Cluster
from tracecore.perf.cluster.run import ClusterRun
from tracecore.perf.cluster.sources import pack_sources
from tracecore.perf.slice.engine import Engine, Look
from tracecore.perf.slice.plan import Plan
from tracecore.record import replace
from tracecore.records import EpisodeResult, Job, JsonObject


class ClusterEngine(Cluster, Engine):
    """Runs episodes on a cluster, as the harness sees it."""

    def document(self) -> JsonObject:
        """The ``cluster`` block of the manifest."""
        about = {"artifacts": self.artifacts, "machine_class": self.machine_class()}
        return {"address": self.address, **about, "nodes": self.node_documents()}

    def episodes(
        self, plan: Plan, jobs: Iterator[Job], count: int, look: Look | None = None
    ) -> Generator[EpisodeResult, None, None]:
        """The rows of ``jobs`` as their chunks end, until they all have or an interruption comes.

        Args:
            plan: What the jobs are of.
            jobs: Taken as they are needed.
            count: How many there are.
            look: Called with what is running, as time goes by.

        Raises:
            EngineError: The scheduler is gone, or no node is left that can run them.
            OutputError: An artifact that came back could not be written.
        """
        return self._episodes(plan, Chunks(jobs, count), self.artifacts, look)

    def episodes_again(
        self, plan: Plan, jobs: Iterator[Job], count: int
    ) -> Generator[EpisodeResult, None, None]:
        """The same for second runs, whose artifacts always return: they are compared here."""
        return self._episodes(plan, Chunks(jobs, count), "return", None)

    def _episodes(
        self, plan: Plan, chunks: Chunks, artifacts: str, look: Look | None
    ) -> Generator[EpisodeResult, None, None]:
        pairs = tuple(dict.fromkeys(plan.sources))
        # Where artifacts stay on the node, a relative folder is one of the node's.
        runs_dir = self.runs_dir if artifacts == "node" else plan.settings.runs_dir
        empty = Chunk(
            slice_id=f"{plan.slice_id}-{os.urandom(4).hex()}",
            jobs=(),
            pairs=pairs,
            parcel=pack_sources(pairs),
            method=self.method,
            artifacts=artifacts,
            runs_dir=runs_dir,
        )
        with contextlib.ExitStack() as around:
            if artifacts == "shared":
                with as_output_error(runs_dir):
                    # By it a node sees that its own folder is the same one.
                    shown = around.enter_context(
                        tempfile.NamedTemporaryFile(prefix=".tracecore-shared-", dir=runs_dir)
                    )
                empty = replace(empty, token=os.path.basename(shown.name))
            run = ClusterRun(self, empty, chunks, look)
            try:
                while (rows := self.loop.run_until_complete(run.next_rows())) is not None:
                    yield from rows
            finally:
                self.loop.run_until_complete(run.end())
