"""The one place where a run artifact is built, hashed and written, and where a result row is read
out of one.
"""

import math
import os
from typing import Final

from tracecore import __version__, canon
from tracecore.errors import as_output_error
from tracecore.files import create_atomic
from tracecore.record import field, field_names, mutable_record, replace
from tracecore.records import SPEC_VERSION, Budgets, EpisodeResult, Job, JsonObject, Outcome, Usage
from tracecore.runtime import spec
from tracecore.runtime.task.manifest import Manifest
from tracecore.runtime.trace import LlmTotals, TraceEntry, stable_entry

# What may differ between two runs of the same inputs (ids, times, and the limit on time, which is
# the runner's, not the episode's), and what is for people alone.
VOLATILE_KEYS: Final = (
    "error_traceback",
    "output",
    "run_id",
    "trace_id",
    "started_at",
    "completed_at",
    "wall_clock_elapsed_s",
    "artifact_hash",
)
OUTCOME_KEYS: Final = (
    "success",
    "termination_reason",
    "failure_type",
    "failure_reason",
    "steps_used",
    "tool_calls_used",
)


@mutable_record
class EpisodeFacts:
    """What an episode's loop has gathered by the time it ends, on whatever path."""

    termination_reason: str = "episode_crashed"
    failure_type: str | None = "logic_failure"
    failure_reason: str | None = None
    error_traceback: str | None = None  # of the agent's or the task's own frames
    is_debugged: bool = False
    printed_by_agent: str | None = None  # the end of it
    printed_by_task: str | None = None
    steps_used: int = 0
    tool_calls_used: int = 0
    manifest: Manifest | None = None  # of the task, as far as it could be read
    validator: JsonObject = field(default_factory=dict)
    action_trace: list[TraceEntry] = field(default_factory=list)
    llm: LlmTotals = field(default_factory=LlmTotals)
    started_at: str = ""
    completed_at: str = ""
    wall_clock_elapsed_s: float = 0.0


def build_outcome(job: Job, facts: EpisodeFacts) -> Outcome:
    """The outcome of what was gathered, its artifact and both hashes: where every path ends."""
    head = _head(job, facts)
    # action_trace sorts before every other key, here and in what is hashed.
    stable_trace = b"[%b]" % b",".join([entry.stable for entry in facts.action_trace])
    outcome = {key: head[key] for key in OUTCOME_KEYS}
    head["trace_hash"] = canon.sha256(canon.splice(b"action_trace", stable_trace, outcome))
    stable = canon.splice(b"action_trace", stable_trace, stable_head(head))
    head["artifact_hash"] = canon.sha256(stable)
    trace = b"[%b]" % b",".join([entry.whole for entry in facts.action_trace])
    return Outcome(
        termination_reason=facts.termination_reason,
        failure_type=facts.failure_type,
        failure_reason=facts.failure_reason,
        steps_used=facts.steps_used,
        tool_calls_used=facts.tool_calls_used,
        head=head,
        artifact=canon.splice(b"action_trace", trace, head) + b"\n",
        stable_bytes=len(stable),
    )


def _head(job: Job, facts: EpisodeFacts) -> JsonObject:
    """The artifact but for its trace and its hashes."""
    # Hashed, too: what was run under a debugger is no evidence of what runs without one.
    debug = {"debug": True} if facts.is_debugged else {}
    used = {"steps_used": facts.steps_used, "tool_calls_used": facts.tool_calls_used}
    llm, manifest = facts.llm, facts.manifest
    budgets = manifest.budgets if manifest else Budgets(0, 0)
    task_id, _, version = job.task.ref.rpartition("@")
    return {
        "spec_version": SPEC_VERSION,
        "runtime_identity": {
            "name": "tracecore",
            "version": __version__,
            "git_sha": job.settings.git_sha,
        },
        "run_id": job.run_id,
        "trace_id": job.run_id,
        "agent": job.agent.ref,
        "agent_ref": job.agent.ref,
        "agent_hash": job.agent.sha256,
        "task_id": task_id,
        "version": int(version),
        "task_ref": job.task.ref,
        "task_hash": job.task.sha256,
        "seed": job.seed,
        "budgets": {
            "steps": budgets.steps,
            "tool_calls": budgets.tool_calls,
            "wall_clock_seconds": math.ceil(job.settings.timeout_s),
        },
        "success": facts.termination_reason == "success",
        "termination_reason": facts.termination_reason,
        "failure_type": facts.failure_type,
        "failure_reason": facts.failure_reason,
        "error_traceback": facts.error_traceback,
        "output": {"agent": facts.printed_by_agent, "task": facts.printed_by_task}
        if facts.printed_by_agent or facts.printed_by_task
        else None,
        **used,
        "metrics": {
            **used,
            "llm_trace_entries": llm.entries,
            "prompt_bytes": llm.prompt_bytes,
            "completion_bytes": llm.completion_bytes,
            "tokens_used": llm.tokens_used,
        },
        "started_at": facts.started_at,
        "completed_at": facts.completed_at,
        "wall_clock_elapsed_s": facts.wall_clock_elapsed_s,
        "harness_version": __version__,
        "sandbox": {
            "filesystem_roots": list(manifest.filesystem_roots) if manifest else [],
            "network_hosts": list(manifest.network_hosts) if manifest else [],
        },
        "determinism": {
            "seed": job.seed,
            "tooling": {
                "models": [
                    {"provider": name, "model": model, "version": version}
                    for name, model, version in llm.models
                ],
                "mocks": list(llm.mocks),
            },
        },
        "validator": facts.validator,
        "evidence_links": {"bundle_dir": None, "bundle_manifest": None},
        **debug,
    }


def stable_head(head: JsonObject) -> JsonObject:
    """What every run of the same inputs repeats, but for the trace: agents go by their file's name,
    wherever it lies.
    """
    stable = {
        key: value
        for key, value in head.items()
        if key not in VOLATILE_KEYS and key != "action_trace"
    }
    stable["budgets"] = {
        key: value for key, value in head["budgets"].items() if key != "wall_clock_seconds"
    }
    for name in ("agent", "agent_ref"):
        stable[name] = str(head[name]).rpartition("/")[2]
    return stable


def artifact_hash(artifact: JsonObject) -> str:
    """The hash of everything in a whole artifact but what may differ between two runs of the same
    inputs.
    """
    return canon.digest({**stable_head(artifact), "action_trace": _stable_trace(artifact)})


def trace_hash(artifact: JsonObject) -> str:
    """The hash of what the episode of a whole artifact did: outcome, budgets used and the stable
    part of its trace.
    """
    return canon.digest(
        {**{key: artifact[key] for key in OUTCOME_KEYS}, "action_trace": _stable_trace(artifact)}
    )


def _stable_trace(artifact: JsonObject) -> list[JsonObject]:
    return [stable_entry(entry) for entry in artifact["action_trace"]]


def publish(job: Job, outcome: Outcome) -> EpisodeResult:
    """Write the artifact unless one of this run stands already, and give the row of the one that
    stands.

    Raises:
        OutputError: It could not be written.
    """
    row = result_row(job, outcome.head, outcome.artifact)
    if not is_kept(job, row):
        return replace(row, artifact=None)
    if create_atomic(artifact_path(job), outcome.artifact, fsync=job.settings.fsync):
        return row
    # An earlier attempt finished its artifact and died before it could answer: that one counts.
    return _standing_row(job)


def keep_returned(job: Job, row: EpisodeResult, artifact: bytes) -> EpisodeResult:
    """Write an artifact that was made elsewhere, unless one of this run stands already; the row of
    the one that stands.

    Raises:
        OutputError: It could not be written.
    """
    if create_atomic(artifact_path(job), artifact, fsync=job.settings.fsync):
        return row
    return with_usage(replace(_standing_row(job), host=row.host), row)


def _standing_row(job: Job) -> EpisodeResult:
    path = artifact_path(job)
    with as_output_error(path), open(path, "rb") as file:
        data = file.read()
    return result_row(job, canon.decode(data), data)


def with_usage(row: EpisodeResult, source: Usage | EpisodeResult) -> EpisodeResult:
    """The row with the cost that ``source`` has."""
    return replace(row, **{name: getattr(source, name) for name in field_names(Usage)})


def is_kept(job: Job, row: EpisodeResult) -> bool:
    """Whether the artifact of this row stays on disk."""
    return job.settings.keep_runs == "all" or (
        job.settings.keep_runs == "failed" and not row.success
    )


def artifact_path(job: Job) -> str:
    """Where the artifact of ``job`` lies."""
    return os.path.join(job.settings.runs_dir, f"{job.run_id}.json")


def result_row(job: Job, head: JsonObject, artifact: bytes) -> EpisodeResult:
    """The row of one artifact; under strict spec an invalid one makes it a failure.

    Args:
        job: What was run.
        head: The artifact's fields but for its trace, or all of them.
        artifact: The whole of it, as it lies on disk; that is what the strict check reads.
    """
    error = None if head["success"] else describe_failure(head)
    if job.settings.strict_spec and (found := spec.problems(canon.decode(artifact))):
        error = "strict-spec: " + "; ".join(found)
    used = head["metrics"]
    return EpisodeResult(
        episode=job.index + 1,
        episode_index=job.index,
        run_id=job.run_id,
        agent=job.agent.ref,
        task_ref=job.task.ref,
        seed=job.seed,
        success=error is None,
        termination_reason=head["termination_reason"],
        failure_type=head["failure_type"],
        error=error,
        steps_used=head["steps_used"],
        steps_budget=head["budgets"]["steps"],
        tool_calls_used=head["tool_calls_used"],
        tool_calls_budget=head["budgets"]["tool_calls"],
        artifact_hash=head["artifact_hash"],
        trace_hash=head["trace_hash"],
        artifact=f"{job.run_id}.json",
        artifact_bytes=len(artifact),
        llm_trace_entries=used["llm_trace_entries"],
        prompt_bytes=used["prompt_bytes"],
        completion_bytes=used["completion_bytes"],
        tokens_used=used["tokens_used"],
        episode_s=head["wall_clock_elapsed_s"],
        allow=job.allow.as_json(),
        model_limits=job.model_limits.as_json(),
        wall_clock_s=head["wall_clock_elapsed_s"],
    )


def describe_failure(head: JsonObject) -> str:
    """``termination_reason: failure_reason``, or the one of them that there is."""
    reason, words = head["termination_reason"], head["failure_reason"]
    return f"{reason}: {words}" if words and words != reason else str(reason)
