"""What packages build at their first call, and not when they are imported: built by a call that is
answered in this process, before agents are forked.
"""

from collections.abc import Callable
from typing import Any, Final

_OPENAI_ANSWER: Final = {
    "id": "-",
    "object": "chat.completion",
    "created": 1,
    "model": "-",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "-"},
        }
    ],
}
_ANTHROPIC_ANSWER: Final = {
    "id": "-",
    "type": "message",
    "role": "assistant",
    "model": "-",
    "content": [{"type": "text", "text": "-"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_QUESTION: Final[dict[str, Any]] = {"model": "-", "messages": [{"role": "user", "content": "-"}]}


def _call_openai(openai: Any, httpx: Any) -> None:
    openai.OpenAI(api_key="-").close()  # what its own transport imports
    client = openai.OpenAI(api_key="-", http_client=_answering(httpx, _OPENAI_ANSWER))
    client.chat.completions.create(**_QUESTION)
    client.responses  # noqa: B018 - asking imports it
    client.close()


def _call_anthropic(anthropic: Any, httpx: Any) -> None:
    anthropic.Anthropic(api_key="-").close()
    client = anthropic.Anthropic(api_key="-", http_client=_answering(httpx, _ANTHROPIC_ANSWER))
    client.messages.create(max_tokens=1, **_QUESTION)
    client.close()


def _answering(httpx: Any, answer: dict[str, Any]) -> Any:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=answer))
    return httpx.Client(transport=transport)


FIRST_CALLS: Final[dict[str, Callable[[Any, Any], None]]] = {
    "openai": _call_openai,
    "anthropic": _call_anthropic,
}
