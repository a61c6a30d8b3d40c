"""What agents that may reach a host can do with sockets beside connecting to its door."""

import os
import socket
import sys
from collections.abc import Callable

import pytest

from tracecore.confinement import doctor, trials
from tracecore.confinement.readable import Reach
from tracecore.records import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
REACH = Reach(
    folder=os.path.dirname(os.__file__), agents=(), read=(), network=("example.org:443",), hidden=()
)
LIMITS = Limits(layers_off="audit_hook,mount_namespace,landlock")


LOCAL = ("127.0.0.1", 9)
ATTEMPTS: dict[str, Callable[[], object]] = {
    "send a datagram": lambda: socket.socket(type=socket.SOCK_DGRAM).connect(LOCAL),
    "reach a local socket": lambda: socket.socket(socket.AF_UNIX).connect("/run/x"),
    "turn a pair to a path": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[
        0
    ].connect("/run/x"),
    "take a name": lambda: socket.socket().bind(("127.0.0.1", 0)),
    "listen": lambda: socket.socket().listen(),
    "ask the kernel": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_an_agent_with_a_door_cannot(attempt: Callable[[], object]) -> None:
    if doctor.probe(Limits(), thorough=False)["network_namespace"] is not True:
        pytest.skip("this machine permits no network namespace")

    def is_refused() -> bool:
        try:
            attempt()
        except PermissionError:
            return True
        return False

    assert trials.was_stopped(trials.run_trial(is_refused, LIMITS, REACH))


def test_an_agent_with_a_door_may_have_streams_and_pairs() -> None:
    def has_them() -> bool:
        one, other = socket.socketpair()
        one.sendmsg([b"x"])
        return other.recv(1) + bytes([socket.socket().fileno() > 0]) != b"x\1"

    assert not trials.was_stopped(trials.run_trial(has_them, LIMITS, REACH))
