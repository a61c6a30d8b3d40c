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


def sends_a_datagram() -> bool:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 9))
    return False


def reaches_a_local_socket() -> bool:
    socket.socket(socket.AF_UNIX).connect("/run/x")
    return False


def turns_a_pair_to_a_path() -> bool:
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].connect("/run/x")
    return False


def takes_a_name() -> bool:
    socket.socket().bind(("127.0.0.1", 0))
    return False


def listens() -> bool:
    socket.socket().listen()
    return False


def asks_the_kernel() -> bool:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    return False


@pytest.mark.parametrize(
    "attempt",
    [
        sends_a_datagram,
        reaches_a_local_socket,
        turns_a_pair_to_a_path,
        takes_a_name,
        listens,
        asks_the_kernel,
    ],
)
def test_an_agent_with_a_door_cannot(attempt: Callable[[], bool]) -> None:
    if doctor.probe(Limits(), thorough=False)["network_namespace"] is not True:
        pytest.skip("this machine permits no network namespace")

    def is_refused() -> bool:
        try:
            return attempt()
        except PermissionError:
            return True

    assert trials.was_stopped(trials.run_trial(is_refused, LIMITS, REACH))


def test_an_agent_with_a_door_may_have_streams_and_pairs() -> None:
    def has_them() -> bool:
        one, other = socket.socketpair()
        one.sendmsg([b"x"])
        return other.recv(1) + bytes([socket.socket().fileno() > 0]) != b"x\1"

    assert not trials.was_stopped(trials.run_trial(has_them, LIMITS, REACH))
