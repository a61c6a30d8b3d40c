"""The gateway's own process: plain HTTP towards agents, TLS and the key towards models.

::

    agent ──HTTP, its episode's token──▶ listening socket ──▶ gateway ──TLS, the key──▶ model
                  (made inside the agent's namespace, and handed over)
    episode process ──open, take, close──▶ control socket ─▶ gateway

The key comes over standard input, and is in no other process than the harness and this one. At the
end of standard input everything ends.
"""

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import socket
import sys
from typing import Any, Final

from tracecore.errors import TracecoreError
from tracecore.frames import HEADER_BYTES, pack
from tracecore.gateway.models import Model
from tracecore.gateway.recordings import EpisodeKey
from tracecore.gateway.relay import relay
from tracecore.gateway.session import Calling, Session
from tracecore.records import JsonObject, ModelLimits

REQUEST_BYTES_MOST: Final = 1 << 16  # of a request over the control socket
LISTEN_BACKLOG: Final = 256


def serve() -> None:
    """Run until standard input ends. Its first line is JSON: control, secret, models, keys,
    calling; a line goes to standard output once the control socket is there.
    """
    setup = json.loads(sys.stdin.buffer.readline())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(setup))


async def _serve(setup: JsonObject) -> None:
    gateway = Gateway(setup)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.bind(setup["control"])
        control.listen(LISTEN_BACKLOG)
        control.setblocking(False)
        await gateway.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        accepting = asyncio.create_task(gateway.accept(control))
        await _end_of_input()
        accepting.cancel()
        await gateway.stop()


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


class Gateway:
    """All sessions of a slice, and the sockets by which their agents come."""

    def __init__(self, setup: JsonObject) -> None:
        self._secret: str = setup["secret"]
        self._models = {model["name"]: Model(**model) for model in setup["models"]}
        self._keys: dict[str, str | None] = setup["keys"]
        self._calling = Calling(**setup["calling"])
        self._sessions: dict[str, Session] = {}  # by token
        self._tasks: set[asyncio.Task[Any]] = set()
        self._upstream: Any = None

    async def start(self) -> None:
        """Make ready to answer."""
        if self._models:
            from tracecore.gateway.upstream import Upstream  # noqa: PLC0415  (needs the extra)

            self._upstream = Upstream(self._models, self._keys, self._sessions, self._calling)
            await self._upstream.start()

    async def stop(self) -> None:
        """Let go of everything."""
        for task in self._tasks:
            task.cancel()
        if self._upstream is not None:
            await self._upstream.stop()

    async def accept(self, control: socket.socket) -> None:
        """Take connections to the control socket, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            line, _address = await loop.sock_accept(control)
            line.setblocking(False)
            self._keep(self._attend(_Line(line)))

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, line: "_Line") -> None:
        """One connection: a listening socket that is handed over, or the session of an episode."""
        try:
            request, fds = await line.first()
            if not hmac.compare_digest(str(request.get("secret")), self._secret):
                return
            if request["do"] == "listen":
                await self._listen(socket.socket(fileno=fds[0]), request["relay"])
                await line.send({})
            else:
                await self._session(line, request)
        except (OSError, EOFError, ValueError, KeyError, IndexError):
            return
        finally:
            line.close()

    async def _listen(self, listener: socket.socket, target: list[Any] | None) -> None:
        listener.setblocking(False)
        if target is None:
            await self._upstream.listen(listener)
        else:
            host, port = target
            self._keep(relay(listener, str(host), int(port)))

    async def _session(self, line: "_Line", request: JsonObject) -> None:
        key = EpisodeKey(request["agent"], request["task_ref"], request["seed"])
        try:
            session = Session(key, ModelLimits(**request["limits"]), self._calling)
        except TracecoreError as error:
            await line.send({"error": str(error)})
            return
        token = secrets.token_urlsafe(24)
        self._sessions[token] = session
        try:
            await line.send({"token": token})
            while (request := await line.receive())["do"] != "close":
                await line.send(session.take())
            session.close()
            await line.send({})
        except TracecoreError as error:
            await line.send({"error": str(error)})
        finally:
            del self._sessions[token]  # an agent that was left behind calls in vain


class _Line:
    """A connection to the control socket: messages of JSON, the first perhaps with descriptors."""

    def __init__(self, line: socket.socket) -> None:
        self._line, self._data = line, b""

    async def first(self) -> tuple[JsonObject, list[int]]:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()

        def note() -> None:
            if not readable.done():
                readable.set_result(None)

        loop.add_reader(self._line, note)
        try:
            await readable
        finally:
            loop.remove_reader(self._line)
        self._data, fds, _flags, _address = socket.recv_fds(self._line, REQUEST_BYTES_MOST, 1)
        return await self.receive(), list(fds)

    async def receive(self) -> JsonObject:
        await self._fill(HEADER_BYTES)
        size = int.from_bytes(self._data[:HEADER_BYTES], "big")
        if size > REQUEST_BYTES_MOST:
            raise ValueError(size)
        await self._fill(HEADER_BYTES + size)
        message = self._data[HEADER_BYTES : HEADER_BYTES + size]
        self._data = self._data[HEADER_BYTES + size :]
        document: JsonObject = json.loads(message)
        return document

    async def send(self, document: JsonObject) -> None:
        data = pack(json.dumps(document).encode("ascii"))
        await asyncio.get_running_loop().sock_sendall(self._line, data)

    def close(self) -> None:
        self._line.close()

    async def _fill(self, size: int) -> None:
        while len(self._data) < size:
            part = await asyncio.get_running_loop().sock_recv(self._line, 1 << 16)
            if not part:
                raise EOFError
            self._data += part


if __name__ == "__main__":
    os.umask(0o077)
    serve()
