"""One episode: observe, act, execute, validate, under budgets, until one Outcome.

Every way an episode can end is an :class:`End`: the loop raises it, the outside catches it, and the
artifact is built in one place. Task code runs in this process; the agent is behind the
:class:`Agent` interface, usually in another.
"""

import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from tracecore import canon
from tracecore.clock import monotonic_s, utc_text
from tracecore.records import Job, JsonObject, Outcome
from tracecore.runtime import validator
from tracecore.runtime.artifact import EpisodeFacts, build_outcome
from tracecore.runtime.endings import AgentViolation, End, InvalidAction
from tracecore.runtime.env import Environment
from tracecore.runtime.sandbox import Sandbox
from tracecore.runtime.stable_text import stable_words, without_strings
from tracecore.runtime.stack import give_full_depth
from tracecore.runtime.task.calls import TaskCalls
from tracecore.runtime.task.task import Task, compile_task
from tracecore.runtime.trace import StepRecord, TraceEntry, take_llm_entries, trace_entry

NULL: Final = b"null"
# Of a trace. Its last entry may go beyond: what an artifact is read with again takes 64 MiB.
TRACE_BYTES_MOST: Final = 48 << 20
# between values, each of which costs the artifact's reader some hundred bytes
TRACE_COMMAS_MOST: Final = 2_000_000


class Agent(Protocol):
    """An agent as the episode sees it, wherever it runs.

    Both calls raise :class:`End` when the agent fails.
    """

    def reset(self, task_spec: JsonObject, deadline_s: float) -> None:
        """Hand it the task."""

    def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
        """Hand it an observation, in canonical JSON; gives its action and what it added to its
        ``llm_trace``, plain JSON.

        Raises:
            InvalidAction: It gave no action.
        """

    def close(self) -> None:
        """The episode needs it no more."""


def run_episode(job: Job, start_agent: Callable[[Job], Agent]) -> Outcome:
    """Run one episode to its end.

    Args:
        job: What to run.
        start_agent: Gives the agent; called once the task has been loaded.

    Returns:
        The outcome, whatever happened: success, a failure of the agent or the task, a budget spent,
            the time limit.
    """
    facts = EpisodeFacts(started_at=utc_text())
    start_s = monotonic_s()
    episode = _Episode(job, facts, start_s + job.settings.timeout_s)
    try:
        episode.run(start_agent)
    except End as end:
        facts.termination_reason, facts.failure_type = end.reason, end.failure_type
        facts.failure_reason = None if end.words is None else stable_words(end.words)
        facts.error_traceback = end.traceback
    facts.wall_clock_elapsed_s = monotonic_s() - start_s
    facts.completed_at = utc_text()
    return build_outcome(job, facts)


class _Episode:
    """The state of the loop of one episode."""

    def __init__(self, job: Job, facts: EpisodeFacts, deadline_s: float) -> None:
        self._job, self._facts, self._deadline_s = job, facts, deadline_s
        self._call_task = TaskCalls(job.task, job.settings.timeout_s, deadline_s)
        # What was last done and seen, in canonical JSON: each goes into the next observation as it
        # is.
        self._last_action = self._last_result = NULL
        self._visible_state: JsonObject = {}
        self._visible_state_json = b"{}"
        self._trace_bytes = self._trace_commas = 0
        # whether commas in text are told from those between values, which takes time
        self._is_text_apart = False

    def run(self, start_agent: Callable[[Job], Agent]) -> None:
        """Never returns: every path raises :class:`End`."""
        limit_before = give_full_depth()
        self._call_task.arm()
        try:
            self._load_task()
            try:
                self._play(start_agent(self._job))
            finally:
                self._task.close()
        finally:
            self._call_task.disarm()
            sys.setrecursionlimit(limit_before)

    def _play(self, agent: Agent) -> None:
        try:
            self._set_up()
            agent.reset(self._task_spec(), self._deadline_s)
            while True:
                self._step(agent)
        finally:
            agent.close()

    # --- before the first step ---

    def _load_task(self) -> None:
        self._task: Task = self._call_task("task_exception", "loading the task", self._read_task)
        manifest, facts = self._task.manifest, self._facts
        facts.budgets = manifest.budgets
        facts.filesystem_roots = manifest.filesystem_roots
        facts.network_hosts = manifest.network_hosts
        self._steps_left, self._tool_calls_left = (
            manifest.budgets.steps,
            manifest.budgets.tool_calls,
        )
        self._task_json = canon.encode({"id": manifest.id, "description": manifest.description})

    def _read_task(self) -> Task:
        return compile_task(self._job.task).execute()

    def _set_up(self) -> None:
        task = self._task
        self._env = Environment(
            Sandbox(task.manifest.filesystem_roots, task.manifest.network_hosts)
        )
        if task.setup is not None:
            self._call_task("task_exception", "setup", task.setup, self._job.seed, self._env)
        if task.set_env is not None:
            self._call_task("task_exception", "set_env", task.set_env, self._env)
        self._env.take_audit()  # what setup did belongs to no step

    def _task_spec(self) -> JsonObject:
        manifest = self._task.manifest
        return {
            "id": manifest.id,
            "description": manifest.description,
            "budgets": {"steps": manifest.budgets.steps, "tool_calls": manifest.budgets.tool_calls},
            "actions": self._task.surface.parameters,
            "sandbox": {
                "filesystem_roots": list(manifest.filesystem_roots),
                "network_hosts": list(manifest.network_hosts),
            },
        }

    # --- one step ---

    def _step(self, agent: Agent) -> None:
        if monotonic_s() >= self._deadline_s:
            raise End(
                "timeout",
                f"the time limit of {self._job.settings.timeout_s:g} s was over before the next"
                " step",
            )
        if self._is_trace_too_large():
            most = f"{TRACE_BYTES_MOST >> 20} MiB or {TRACE_COMMAS_MOST} values"
            raise End(
                "logic_failure",
                f"the trace has grown to more than {most} after {self._facts.steps_used} steps",
            )
        if self._steps_left <= 0:
            raise End("steps_exhausted", f"all {self._task.manifest.budgets.steps} steps were used")
        observation = self._observe()
        begun_s = monotonic_s()
        try:
            action, llm_offered = agent.step(observation, self._deadline_s)
        except AgentViolation as violation:
            self._spend_step()
            self._record(observation, b"{}", NULL, None, begun_s, violation, 0)
            raise
        except InvalidAction as invalid:
            self._spend_step()
            given = canon.encode({"repr": stable_words(invalid.text)})
            end = End("invalid_action", f"{invalid.reason}: {invalid.words}")
            self._record(observation, given, NULL, None, begun_s, end, 0)
            raise end from invalid
        self._spend_step()
        action_json = canon.encode(action)
        end_or_none, result, spent = self._execute(action)
        self._record(observation, action_json, result, llm_offered, begun_s, end_or_none, spent)
        if end_or_none is not None:
            raise end_or_none
        self._last_action, self._last_result = action_json, result
        self._validate()

    def _is_trace_too_large(self) -> bool:
        if self._trace_commas > TRACE_COMMAS_MOST and not self._is_text_apart:
            self._is_text_apart = True
            self._trace_commas = sum(map(self._commas, self._facts.action_trace))
        return self._trace_bytes > TRACE_BYTES_MOST or self._trace_commas > TRACE_COMMAS_MOST

    def _commas(self, entry: TraceEntry) -> int:
        return (without_strings(entry.stable) if self._is_text_apart else entry.stable).count(b",")

    def _observe(self) -> bytes:
        visible_state = self._env.visible_state()
        if visible_state != self._visible_state:
            self._visible_state, self._visible_state_json = (
                visible_state,
                canon.encode(visible_state),
            )
        return (
            b'{"budget_remaining":{"steps":%d,"tool_calls":%d},"last_action":%b,"last_action_result":%b,"step":%d,"task":%b,'
            b'"visible_state":%b}'
            % (
                self._steps_left,
                self._tool_calls_left,
                self._last_action,
                self._last_result,
                self._facts.steps_used + 1,
                self._task_json,
                self._visible_state_json,
            )
        )

    def _spend_step(self) -> None:
        self._steps_left -= 1
        self._facts.steps_used += 1

    def _execute(self, action: JsonObject) -> tuple[End | None, bytes, int]:
        """Run the action; gives how the episode ends by it (``None``: it goes on), its result as
        JSON, tool calls spent.
        """
        invalid = self._task.surface.why_invalid(action)
        if invalid is not None:
            return End("invalid_action", f"{invalid[0]}: {invalid[1]}"), NULL, 0
        if self._tool_calls_left <= 0:
            return (
                End(
                    "tool_calls_exhausted",
                    f"all {self._facts.tool_calls_used} tool calls were used",
                ),
                NULL,
                0,
            )
        self._tool_calls_left -= 1
        self._facts.tool_calls_used += 1
        # of this action alone, not of what setup or the validator may have tried
        self._env.violation = None
        try:
            result_json = self._call_task(
                "action_exception", f"action {action['type']}", self._call, action
            )
        except End as end:
            return end, NULL, 1
        # task code caught it, but the attempt was made all the same
        if self._env.violation is not None:
            return End("sandbox_violation", str(self._env.violation)), result_json, 1
        if action["type"] == "list_dir":
            self._mark_seen(canon.decode(result_json))  # not the object itself, which is the task's
        return None, result_json, 1

    def _call(self, action: JsonObject) -> bytes:
        # Encoded at once: what task code changes in it later must not show.
        return canon.encode_foreign(self._task.surface.call(action))

    def _mark_seen(self, listing: Any) -> None:
        if not isinstance(listing, dict) or listing.get("ok") is False:
            return
        files = listing.get("files")
        if isinstance(files, list):
            self._env.mark_seen([path for path in files if isinstance(path, str)])

    def _record(
        self,
        observation: bytes,
        action: bytes,
        result: bytes,
        llm_offered: Any,
        begun_s: float,
        end: End | None,
        spent: int,
    ) -> None:
        facts = self._facts
        attempts = [end.audit_entry()] if isinstance(end, AgentViolation) else []
        record = StepRecord(
            step=facts.steps_used,
            action_ts=utc_text(),
            observation=observation,
            action=action,
            result=result,
            io_audit=self._env.take_audit() + attempts,
            llm_trace=take_llm_entries(llm_offered, self._job.settings.redaction, facts.llm),
            steps_left=self._steps_left,
            tool_calls_left=self._tool_calls_left,
            tool_calls_spent=spent,
            latency_ms=(monotonic_s() - begun_s) * 1000,
            error=None if end is None or end.words is None else stable_words(end.words),
        )
        entry = trace_entry(record)
        facts.action_trace.append(entry)
        self._trace_bytes += len(entry.stable)
        self._trace_commas += self._commas(entry)

    def _validate(self) -> None:
        payload = self._call_task("validator_exception", "validate", self._ask_validator)
        self._env.take_audit()  # the validator's own looks are not the agent's
        self._facts.validator = payload
        end = validator.ending_of(payload)
        if end is not None:
            raise end

    def _ask_validator(self) -> JsonObject:
        return validator.read_payload(self._task.validate(self._env))
