"""One step's entry in the action trace, and what model calls left in it."""

import re
from dataclasses import dataclass
from typing import Any, Final

from tracecore.records import JsonObject

REDACTIONS: Final = ("off", "partial", "full")
ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}")
WORDS_MOST: Final = 600


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What happened in one step, before it is written down."""

    step: int  # 1-based
    action_ts: str  # UTC ISO 8601, when the action was taken
    observation: JsonObject
    action: JsonObject
    result: Any  # what the action gave, as JSON; null when it was not executed
    io_audit: list[JsonObject]
    llm_trace: list[JsonObject] | None
    steps_left: int
    tool_calls_left: int
    tool_calls_spent: int  # in this step: 0 or 1
    latency_ms: float  # from handing out the observation to having the result
    error: str | None


def trace_entry(record: StepRecord) -> JsonObject:
    """The entry of ``action_trace``."""
    return {
        "step": record.step,
        "action_ts": record.action_ts,
        "observation": record.observation,
        "action": record.action,
        "result": record.result,
        "io_audit": record.io_audit,
        "llm_trace": record.llm_trace,
        "budget_after_step": {"steps": record.steps_left, "tool_calls": record.tool_calls_left},
        "budget_delta": {"steps": 1, "tool_calls": record.tool_calls_spent},
        "telemetry": {"action_metrics": {"latency_ms": record.latency_ms, "error": record.error}},
    }


@dataclass(slots=True)
class LlmTotals:
    """What an episode's model calls came to; bytes are UTF-8, counted before redaction."""

    entries: int = 0
    prompt_bytes: int = 0
    completion_bytes: int = 0
    tokens_used: int = 0


def take_llm_entries(offered: Any, redaction: str, totals: LlmTotals) -> list[JsonObject] | None:
    """The entries of one step as they may be written, counted into ``totals``; ``None`` when the agent keeps none.

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
    tokens = response.get("tokens_used")
    if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0:
        totals.tokens_used += tokens
    return {
        "request": {**request, "prompt": redact(request.get("prompt"), redaction)},
        "response": {**response, "completion": redact(response.get("completion"), redaction)},
    }


def _part(entry: Any, name: str) -> JsonObject:
    part = entry.get(name) if isinstance(entry, dict) else None
    return dict(part) if isinstance(part, dict) else {}


def _text_bytes(text: Any) -> int:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


def redact(text: Any, redaction: str) -> Any:
    """A prompt or completion as it may be written."""
    if redaction == "off" or text is None:
        return text
    if redaction == "partial":
        return f"[redacted]:{len(text) if isinstance(text, str) else 0}"
    return "[redacted]"


def stable_words(text: str) -> str:
    """A failure in words that are the same in every run: no memory address, bounded length."""
    text = ADDRESS.sub("0x…", text)
    return text if len(text) <= WORDS_MOST else text[: WORDS_MOST - 1] + "…"
