"""What a process pool is given: ``run_job`` for the process of each episode, ``settle`` for one
that gave no answer.
"""

import contextlib
import functools
import os
import sys
from typing import Final

from tracecore.clock import utc_text
from tracecore.errors import OutputError, TracecoreError
from tracecore.files import has_room
from tracecore.processes import describe_past
from tracecore.record import as_dict, replace
from tracecore.records import (
    Ended,
    EpisodeResult,
    Exited,
    FellSilent,
    Job,
    Raised,
    Returned,
    TimedOut,
    WorkerLost,
)
from tracecore.runtime import spec
from tracecore.runtime.agent.client import InProcessAgent, ProcessAgent
from tracecore.runtime.agent.models import AgentWithModels, ModelUse
from tracecore.runtime.agent.process import AgentLink
from tracecore.runtime.artifact import (
    EpisodeFacts,
    artifact_path,
    build_outcome,
    publish,
    with_usage,
)
from tracecore.runtime.episode import run_episode
from tracecore.runtime.task.manifest import read_manifest
from tracecore.runtime.task.task import compile_task

DEBUG_S: Final = 86_400.0  # of an episode in a debugger
ROOM_BYTES: Final = 64 << 20  # a disk that has so much has had room for any artifact


def make_ready(job: Job) -> None:
    """In the worker, which executes nothing of it: compile the task, for every episode process that
    is forked from here.
    """
    if job.settings.strict_spec:
        spec.load_check()
    with contextlib.suppress(TracecoreError):  # what is wrong with it is for the episode to find
        compile_task(job.task)


def run_job(job: Job, link: AgentLink) -> EpisodeResult:
    """Run one episode with its agent behind ``link``, write its artifact, give its row.

    Raises:
        OutputError: The artifact could not be written.
    """
    gateway = job.settings.gateway
    if gateway is not None and gateway.models:
        # Its work is not counted: a second pass would call them again.
        use = ModelUse()
        outcome = run_episode(job, lambda job: AgentWithModels(job, gateway, link, use))
        return replace(publish(job, outcome), **as_dict(use))
    if job.count_work:
        from tracecore.runtime.work.second_pass import run_counted  # noqa: PLC0415 - seldom

        outcome, work = run_counted(job, link)
        return replace(publish(job, outcome), work=work)
    return publish(job, run_episode(job, lambda job: ProcessAgent(job, link)))


def run_job_in_process(job: Job) -> EpisodeResult:
    """The same with the agent in this very process: not isolated, with no limit on its time."""
    return publish(job, run_episode(job, InProcessAgent))


def run_job_debug(job: Job) -> EpisodeResult:
    """The same for a debugger: prints are seen, ``breakpoint()`` works, exceptions are shown whole,
    and no time limit interrupts. The artifact says ``debug``, and is no evidence.
    """
    unlimited = replace(job, settings=replace(job.settings, timeout_s=DEBUG_S, keep_runs="all"))

    def show(error: BaseException) -> None:
        sys.excepthook(type(error), error, error.__traceback__)

    start = functools.partial(InProcessAgent, show_error=show)
    # where agents stand, also when they are confined
    with contextlib.chdir(os.path.dirname(job.agent.path)):
        return publish(unlimited, run_episode(unlimited, start, is_debugged=True))


def settle(ended: Ended) -> EpisodeResult:
    """The row of a job that has ended, with its usage; one that died mute gets its artifact here.

    Raises:
        OutputError: That artifact, or the one that the episode made, could not be written. The job
            has no result then.
    """
    match ended.ending:
        case Returned(value=EpisodeResult() as row):
            pass
        case Raised(kind=OutputError.__name__, message=message) if not has_room(
            ended.job.settings.runs_dir, ROOM_BYTES
        ):
            # Not a failure of the episode: it is to be run again once there is room, not to be
            # recorded as crashed. Where there is room, the episode's own process was kept from
            # writing by what its task had done to it.
            raise OutputError(artifact_path(ended.job), OSError(_cause_in(message)))
        case _:
            row = publish(ended.job, build_outcome(ended.job, mute_facts(ended)))
    return with_usage(row, ended.usage)


def mute_facts(ended: Ended) -> EpisodeFacts:
    """What is known of an episode whose process gave no answer."""
    facts = EpisodeFacts(
        started_at=utc_text(),
        completed_at=utc_text(),
        wall_clock_elapsed_s=ended.usage.wall_clock_s,
    )
    match ended.ending:
        case TimedOut(limit_s=limit_s):
            facts.termination_reason = facts.failure_type = "timeout"
            facts.failure_reason = (
                f"the episode process was still running at the time limit of {limit_s:g} s"
            )
        case Exited(code=code):
            end = " without an answer" if code >= 0 else ""
            facts.failure_reason = f"the episode process {describe_past(code)}{end}"
        # without the path: it is another one in every slice
        case Raised(kind=OutputError.__name__, message=message):
            facts.failure_reason = (
                f"the episode process could not write its artifact: {_cause_in(message)}"
            )
        case FellSilent(patience_s=patience_s):
            facts.failure_reason = (
                "the episode process closed its line without an answer, and was still running"
                f" {patience_s:g} s later"
            )
        case Raised(kind=kind, message=message):
            facts.failure_reason = f"the runtime raised {kind}: {message}"
        case WorkerLost(attempts=attempts, reason=reason):
            facts.failure_reason = (
                f"{attempts} workers died while they held the episode; the last one {reason}"
            )
        case Returned():
            facts.failure_reason = "the episode process gave no result row"
    # It could be read when the slice was planned; without it the budgets are unknown.
    with contextlib.suppress(TracecoreError):
        facts.manifest = read_manifest(ended.job.task.folder)
    return facts


def _cause_in(message: str) -> str:
    """The operating system's words in the message of an OutputError."""
    return message.rpartition("cannot be written: ")[2]
