"""Messages over pipes: four bytes of length, then the message.

A message is taken from its length, never from the end of the stream: a process that the sender left
    behind may keep the
stream open for ever. Every wait has a deadline on the monotonic clock.
"""

import os
import select
from collections.abc import Callable
from typing import Final

from tracecore.clock import monotonic_s

HEADER_BYTES: Final = 4
READ_BYTES: Final = 1 << 16
# during a wait, between two looks at whether the other side still lives
LOOK_INTERVAL_S: Final = 0.25


class ChannelClosed(Exception):
    """The other side has closed its end, or is gone."""


class ChannelTimeout(Exception):
    """The deadline passed before a whole message did."""


class MessageTooLarge(Exception):
    """A message announces more bytes than are allowed; nothing of it was read into memory.

    Attributes:
        message_bytes: What it announced.
        limit_bytes: What is allowed.
    """

    def __init__(self, message_bytes: int, limit_bytes: int) -> None:
        self.message_bytes, self.limit_bytes = message_bytes, limit_bytes
        super().__init__(f"a message of {message_bytes} bytes, over the limit of {limit_bytes}")


def pack(message: bytes) -> bytes:
    """The message as it goes over the pipe."""
    return len(message).to_bytes(HEADER_BYTES, "big") + message


def read_exactly(fd: int, count: int) -> bytes:
    """Wait for ``count`` bytes without a deadline: for a process whose life is bounded by somebody
    else.

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
    view = memoryview(pack(message))
    while view:
        view = view[os.write(fd, view) :]


class Channel:
    """One side of a pair of pipes to a process that is not trusted to answer, or to read."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        limit_bytes: int,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take over both descriptors.

        Args:
            read_fd: Where the other side's messages come from.
            write_fd: Where ours go.
            limit_bytes: The longest message that is received.
            is_gone: Tells whether the process at the other side is dead; asked now and then during
                a long wait, since somebody whom it has left behind may hold its pipe open.
        """
        self.read_fd, self.write_fd, self.limit_bytes, self._is_gone = (
            read_fd,
            write_fd,
            limit_bytes,
            is_gone,
        )
        # A process that does not read fills the pipe: a blocking write would wait for it past every
        # deadline.
        os.set_blocking(write_fd, False)
        self._readable = select.poll()
        self._readable.register(read_fd, select.POLLIN)

    def send(self, message: bytes, deadline_s: float) -> None:
        """Send one message.

        Raises:
            ChannelClosed: Nobody can read it any more.
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
        data = self._read_some(deadline_s, READ_BYTES)
        while len(data) < HEADER_BYTES:
            data += self._read_some(deadline_s, READ_BYTES)
        size = int.from_bytes(data[:HEADER_BYTES], "big")
        if size > self.limit_bytes:
            raise MessageTooLarge(size, self.limit_bytes)
        parts, missing = [data], HEADER_BYTES + size - len(data)
        while missing > 0:
            parts.append(self._read_some(deadline_s, min(missing, 1 << 20)))
            missing -= len(parts[-1])
        whole = b"".join(parts)
        self._surplus = len(whole) - HEADER_BYTES - size
        return whole[HEADER_BYTES : HEADER_BYTES + size]

    def spoke_unasked(self) -> bool:
        """Whether the other side has sent anything beyond the messages that were received."""
        if self._surplus:
            return True
        events = self._readable.poll(0)
        return bool(events and events[0][1] & select.POLLIN)

    def close(self) -> None:
        """Close both descriptors."""
        os.close(self.read_fd)
        os.close(self.write_fd)

    _surplus = 0  # bytes that came with the last message and belong to none

    def _read_some(self, deadline_s: float, most: int) -> bytes:
        while not self._readable.poll(
            max(0.0, min(deadline_s - monotonic_s(), LOOK_INTERVAL_S)) * 1000
        ):
            if monotonic_s() >= deadline_s:
                raise ChannelTimeout
            if self._is_gone() and not self._readable.poll(0):
                raise ChannelClosed
        data = os.read(self.read_fd, most)
        if not data:
            raise ChannelClosed
        return data

    def _await_room(self, deadline_s: float) -> None:
        writable = select.poll()
        writable.register(self.write_fd, select.POLLOUT)
        left_s = deadline_s - monotonic_s()
        if left_s <= 0 or not writable.poll(left_s * 1000):
            raise ChannelTimeout
