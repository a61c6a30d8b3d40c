"""The strict check of a run artifact, in agreement with ``schema/run-artifact.schema.json``.

The schema is what the outside world reads. This module says the same in plain checks, because a
schema interpreter takes some hundred times as long and every strict episode pays for it. Change
both or neither: a test holds the two against each other.

A check is a function from a value to what is wrong with it, built once at import. None of them
walks into what may be any JSON (an observation, an action, a result), so depth and size there cost
nothing and break nothing.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from tracecore.errors import MISSING, describe

Problem = tuple[str, str]  # where below the value that was checked, and what is wrong there
Check = Callable[[Any], list[Problem]]

FAILURE_TYPES: Final = frozenset(
    {
        "budget_exhausted",
        "invalid_action",
        "sandbox_violation",
        "logic_failure",
        "timeout",
        "non_termination",
    }
)

# Every reason the runtime itself gives, and the failure type that goes with it. A validator may
# give its own reasons.
FAILURE_TYPE_OF: Final[dict[str, str | None]] = {
    "success": None,
    "steps_exhausted": "budget_exhausted",
    "tool_calls_exhausted": "budget_exhausted",
    "invalid_action": "invalid_action",
    "action_exception": "invalid_action",
    "sandbox_violation": "sandbox_violation",
    "timeout": "timeout",
    "agent_exception": "logic_failure",
    "agent_crashed": "logic_failure",
    "task_exception": "logic_failure",
    "validator_exception": "logic_failure",
    "episode_crashed": "logic_failure",
    "logic_failure": "logic_failure",
}


def problems(artifact: object, most: int = 5) -> list[str]:
    """What keeps ``artifact`` from being a valid run artifact; empty if it is one.

    Each problem is one line: a JSONPath-like place, what was found there and what was expected. At
        most ``most`` of
    them (and at least one) are given. Nothing that ``json.loads`` can return makes this raise.
    """
    found = _ARTIFACT(artifact)
    if isinstance(artifact, dict):
        found += _ending_problems(artifact)
    return [f"${where}: {what}" for where, what in found[: max(most, 1)]]


def _ending_problems(artifact: dict[str, Any]) -> list[Problem]:
    """Whether success, termination reason and failure tell the same story; wrong types are told
    elsewhere.
    """
    success, reason = artifact.get("success"), artifact.get("termination_reason")
    if not isinstance(success, bool) or not isinstance(reason, str):
        return []
    found: list[Problem] = []
    if success is not (reason == "success"):
        wanted = "'success' as success is true" if success else "another reason as success is false"
        found += _wrong(reason, wanted, ".termination_reason")
    for name in ("failure_type", "failure_reason"):
        value = artifact.get(name)
        if success and value is not None:
            found += _wrong(value, "null as success is true", f".{name}")
        elif not success and value is None and name in artifact:
            found += _wrong(value, "a string as success is false", f".{name}")
    failure_type, wanted_type = artifact.get("failure_type"), FAILURE_TYPE_OF.get(reason)
    if wanted_type is not None and failure_type is not None and failure_type != wanted_type:
        found += _wrong(
            failure_type, f"{wanted_type!r} with termination reason {reason!r}", ".failure_type"
        )
    return found


def _wrong(value: object, expected: str, where: str = "") -> list[Problem]:
    return [(where, f"found {_in_words(value)}, expected {expected}")]


def _in_words(value: object) -> str:
    """A value in JSON's terms, one short line however large, deep or strange it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return describe(value[:100])
        # Python refuses to print integers of some thousand digits
        case int() if value.bit_length() > 256:
            return "an integer of more than 256 bits"
        case int() | float():
            return repr(value)
    return "nothing" if value is MISSING else f"a Python {type(value).__name__}"


# What follows builds checks. A member that is absent is checked as MISSING, which no check but
# _optional accepts.


def _members(
    required: dict[str, Check], optional: dict[str, Check] | None = None, *, closed: bool = False
) -> Check:
    """An object with these members; with ``closed`` it may have no others."""
    checks = required | {name: _optional(check) for name, check in (optional or {}).items()}
    pairs = list(checks.items())

    def check(value: Any) -> list[Problem]:
        if not isinstance(value, dict):
            return _wrong(value, "an object")
        found: list[Problem] = []
        for name, check_member in pairs:
            if wrong := check_member(value.get(name, MISSING)):
                found += _below(f".{name}", wrong)
        for name in value if closed else ():
            if name not in checks:
                found += _wrong(value[name], "no such member", f"[{_in_words(name)}]")
        return found

    return check


def _below(where: str, found: list[Problem]) -> list[Problem]:
    return [(where + below, what) for below, what in found]


def _optional(check_present: Check) -> Check:
    return lambda value: [] if value is MISSING else check_present(value)


def _or_null(check_other: Check) -> Check:
    def check(value: Any) -> list[Problem]:
        if value is None:
            return []
        return [(below, what if below else f"{what} or null") for below, what in check_other(value)]

    return check


def _array(check_item: Check) -> Check:
    def check(value: Any) -> list[Problem]:
        if not isinstance(value, list):
            return _wrong(value, "an array")
        found: list[Problem] = []
        for index, item in enumerate(value):
            if wrong := check_item(item):
                found += _below(f"[{index}]", wrong)
        return found

    return check


def _integer(value: Any) -> list[Problem]:
    return [] if _is_integer(value) else _wrong(value, "an integer")


def _count(value: Any) -> list[Problem]:
    return [] if _is_integer(value) and value >= 0 else _wrong(value, "an integer of at least 0")


def _ordinal(value: Any) -> list[Problem]:
    return [] if _is_integer(value) and value >= 1 else _wrong(value, "an integer of at least 1")


def _is_integer(value: Any) -> bool:
    # JSON has one kind of number, and to JSON Schema 1.0 is an integer; true, which Python takes
    # for 1, is not.
    return type(value) is int or (type(value) is float and value.is_integer())


def _matching(pattern: str, expected: str) -> Check:
    matches = re.compile(pattern).fullmatch

    def check(value: Any) -> list[Problem]:
        return [] if isinstance(value, str) and matches(value) else _wrong(value, expected)

    return check


def _amount(value: Any) -> list[Problem]:
    # "not below 0" and "at least 0" differ for NaN, which is not JSON: canonical JSON refuses it,
    # and a schema cannot.
    is_number = type(value) is float or type(value) is int
    return [] if is_number and not value < 0 else _wrong(value, "a number of at least 0")


def _text(value: Any) -> list[Problem]:
    return [] if isinstance(value, str) else _wrong(value, "a string")


def _some_text(value: Any) -> list[Problem]:
    return [] if isinstance(value, str) and value else _wrong(value, "a string that is not empty")


def _flag(value: Any) -> list[Problem]:
    return [] if isinstance(value, bool) else _wrong(value, "true or false")


def _null(value: Any) -> list[Problem]:
    return [] if value is None else _wrong(value, "null")


def _object(value: Any) -> list[Problem]:
    return [] if isinstance(value, dict) else _wrong(value, "an object")


def _anything(value: Any) -> list[Problem]:
    return [] if value is not MISSING else _wrong(value, "any JSON")


def _failure_type(value: Any) -> list[Problem]:
    if isinstance(value, str) and value in FAILURE_TYPES:
        return []
    return _wrong(value, f"one of {', '.join(sorted(FAILURE_TYPES))}")


def _trace_entry(value: Any) -> list[Problem]:
    return [] if _is_plain_entry(value) else _TRACE_ENTRY(value)


def _is_plain_entry(entry: Any) -> bool:
    """Whether this is a valid entry as the runtime usually writes it; False means no more than a
    reason to look closer.

    A trace may have hundreds of entries, and one expression is three times as fast as a walk
    through _TRACE_ENTRY.
    """
    try:
        after, delta = entry["budget_after_step"], entry["budget_delta"]
        metrics = entry["telemetry"]["action_metrics"]
        return (
            type(entry["step"]) is type(after["steps"]) is type(after["tool_calls"]) is int
            and type(delta["steps"]) is type(delta["tool_calls"]) is int
            and entry["step"] >= 1
            and after["steps"] >= 0
            and after["tool_calls"] >= 0
            and delta["steps"] >= 0
            and delta["tool_calls"] >= 0
            and type(entry["observation"]) is type(entry["action"]) is dict
            and "result" in entry
            and metrics["error"] is None
            and type(metrics["latency_ms"]) is float
            and metrics["latency_ms"] >= 0
            and type(entry["io_audit"]) is list
            and not any(map(_io_call, entry["io_audit"]))
            and not _LLM_TRACE(entry["llm_trace"])
            and not _UTC_TIME(entry["action_ts"])
        )
    except (KeyError, TypeError):
        return False


def _io_call(value: Any) -> list[Problem]:
    kind = value.get("type", MISSING) if isinstance(value, dict) else None
    if kind == "fs":
        return _FILE_CALL(value)
    if kind == "net":
        return _NETWORK_CALL(value)
    if kind == "process":
        return _PROCESS_CALL(value)
    return (
        _wrong(kind, "'fs', 'net' or 'process'", ".type")
        if isinstance(value, dict)
        else _wrong(value, "an object")
    )


_STRINGS: Final = _array(_text)
_ID: Final = _matching(r"[0-9a-fA-F-]{32,36}", "32 to 36 hex digits or dashes")
_SHA256: Final = _matching(r"sha256:[0-9a-f]{64}", "'sha256:' and 64 hex digits")
_UTC_TIME: Final = _matching(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:Z|\+00:00)",
    "a UTC time such as 2026-01-31T12:00:00.000000Z",
)
_SPENDING: Final = _members({"steps": _count, "tool_calls": _count})
_FILE_CALL: Final = _members({"op": _text, "path": _text})
_NETWORK_CALL: Final = _members({"host": _text})
_PROCESS_CALL: Final = _members({"op": _text, "target": _text})
_LLM_TRACE: Final = _or_null(_array(_members({"request": _object, "response": _object})))
_MODEL: Final = _members({"provider": _text, "model": _text, "version": _or_null(_text)})

_TRACE_ENTRY: Final = _members(
    {
        "step": _ordinal,
        "action_ts": _UTC_TIME,
        "observation": _object,
        "action": _object,
        "result": _anything,
        "io_audit": _array(_io_call),
        "budget_after_step": _SPENDING,
        "budget_delta": _SPENDING,
        "llm_trace": _LLM_TRACE,
        "telemetry": _members(
            {"action_metrics": _members({"latency_ms": _amount, "error": _or_null(_text)})}
        ),
    }
)

_ARTIFACT: Final = _members(
    {
        "spec_version": _matching(
            r"tracecore-spec-v[0-9]+\.[0-9]+", "a version such as tracecore-spec-v1.0"
        ),
        "runtime_identity": _members(
            {"name": _text, "version": _text, "git_sha": _or_null(_text)}, closed=True
        ),
        "run_id": _ID,
        "trace_id": _ID,
        "agent": _text,
        "agent_ref": _text,
        "agent_hash": _SHA256,
        "task_id": _text,
        "version": _count,
        "task_ref": _matching(r"[a-z0-9_-]+@[0-9]+", "<id>@<version>"),
        "task_hash": _some_text,
        "seed": _integer,
        "budgets": _members(
            {"steps": _count, "tool_calls": _count},
            {"wall_clock_seconds": _or_null(_count)},
            closed=True,
        ),
        "success": _flag,
        "termination_reason": _some_text,
        "failure_type": _or_null(_failure_type),
        "failure_reason": _or_null(_text),
        "steps_used": _count,
        "tool_calls_used": _count,
        "metrics": _members({"steps_used": _count, "tool_calls_used": _count}),
        "started_at": _UTC_TIME,
        "completed_at": _UTC_TIME,
        "wall_clock_elapsed_s": _amount,
        "harness_version": _text,
        "artifact_hash": _SHA256,
        "trace_hash": _SHA256,
        "sandbox": _members({"filesystem_roots": _STRINGS, "network_hosts": _STRINGS}),
        "determinism": _members(
            {"seed": _integer, "tooling": _members({"models": _array(_MODEL), "mocks": _STRINGS})}
        ),
        "validator": _object,
        "action_trace": _array(_trace_entry),
        "evidence_links": _members({"bundle_dir": _null, "bundle_manifest": _null}),
    }
)
