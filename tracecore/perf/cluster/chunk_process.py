"""The process beside a worker of the cluster that runs one chunk: ``run_batch`` on the node's
slots.

::

    worker of the cluster ──chunk─▶ this process: run_batch(run_job) ─▶ worker ─▶ episode, agent
                          ◀─a row and its artifact per episode──

It ends with the end of its standard input, and everything below ends with it.
"""

import contextlib
import os
import pickle
from collections.abc import Iterator
from typing import Final

from tracecore import frames
from tracecore.batch.pool import BatchOptions, run_batch
from tracecore.confinement.readable import secret_folders
from tracecore.errors import MISSING, InputError, TracecoreError, one_line
from tracecore.perf.cluster.chunks import Chunk
from tracecore.perf.cluster.sources import TASKS, lay_out_sources
from tracecore.perf.documents.files import check_writable
from tracecore.perf.slice.cleanup import remove_doubtful_artifacts
from tracecore.perf.slice.engine import limit_behind_timeout
from tracecore.record import replace
from tracecore.records import EpisodeResult, Job
from tracecore.runtime.agent.process import Preparation
from tracecore.runtime.job import make_ready, run_job, settle

STDIN: Final = 0


def serve() -> None:
    """Run the chunk that comes over standard input; rows leave over what was standard output."""
    answer_fd = os.dup(1)
    os.dup2(2, 1)  # whatever else writes there must not get between the rows
    with contextlib.suppress(BrokenPipeError, frames.ChannelClosed):
        chunk, folder, slots = pickle.loads(frames.read_message(STDIN))  # noqa: S301  (from the worker beside us)
        try:
            for answer in _answers(chunk, folder, slots):
                frames.write_message(answer_fd, pickle.dumps(answer))
        except (TracecoreError, OSError) as error:
            frames.write_message(answer_fd, pickle.dumps(one_line(str(error))))
        frames.write_message(answer_fd, pickle.dumps(None))


def _answers(chunk: Chunk, folder: str, slots: int) -> Iterator[tuple[EpisodeResult, bytes]]:
    """The rows as their episodes end, each with its artifact where that is to return."""
    jobs = _placed(chunk, folder)
    runs_dir = jobs[0].settings.runs_dir
    # An earlier attempt may have gone down with its node: a crash that it wrote down is none.
    remove_doubtful_artifacts(runs_dir, (job.run_id for job in jobs))
    options = BatchOptions(
        slots=slots,
        limit_s=limit_behind_timeout(chunk.method),
        prepare=Preparation(
            jobs[0].settings.limits, secret_folders((), os.path.join(folder, TASKS), runs_dir)
        ),
        make_ready=make_ready,
        method=chunk.method,
        adopt_orphans=True,
        stop_fd=STDIN,
    )
    with contextlib.closing(run_batch(run_job, jobs, options)) as endings:
        for ended in endings:
            row = settle(ended)
            yield row, _taken(runs_dir, row) if chunk.artifacts == "return" else b""


def _placed(chunk: Chunk, folder: str) -> list[Job]:
    """The jobs with their files where they lie on this node.

    Raises:
        TracecoreError: The slice cannot run here.
    """
    places = dict(zip(chunk.pairs, lay_out_sources(chunk.parcel, folder, chunk.pairs), strict=True))
    settings = chunk.jobs[0].settings
    # "return": a folder that is gone with the chunk. Else as it was written: relative to where the
    # worker of the cluster was started.
    is_returned = chunk.artifacts == "return"
    runs_dir = os.path.join(folder, "runs") if is_returned else os.path.abspath(chunk.runs_dir)
    check_writable(runs_dir)
    if chunk.token and not os.path.exists(os.path.join(runs_dir, chunk.token)):
        expected = "the one folder that harness and nodes share"
        raise InputError(runs_dir, "", "another folder of that name", expected)
    for path in sorted({path for job in chunk.jobs for path in job.allow.read}):
        if not os.path.exists(path):
            expected = "a file or folder that the scenario allows, at the same place on each node"
            raise InputError(path, "", MISSING, expected)
    here = replace(settings, runs_dir=runs_dir)
    return [
        replace(job, agent=agent, task=task, settings=here)
        for job in chunk.jobs
        for agent, task in [places[job.agent, job.task]]
    ]


def _taken(runs_dir: str, row: EpisodeResult) -> bytes:
    """The artifact of a row, which does not stay here; b"" of one that was not kept."""
    if row.artifact is None:
        return b""
    path = os.path.join(runs_dir, row.artifact)
    with open(path, "rb") as file:
        data = file.read()
    os.unlink(path)
    return data
