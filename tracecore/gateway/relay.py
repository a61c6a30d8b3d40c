"""Plain connections of an agent to a host and port that its scenario row allows."""

import asyncio
import contextlib
import socket
from typing import Final

CHUNK_BYTES: Final = 1 << 16
CONNECT_S: Final = 30.0


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
