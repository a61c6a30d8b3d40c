"""The calls themselves: from an agent's plain HTTP to its model, or to what was recorded of it.

The only module that needs aiohttp, the ``models`` extra.
"""

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import web

from tracecore.clock import monotonic_s
from tracecore.gateway.calls import (
    EVENT_STREAM,
    NOT_READ,
    Answer,
    Request,
    bytes_of,
    error_body,
    text_of,
)
from tracecore.gateway.models import Model
from tracecore.gateway.session import REPLAY, Calling, Session

BODY_BYTES_MOST: Final = 64 << 20
KEY_HEADERS: Final = ("x-api-key", "api-key")  # beside that of a bearer
# Of requests: what belongs to the connection, or carries the token of the episode.
NOT_PASSED: Final = frozenset((
    *("accept-encoding", "authorization", "api-key", "connection", "content-length", "host"),
    *("keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"),
    "x-api-key",
))  # fmt: skip
# Of answers: what a client acts upon.
GIVEN_BACK: Final = ("retry-after", "retry-after-ms", "x-should-retry", "request-id")


class Upstream:
    """Answers the calls of all sessions.

    Args:
        models: By name.
        keys: Of each, by its name.
        sessions: By the token of their episode.
        calling: How calls are answered.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        keys: Mapping[str, str | None],
        sessions: Mapping[str, Session],
        calling: Calling,
    ) -> None:
        self._models, self._keys, self._sessions = models, keys, sessions
        self._calling = calling
        app = web.Application(client_max_size=BODY_BYTES_MOST)
        app.router.add_route("*", "/{model}{path:/.*}", self._handle)
        # Cancelled with its connection: nothing is asked of a model for an agent that is gone.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None)

    async def start(self) -> None:
        """Make ready to listen."""
        await self._runner.setup()
        self._client = aiohttp.ClientSession(
            auto_decompress=True,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def stop(self) -> None:
        """Let go of all connections."""
        await self._runner.cleanup()
        await self._client.close()

    async def listen(self, listener: socket.socket) -> None:
        """Take calls over a listening socket, wherever it was made."""
        await web.SockSite(self._runner, listener).start()

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        session = self._sessions.get(_token_of(http.headers))
        model = self._models.get(http.match_info["model"])
        request = Request(
            model=http.match_info["model"],
            method=http.method,
            path=http.match_info["path"] + (f"?{http.query_string}" if http.query_string else ""),
            body=text_of(await http.read()),
        )
        if session is None:
            return _error(request, 401, "authentication_error", "no token of a running episode")
        if model is None:
            return _error(request, 404, "not_found_error", f"no model {request.model!r}")
        if words := session.refusal():
            session.refuse(request, 429, words)
            return _error(request, 429, "model_limit_exceeded", words)
        with session.call(request) as answer:
            if answer is None:
                return _error(request, 409, "model_call_unrecorded", str(session.failure))
            if self._calling.mode == REPLAY:
                response = await self._replay(http, answer)
            else:
                response = await self._pass_on(http, request, model, answer)
        if response is None:
            return _error(request, 502, "api_connection_error", str(answer.failure))
        if answer.failure is None:
            await response.write_eof()
        elif http.transport is not None:
            http.transport.abort()  # what broke off upstream breaks off here
        return response

    async def _replay(self, http: web.Request, answer: Answer) -> web.StreamResponse | None:
        begun_s = monotonic_s()
        if not answer.content_type and answer.failure:
            return None
        response = await _begin(http, answer)
        for after_s, text in answer.parts:
            if self._calling.is_delayed:
                await asyncio.sleep(max(0.0, after_s - (monotonic_s() - begun_s)))
            await response.write(bytes_of(text))
        if answer.failure == NOT_READ:
            await asyncio.Event().wait()  # until the agent hangs up, as it did then
        return response

    async def _pass_on(
        self, http: web.Request, request: Request, model: Model, answer: Answer
    ) -> web.StreamResponse | None:
        begun_s = monotonic_s()
        response: web.StreamResponse | None = None
        try:
            async with self._ask(http, request, model) as upstream:
                answer.status = upstream.status
                answer.content_type = upstream.headers.get("content-type", "")
                answer.headers = tuple(
                    (n, upstream.headers[n]) for n in GIVEN_BACK if n in upstream.headers
                )
                response = await _begin(http, answer)
                async for data in upstream.content.iter_any():
                    answer.parts.append((monotonic_s() - begun_s, text_of(data)))
                    await response.write(data)
            answer.failure = None
        except (aiohttp.ClientError, OSError) as error:
            what = "model could not be reached" if response is None else "model's answer broke off"
            answer.failure = f"the {what}: {type(error).__name__}"
        return response

    def _ask(
        self, http: web.Request, request: Request, model: Model
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {n: v for n, v in http.headers.items() if n.lower() not in NOT_PASSED}
        if (key := self._keys[model.name]) is not None:
            given = next((name for name in KEY_HEADERS if name in http.headers), None)
            headers[given or "authorization"] = key if given else f"Bearer {key}"
        return self._client.request(
            request.method,
            model.upstream + request.path,
            data=bytes_of(request.body) or None,
            headers=headers,
            allow_redirects=False,
        )


def _token_of(headers: Mapping[str, str]) -> str:
    bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
    return next((headers[name] for name in KEY_HEADERS if name in headers), bearer)


async def _begin(http: web.Request, answer: Answer) -> web.StreamResponse:
    headers = dict(answer.headers)
    if answer.content_type:
        headers["content-type"] = answer.content_type
    if answer.content_type.startswith(EVENT_STREAM):
        headers["cache-control"] = "no-cache"
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(http)
    return response


def _error(request: Request, status: int, kind: str, words: str) -> web.Response:
    # No client is to try again what will be refused again.
    headers = {"x-should-retry": "false"}
    body = error_body(request, kind, words)
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)
