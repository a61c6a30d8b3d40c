"""What is kept of a call to a model, and what its request and answer say.

Bodies are text: bytes that are no UTF-8 stand as lone surrogates, and are given back as they came.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from tracecore.record import field, mutable_record, record
from tracecore.records import JsonObject

EVENT_STREAM: Final = "text/event-stream"
NOT_READ: Final = "the agent did not read it to its end"

# Where texts, models and usages stand in what the APIs of OpenAI (chat completions, responses) and
# Anthropic (messages) answer, whole or event by event; "*" is each element of a list.
_TEXTS: Final = (
    ("choices", "*", "message", "content"),
    ("choices", "*", "delta", "content"),
    ("choices", "*", "text"),
    ("content", "*", "text"),
    ("output", "*", "content", "*", "text"),
    ("delta",),
    ("delta", "text"),
)
_AROUND: Final = ((), ("response",), ("message",))


@record
class Request:
    """What an agent asks of a model."""

    model: str  # as the file of models names it
    method: str
    path: str  # below the model's address, with its query
    body: str

    def as_json(self) -> JsonObject:
        """As recordings hold it: the body as JSON, if it is."""
        head = {"model": self.model, "method": self.method, "path": self.path}
        return {**head, "body": _parsed(self.body)}


@mutable_record
class Answer:
    """What a model, or the gateway in its place, gives: it grows as it comes."""

    status: int = 502
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # those that a client acts upon: retry-after
    # seconds since the request, and what came then
    parts: list[tuple[float, str]] = field(default_factory=list)
    failure: str | None = NOT_READ  # why it is not whole

    @property
    def body(self) -> str:
        """All that has come of it."""
        return "".join(text for _, text in self.parts)

    @property
    def problem(self) -> str | None:
        """Why it is not whole. A stream is whole with its last event: clients wait for no more."""
        if self.failure == NOT_READ and self.content_type.startswith(EVENT_STREAM):
            *_, last = [None, *_events(self.body[-100:])]
            return None if last == "[DONE]" else self.failure
        return self.failure


@record
class Call:
    """One call of an episode."""

    request: Request
    answer: Answer
    number: int  # its place among the calls of the episode
    is_refused: bool = False  # not passed on: no part of a recording

    @property
    def bytes(self) -> int:
        """Of both bodies."""
        return len(bytes_of(self.request.body)) + len(bytes_of(self.answer.body))


def text_of(data: bytes) -> str:
    """Bytes as bodies hold them."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """What :func:`text_of` was given."""
    return text.encode("utf-8", "surrogateescape")


def trace_entry(call: Call) -> JsonObject:
    """A call as an ``llm_trace`` entry. Nothing in it differs from one replay to the next."""
    asked = _parsed(call.request.body)
    asked = asked if isinstance(asked, dict) else {}
    prompt = asked.get("messages", asked.get("input", asked.get("prompt", "")))
    error = _error_of(call.answer)
    # How much of an answer had come when its agent hung up is a matter of luck.
    heard = Heard() if error == NOT_READ else read_answer(call.answer)
    return {
        "request": {
            "provider": call.request.model,
            "model": str(asked.get("model", "")),
            "prompt": prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True),
            "shim_used": False,
            "metadata": {"path": call.request.path, "stream": asked.get("stream") is True},
        },
        "response": {
            "provider": call.request.model,
            "model": heard.model,
            "completion": heard.completion,
            "success": error is None,
            "error": error,
            "tokens_used": heard.tokens,
            "calls_used": 1,
            "shim_used": False,
            "timestamp": None,
        },
    }


@record
class Heard:
    """What an answer says of itself."""

    model: str = ""
    completion: str = ""
    tokens: int = 0


def read_answer(answer: Answer) -> Heard:
    """Model, text and tokens of an answer in the forms of OpenAI (chat completions, responses) and
    Anthropic (messages), whole or as a stream; nothing of one in another form.
    """
    is_stream = answer.content_type.startswith(EVENT_STREAM)
    documents = [_parsed(data) for data in (_events(answer.body) if is_stream else [answer.body])]
    texts = [text for document in documents for path in _TEXTS for text in _at(document, path)]
    around = [value for document in documents for path in _AROUND for value in _at(document, path)]
    models = [model for value in around for model in _at(value, ("model",))]
    usage: dict[str, int] = {}  # Anthropic's input tokens come at the begin, its output at the end
    for value in around:
        for counts in _at(value, ("usage",)):
            usage.update(_positive(counts))
    both = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    return Heard(
        model=next((model for model in models if isinstance(model, str)), ""),
        completion="".join(text for text in texts if isinstance(text, str)),
        tokens=usage.get("total_tokens", both),
    )


def _positive(counts: Any) -> dict[str, int]:
    pairs = counts.items() if isinstance(counts, dict) else ()
    return {name: count for name, count in pairs if type(count) is int and count > 0}


def _events(body: str) -> list[str]:
    blocks = body.replace("\r\n", "\n").split("\n\n")
    lines = (
        [line[5:].strip() for line in b.split("\n") if line.startswith("data:")] for b in blocks
    )
    return ["\n".join(data) for data in lines if data]


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """What stands at a path of keys; nothing where it leads nowhere."""
    if not path:
        yield value
    elif path[0] == "*":
        for part in value if isinstance(value, list) else ():
            yield from _at(part, path[1:])
    elif isinstance(value, dict):
        yield from _at(value.get(path[0]), path[1:])


def _parsed(body: str) -> Any:
    """A body as JSON, or as the text that it is."""
    try:
        return _decode(body)
    except (ValueError, RecursionError):
        return body


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_decode = json.JSONDecoder(parse_constant=_finite, parse_float=_finite).decode


def _error_of(answer: Answer) -> str | None:
    if answer.problem is not None or answer.status < 400:
        return answer.problem
    document = _parsed(answer.body)
    found = [*_at(document, ("error", "message")), *_at(document, ("message",))]
    words = next((text for text in found if isinstance(text, str) and text), "")
    return f"HTTP {answer.status}" + (f": {words}" if words else "")


def error_body(request: Request, kind: str, words: str) -> str:
    """An error in the form of the API that was called."""
    if request.path.partition("?")[0].endswith("/messages"):  # Anthropic's
        return json.dumps({"type": "error", "error": {"type": kind, "message": words}})
    return json.dumps({"error": {"message": words, "type": kind, "param": None, "code": kind}})
