"""Calls into task code: bounded in time and in processes, what it raises is an ending, and what its
validator gives is made plain.
"""

import os
import signal
from collections.abc import Callable
from typing import Any, Final

from tracecore.clock import monotonic_s
from tracecore.records import JsonObject, TaskSource
from tracecore.runtime.endings import FAILURE_TYPE_OF, FAILURE_TYPES, End
from tracecore.runtime.env import Environment
from tracecore.runtime.foreign.stable_text import (
    cut_words,
    describe_error,
    own_traceback,
    stable_words,
)
from tracecore.runtime.sandbox import SandboxViolation

RING_INTERVAL_S: Final = 0.05
LEAST_S: Final = 1e-6  # of a timer: none at all turns it off
# Of what a validator gives.
FLAGS: Final = frozenset({"ok", "terminal"})
KNOWN_KEYS: Final = FLAGS | {
    "message",
    "error",
    "failure_reason",
    "failure_type",
    "termination_reason",
}


class TaskCalls:
    """The way into one task's code, until a deadline.

    In its ``with`` block a timer interrupts task code at the deadline, so that an episode whose
    task loops still keeps its trace. Task code that cannot be interrupted (native code, or code
    that catches everything) is the business of the process's owner.

    Args:
        task: The task; errors name it by its reference.
        timeout_s: The time limit, for the words of a timeout.
        deadline_s: When it is over, on the monotonic clock.
    """

    def __init__(self, task: TaskSource, timeout_s: float, deadline_s: float) -> None:
        self._task, self._timeout_s, self._deadline_s = task, timeout_s, deadline_s
        self._pid = os.getpid()
        self._is_running = False
        # The handler and the timer that were there before, and when ours took their place.
        self._before: tuple[Any, tuple[float, float], float] | None = None

    def __call__(self, reason: str, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function``, which is the task's.

        Args:
            reason: The termination reason if it raises.
            what: What it is, for the words of the ending.
            function: To be called.
            args: What it is given.

        Raises:
            End: It raised, tried what its sandbox forbids, or the deadline has passed.
        """
        try:
            if monotonic_s() >= self._deadline_s:
                raise _TimeIsOver  # noqa: TRY301 - one way out for it and for the alarm
            self._is_running = True
            try:
                return function(*args)
            finally:
                self._is_running = False
                if os.getpid() != self._pid:
                    # Task code forked, and both came back: a second episode would go on here, ask
                    # the same agent, and give another result.
                    os._exit(0)
        except End:
            raise
        # a task may raise anything; the one exit of the episode must still be reached
        except BaseException as error:
            raise self._end_by(error, reason, what) from error

    def _end_by(self, error: BaseException, reason: str, what: str) -> End:
        if isinstance(error, _TimeIsOver):
            limit = f"the time limit of {self._timeout_s:g} s"
            return End("timeout", f"{what} had not finished within {limit}")
        traceback = own_traceback(error, self._task.folder)
        if isinstance(error, SandboxViolation) and reason == "action_exception":
            return End("sandbox_violation", str(error), traceback=traceback)
        kind, message = describe_error(error, [(self._task.folder, self._task.ref)])
        words = f"{what} raised {kind}: {message}" if message else f"{what} raised {kind}"
        return End(reason, words, traceback=traceback)

    def __enter__(self) -> None:
        try:
            handler = signal.signal(signal.SIGALRM, self._ring)
        except ValueError:
            return  # not the main thread
        begun_s = monotonic_s()
        left_s = max(self._deadline_s - begun_s, LEAST_S)
        # Again and again: an alarm that rings between two pieces of task code must not be the last
        # one.
        timer = signal.setitimer(signal.ITIMER_REAL, left_s, RING_INTERVAL_S)
        self._before = (handler, timer, begun_s)

    def __exit__(self, *_raised: object) -> None:
        self._is_running = False
        if self._before is None:
            return
        handler, (left_s, interval_s), begun_s = self._before
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left_s > 0:  # one that would have rung in the meantime rings at once
            left_s = max(left_s - (monotonic_s() - begun_s), LEAST_S)
            signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)

    def _ring(self, _number: int, _frame: object) -> None:
        left_s = self._deadline_s - monotonic_s()
        if left_s > 0:  # task code has set a timer of its own in the place of ours
            signal.setitimer(signal.ITIMER_REAL, left_s, RING_INTERVAL_S)
        elif self._is_running:
            # once: what handles the interruption must not be interrupted itself
            self._is_running = False
            raise _TimeIsOver


class _TimeIsOver(BaseException):
    """The time limit passed while task code ran.

    Not an Exception: task code that catches those must not swallow it.
    """


def ask_validator(validate: Callable[[Environment], object], env: Environment) -> JsonObject:
    """The known keys of what ``validate`` gives, as plain values. To be called as task code: the
    objects that it gives are the task's, and may raise when looked at.

    Raises:
        End: It is no dictionary with a bool ``ok``.
    """
    payload = validate(env)
    known: JsonObject = {}
    given: JsonObject = payload if isinstance(payload, dict) else {}
    for key in KNOWN_KEYS & given.keys():
        value = given[key]
        if key in FLAGS:
            if isinstance(value, bool):
                known[key] = value
        elif value is not None:
            # str.__str__ makes a plain string of a subclass, which could not leave this process.
            known[key] = stable_words(str.__str__(value if isinstance(value, str) else repr(value)))
    if "ok" not in known:
        found = cut_words(repr(payload), 200)
        raise End("validator_exception", f"validate gave {found}, not a dict with a bool ok")
    return known


def ending_of(payload: JsonObject) -> End:
    """The ending that a payload with ``ok`` or ``terminal`` asks for."""
    if payload["ok"]:
        return End("success", None)
    failure_type = payload.get("failure_type")
    if failure_type not in FAILURE_TYPES:
        failure_type = None
    # A failure type that stands alone is the reason as well: beside the default one it would
    # contradict it.
    reason = payload.get("termination_reason") or failure_type or "logic_failure"
    if reason == "success":
        reason = "logic_failure"
    if reason in FAILURE_TYPE_OF:
        failure_type = None  # the one that belongs to the reason
    words = payload.get("failure_reason") or payload.get("error") or payload.get("message")
    return End(reason, words or "the validator ended the episode", failure_type)
