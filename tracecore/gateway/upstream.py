"""The calls themselves: from an agent's plain HTTP to its model, or to what was recorded of it.

The only module that needs aiohttp, the ``models`` extra.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
from aiohttp import web

from tracecore.clock import monotonic_s
from tracecore.gateway.calls import (
    EVENT_STREAM,
    Answer,
    Call,
    Request,
    bytes_of,
    error_body,
    text_of,
)
from tracecore.gateway.models import Model
from tracecore.gateway.session import REPLAY, Calling, Session

BODY_BYTES_MOST: Final = 64 << 20
# Of requests: what belongs to the connection, or carries the token of the episode.
NOT_PASSED: Final = frozenset(
    [
        "accept-encoding",
        "authorization",
        "api-key",
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
    ]
)
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
        self._client: aiohttp.ClientSession | None = None
        app = web.Application(client_max_size=BODY_BYTES_MOST)
        app.router.add_route("*", "/{model}{path:/.*}", self._handle)
        # Cancelled with its connection: nothing is asked of a model for an agent that is gone.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None)

    async def start(self) -> None:
        """Make ready to listen."""
        await self._runner.setup()
        if self._calling.mode != REPLAY:  # which touches no network
            self._client = aiohttp.ClientSession(
                auto_decompress=True,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
            )

    async def stop(self) -> None:
        """Let go of all connections."""
        await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    async def listen(self, listener: socket.socket) -> None:
        """Take calls over a listening socket, wherever it was made."""
        await web.SockSite(self._runner, listener).start()

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        session = self._sessions.get(_token_of(http.headers))
        model = self._models.get(http.match_info["model"])
        path = http.match_info["path"] + (f"?{http.query_string}" if http.query_string else "")
        request = Request(
            model=http.match_info["model"],
            method=http.method,
            path=path,
            body=text_of(await http.read()),
        )
        if session is None:
            return _error(request, 401, "authentication_error", "no token of a running episode")
        if model is None:
            return _error(request, 404, "not_found_error", f"no model {request.model!r}")
        if refused := session.refusal():
            response = _error(request, 429, "model_limit_exceeded", refused)
            session.add(Call(request, Answer(429, "", ()), 0.0, refused))
            return response
        if self._calling.mode == REPLAY:
            return await self._replay(http, session, request)
        return await self._pass_on(http, session, request, model)

    async def _replay(
        self, http: web.Request, session: Session, request: Request
    ) -> web.StreamResponse:
        begun_s = monotonic_s()
        answer = session.replayed(request)
        if answer is None:
            words = session.failure or "not recorded"
            session.add(Call(request, Answer(409, "", ()), 0.0, words))
            return _error(request, 409, "model_call_unrecorded", words)
        response = _response(answer)
        await response.prepare(http)
        for after_s, text in answer.parts:
            if self._calling.is_delayed:
                await asyncio.sleep(max(0.0, after_s - (monotonic_s() - begun_s)))
            await response.write(bytes_of(text))
        session.add(Call(request, answer, monotonic_s() - begun_s))
        return await _ended(http, response, answer.failure)

    async def _pass_on(
        self, http: web.Request, session: Session, request: Request, model: Model
    ) -> web.StreamResponse:
        begun_s = monotonic_s()
        parts: list[tuple[float, str]] = []
        response: web.StreamResponse | None = None
        answer = Answer(502, "application/json", ())
        failure: str | None = "the agent hung up"
        try:
            async with self._ask(http, request, model) as upstream:
                headers = tuple(
                    (n, upstream.headers[n]) for n in GIVEN_BACK if n in upstream.headers
                )
                answer = Answer(
                    status=upstream.status,
                    content_type=upstream.headers.get("content-type", ""),
                    parts=(),
                    headers=headers,
                )
                response = _response(answer)
                await response.prepare(http)
                async for data in upstream.content.iter_any():
                    parts.append((monotonic_s() - begun_s, text_of(data)))
                    await response.write(data)
            failure = None
        except (aiohttp.ClientError, OSError) as error:
            failure = f"the model could not be reached: {type(error).__name__}"
            if response is not None:
                failure = f"the model's answer broke off: {type(error).__name__}"
        finally:
            answer = Answer(
                status=answer.status,
                content_type=answer.content_type,
                parts=tuple(parts),
                headers=answer.headers,
                failure=failure,
            )
            session.add(Call(request, answer, monotonic_s() - begun_s))
        if response is None:
            return _error(request, 502, "api_connection_error", failure or "")
        return await _ended(http, response, failure)

    @contextlib.asynccontextmanager
    async def _ask(
        self, http: web.Request, request: Request, model: Model
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._client is not None
        headers = {n: v for n, v in http.headers.items() if n.lower() not in NOT_PASSED}
        key = self._keys[model.name]
        if key is not None and "x-api-key" in http.headers:
            headers["x-api-key"] = key
        elif key is not None and "api-key" in http.headers:
            headers["api-key"] = key
        elif key is not None:
            headers["authorization"] = f"Bearer {key}"
        async with self._client.request(
            request.method,
            model.upstream + request.path,
            data=bytes_of(request.body) or None,
            headers=headers,
            allow_redirects=False,
        ) as response:
            yield response


def _token_of(headers: Mapping[str, str]) -> str:
    bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
    return headers.get("x-api-key") or headers.get("api-key") or bearer


def _response(answer: Answer) -> web.StreamResponse:
    headers = dict(answer.headers)
    if answer.content_type:
        headers["content-type"] = answer.content_type
    if answer.content_type.startswith(EVENT_STREAM):
        headers["cache-control"] = "no-cache"
    return web.StreamResponse(status=answer.status, headers=headers)


async def _ended(
    http: web.Request, response: web.StreamResponse, failure: str | None
) -> web.StreamResponse:
    if failure is None:
        await response.write_eof()
    elif http.transport is not None:
        http.transport.abort()  # what broke off upstream breaks off here
    return response


def _error(request: Request, status: int, kind: str, words: str) -> web.Response:
    # No client is to try again what will be refused again.
    headers = {"x-should-retry": "false"}
    body = error_body(request, kind, words)
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)
