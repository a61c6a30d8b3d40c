"""One episode: observe, act, execute, validate, under budgets, until one Outcome.

Every way an episode can end is an :class:`End`: the loop raises it, the outside catches it, and the
artifact is built in one place. Task code runs in this process; the agent is behind the
:class:`Agent` interface, usually in another.
"""

import os
import signal
from collections.abc import Callable
from typing import Any, Final, Protocol

from tracecore import canon
from tracecore.clock import monotonic_s, utc_text
from tracecore.errors import one_line
from tracecore.records import Job, JsonObject, Outcome, TaskSource
from tracecore.runtime.artifact import EpisodeFacts, build_outcome
from tracecore.runtime.env import Environment
from tracecore.runtime.sandbox import Sandbox, SandboxViolation
from tracecore.runtime.spec import FAILURE_TYPE_OF, FAILURE_TYPES
from tracecore.runtime.stable_text import cut_words, without_strings
from tracecore.runtime.task.task import Task, compile_task
from tracecore.runtime.trace import (
    StepRecord,
    TraceEntry,
    stable_words,
    take_llm_entries,
    trace_entry,
)

NULL: Final = b"null"
# Of a trace. Its last entry may go beyond: what an artifact is read with again takes 64 MiB.
TRACE_BYTES_MOST: Final = 48 << 20
# between values, each of which costs whoever reads the artifact some hundred bytes
TRACE_COMMAS_MOST: Final = 2_000_000
FLAGS: Final = frozenset({"ok", "terminal"})
VALIDATOR_KEYS: Final = FLAGS | {
    "message",
    "error",
    "failure_reason",
    "failure_type",
    "termination_reason",
}


class End(Exception):
    """The episode is over.

    Attributes:
        reason: The termination reason.
        words: What happened; ``None`` on success.
        failure_type: Where it is not the one that belongs to the reason.
    """

    def __init__(self, reason: str, words: str | None, failure_type: str | None = None) -> None:
        self.reason, self.words = reason, words
        self.failure_type = failure_type or FAILURE_TYPE_OF.get(reason, "logic_failure")
        super().__init__(reason)


class AgentViolation(End):
    """The agent tried what no agent may.

    Attributes:
        attempt: What it was: ``open /etc/passwd``.
    """

    def __init__(self, attempt: str) -> None:
        self.attempt = attempt
        super().__init__("sandbox_violation", f"{attempt}: agents may not")

    def audit_entry(self) -> JsonObject:
        """The attempt as a step's ``io_audit`` has it."""
        op, _, target = self.attempt.partition(" ")
        if op == "connect":
            return {"type": "net", "host": target}
        return {
            "type": "fs" if target.startswith("/") and op != "exec" else "process",
            "op": op,
            **self._where(op, target),
        }

    @staticmethod
    def _where(op: str, target: str) -> JsonObject:
        return {"path": target} if target.startswith("/") and op != "exec" else {"target": target}


class InvalidAction(Exception):
    """What the agent gave in answer to an observation is no action.

    Attributes:
        reason: One of the invalid action reasons.
        words: What is wrong with it.
        text: The repr of what it gave.
    """

    def __init__(self, reason: str, words: str, text: str) -> None:
        self.reason, self.words, self.text = reason, words, text
        super().__init__(reason)


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
    facts.wall_clock_elapsed_s = monotonic_s() - start_s
    facts.completed_at = utc_text()
    return build_outcome(job, facts)


class _Episode:
    """The state of the loop of one episode."""

    def __init__(self, job: Job, facts: EpisodeFacts, deadline_s: float) -> None:
        self._job, self._facts, self._deadline_s = job, facts, deadline_s
        self._task_code_runs = _TaskCodeRuns(deadline_s)
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
        self._task_code_runs.arm()
        try:
            self._load_task()
            try:
                self._play(start_agent(self._job))
            finally:
                self._task.close()
        finally:
            self._task_code_runs.disarm()

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
        self._task: Task = self._task_code("task_exception", "loading the task", self._read_task)
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
            self._task_code("task_exception", "setup", task.setup, self._job.seed, self._env)
        if task.set_env is not None:
            self._task_code("task_exception", "set_env", task.set_env, self._env)
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
            result_json = self._task_code(
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
        verdict = self._task_code("validator_exception", "validate", self._ask_validator)
        self._env.take_audit()  # the validator's own looks are not the agent's
        self._facts.validator = verdict
        if verdict["ok"]:
            raise End("success", None)
        if verdict.get("terminal"):
            raise _terminal_end(verdict)

    def _ask_validator(self) -> JsonObject:
        """The validator's verdict, made of plain values: the objects it gave are task code, and may
        raise when looked at.
        """
        verdict: object = self._task.validate(self._env)
        known = _known_keys(verdict) if isinstance(verdict, dict) else {}
        if "ok" not in known:
            raise End(
                "validator_exception",
                f"validate gave {cut_words(repr(verdict), 200)}, not a dict with a bool ok",
            )
        return known

    def _task_code(self, reason: str, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call into the task; what it raises ends the episode for ``reason``."""
        try:
            with self._task_code_runs:
                return function(*args)
        except _TimeIsOver as over:
            limit = f"the time limit of {self._job.settings.timeout_s:g} s"
            raise End("timeout", f"{what} had not finished within {limit}") from over
        except SandboxViolation as violation:
            if reason == "action_exception":
                raise End("sandbox_violation", str(violation)) from violation
            raise End(reason, f"{what} raised {describe(violation, self._job.task)}") from violation
        except End:
            raise
        # a task may raise anything; the one exit of the episode must still be reached
        except BaseException as error:
            raise End(reason, f"{what} raised {describe(error, self._job.task)}") from error


def describe(error: BaseException, task: TaskSource) -> str:
    """An exception as ``Type: message``, whatever its ``__str__`` does; the folder of ``task`` goes
    by its reference.
    """
    try:
        words = str(error)
        if isinstance(error, ImportError) and error.path:
            words = words.replace(f" ({error.path})", "")
        # Where a task lies differs from machine to machine, and a message may have made one line of
        # it.
        words = words.replace(task.folder, task.ref).replace(one_line(task.folder), task.ref)
        words = cut_words(words, 500)  # last, so that the folder's length does not show
    except BaseException:  # it is somebody else's class
        words = "(its message cannot be read)"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _known_keys(verdict: JsonObject) -> JsonObject:
    known: JsonObject = {}
    for key in VALIDATOR_KEYS & verdict.keys():
        value = verdict[key]
        if key in FLAGS:
            if isinstance(value, bool):
                known[key] = value
        elif value is not None:
            # str.__str__ makes a plain string of a subclass, which could not leave this process.
            known[key] = stable_words(str.__str__(value if isinstance(value, str) else repr(value)))
    return known


def _terminal_end(verdict: JsonObject) -> End:
    failure_type = verdict.get("failure_type")
    if failure_type not in FAILURE_TYPES:
        failure_type = None
    # A failure type that stands alone is the reason as well: beside the default one it would
    # contradict it.
    reason = verdict.get("termination_reason") or failure_type or "logic_failure"
    if reason == "success":
        reason = "logic_failure"
    if reason in FAILURE_TYPE_OF:
        failure_type = None  # the one that belongs to the reason
    words = verdict.get("failure_reason") or verdict.get("error") or verdict.get("message")
    return End(reason, words or "the validator ended the episode", failure_type)


class _TimeIsOver(BaseException):
    """The time limit passed while task code ran.

    Not an Exception: task code that catches those must not swallow it.
    """


class _TaskCodeRuns:
    """The bounds of task code in time and in processes: within ``with`` it is running.

    ``arm`` sets a timer that interrupts it at the deadline, so that an episode whose task loops
    still keeps its trace. Task code that cannot be interrupted (native code, or code that catches
    everything) is the business of whoever owns the process.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._pid = os.getpid()
        self._in_task = False
        self._before: Any = None
        # seconds until it rings, and between its rings, when ours took its place
        self._timer_before = (0.0, 0.0)
        self._armed_s = 0.0

    def arm(self) -> None:
        left_s = self._deadline_s - monotonic_s()
        if left_s <= 0:
            return
        try:
            self._before = signal.signal(signal.SIGALRM, self._ring)
        except (ValueError, AttributeError):
            return  # not the main thread, or a platform without the signal
        # Again every 50 ms: an alarm that rings between two pieces of task code must not be the
        # last one.
        self._armed_s = monotonic_s()
        self._timer_before = signal.setitimer(signal.ITIMER_REAL, left_s, 0.05)

    def disarm(self) -> None:
        self._in_task = False
        if self._before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            self._give_timer_back()

    def _give_timer_back(self) -> None:
        left_s, interval_s = self._timer_before
        if left_s > 0:  # one that would have rung in the meantime rings at once
            signal.setitimer(
                signal.ITIMER_REAL, max(left_s - (monotonic_s() - self._armed_s), 1e-6), interval_s
            )

    def __enter__(self) -> None:
        if monotonic_s() >= self._deadline_s:
            raise _TimeIsOver
        self._in_task = True

    def __exit__(self, *_exception: object) -> None:
        self._in_task = False
        if os.getpid() != self._pid:
            # Task code forked, and both came back: a second episode would go on here, ask the same
            # agent, and tell another end.
            os._exit(0)

    def _ring(self, _number: int, _frame: object) -> None:
        left_s = self._deadline_s - monotonic_s()
        if left_s > 0:  # task code has set a timer of its own in the place of ours
            signal.setitimer(signal.ITIMER_REAL, left_s, 0.05)
        elif self._in_task:
            # once: what handles the interruption must not be interrupted itself
            self._in_task = False
            raise _TimeIsOver
