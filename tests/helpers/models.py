"""A stand-in for model APIs on loopback: three forms, streams, and the ways in which they fail."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

from tracecore.agents.toy_agent import ToyAgent

KEY = "sk-the-real-key-of-the-tests"
USAGE = {"input_tokens": 4, "output_tokens": 3}


class StandIn(http.server.ThreadingHTTPServer):
    """Answers as the prompt asks: ``status 500``, ``busy`` (429, but for a second try), ``stall``,
    ``break``, or an echo; with the next action where it is told a task.

    Attributes:
        seen: (path, headers, body) of each request.
        go_on: While it is not set, no answer begins.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers, body))
        self.server.go_on.wait()
        prompt, form = _prompt(body), self.path.rpartition("/")[2]
        is_second = headers.get("x-stainless-retry-count", "0") != "0"
        if prompt.startswith("status ") or (prompt == "busy" and not is_second):
            status = 429 if prompt == "busy" else int(prompt.split()[1])
            error = {"error": {"message": "as asked", "type": "asked"}}
            more = {"retry-after": "0"} if status == 429 else {}
            self._answer(status, [json.dumps(error)], **more)
        elif prompt == "stall":
            self._answer(200, ['data: {"choices": []}\n\n'], "text/event-stream", end=False)
            self.connection.recv(1)  # until the other side is gone
        elif prompt == "break":
            self._answer(200, ['{"choices"'], **{"content-length": "1000"})
        elif body.get("stream"):
            events = _events(form, body["model"], f"echo {prompt}")
            self._answer(200, [*map(_event, events), *_LAST[form]], "text/event-stream")
        else:
            text = _next_action(body) or f"echo {prompt}"
            self._answer(200, [json.dumps(_document(form, body["model"], text))])

    def _answer(
        self,
        status: int,
        parts: list[str],
        content_type: str = "application/json",
        *,
        end: bool = True,
        **headers: str,
    ) -> None:
        self.send_response(status)
        # A kept connection is a descriptor of the tests'; without a length, its end is the body's.
        for name, value in {"content-type": content_type, "connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for part in parts:
            self.wfile.write(part.encode())
            self.wfile.flush()
        self.close_connection = end

    def log_message(self, *_: Any) -> None:
        pass


def _prompt(body: Any) -> str:
    said = body.get("messages") or body.get("input") or ""
    if isinstance(said, str):
        return said
    content = said[-1]["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])


def _next_action(body: Any) -> str | None:
    """What the bundled agent does that was given the task and has seen the same."""
    first, *others = body.get("messages") or [{"role": "user"}]
    if first["role"] != "system":
        return None
    agent = ToyAgent()
    agent.reset(json.loads(first["content"].partition("}. ")[2]))
    for message in others:
        if message["role"] == "user":
            agent.observe(json.loads(message["content"]))
            action = agent.act()
    return json.dumps(action)


def _document(form: str, model: str, text: str) -> dict[str, Any]:
    if form == "messages":
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": text}], "usage": USAGE,
            "stop_reason": "end_turn", "stop_sequence": None,
        }  # fmt: skip
    if form == "responses":
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
        return {
            "id": "resp_1", "object": "response", "created_at": 0, "model": model,
            "status": "completed", "output": [{**message, "content": content}],
            "parallel_tool_calls": False, "tool_choice": "auto", "tools": [],
            "usage": {**USAGE, "total_tokens": 7},
        }  # fmt: skip
    message = {"role": "assistant", "content": text}
    return {
        "id": "c_1", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
    }  # fmt: skip


def _events(form: str, model: str, text: str) -> list[dict[str, Any]]:
    whole = _document(form, model, text)
    words = [word + " " for word in text.split()]
    if form == "messages":
        begin = {**whole, "content": [], "usage": {"input_tokens": 4, "output_tokens": 1}}
        block: dict[str, Any] = {"type": "content_block_delta", "index": 0}
        return [
            {"type": "message_start", "message": begin},
            {"type": "content_block_start", "index": 0, "content_block": _TEXT},
            *({**block, "delta": {"type": "text_delta", "text": word}} for word in words),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
            {"type": "message_stop"},
        ]
    if form == "responses":
        place = {"item_id": "m", "output_index": 0, "content_index": 0, "logprobs": []}
        kind = "response.output_text.delta"
        return [
            {"type": "response.created", "response": {**whole, "output": [], "usage": None}},
            *({"type": kind, **place, "delta": word} for word in words),
            {"type": "response.completed", "response": whole},
        ]
    chunk = {**whole, "object": "chat.completion.chunk"}
    return [
        *({**chunk, "choices": [_delta(word)], "usage": None} for word in words),
        {**chunk, "choices": []},
    ]


_TEXT = {"type": "text", "text": ""}
_LAST = {"messages": [], "responses": [], "completions": ["data: [DONE]\n\n"]}


def _delta(word: str) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": word}, "finish_reason": None}


def _event(event: dict[str, Any]) -> str:
    kind = f"event: {event['type']}\n" if "type" in event else ""
    return f"{kind}data: {json.dumps(event)}\n\n"


@contextlib.contextmanager
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
