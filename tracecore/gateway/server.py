"""The gateway's own process: plain HTTP towards agents, TLS and the key towards models.

::

    agent ──HTTP, its episode's token──▶ listening socket ──▶ gateway ──TLS, the key──▶ model
                  (made inside the agent's namespace, and handed over)
    episode process ──open, take, close──▶ control socket ─▶ gateway

The key comes over a pipe, and is in no other process than the harness and this one. Everything ends
with the harness.
"""

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import socket
from typing import Any, Final

from tracecore.errors import TracecoreError
from tracecore.frames import HEADER_BYTES, pack
from tracecore.gateway.recording import EpisodeKey
from tracecore.gateway.session import Calling, Session
from tracecore.records import JsonObject, ModelLimits

REQUEST_BYTES_MOST: Final = 1 << 16  # of a request over the control socket
LISTEN_BACKLOG: Final = 256
CHUNK_BYTES: Final = 1 << 16  # of what is relayed
CONNECT_S: Final = 30.0  # for a host that an agent is allowed to reach


def serve(setup: dict[str, Any], leash_fd: int, ready_fd: int) -> None:
    """Run until ``leash_fd`` ends, which no one writes to.

    Args:
        setup: ``control``, ``secret``, ``models``, ``keys`` and ``calling``.
        leash_fd: A pipe that the harness holds the other end of.
        ready_fd: A byte goes there once the control socket is there.
    """
    asyncio.run(_Gateway(setup).serve(leash_fd, ready_fd))


class _Gateway:
    """All sessions of a slice, and the sockets by which their agents come."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._setup = setup
        self._calling: Calling = setup["calling"]
        self._sessions: dict[str, Session] = {}  # by token
        self._tasks: set[asyncio.Task[Any]] = set()
        self._upstream: Any = None

    async def serve(self, leash_fd: int, ready_fd: int) -> None:
        over = asyncio.Event()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.bind(self._setup["control"])
            control.listen(LISTEN_BACKLOG)
            control.setblocking(False)
            models = {model.name: model for model in self._setup["models"]}
            if models:
                from tracecore.gateway.upstream import Upstream  # noqa: PLC0415  (needs the extra)

                keys = self._setup["keys"]
                self._upstream = Upstream(models, keys, self._sessions, self._calling)
                await self._upstream.start()
            os.write(ready_fd, b"+")
            self._keep(self._accept(control))
            asyncio.get_running_loop().add_reader(leash_fd, over.set)
            await over.wait()
            for task in self._tasks:
                task.cancel()
            if self._upstream is not None:
                await self._upstream.stop()

    async def _accept(self, control: socket.socket) -> None:
        """Take connections to the control socket, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            line, _address = await loop.sock_accept(control)
            line.setblocking(False)
            self._keep(self._attend(line))

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, line: socket.socket) -> None:
        """One connection: a listening socket that is handed over, or the session of an episode."""
        with contextlib.suppress(OSError, EOFError, ValueError):
            request, fds = await _first_request(line)
            if not hmac.compare_digest(str(request.get("secret")), self._setup["secret"]):
                line.close()
                return
            reader, writer = await asyncio.open_connection(sock=line)
            with contextlib.closing(writer):
                if request["do"] == "listen":
                    await self._listen(socket.socket(fileno=fds[0]), request["relay"])
                    _send(writer, {})
                else:
                    await self._session(reader, writer, request)

    async def _listen(self, listener: socket.socket, target: list[Any] | None) -> None:
        listener.setblocking(False)
        if target is None:
            await self._upstream.listen(listener)
        else:
            host, port = target
            self._keep(relay(listener, str(host), int(port)))

    async def _session(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: JsonObject
    ) -> None:
        key = EpisodeKey(request["agent"], request["task_ref"], request["seed"])
        token = secrets.token_urlsafe(24)
        try:
            session = Session(key, ModelLimits(**request["limits"]), self._calling)
            self._sessions[token] = session
            _send(writer, {"token": token})
            while (await _receive(reader))["do"] != "close":
                _send(writer, session.take())
            session.close()
            _send(writer, {})
        except TracecoreError as error:
            # Without the folder: it is another one on each machine, and the words are hashed.
            words = str(error).replace(os.path.join(self._calling.recordings, ""), "")
            _send(writer, {"error": words})
        finally:
            self._sessions.pop(token, None)  # an agent that was left behind calls in vain


async def _first_request(line: socket.socket) -> tuple[JsonObject, list[int]]:
    """The first message, which came in one piece, and the descriptors that came with it."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(line, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(line)
    data, fds, _flags, _address = socket.recv_fds(line, REQUEST_BYTES_MOST, 1)
    return json.loads(data[HEADER_BYTES:] or b"{}"), list(fds)


async def _receive(reader: asyncio.StreamReader) -> JsonObject:
    size = int.from_bytes(await reader.readexactly(HEADER_BYTES), "big")
    document: JsonObject = json.loads(await reader.readexactly(size))
    return document


def _send(writer: asyncio.StreamWriter, document: JsonObject) -> None:
    writer.write(pack(json.dumps(document).encode("ascii")))


async def relay(listener: socket.socket, host: str, port: int) -> None:
    """Carry every connection that comes in over ``listener`` to ``host``, until cancelled."""

    async def carry(inner_r: asyncio.StreamReader, inner_w: asyncio.StreamWriter) -> None:
        try:
            opening = asyncio.open_connection(host, port)
            outer_r, outer_w = await asyncio.wait_for(opening, CONNECT_S)
        except (OSError, TimeoutError):
            inner_w.transport.abort()  # a reset is what the agent would have seen
            return
        await asyncio.gather(_pump(inner_r, outer_w), _pump(outer_r, inner_w))

    server = await asyncio.start_server(carry, sock=listener)
    async with server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()  # one direction may go on when the other has ended
            return
    writer.close()
