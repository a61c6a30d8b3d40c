"""What a task's validator gave, made plain, and the ending that it asks for."""

from collections.abc import Callable
from typing import Final

from tracecore.records import JsonObject
from tracecore.runtime.endings import FAILURE_TYPE_OF, FAILURE_TYPES, End
from tracecore.runtime.env import Environment
from tracecore.runtime.foreign.stable_text import cut_words, stable_words

FLAGS: Final = frozenset({"ok", "terminal"})
KNOWN_KEYS: Final = FLAGS | {
    "message",
    "error",
    "failure_reason",
    "failure_type",
    "termination_reason",
}


def ask(validate: Callable[[Environment], object], env: Environment) -> JsonObject:
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
