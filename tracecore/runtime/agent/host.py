"""Inside the agent's own process: load the agent, and answer what the episode asks.

Whatever the agent does here stays here. Nothing that this side says is trusted: the episode checks
each answer again.

An answer is one of::

    {"seq": n, "nonce": …, "did": {}}                                          reset is done {"seq":
    n, "nonce": …, "did": {"action": {…}, "llm_trace": […]}}           a step's action {"seq": n,
    "nonce": …, "raised": {"where": "act", "type": …, "message": …}} {"seq": n, "nonce": …,
    "invalid": {"reason": …, "why": …, "repr": …}}      act gave what JSON has no form for
"""

import time
from _thread import _count as thread_count
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from tracecore import canon, frames
from tracecore.errors import MISSING, AgentError, one_line
from tracecore.runtime.agent.agent import execute_agent
from tracecore.runtime.stable_text import cut_words

WORDS_MOST: Final = 500  # characters of an exception's message
ENVELOPE_BYTES: Final = 256  # what stands around an outcome in its message, at most
# In an episode, for threads that go on behind an answer: what one of them tries is told then, and
# not at times only.
THREADS_PATIENCE_S: Final = 0.25
LOOK_INTERVAL_S: Final = 0.001
REPR_MOST: Final = 200  # characters of an action that is none


class AgentHost:
    """An agent, and the only ways in which the episode reaches it. Outcomes are JSON objects, as
    bytes.

    Args:
        load: Gives the agent.
        message_bytes: Of one answer, at most.
        path: The agent's file. Errors tell its name alone: its folder differs from machine to
            machine.
    """

    def __init__(self, load: Callable[[], Any], message_bytes: int, path: str = "") -> None:
        self._load, self._most_bytes = load, message_bytes - ENVELOPE_BYTES
        self._path = path
        self._agent: Any = None
        self._known_llm: list[Any] = []

    def reset(self, task_spec: Any) -> bytes:
        """Load the agent and hand it the task; gives the answer's outcome part."""
        where = "load"
        try:
            self._agent = self._load()
            where = "reset"
            self._agent.reset(task_spec)
        # an agent may raise anything, also what would end this process
        except BaseException as error:
            return canon.encode({"raised": describe_error(where, error, self._path)})
        return b'{"did":{}}'

    def step(self, observation: Any) -> bytes:
        """Hand the agent an observation and take its action; gives the answer's outcome part."""
        where = "observe"
        try:
            self._agent.observe(observation)
            where = "act"
            action = self._agent.act()
            return self._offer(action, self._new_llm_entries())
        # as above; also an agent's own dict or str class, which runs while it is read
        except BaseException as error:
            return canon.encode({"raised": describe_error(where, error, self._path)})

    def _offer(self, action: Any, llm_trace: list[Any] | None) -> bytes:
        if not isinstance(action, dict):
            return _invalid(
                "action_must_be_dict", f"act returned {type(action).__name__}, not a dict", action
            )
        try:
            outcome = canon.encode({"did": {"action": action, "llm_trace": llm_trace}})
        except (ValueError, TypeError, RecursionError) as error:
            return _invalid(
                "action_not_json",
                f"act returned what JSON has no form for: {_words(error)}",
                action,
            )
        if len(outcome) > self._most_bytes:
            why = f"act returned {len(outcome)} bytes, over the limit of {self._most_bytes}"
            return _invalid("action_too_large", why, action)
        return outcome

    def _new_llm_entries(self) -> list[Any] | None:
        trace = getattr(self._agent, "llm_trace", None)
        if not isinstance(trace, list):
            return None
        # The agent may append to one list, or begin a new one: what it had already shown is told by
        # identity.
        shown = 0
        for entry, known in zip(trace, self._known_llm, strict=False):
            if entry is not known:
                break
            shown += 1
        self._known_llm = list(trace)
        return trace[shown:]


def serve(
    code: CodeType | None,
    problem: Exception | None,
    path: str,
    nonce: str,
    fds: tuple[int, int],
    limit: int,
) -> None:
    """Answer requests from ``fds`` (read, write) until the episode closes its side; then leave.

    Args:
        code: The compiled agent; ``None`` when there is a ``problem``.
        problem: Why it could not be compiled.
        path: Where it comes from.
        nonce: Goes into every answer.
        fds: The pipes from and to the episode.
        limit: Bytes of one answer.
    """

    def load() -> Any:
        if code is None:
            raise problem or AgentError(path, "", MISSING, "the agent's code")
        return execute_agent(code, path)

    host = AgentHost(load, limit, path)
    calls = {"reset": host.reset, "step": host.step}
    read_fd, write_fd = fds
    left = THREADS_PATIENCE_S
    try:
        while True:
            request = canon.decode(frames.read_message(read_fd))
            outcome = calls[request["call"]](request["value"])
            if left > 0 and thread_count():
                left = _await_threads(left)
            envelope = b'{"nonce":"%b","seq":%d,' % (nonce.encode(), request["seq"])
            frames.write_message(write_fd, envelope + outcome[1:])
    except (frames.ChannelClosed, BrokenPipeError):
        pass  # the episode is over


def _await_threads(left_s: float) -> float:
    """Wait until the agent's other threads have ended, not longer than ``left_s``; what is left of
    that.
    """
    begun_s = time.monotonic()
    while (used_s := time.monotonic() - begun_s) < left_s and thread_count():
        time.sleep(LOOK_INTERVAL_S)
    return left_s - used_s


def describe_error(where: str, error: BaseException, path: str = "") -> dict[str, str]:
    """An exception as plain text, whatever its ``__str__`` does; the file at ``path`` goes by its
    name alone.
    """
    return {"where": where, "type": type(error).__name__[:80], "message": _words(error, path)}


def _words(error: BaseException, path: str = "") -> str:
    try:
        words = str(error)
        # where a file lies differs from machine to machine
        if isinstance(error, ImportError) and error.path:
            words = words.replace(f" ({error.path})", "")
        if path:
            name = path.rpartition("/")[2]
            words = words.replace(path, name).replace(one_line(path), one_line(name))
        return cut_words(words, WORDS_MOST)  # cut last, so that the folder's length does not show
    except BaseException:  # an exception class of the agent's may raise here too
        return "(its message cannot be read)"


def _invalid(reason: str, why: str, action: Any) -> bytes:
    try:
        text = cut_words(repr(action), REPR_MOST)
    except BaseException:  # as in _words
        text = f"(a {type(action).__name__} whose repr cannot be read)"
    return canon.encode({"invalid": {"reason": reason, "why": why, "repr": text}})
