import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import frames
from tracecore.clock import monotonic_s
from tracecore.frames import Channel, ChannelClosed, ChannelTimeout, MessageTooLarge, pack

LIMIT = 1000
SHORT_S, LONG_S = 0.05, 300.0


class Ends:
    """A channel, and the other side of its pipes, that of its life line included."""

    def __init__(self) -> None:
        their_read, our_write = os.pipe()
        our_read, their_write = os.pipe()
        self.gone_fd, self.life_fd = os.pipe()
        self.fds = {their_read, their_write, self.life_fd}
        self.their_read, self.their_write = their_read, their_write
        self.channel = Channel(our_read, our_write, LIMIT, self.gone_fd)

    def say(self, data: bytes) -> None:
        os.write(self.their_write, data)

    def die(self) -> None:
        self.fds.remove(self.life_fd)
        os.close(self.life_fd)

    def hang_up(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = set()

    def close(self) -> None:
        self.hang_up()
        self.channel.close()
        os.close(self.gone_fd)


@pytest.fixture
def ends() -> Iterator[Ends]:
    found = Ends()
    yield found
    found.close()


def soon() -> float:
    return monotonic_s() + SHORT_S


def later() -> float:
    return monotonic_s() + LONG_S


@given(st.binary(max_size=LIMIT), st.lists(st.integers(1, 300), max_size=5))
def test_a_message_arrives_whole_however_it_is_cut(message: bytes, cuts: list[int]) -> None:
    ends = Ends()
    try:
        data = pack(message)
        for cut in cuts:
            ends.say(data[:cut])
            data = data[cut:]
        ends.say(data)
        assert ends.channel.receive(later()) == message
        assert not ends.channel.spoke_unasked()
    finally:
        ends.close()


def test_what_comes_behind_a_message_is_noticed(ends: Ends) -> None:
    ends.say(pack(b"one") + b"x")
    assert ends.channel.receive(later()) == b"one"
    assert ends.channel.spoke_unasked()


@pytest.mark.parametrize("size", [LIMIT + 1, 1 << 31, (1 << 32) - 1])
def test_a_message_over_the_limit_is_refused_by_its_length_alone(ends: Ends, size: int) -> None:
    ends.say(size.to_bytes(4, "big"))
    with pytest.raises(MessageTooLarge, match=str(size)):
        ends.channel.receive(later())


@pytest.mark.parametrize("begun", [b"", b"\0", pack(b"12345678")[:7]])
def test_a_side_that_closes_is_noticed_at_once(ends: Ends, begun: bytes) -> None:
    ends.say(begun)
    ends.hang_up()
    with pytest.raises(ChannelClosed):
        ends.channel.receive(later())
    with pytest.raises(ChannelClosed):
        ends.channel.send(b"x", later())


def test_a_side_that_is_dead_is_noticed_behind_a_pipe_that_others_hold() -> None:
    ends = Ends()
    try:
        ends.say(pack(b"last words"))
        ends.die()
        assert ends.channel.receive(later()) == b"last words"
        ends.say(b"\0\0")
        with pytest.raises(ChannelClosed):
            ends.channel.receive(later())
    finally:
        ends.close()


def test_neither_half_a_message_nor_a_side_that_does_not_read_holds_longer_than_the_deadline(
    ends: Ends,
) -> None:
    ends.say(pack(b"12345678")[:7])
    with pytest.raises(ChannelTimeout):
        ends.channel.receive(soon())
    with pytest.raises(ChannelTimeout):
        ends.channel.send(b"x" * (1 << 20), soon())


def test_plain_reading_tells_the_end_of_a_stream() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, pack(b"whole") + pack(b"torn")[:6])
    os.close(write_fd)
    assert frames.read_message(read_fd) == b"whole"
    with pytest.raises(ChannelClosed):
        frames.read_message(read_fd)
    os.close(read_fd)


def test_messages_that_come_in_pieces_are_given_when_they_are_whole() -> None:
    read_fd, write_fd = os.pipe()
    inbox = frames.Inbox(read_fd)
    assert inbox.read() == ([], False)
    os.write(write_fd, pack(b"one") + pack(b"two")[:5])
    assert inbox.read() == ([b"one"], False)
    os.write(write_fd, pack(b"two")[5:] + pack(b""))
    os.close(write_fd)
    assert inbox.read() == ([b"two", b""], False)
    assert inbox.read() == ([], True)
    os.close(read_fd)


def test_a_reader_that_is_slow_makes_nobody_wait_and_loses_nothing() -> None:
    read_fd, write_fd = os.pipe()
    outbox, inbox = frames.Outbox(write_fd), frames.Inbox(read_fd)
    message, found = b"x" * (1 << 20), list[bytes]()
    assert outbox.put(message)
    assert outbox.put(b"behind it")
    while len(found) < 2:
        found += inbox.read()[0]
        outbox.flush()
    assert found == [message, b"behind it"]
    assert not outbox.flush()
    os.close(read_fd)
    with pytest.raises(BrokenPipeError):
        outbox.put(b"too late")
    os.close(write_fd)
