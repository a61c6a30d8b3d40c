"""What packages build at their first call, and not when they are imported: built by a call that is
answered in this process, before agents are forked.
"""

import importlib
import json
import sys
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
_NOWHERE: Final = "http://localhost"
_QUESTION: Final[dict[str, Any]] = {"model": "-", "messages": [{"role": "user", "content": "-"}]}


def _call_openai(openai: Any) -> None:
    client = _answering(openai.OpenAI(api_key="-", base_url=_NOWHERE), _OPENAI_ANSWER)
    client.chat.completions.create(**_QUESTION)
    client.responses  # noqa: B018 - asking imports it
    client.close()


def _call_anthropic(anthropic: Any) -> None:
    client = _answering(anthropic.Anthropic(api_key="-", base_url=_NOWHERE), _ANTHROPIC_ANSWER)
    client.messages.create(max_tokens=1, **_QUESTION)
    client.close()


def _answering(client: Any, answer: dict[str, Any]) -> Any:
    """``client``, whose first call is answered in this process, where the network would begin."""
    importlib.import_module("encodings.idna")  # which the first connection would
    pool = client._client._transport._pool  # noqa: SLF001 - httpcore's, or what the SDK has for it
    body = json.dumps(answer).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    network = sys.modules[type(pool).__module__.partition(".")[0]].MockBackend
    pool._network_backend = network([(head % len(body)).encode() + body])  # noqa: SLF001
    return client


FIRST_CALLS: Final[dict[str, Callable[[Any], None]]] = {
    "openai": _call_openai,
    "anthropic": _call_anthropic,
}
