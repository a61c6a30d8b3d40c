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
from tracecore.record import replace
from tracecore.records import Job, JsonObject, Outcome
from tracecore.runtime.artifact import EpisodeFacts, build_outcome
from tracecore.runtime.endings import AgentViolation, End, InvalidAction
from tracecore.runtime.foreign.printed import Tail, as_text
from tracecore.runtime.foreign.stable_text import stable_words, without_strings
from tracecore.runtime.foreign.stack import give_full_depth
from tracecore.runtime.task.calls import TaskCalls, ask_validator, ending_of
from tracecore.runtime.task.task import Task, compile_task
from tracecore.runtime.trace import StepRecord, TraceEntry, take_llm_entries, trace_entry

NULL: Final = b"null"
# What an artifact is read with again takes 64 MiB: the trace before the last entry, that entry, and
# some room for the rest. An observation goes into its entry.
TRACE_BYTES_MOST: Final = 44 << 20
ENTRY_BYTES_MOST: Final = 16 << 20
OBSERVATION_BYTES_MOST: Final = 12 << 20
CUT_ACTION_BYTES: Final = 1 << 20  # of an action that is kept in an entry that is cut down
# between values, each of which costs the artifact's reader some hundred bytes
TRACE_COMMAS_MOST: Final = 2_000_000
OBSERVATION: Final = (
    b'{"budget_remaining":{"steps":%d,"tool_calls":%d},"last_action":%b,"last_action_result":%b,'
    b'"step":%d,"task":%b,"visible_state":%b}'
)


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

    def close(self) -> str | None:
        """The episode needs it no more. Gives the end of what it printed, ``None`` if nothing."""


def run_episode(
    job: Job, start_agent: Callable[[Job], Agent], *, is_debugged: bool = False
) -> Outcome:
    """Run one episode to its end.

    Args:
        job: What to run.
        start_agent: Gives the agent; called once the task has been loaded.
        is_debugged: What task code prints goes where it always does, and exceptions of task code
            are printed whole.

    Returns:
        The outcome, whatever happened: success, a failure of the agent or the task, a budget spent,
            the time limit.
    """
    facts = EpisodeFacts(started_at=utc_text(), is_debugged=is_debugged)
    start_s = monotonic_s()
    episode = _Episode(job, facts, start_s + job.settings.timeout_s)
    streams, printed = (sys.stdout, sys.stderr), Tail()
    if not is_debugged:
        sys.stdout = sys.stderr = as_text(printed)
    try:
        episode.run(start_agent)
    except End as end:
        facts.termination_reason, facts.failure_type = end.reason, end.failure_type
        facts.failure_reason = None if end.words is None else stable_words(end.words)
        facts.error_traceback = end.traceback
        if is_debugged and end.__cause__ is not None:
            sys.excepthook(type(end.__cause__), end.__cause__, end.__cause__.__traceback__)
    finally:
        sys.stdout, sys.stderr = streams
    facts.printed_by_task = printed.text()
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

    def run(self, start_agent: Callable[[Job], Agent]) -> None:
        """Never returns: every path raises :class:`End`."""
        limit_before = give_full_depth()
        try:
            with self._call_task:
                self._load_task()
                try:
                    self._play(start_agent(self._job))
                finally:
                    self._task.close()
        finally:
            sys.setrecursionlimit(limit_before)

    def _play(self, agent: Agent) -> None:
        try:
            self._env = self._task.make_world(self._job.seed, self._call_task)
            self._env.audit = []  # what setup did belongs to no step
            agent.reset(self._task_spec(), self._deadline_s)
            while True:
                self._step(agent)
        finally:
            self._facts.printed_by_agent = agent.close()

    # --- before the first step ---

    def _load_task(self) -> None:
        self._task: Task = self._call_task(
            "task_exception", "loading the task", lambda: compile_task(self._job.task).execute()
        )
        manifest = self._facts.manifest = self._task.manifest
        self._budgets = manifest.budgets
        self._task_json = canon.encode({"id": manifest.id, "description": manifest.description})

    def _task_spec(self) -> JsonObject:
        manifest = self._task.manifest
        return {
            "id": manifest.id,
            "description": manifest.description,
            "budgets": {"steps": self._budgets.steps, "tool_calls": self._budgets.tool_calls},
            "actions": self._task.surface.parameters,
            "sandbox": {
                "filesystem_roots": list(manifest.filesystem_roots),
                "network_hosts": list(manifest.network_hosts),
            },
        }

    # --- one step ---

    def _step(self, agent: Agent) -> None:
        """Observe, act, execute, record, validate: written out, since a call costs each step."""
        facts, env = self._facts, self._env
        if monotonic_s() >= self._deadline_s:
            limit = f"the time limit of {self._job.settings.timeout_s:g} s"
            raise End("timeout", f"{limit} was over before the next step")
        if self._trace_bytes > TRACE_BYTES_MOST or self._trace_commas > TRACE_COMMAS_MOST:
            self._end_if_trace_is_too_large()
        if facts.steps_used >= self._budgets.steps:
            raise End("steps_exhausted", f"all {self._budgets.steps} steps were used")
        observation = self._observe()
        begun_s = monotonic_s()
        end: End | None = None
        llm_offered, result, spent = None, NULL, 0
        try:
            action, llm_offered = agent.step(observation, self._deadline_s)
        except AgentViolation as violation:
            end, action_json = violation, b"{}"
        except InvalidAction as invalid:
            action_json = canon.encode({"repr": stable_words(invalid.text)})
            end = End("invalid_action", f"{invalid.reason}: {invalid.words}")
        facts.steps_used += 1
        if end is None:
            action_json = canon.encode(action)
            end, result, spent = self._execute(action)
        audit, env.audit = env.audit, []
        if isinstance(end, AgentViolation):
            audit.append(end.audit_entry())
        step = StepRecord(
            step=facts.steps_used,
            action_ts=utc_text(),
            observation=observation,
            action=action_json,
            result=result,
            io_audit=audit,
            llm_trace=take_llm_entries(llm_offered, self._job.settings.redaction, facts.llm),
            steps_left=self._budgets.steps - facts.steps_used,
            tool_calls_left=self._budgets.tool_calls - facts.tool_calls_used,
            tool_calls_spent=spent,
            latency_ms=(monotonic_s() - begun_s) * 1000,
            error=None if end is None or end.words is None else stable_words(end.words),
        )
        entry = trace_entry(step)
        commas = entry.stable.count(b",")
        if len(entry.whole) > ENTRY_BYTES_MOST or commas > TRACE_COMMAS_MOST:
            end, entry, commas = self._cut_down(step, entry, commas, end)
        facts.action_trace.append(entry)
        self._trace_bytes += len(entry.whole)
        self._trace_commas += commas
        if end is not None:
            raise end
        self._last_action, self._last_result = action_json, result
        validate = self._task.validate
        payload = self._call_task("validator_exception", "validate", ask_validator, validate, env)
        env.audit = []  # the validator's own looks are not the agent's
        facts.validator = payload
        if payload["ok"] or payload.get("terminal"):
            raise ending_of(payload)

    def _observe(self) -> bytes:
        visible_state = self._env.visible_state()
        if visible_state != self._visible_state:
            self._visible_state = visible_state
            self._visible_state_json = canon.encode(visible_state)
        observation = OBSERVATION % (
            self._budgets.steps - self._facts.steps_used,
            self._budgets.tool_calls - self._facts.tool_calls_used,
            self._last_action,
            self._last_result,
            self._facts.steps_used + 1,
            self._task_json,
            self._visible_state_json,
        )
        if len(observation) > OBSERVATION_BYTES_MOST:
            most = f"{OBSERVATION_BYTES_MOST >> 20} MiB"
            raise End("logic_failure", f"the next observation would have more than {most}")
        return observation

    def _execute(self, action: JsonObject) -> tuple[End | None, bytes, int]:
        """Run the action; gives how the episode ends by it (``None``: it goes on), its result as
        JSON, tool calls spent.
        """
        surface, env = self._task.surface, self._env
        invalid = surface.why_invalid(action)
        if invalid is not None:
            return End("invalid_action", f"{invalid[0]}: {invalid[1]}"), NULL, 0
        used = self._facts.tool_calls_used
        if used >= self._budgets.tool_calls:
            return End("tool_calls_exhausted", f"all {used} tool calls were used"), NULL, 0
        self._facts.tool_calls_used += 1
        # of this action alone, not of what setup or the validator may have tried
        env.violation = None
        name = action["type"]
        try:
            result = self._call_task("action_exception", f"action {name}", surface.call, action)
        except End as end:
            return end, NULL, 1
        # task code caught it, but the attempt was made all the same
        if env.violation is not None:
            return End("sandbox_violation", str(env.violation)), result, 1
        if name == "list_dir":
            self._mark_seen(canon.decode(result))  # not the object itself, which is the task's
        return None, result, 1

    def _mark_seen(self, listing: Any) -> None:
        if not isinstance(listing, dict) or listing.get("ok") is False:
            return
        files = listing.get("files")
        if isinstance(files, list):
            self._env.mark_seen(list(filter(str.__instancecheck__, files)))

    # --- what is written can be read again ---

    def _end_if_trace_is_too_large(self) -> None:
        trace = self._facts.action_trace
        # Commas in text are kept apart from those between values once the plain count is beyond the
        # bound, since that takes time.
        self._trace_commas = sum([without_strings(entry.stable).count(b",") for entry in trace])
        if self._trace_bytes > TRACE_BYTES_MOST or self._trace_commas > TRACE_COMMAS_MOST:
            most = f"{TRACE_BYTES_MOST >> 20} MiB or {TRACE_COMMAS_MOST} values"
            steps = self._facts.steps_used
            raise End(
                "logic_failure", f"the trace has grown to more than {most} after {steps} steps"
            )

    def _cut_down(
        self, step: StepRecord, entry: TraceEntry, commas: int, end: End | None
    ) -> tuple[End | None, TraceEntry, int]:
        """The entry of a step that holds too much, without the result, the calls and the action of
        the step, and the ending that comes of that.
        """
        if len(entry.whole) <= ENTRY_BYTES_MOST:
            commas = without_strings(entry.stable).count(b",")
            if commas <= TRACE_COMMAS_MOST:
                return end, entry, commas
        most = f"{ENTRY_BYTES_MOST >> 20} MiB or {TRACE_COMMAS_MOST} values"
        end = End(
            "logic_failure", f"step {step.step} left more than {most}: its result and calls are cut"
        )
        is_large = len(step.action) > CUT_ACTION_BYTES
        action = b'{"bytes":%d}' % len(step.action) if is_large else step.action
        entry = trace_entry(
            replace(step, action=action, result=NULL, io_audit=[], llm_trace=None, error=end.words)
        )
        return end, entry, entry.stable.count(b",")
