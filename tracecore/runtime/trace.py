"""One step's entry in the action trace, and what model calls left in it."""

from typing import Any, Final

from tracecore import canon
from tracecore.record import field, mutable_record, record
from tracecore.records import JsonObject

REDACTIONS: Final = ("off", "partial", "full")
# What an agent reports as spent cannot be checked. One absurd figure must not spoil the sums
# of a slice, which every reader of JSON must be able to hold: beyond 2**53 many of them round.
TOKENS_MOST: Final = 1 << 53
MODELS_MOST: Final = 100  # that an artifact lists
NAME_MOST: Final = 200  # characters of a model's or provider's name there


@record
class StepRecord:
    """What happened in one step, before it is written down.

    What is bytes is canonical JSON already.
    """

    step: int  # 1-based
    action_ts: str  # UTC ISO 8601, when the action was taken
    observation: bytes
    action: bytes
    result: bytes  # what the action gave; null when it was not executed
    io_audit: list[JsonObject]
    llm_trace: list[JsonObject] | None
    steps_left: int
    tool_calls_left: int
    tool_calls_spent: int  # in this step: 0 or 1
    latency_ms: float  # from handing out the observation to having the result
    error: str | None


@record
class TraceEntry:
    """An entry of ``action_trace`` in canonical JSON."""

    whole: bytes  # as it lies in the artifact
    # without what may differ between two runs of the same inputs: its timestamps and latency
    stable: bytes


def trace_entry(step: StepRecord) -> TraceEntry:
    """The entry of one step.

    Put together from parts that are encoded once: an observation goes to the agent, into the entry
    and into two hashes.
    """
    llm = stable_llm = b"null" if step.llm_trace is None else b"[]"
    if step.llm_trace:
        llm = canon.encode(step.llm_trace)
        stable_llm = canon.encode(without_timestamps(step.llm_trace))
    budgets = b'"budget_after_step":{"steps":%d,"tool_calls":%d},"budget_delta":%b' % (
        step.steps_left,
        step.tool_calls_left,
        b'{"steps":1,"tool_calls":%d}' % step.tool_calls_spent,
    )
    audit = canon.encode(step.io_audit) if step.io_audit else b"[]"
    rest = b'"observation":%b,"result":%b,"step":%d,"telemetry":{"action_metrics":{"error":%b' % (
        step.observation,
        step.result,
        step.step,
        b"null" if step.error is None else canon.encode(step.error),
    )
    form = b'{"action":%b,%b%b,"io_audit":%b,"llm_trace":%b,%b%b}}}'
    time = b'"action_ts":"%b",' % step.action_ts.encode()
    latency = b',"latency_ms":%b' % repr(step.latency_ms).encode()
    return TraceEntry(
        form % (step.action, time, budgets, audit, llm, rest, latency),
        form % (step.action, b"", budgets, audit, stable_llm, rest, b""),
    )


def stable_entry(entry: JsonObject) -> JsonObject:
    """The stable part of an entry that was read back from an artifact; what :class:`TraceEntry`
    holds encoded.
    """
    stable = {key: value for key, value in entry.items() if key != "action_ts"}
    stable["telemetry"] = {
        "action_metrics": {"error": entry["telemetry"]["action_metrics"]["error"]}
    }
    if entry["llm_trace"]:
        stable["llm_trace"] = without_timestamps(entry["llm_trace"])
    return stable


def without_timestamps(llm_trace: list[JsonObject]) -> list[JsonObject]:
    """Model calls without the time at which they were answered."""
    return [
        {
            **call,
            "response": {
                key: value for key, value in call["response"].items() if key != "timestamp"
            },
        }
        for call in llm_trace
    ]


@mutable_record
class LlmTotals:
    """What an episode's model calls came to; bytes are UTF-8, counted before redaction."""

    entries: int = 0
    prompt_bytes: int = 0
    completion_bytes: int = 0
    tokens_used: int = 0
    # (provider, model, version), as met
    models: dict[tuple[str, str, str], None] = field(default_factory=dict)
    # providers of calls that a stand-in answered
    mocks: dict[str, None] = field(default_factory=dict)


def take_llm_entries(offered: Any, redaction: str, totals: LlmTotals) -> list[JsonObject] | None:
    """The entries of one step as they may be written, counted into ``totals``; ``None`` when the
    agent keeps none.

    Args:
        offered: What the agent appended in the step, as JSON.
        redaction: ``off``, ``partial`` (``[redacted]:<characters>``) or ``full`` (``[redacted]``).
        totals: Grows by what is taken.
    """
    if not isinstance(offered, list):
        return None
    return [_take_entry(entry, redaction, totals) for entry in offered]


def _take_entry(entry: Any, redaction: str, totals: LlmTotals) -> JsonObject:
    request = _part(entry, "request")
    response = _part(entry, "response")
    totals.entries += 1
    totals.prompt_bytes += _text_bytes(request.get("prompt"))
    totals.completion_bytes += _text_bytes(response.get("completion"))
    totals.tokens_used += _tokens(response.get("tokens_used"))
    metadata = request.get("metadata")
    version = metadata.get("version") if isinstance(metadata, dict) else None
    model = (_text(request.get("provider")), _text(request.get("model")), _text(version))
    if len(totals.models) < MODELS_MOST:
        totals.models[model] = None
    if request.get("shim_used") is True:
        totals.mocks[model[0]] = None
    return {
        "request": {**request, "prompt": redact(request.get("prompt"), redaction)},
        "response": {**response, "completion": redact(response.get("completion"), redaction)},
    }


def _tokens(value: Any) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= TOKENS_MOST
    return value if is_count else 0


def _part(entry: Any, name: str) -> JsonObject:
    part = entry.get(name) if isinstance(entry, dict) else None
    return dict(part) if isinstance(part, dict) else {}


def _text(value: Any) -> str:
    return value[:NAME_MOST] if isinstance(value, str) else "unknown"


def _text_bytes(text: Any) -> int:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


def redact(text: Any, redaction: str) -> Any:
    """A prompt or completion as it may be written."""
    if redaction == "off" or text is None:
        return text
    if redaction == "partial":
        return f"[redacted]:{len(text) if isinstance(text, str) else 0}"
    return "[redacted]"
