"""The episode's side of the agent: ask, wait no longer than the deadline, and believe nothing."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from tracecore import canon, processes
from tracecore.clock import monotonic_s
from tracecore.confinement.witness import VIOLATION_EXIT
from tracecore.errors import one_line
from tracecore.frames import Channel, ChannelClosed, ChannelTimeout, MessageTooLarge
from tracecore.records import Job, JsonObject, TaskSource
from tracecore.runtime.agent.agent import compile_agent, execute_agent
from tracecore.runtime.agent.host import ANSWER, AgentHost
from tracecore.runtime.agent.message import NotJson, parse_message
from tracecore.runtime.agent.process import AgentLink, ask_how_it_ended
from tracecore.runtime.endings import AgentViolation, End, InvalidAction
from tracecore.runtime.foreign.printed import PipeTail
from tracecore.runtime.foreign.stable_text import (
    LOOKED_AT_MOST,
    TRACEBACK_MOST,
    cut_bytes,
    without_places,
)

# Whether it is found before a question or in place of its answer is a matter of luck, and must not
# show.
UNASKED: Final = "sent an answer that belongs to no question"
LAST_WORDS_S: Final = 0.05  # a message that has begun is whole within this
ATTEMPT_MOST: Final = 300  # characters
EXCERPT_MOST: Final = 100  # bytes of a message that is no JSON
SIGSYS: Final = 31  # on every architecture with filters; not there on every platform
ATTEMPTS: Final = {  # by the exit code, or the signal's number below zero
    -SIGSYS: "make a system call that is forbidden",
    # which an agent can do by itself, too
    VIOLATION_EXIT: "leave as after a forbidden attempt, and not say which",
}
INVALID_REASONS: Final = frozenset({"action_must_be_dict", "action_not_json", "action_too_large"})


class _AskedAgent:
    """An agent that is asked in messages, wherever it runs."""

    def __init__(self, job: Job, nonce: str) -> None:
        self._job, self._nonce, self._limits = job, nonce, job.settings.limits
        self._seq = 0

    def reset(self, task_spec: JsonObject, deadline_s: float) -> None:
        """Hand it the task; raises :class:`End` when it fails."""
        did = self._ask("reset", canon.encode(task_spec), deadline_s)
        if did != {}:
            raise self._broken("answered a reset with something else")

    def step(self, observation: bytes, deadline_s: float) -> tuple[JsonObject, Any]:
        """Hand it an observation, take its action; raises :class:`End`, :class:`InvalidAction`."""
        did = self._ask("step", observation, deadline_s)
        action = did.get("action") if isinstance(did, dict) else None
        if not isinstance(action, dict):
            raise self._broken("answered a step without an action")
        return action, did.get("llm_trace")

    def _ask(self, call: str, value: bytes, deadline_s: float) -> Any:
        """One question and its answer; the answer's ``did`` part."""
        raise NotImplementedError

    def _read_answer(self, call: str, data: bytes) -> Any:
        try:
            answer = parse_message(data, self._limits)
        except NotJson as error:
            if call == "reset":
                raise self._broken(f"answered a reset with what is no JSON: {error}") from error
            raise InvalidAction(error.reason, str(error), _excerpt(data, self._nonce)) from error
        if violation := self._violation(answer):
            raise violation
        if (
            not isinstance(answer, dict)
            or answer.get("seq") != self._seq
            or answer.get("nonce") != self._nonce
        ):
            raise self._broken(UNASKED)
        if "did" in answer:
            return answer["did"]
        if isinstance(answer.get("raised"), dict):
            raise _raised(answer["raised"], self._seq - 1)
        if call == "step" and isinstance(answer.get("invalid"), dict):
            raise _invalid(answer["invalid"])
        raise self._broken("sent an answer of an unknown kind")

    def _violation(self, answer: Any) -> AgentViolation | None:
        """What the audit hook reports from the agent's process.

        An agent that forges it fails itself alone.
        """
        found = (
            answer.get("violation")
            if isinstance(answer, dict) and answer.get("nonce") == self._nonce
            else None
        )
        if not isinstance(found, dict) or not isinstance(found.get("attempt"), str):
            return None
        folder = os.path.dirname(self._job.agent.path)
        return AgentViolation(stable_attempt(found["attempt"], folder, self._job.task))

    def _broken(self, what: str) -> End:
        return End("agent_crashed", f"the agent process broke the protocol: it {what}")


class ProcessAgent(_AskedAgent):
    """An agent in a process of its own, behind a link that the worker made.

    Args:
        job: Of the episode.
        link: To the agent.
        environment: Variables that it finds beside those that every agent has.
    """

    def __init__(
        self, job: Job, link: AgentLink, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(job, link.nonce)
        self._link = link
        # The first question brings them: they have to be there before the agent is loaded.
        self._more = b',"environment":%b' % canon.encode(dict(environment)) if environment else b""
        self._output = PipeTail(link.output_fd)
        self._channel = Channel(
            link.read_fd,
            link.write_fd,
            self._limits.message_bytes,
            link.life_fd,
            beside=(link.output_fd, self._output.drain),
        )

    def count(self, *, is_beginning: bool, deadline_s: float) -> Any:
        """Have its process begin to count what it executes, or give the counts; raises
        :class:`End`.
        """
        return self._ask("count", b"true" if is_beginning else b"false", deadline_s)

    def close(self) -> str | None:
        """Close the channel: an agent that waits for a question leaves. Gives what it printed."""
        self._channel.close()
        printed = self.printed()
        os.close(self._output.fd)
        return printed

    def printed(self) -> str | None:
        """The end of what it has printed; ``None`` if that is nothing."""
        return self._output.text()

    def _ask(self, call: str, value: bytes, deadline_s: float) -> Any:
        self._seq += 1
        more, self._more = self._more, b""
        question = b'{"call":"%s","seq":%d,"value":%s%s}' % (call.encode(), self._seq, value, more)
        try:
            if self._channel.spoke_unasked():
                raise self._last_words() or self._broken(UNASKED)
            self._channel.send(question, deadline_s)
            answer = self._channel.receive(deadline_s)
        except ChannelTimeout as error:
            limit = f"the time limit of {self._job.settings.timeout_s:g} s"
            words = f"{self._during(call)} had not finished within {limit}"
            raise End("timeout", words) from error
        except ChannelClosed as error:
            raise self._crashed(call) from error
        except MessageTooLarge as error:
            raise self._broken(f"sent {error}") from error
        return self._read_answer(call, answer)

    def _last_words(self) -> AgentViolation | None:
        """The violation in what was sent unasked: a thread of the agent's may have tried something
        between two questions.
        """
        try:
            return self._violation(
                parse_message(self._channel.receive(monotonic_s() + LAST_WORDS_S), self._limits)
            )
        except (ChannelTimeout, ChannelClosed, MessageTooLarge, NotJson):
            return None

    def _crashed(self, call: str) -> End:
        if violation := self._last_words():
            return violation
        status = ask_how_it_ended(self._link)
        if status is None:  # it was alive
            return self._broken(f"closed its pipe during {self._during(call)}")
        code = os.waitstatus_to_exitcode(status)
        if attempt := ATTEMPTS.get(code):
            return AgentViolation(attempt)
        how = processes.describe_past(code)
        return End("agent_crashed", f"the agent process {how} during {self._during(call)}")

    def _during(self, call: str) -> str:
        return f"step {self._seq - 1}" if call == "step" else "reset"


class InProcessAgent(_AskedAgent):
    """The same agent without a process: for the runtime's own cost, and for a debugger. No deadline
    is enforced, and it prints as the task does.
    """

    def __init__(self, job: Job, show_error: Callable[[BaseException], None] | None = None) -> None:
        super().__init__(job, nonce="...")
        source = job.agent
        self._host = AgentHost(
            lambda: execute_agent(compile_agent(source.path, source.sha256), source.path),
            self._limits.message_bytes,
            source.path,
            show_error,
        )

    def close(self) -> None:
        """There is nothing to close."""

    def _ask(self, call: str, value: bytes, deadline_s: float) -> Any:
        del deadline_s
        self._seq += 1
        outcome = getattr(self._host, call)(canon.decode(value))
        return self._read_answer(call, ANSWER % (outcome[:-1], self._nonce.encode(), self._seq))


def stable_attempt(attempt: str, agent_folder: str, task: TaskSource) -> str:
    """An attempt as one line that is the same in every run: no process ids; paths in the agent's
    folder relative to it, those in the task's below its reference.
    """
    op, _, target = attempt[:LOOKED_AT_MOST].partition(" ")
    whole = os.path.normpath(os.path.join(agent_folder, target)) if "../" in target else ""
    places = [(task.folder, task.ref), (agent_folder, "")]
    known = without_places(whole, places)
    target = known if known != whole else without_places(target, places)
    words = one_line(f"{op} {target}".rstrip()[:ATTEMPT_MOST])
    if "/proc/" not in words:
        return words
    return "/".join("…" if part.isdigit() else part for part in words.split("/"))


def _raised(raised: JsonObject, step: int) -> End:
    where = _word(raised.get("where"))
    traceback = raised.get("traceback")
    kind, message = _word(raised.get("type")), _word(raised.get("message"))
    place = f"{where} (step {step})" if where in {"observe", "act"} else where
    return End(
        "agent_exception",
        f"{place} raised {kind}: {message}" if message else f"{place} raised {kind}",
        traceback=traceback[:TRACEBACK_MOST] if isinstance(traceback, str) else None,
    )


def _invalid(invalid: JsonObject) -> InvalidAction:
    reason = invalid.get("reason")
    known = reason if reason in INVALID_REASONS else "action_not_json"
    return InvalidAction(str(known), _word(invalid.get("why")), _word(invalid.get("repr")))


def _excerpt(data: bytes, nonce: str) -> str:
    """The begin of a message, without what differs from run to run."""
    return repr(cut_bytes(data.replace(nonce.encode(), b"..."), EXCERPT_MOST))


def _word(value: Any) -> str:
    return value[:600] if isinstance(value, str) else ""
