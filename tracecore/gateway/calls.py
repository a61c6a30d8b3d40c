"""What is kept of a call to a model, and what its request and answer say.

Bodies are text: bytes that are no UTF-8 stand as lone surrogates, and are given back as they came.
"""

import json
from typing import Any, Final

from tracecore.record import record
from tracecore.records import JsonObject

EVENT_STREAM: Final = "text/event-stream"


@record
class Request:
    """What an agent asks of a model."""

    model: str  # as the file of models names it
    method: str
    path: str  # below the model's address, with its query
    body: str

    def as_json(self) -> JsonObject:
        """As recordings hold it: the body as JSON, if it is."""
        return {**self.head(), "body": parsed(self.body)}

    def head(self) -> JsonObject:
        """All but the body."""
        return {"model": self.model, "method": self.method, "path": self.path}


@record
class Answer:
    """What a model, or the gateway in its place, gave."""

    status: int
    content_type: str
    parts: tuple[tuple[float, str], ...]  # seconds since the request, and what came then
    headers: tuple[tuple[str, str], ...] = ()  # those that a client acts upon: retry-after
    failure: str | None = None  # why it is not whole

    @property
    def body(self) -> str:
        """All of it."""
        return "".join(text for _, text in self.parts)


@record
class Call:
    """One call of an episode."""

    request: Request
    answer: Answer
    wait_s: float  # that the agent waited for it
    refused: str | None = None  # why the gateway did not pass it on

    @property
    def bytes(self) -> int:
        """Of both bodies."""
        texts = (self.request.body, self.answer.body)
        return sum(len(text.encode("utf-8", "surrogateescape")) for text in texts)


def text_of(data: bytes) -> str:
    """Bytes as bodies hold them."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """What :func:`text_of` was given."""
    return text.encode("utf-8", "surrogateescape")


def parsed(body: str) -> Any:
    """A body as JSON, or as the text that it is."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def trace_entry(call: Call) -> JsonObject:
    """A call as an ``llm_trace`` entry. Nothing in it differs from one replay to the next."""
    asked = parsed(call.request.body)
    asked = asked if isinstance(asked, dict) else {}
    heard = read_answer(call.answer)
    is_good = call.answer.status < 400 and call.answer.failure is None and call.refused is None
    prompt = asked.get("messages", asked.get("input", asked.get("prompt", "")))
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
            "success": is_good,
            "error": None if is_good else _error_of(call),
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
    if answer.content_type.startswith(EVENT_STREAM):
        events = [parsed(data) for data in _events(answer.body)]
        return _read_stream([event for event in events if isinstance(event, dict)])
    document = parsed(answer.body)
    return _read_document(document) if isinstance(document, dict) else Heard()


def _events(body: str) -> list[str]:
    blocks = body.replace("\r\n", "\n").split("\n\n")
    lines = (
        [line[5:].strip() for line in b.split("\n") if line.startswith("data:")] for b in blocks
    )
    return ["\n".join(data) for data in lines if data]


def _read_document(document: JsonObject) -> Heard:
    choices, content = document.get("choices"), document.get("content")
    texts: list[Any] = []
    if isinstance(choices, list):  # chat completions
        texts = [_at(choice, "message", "content") or _at(choice, "text") for choice in choices]
    elif isinstance(content, list):  # messages
        texts = [_at(part, "text") for part in content]
    elif isinstance(document.get("output"), list):  # responses
        parts = [part for item in document["output"] for part in _list(_at(item, "content"))]
        texts = [_at(part, "text") for part in parts]
    return Heard(
        model=_text(document.get("model")),
        completion="".join(map(_text, texts)),
        tokens=_tokens(document.get("usage")),
    )


def _read_stream(events: list[JsonObject]) -> Heard:
    model, texts, tokens, first_tokens = "", [], 0, 0
    for event in events:
        whole = event.get("response") if isinstance(event.get("response"), dict) else event
        assert isinstance(whole, dict)
        model = model or _text(whole.get("model")) or _text(_at(event, "message", "model"))
        texts += [_at(choice, "delta", "content") for choice in _list(event.get("choices"))]
        delta = event.get("delta")
        texts.append(delta if isinstance(delta, str) else _at(delta, "text"))
        # Anthropic tells input tokens at the beginning, and output tokens at the end.
        first_tokens = first_tokens or _whole(_at(event, "message", "usage", "input_tokens"))
        tokens = _tokens(whole.get("usage")) or tokens
    return Heard(model, "".join(map(_text, texts)), first_tokens + tokens)


def _tokens(usage: Any) -> int:
    if not isinstance(usage, dict):
        return 0
    total = _whole(usage.get("total_tokens"))
    return total or _whole(usage.get("input_tokens")) + _whole(usage.get("output_tokens"))


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _error_of(call: Call) -> str:
    if call.refused or call.answer.failure:
        return str(call.refused or call.answer.failure)
    document = parsed(call.answer.body)
    words = _text(_at(document, "error", "message")) or _text(_at(document, "message"))
    return f"HTTP {call.answer.status}" + (f": {words}" if words else "")


def error_body(request: Request, kind: str, words: str) -> str:
    """An error in the form of the API that was called."""
    if request.path.partition("?")[0].endswith("/messages"):  # Anthropic's
        return json.dumps({"type": "error", "error": {"type": kind, "message": words}})
    return json.dumps({"error": {"message": words, "type": kind, "param": None, "code": kind}})
