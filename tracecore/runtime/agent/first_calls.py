"""What packages build at their first call, and not when they are imported: built by a call that is
answered in this process, before agents are forked.
"""

import importlib
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
_QUESTION: Final[dict[str, Any]] = {"model": "-", "messages": [{"role": "user", "content": "-"}]}


def _call_openai(openai: Any) -> None:
    client = _answering(openai.OpenAI(api_key="-"), _OPENAI_ANSWER)
    client.chat.completions.create(**_QUESTION)
    client.responses  # noqa: B018 - asking imports it
    client.close()


def _call_anthropic(anthropic: Any) -> None:
    client = _answering(anthropic.Anthropic(api_key="-"), _ANTHROPIC_ANSWER)
    client.messages.create(max_tokens=1, **_QUESTION)
    client.close()


def _answering(client: Any, answer: dict[str, Any]) -> Any:
    """A client like ``client`` whose calls are answered in this process. Making ``client`` has
    imported what its own transport needs.
    """
    http = client._client  # noqa: SLF001 - of httpx, or of what the SDK has in its place
    base = next(one for one in type(http).__mro__ if one.__name__ == "Client")
    httpx = sys.modules[base.__module__.partition(".")[0]]
    http.close()
    importlib.import_module("encodings.idna")  # which the first connection would
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=answer))
    return client.with_options(http_client=httpx.Client(transport=transport))


FIRST_CALLS: Final[dict[str, Callable[[Any], None]]] = {
    "openai": _call_openai,
    "anthropic": _call_anthropic,
}
