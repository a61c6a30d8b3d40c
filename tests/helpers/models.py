"""A stand-in for model APIs on loopback: both forms, streams, and the ways in which they fail."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

KEY = "sk-the-real-key-of-the-tests"


class StandIn(http.server.ThreadingHTTPServer):
    """Answers what the prompt asks for: ``status 429``, ``stall``, ``break``, or an echo.

    Attributes:
        seen: (path, headers, body) of each request.
        delay_s: Before each answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.delay_s = 0.0

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
        time.sleep(self.server.delay_s)
        prompt = _prompt(body)
        if prompt.startswith("status "):
            status = int(prompt.split()[1])
            self._answer(status, {"error": {"message": "as asked", "type": "asked"}})
        elif prompt == "stall":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b'data: {"choices": []}\n\n')
            self.wfile.flush()
            self.connection.recv(1)  # until the other side is gone
            self.close_connection = True
        elif prompt == "break":
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices"')
            self.wfile.flush()
            self.close_connection = True
        elif body.get("stream"):
            self._stream(body["model"], prompt)
        else:
            self._answer(200, _document(self.path, body["model"], prompt))

    def _answer(self, status: int, document: Any) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("connection", "close")  # a kept one is a descriptor of the tests'
        if status == 429:
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def _stream(self, model: str, prompt: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        events: list[dict[str, Any]] = [
            {"model": model, "choices": [{"index": 0, "delta": {"content": word + " "}}]}
            for word in f"echo {prompt}".split()
        ]
        events.append({"model": model, "choices": [], "usage": {"total_tokens": 7}})
        if self.path.endswith("/messages"):
            events = [
                {
                    "type": "message_start",
                    "message": _document(self.path, model, "")
                    | {"content": [], "usage": {"input_tokens": 4, "output_tokens": 0}},
                },
                {
                    "type": "content_block_start",
                    "index": 0,
                    "content_block": {"type": "text", "text": ""},
                },
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": f"echo {prompt}"},
                },
                {"type": "content_block_stop", "index": 0},
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn"},
                    "usage": {"output_tokens": 3},
                },
                {"type": "message_stop"},
            ]
        for event in events:
            kind = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{kind}data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
        if not self.path.endswith("/messages"):
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def _prompt(body: Any) -> str:
    said = body.get("messages") or body.get("input") or ""
    if isinstance(said, str):
        return said
    content = said[-1]["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])


def _document(path: str, model: str, prompt: str) -> dict[str, Any]:
    text = f"echo {prompt}"
    if path.endswith("/messages"):
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 4, "output_tokens": 3},
        }
    if path.endswith("/responses"):
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 0,
            "model": model,
            "status": "completed",
            "output": [
                {
                    "type": "message",
                    "id": "m",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": text, "annotations": []}],
                }
            ],
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "usage": {"input_tokens": 4, "output_tokens": 3, "total_tokens": 7},
        }
    message = {"role": "assistant", "content": text}
    return {
        "id": "c_1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
    }


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
