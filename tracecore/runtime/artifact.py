"""The one place where a run artifact is built, hashed and written, and where a result row is read out of one."""

import json
import math
import os
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tracecore import __version__, canon
from tracecore.errors import OutputError
from tracecore.files import create_atomic
from tracecore.records import SPEC_VERSION, Budgets, EpisodeResult, Job, JsonObject, Usage
from tracecore.runtime import spec
from tracecore.runtime.trace import LlmTotals

VALIDATOR_KEYS: Final = (
    "ok",
    "terminal",
    "message",
    "error",
    "failure_reason",
    "failure_type",
    "termination_reason",
)
# What may differ between two runs of the same inputs: ids, times, and the limit on time, which is the runner's, not the
# episode's.
VOLATILE_KEYS: Final = ("run_id", "trace_id", "started_at", "completed_at", "wall_clock_elapsed_s", "artifact_hash")
OUTCOME_KEYS: Final = (
    "success",
    "termination_reason",
    "failure_type",
    "failure_reason",
    "steps_used",
    "tool_calls_used",
)


@dataclass(slots=True)
class EpisodeFacts:
    """What an episode's loop has gathered by the time it ends, on whatever path."""

    termination_reason: str = "episode_crashed"
    failure_type: str | None = "logic_failure"
    failure_reason: str | None = None
    steps_used: int = 0
    tool_calls_used: int = 0
    budgets: Budgets = field(default_factory=lambda: Budgets(0, 0))
    filesystem_roots: tuple[str, ...] = ()
    network_hosts: tuple[str, ...] = ()
    validator: JsonObject = field(default_factory=dict)
    action_trace: list[JsonObject] = field(default_factory=list)
    llm: LlmTotals = field(default_factory=LlmTotals)
    started_at: str = ""
    completed_at: str = ""
    wall_clock_elapsed_s: float = 0.0


def build_artifact(job: Job, facts: EpisodeFacts) -> JsonObject:
    """The run artifact, hashes included."""
    used = {"steps_used": facts.steps_used, "tool_calls_used": facts.tool_calls_used}
    artifact: JsonObject = {
        "spec_version": SPEC_VERSION,
        "runtime_identity": {"name": "tracecore", "version": __version__, "git_sha": job.settings.git_sha},
        "run_id": job.run_id,
        "trace_id": job.run_id,
        "agent": job.agent.ref,
        "agent_ref": job.agent.ref,
        "agent_hash": job.agent.sha256,
        "task_id": job.task.ref.rpartition("@")[0],
        "version": int(job.task.ref.rpartition("@")[2]),
        "task_ref": job.task.ref,
        "task_hash": job.task.sha256,
        "seed": job.seed,
        "budgets": {
            "steps": facts.budgets.steps,
            "tool_calls": facts.budgets.tool_calls,
            "wall_clock_seconds": math.ceil(job.settings.timeout_s),
        },
        "success": facts.termination_reason == "success",
        "termination_reason": facts.termination_reason,
        "failure_type": facts.failure_type,
        "failure_reason": facts.failure_reason,
        **used,
        "metrics": {
            **used,
            "llm_trace_entries": facts.llm.entries,
            "prompt_bytes": facts.llm.prompt_bytes,
            "completion_bytes": facts.llm.completion_bytes,
            "tokens_used": facts.llm.tokens_used,
        },
        "started_at": facts.started_at,
        "completed_at": facts.completed_at,
        "wall_clock_elapsed_s": facts.wall_clock_elapsed_s,
        "harness_version": __version__,
        "sandbox": {
            "filesystem_roots": list(facts.filesystem_roots),
            "network_hosts": list(facts.network_hosts),
        },
        "determinism": {"seed": job.seed, "tooling": _tooling(facts.action_trace)},
        "validator": facts.validator,
        "action_trace": facts.action_trace,
        "evidence_links": {"bundle_dir": None, "bundle_manifest": None},
    }
    artifact["trace_hash"] = trace_hash(artifact)
    artifact["artifact_hash"] = artifact_hash(artifact)
    return artifact


def artifact_hash(artifact: JsonObject) -> str:
    """The hash of everything in ``artifact`` but what may differ between two runs of the same inputs."""
    stable = {key: value for key, value in artifact.items() if key not in VOLATILE_KEYS}
    stable["budgets"] = {key: value for key, value in artifact["budgets"].items() if key != "wall_clock_seconds"}
    stable["action_trace"] = [stable_entry(entry) for entry in artifact["action_trace"]]
    return canon.digest(stable)


def trace_hash(artifact: JsonObject) -> str:
    """The hash of what the episode did: outcome, budgets used and the stable part of its trace."""
    stable = {key: artifact[key] for key in OUTCOME_KEYS}
    stable["action_trace"] = [stable_entry(entry) for entry in artifact["action_trace"]]
    return canon.digest(stable)


def stable_entry(entry: JsonObject) -> JsonObject:
    """A trace entry without its timestamps and latencies."""
    stable = {key: value for key, value in entry.items() if key != "action_ts"}
    stable["telemetry"] = {"action_metrics": {"error": entry["telemetry"]["action_metrics"]["error"]}}
    if entry["llm_trace"]:
        stable["llm_trace"] = [
            {**call, "response": {k: v for k, v in call["response"].items() if k != "timestamp"}}
            for call in entry["llm_trace"]
        ]
    return stable


def publish(job: Job, artifact: JsonObject) -> EpisodeResult:
    """Write ``artifact`` unless one of this run stands already, and give the row of the one that stands.

    Raises:
        OutputError: It could not be written.
    """
    data = canon.encode(artifact) + b"\n"
    row = result_row(job, artifact, len(data))
    if not is_kept(job, row):
        return replace(row, artifact_name=None)
    path = artifact_path(job)
    if not create_atomic(path, data):
        # An earlier attempt finished its artifact and died before it could tell: that one counts.
        data, artifact = _read_back(path)
        row = result_row(job, artifact, len(data))
    return row


def is_kept(job: Job, row: EpisodeResult) -> bool:
    """Whether the artifact of this row stays on disk."""
    return job.settings.keep_runs == "all" or (job.settings.keep_runs == "failed" and not row.success)


def artifact_path(job: Job) -> str:
    """Where the artifact of ``job`` lies."""
    return os.path.join(job.settings.runs_dir, f"{job.run_id}.json")


def result_row(job: Job, artifact: JsonObject, artifact_bytes: int) -> EpisodeResult:
    """The row of one artifact; under strict spec an invalid one makes it a failure."""
    error = None if artifact["success"] else describe_failure(artifact)
    if job.settings.strict_spec and (found := spec.problems(artifact)):
        error = "strict-spec: " + "; ".join(found)
    used = artifact["metrics"]
    return EpisodeResult(
        index=job.index,
        run_id=job.run_id,
        agent=job.agent.ref,
        task_ref=job.task.ref,
        seed=job.seed,
        success=error is None,
        termination_reason=artifact["termination_reason"],
        failure_type=artifact["failure_type"],
        error=error,
        steps_used=artifact["steps_used"],
        steps_budget=artifact["budgets"]["steps"],
        tool_calls_used=artifact["tool_calls_used"],
        tool_calls_budget=artifact["budgets"]["tool_calls"],
        artifact_hash=artifact["artifact_hash"],
        trace_hash=artifact["trace_hash"],
        artifact_name=f"{job.run_id}.json",
        artifact_bytes=artifact_bytes,
        llm_trace_entries=used["llm_trace_entries"],
        prompt_bytes=used["prompt_bytes"],
        completion_bytes=used["completion_bytes"],
        tokens_used=used["tokens_used"],
        episode_s=artifact["wall_clock_elapsed_s"],
        usage=Usage(wall_clock_s=artifact["wall_clock_elapsed_s"]),
    )


def describe_failure(artifact: JsonObject) -> str:
    """``termination_reason: failure_reason``, or the one of them that there is."""
    reason, words = artifact["termination_reason"], artifact["failure_reason"]
    return f"{reason}: {words}" if words and words != reason else str(reason)


def _read_back(path: str) -> tuple[bytes, JsonObject]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise OutputError(path, error) from error
    return data, json.loads(data)


def _tooling(action_trace: list[JsonObject]) -> JsonObject:
    models: dict[tuple[str, str, str], None] = {}
    mocks: dict[str, None] = {}
    for entry in action_trace:
        for call in entry["llm_trace"] or ():
            request = call["request"]
            metadata = request.get("metadata")
            version = metadata.get("version") if isinstance(metadata, dict) else None
            models[_text(request.get("provider")), _text(request.get("model")), _text(version)] = None
            if request.get("shim_used") is True:
                mocks[_text(request.get("provider"))] = None
    return {
        "models": [{"provider": provider, "model": model, "version": version} for provider, model, version in models],
        "mocks": list(mocks),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "unknown"
