"""Messages over pipes: four bytes of length, then the message.

A message is taken from its length, never from the end of the stream: a process that the sender left
behind may keep the stream open for ever. A wait has a deadline on the monotonic clock, or is left
to who polls.
"""

import contextlib
import os
import select
from collections.abc import Callable, Iterable
from typing import Final

from tracecore.clock import monotonic_s
from tracecore.files import write_all

HEADER_BYTES: Final = 4
READ_BYTES: Final = 1 << 16


class ChannelClosed(Exception):
    """The other side has closed its end, or is gone."""


class ChannelTimeout(Exception):
    """The deadline passed before a whole message did."""


class MessageTooLarge(Exception):
    """A message announces more bytes than are allowed; nothing of it was read into memory."""


def pack(message: bytes) -> bytes:
    """The message as it goes over the pipe."""
    return len(message).to_bytes(HEADER_BYTES, "big") + message


def read_exactly(fd: int, count: int) -> bytes:
    """Wait for ``count`` bytes without a deadline: for a process whose life is bounded by
    another.

    Raises:
        ChannelClosed: The stream ended first.
    """
    parts = b""
    while len(parts) < count:
        part = os.read(fd, count - len(parts))
        if not part:
            raise ChannelClosed
        parts += part
    return parts


def read_message(fd: int) -> bytes:
    """Wait for one whole message without a deadline; raises as :func:`read_exactly` does."""
    return read_exactly(fd, int.from_bytes(read_exactly(fd, HEADER_BYTES), "big"))


def write_message(fd: int, message: bytes) -> None:
    """Write one whole message, waiting as long as it takes."""
    write_all(fd, pack(message))


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


class Inbox:
    """Whole messages out of a descriptor that never makes its reader wait."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._data = bytearray()

    def read(self) -> tuple[list[bytes], bool]:
        """The messages that have become whole since, and whether the stream has ended."""
        ended = False
        with contextlib.suppress(BlockingIOError):
            while True:
                part = os.read(self._fd, READ_BYTES)
                self._data += part
                ended = not part
                if len(part) < READ_BYTES:
                    break
        messages, at = [], 0
        while (end := _end_of_message(self._data, at)) is not None:
            messages.append(bytes(self._data[at + HEADER_BYTES : end]))
            at = end
        del self._data[:at]
        return messages, ended


class Outbox:
    """Messages for a reader that may be slow, or stopped: what it does not take waits here."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._data = bytearray()

    def put(self, message: bytes) -> bool:
        """Send a message as far as there is room; whether anything is left, see :meth:`flush`."""
        self._data += pack(message)
        return self.flush()

    def flush(self) -> bool:
        """Send what is left as far as there is room; whether anything still is.

        Raises:
            BrokenPipeError: Its reader is gone.
        """
        with contextlib.suppress(BlockingIOError):
            while self._data:
                del self._data[: os.write(self.fd, self._data)]
        return bool(self._data)


def is_whole(data: bytes | bytearray) -> bool:
    """Whether ``data`` begins with a whole message."""
    return _end_of_message(data, 0) is not None


def _end_of_message(data: bytes | bytearray, at: int) -> int | None:
    if len(data) - at < HEADER_BYTES:
        return None
    end = at + HEADER_BYTES + int.from_bytes(data[at : at + HEADER_BYTES], "big")
    return end if len(data) >= end else None


# A stream that is read beside the messages, and what takes some of it: whether more may come.
Beside = tuple[int, Callable[[], bool]]


class Channel:
    """One side of a pair of pipes to a process that is not trusted to answer, or to read."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        limit_bytes: int,
        gone_fd: int | None = None,
        beside: Beside | None = None,
    ) -> None:
        """Take over both descriptors.

        Args:
            read_fd: Where the other side's messages come from.
            write_fd: Where ours go.
            limit_bytes: The longest message that is received.
            gone_fd: Turns readable, or ends, when the process at the other side is dead: a process
                that it has left behind may hold its pipe open. Not closed here.
            beside: What else the other side writes: drained while a message is waited for, since
                it would wait for room as long. Not closed here.
        """
        self.read_fd, self.write_fd, self.limit_bytes = read_fd, write_fd, limit_bytes
        # A process that does not read fills the pipe: a blocking write would wait for it past every
        # deadline.
        os.set_blocking(write_fd, False)
        self._readable = select.poll()
        self._beside = beside
        self._surplus = 0  # bytes that came with the last message and belong to none
        # The order in which they are reported: what stands beside is looked at when nothing else
        # has come.
        for fd in (read_fd, gone_fd, beside and beside[0]):
            if fd is not None:
                self._readable.register(fd, select.POLLIN)

    def send(self, message: bytes, deadline_s: float) -> None:
        """Send one message.

        Raises:
            ChannelClosed: Its reader is gone.
            ChannelTimeout: It was not taken by ``deadline_s``.
        """
        view = memoryview(pack(message))
        while view:
            try:
                view = view[os.write(self.write_fd, view) :]
            except BlockingIOError:
                self._await_room(deadline_s)
            except BrokenPipeError as error:
                raise ChannelClosed from error

    def receive(self, deadline_s: float) -> bytes:
        """Wait for one whole message.

        Raises:
            ChannelClosed: The other side closed its end first.
            ChannelTimeout: It was not whole by ``deadline_s``.
            MessageTooLarge: It announces more than ``limit_bytes``.
        """
        data = b""
        while len(data) < HEADER_BYTES:
            data += self._read_some(deadline_s, READ_BYTES)
        size = int.from_bytes(data[:HEADER_BYTES], "big")
        if size > self.limit_bytes:
            raise MessageTooLarge(
                f"a message of {size} bytes, over the limit of {self.limit_bytes}"
            )
        parts, missing = [data], HEADER_BYTES + size - len(data)
        while missing > 0:
            parts.append(self._read_some(deadline_s, min(missing, 1 << 20)))
            missing -= len(parts[-1])
        whole = b"".join(parts)
        self._surplus = len(whole) - HEADER_BYTES - size
        return whole[HEADER_BYTES : HEADER_BYTES + size]

    def spoke_unasked(self) -> bool:
        """Whether the other side has sent anything beyond the messages that were received."""
        return self._surplus > 0 or self._can_read(select.POLLIN)

    def close(self) -> None:
        """Close both descriptors."""
        os.close(self.read_fd)
        os.close(self.write_fd)

    def _read_some(self, deadline_s: float, most: int) -> bytes:
        ready = self._readable.poll(max(0.0, deadline_s - monotonic_s()) * 1000)
        while ready and self._beside is not None and ready[0][0] == self._beside[0]:
            beside_fd, drain = self._beside
            if not drain():
                self._readable.unregister(beside_fd)  # it would be ready for ever
            ready = self._readable.poll(max(0.0, deadline_s - monotonic_s()) * 1000)
        if not ready:
            raise ChannelTimeout
        # What it had sent before it died is read first.
        if ready[0][0] != self.read_fd and not self._can_read(~0):
            raise ChannelClosed
        data = os.read(self.read_fd, most)
        if not data:
            raise ChannelClosed
        return data

    def _can_read(self, events: int) -> bool:
        return any(fd == self.read_fd and seen & events for fd, seen in self._readable.poll(0))

    def _await_room(self, deadline_s: float) -> None:
        writable = select.poll()
        writable.register(self.write_fd, select.POLLOUT)
        left_s = deadline_s - monotonic_s()
        if left_s <= 0 or not writable.poll(left_s * 1000):
            raise ChannelTimeout
