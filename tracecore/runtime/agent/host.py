"""Inside the agent's own process: load the agent, and answer what the episode asks.

Whatever the agent does here stays here. Nothing that this side sends is trusted: the episode checks
each answer again.

An answer is one of::

    {"seq": n, "nonce": …, "did": {}}                                       reset is done
    {"seq": n, "nonce": …, "did": {"action": {…}, "llm_trace": […]}}        a step's action
    {"seq": n, "nonce": …, "raised": {"where": "act", "type": …, "message": …, "traceback": …}}
    {"seq": n, "nonce": …, "invalid": {"reason": …, "why": …, "repr": …}}   act gave no JSON
"""

import contextlib
import functools
import os
import sys
import time
from _thread import _count as thread_count
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from tracecore import canon, frames
from tracecore.runtime.agent.agent import execute_agent
from tracecore.runtime.agent.message import VALUES_MOST
from tracecore.runtime.foreign.stable_text import cut_words, describe_error, own_traceback
from tracecore.runtime.foreign.stack import at_fixed_depth

# An outcome without its last brace, nonce and number: in the order of canonical JSON, which the
# episode reads fastest.
ANSWER: Final = b'%b,"nonce":"%b","seq":%d}'
ENVELOPE_BYTES: Final = 256  # what stands around an outcome in its message, at most
# In an episode, for threads that go on behind an answer: what one of them tries is found then, and
# not at times only.
THREADS_PATIENCE_S: Final = 0.25
LOOK_INTERVAL_S: Final = 0.001
REPR_MOST: Final = 200  # characters of an action that is none
FEW: Final = 100
PLAIN: Final = frozenset((str, int, float, bool, type(None)))
LEVELS_MOST: Final = 1_000  # of an action: nothing that is nested as deeply can be encoded


class AgentHost:
    """An agent, and the only ways in which the episode reaches it. Outcomes are JSON objects, as
    bytes.

    A method of the agent may be a coroutine function: it is run to its end on the agent's own event
    loop.

    Args:
        load: Gives the agent.
        message_bytes: Of one answer, at most.
        path: The agent's file. Errors name paths relative to its folder, which differs from machine
            to machine.
        show_error: Given each exception of the agent, for a debugger's eyes.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        message_bytes: int,
        path: str,
        show_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._load, self._most_bytes = load, message_bytes - ENVELOPE_BYTES
        self._folder, self._show_error = os.path.dirname(path), show_error
        self._agent: Any = None
        self._known_llm: list[Any] = []
        self._loop: Any = None

    def reset(self, task_spec: Any) -> bytes:
        """Load the agent and hand it the task; gives the answer's outcome part."""
        where = "load"
        try:
            self._known_llm = []
            self._agent = self._load()
            where = "reset"
            if (waiting := self._agent.reset(task_spec)) is not None:
                self._await(waiting)
        # an agent may raise anything, also what would end this process
        except BaseException as error:
            return self._raised(where, error)
        return b'{"did":{}}'

    def step(self, observation: Any) -> bytes:
        """Hand the agent an observation and take its action; gives the answer's outcome part."""
        where = "observe"
        try:
            if (waiting := self._agent.observe(observation)) is not None:
                self._await(waiting)
            where = "act"
            action = self._agent.act()
            if not isinstance(action, dict):
                action = self._await(action)
            return self._offer(action, self._new_llm_entries())
        # as above; also an agent's own dict or str class, which runs while it is read
        except BaseException as error:
            return self._raised(where, error)

    def count(self, is_beginning: bool) -> bytes:
        """Begin to count what is executed here, or give the counts; what was before is no part of
        them but for its page faults.
        """
        from tracecore.runtime.work.counter import WorkCounter, page_faults  # noqa: PLC0415 - seldom

        if is_beginning:
            self._faults = page_faults()
            self._counter = WorkCounter(((self._folder, "agent"),))
            self._counter.start()
            return b'{"did":{}}'
        self._counter.stop()
        counts = {**self._counter.as_json(), "page_faults": self._faults}
        whole = canon.encode({"did": counts})
        return whole if len(whole) <= self._most_bytes else canon.encode({"did": None})

    def _await(self, value: Any) -> Any:
        """What an awaitable comes to; any other value as it is."""
        if not hasattr(type(value), "__await__"):
            return value
        if self._loop is None:
            import asyncio  # noqa: PLC0415 - heavy, and of use to async agents alone

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(value)

    def _offer(self, action: Any, llm_trace: list[Any] | None) -> bytes:
        # Before it is encoded whole, which may take long, and more memory than there is.
        if too_large := _too_large(action, llm_trace, self._most_bytes):
            return _invalid("action_too_large", too_large, _short_repr(action))
        if not isinstance(action, dict):
            why = f"act returned {type(action).__name__}, not a dict"
            return _invalid("action_must_be_dict", why, _repr(action))
        try:
            outcome = canon.encode({"did": {"action": action, "llm_trace": llm_trace}})
        except (ValueError, TypeError, RecursionError) as error:
            kind, message = describe_error(error, [(self._folder, "")])
            why = f"act returned what JSON has no form for: {message or kind}"
            return _invalid("action_not_json", why, _repr(action))
        if len(outcome) > self._most_bytes:
            why = f"act returned more than {self._most_bytes} bytes, which is the limit"
            return _invalid("action_too_large", why, _short_repr(action))
        return outcome

    def _new_llm_entries(self) -> list[Any] | None:
        trace = getattr(self._agent, "llm_trace", None)
        if not isinstance(trace, list):
            return None
        # The agent may append to one list, or begin a new one: what it had already shown is known
        # by identity.
        shown = 0
        for entry, known in zip(trace, self._known_llm, strict=False):
            if entry is not known:
                break
            shown += 1
        self._known_llm = list(trace)
        return trace[shown:]

    def _raised(self, where: str, error: BaseException) -> bytes:
        if self._show_error is not None:
            self._show_error(error)
        kind, message = describe_error(error, [(self._folder, "")])
        raised: dict[str, Any] = {"where": where, "type": kind, "message": message}
        whole = canon.encode({"raised": {**raised, "traceback": self._traceback(error)}})
        return whole if len(whole) <= self._most_bytes else canon.encode({"raised": raised})

    def _traceback(self, error: BaseException) -> str | None:
        try:
            return own_traceback(error, self._folder)
        except BaseException:  # the exception's class is the agent's own, and so may be `open`
            return None


def serve(
    code: CodeType | Exception, path: str, nonce: str, fds: tuple[int, int], limit: int
) -> None:
    """Answer requests from ``fds`` (read, write) until the episode closes its side; then leave.

    Args:
        code: The compiled agent, or why it could not be compiled.
        path: Where it comes from.
        nonce: Goes into every answer.
        fds: The pipes from and to the episode.
        limit: Bytes of one answer.
    """

    def load() -> Any:
        if isinstance(code, Exception):
            raise code
        return execute_agent(code, path)

    _show_lines_at_once()
    host = AgentHost(load, limit, path)
    at_fixed_depth(functools.partial(_answer_all, host, nonce, fds))


def _answer_all(host: AgentHost, nonce: str, fds: tuple[int, int]) -> None:
    calls = {"reset": host.reset, "step": host.step, "count": host.count}
    read_fd, write_fd = fds
    left = THREADS_PATIENCE_S
    try:
        while True:
            request = canon.decode(frames.read_message(read_fd))
            if "environment" in request:
                os.environ.update(request["environment"])
            outcome = calls[request["call"]](request["value"])
            if left > 0 and thread_count():
                left = _await_threads(left)
            _flush_prints()
            answer = ANSWER % (outcome[:-1], nonce.encode(), request["seq"])
            frames.write_message(write_fd, answer)
    except (frames.ChannelClosed, BrokenPipeError):
        pass  # the episode is over


def _show_lines_at_once() -> None:
    # What it printed must be out when it dies without leaving.
    with contextlib.suppress(Exception):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _flush_prints() -> None:
    try:  # noqa: SIM105 - a context would cost calls in each step
        sys.stdout.flush()
    except Exception:  # noqa: S110 - the agent may have put anything in its place
        pass


def _await_threads(left_s: float) -> float:
    """Wait until the agent's other threads have ended, not longer than ``left_s``; what is left of
    that.
    """
    begun_s = time.monotonic()
    while (used_s := time.monotonic() - begun_s) < left_s and thread_count():
        time.sleep(LOOK_INTERVAL_S)
    return left_s - used_s


def _too_large(action: Any, llm_trace: list[Any] | None, most_bytes: int) -> str:
    """What makes an answer too large for a message, in words; "" if nothing does.

    It is looked at level by level, and no further than what a message may hold.
    """
    if not llm_trace and type(action) is dict and action.keys() <= {"type", "args"}:
        # one look at the usual action: a name and some plain arguments
        args = action.get("args")
        if type(action.get("type")) is str and type(args) is dict and len(args) <= FEW:
            parts = (action["type"], *args, *args.values())
            if set(map(type, parts)) <= PLAIN and sum(map(sys.getsizeof, parts)) < most_bytes // 8:
                return ""
    value = (action, llm_trace)
    size, count, level = 0, 0, [value]
    for _ in range(LEVELS_MOST):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, str):
                size += len(one)
            elif isinstance(one, dict | list | tuple):
                count += len(one)
                if count <= VALUES_MOST:
                    inner += one
                    inner += one.values() if isinstance(one, dict) else ()
        if size > most_bytes:
            return f"act returned more than {most_bytes} bytes, which is the limit"
        if count > VALUES_MOST:
            return f"act returned more than {VALUES_MOST} values, which is the limit"
        if not inner:
            break
        level = inner
    return ""


def _repr(action: Any, write: Callable[[Any], str] = repr) -> str:
    try:
        return cut_words(write(action), REPR_MOST)
    except BaseException:  # an agent's own class
        return f"(a {type(action).__name__} whose repr cannot be read)"


def _short_repr(action: Any) -> str:
    """The repr of what would have a very long one."""
    import reprlib  # noqa: PLC0415 - of use here alone

    return _repr(action, reprlib.repr)


def _invalid(reason: str, why: str, text: str) -> bytes:
    return canon.encode({"invalid": {"reason": reason, "why": why, "repr": text}})
