"""Doors: sockets that listen inside an agent's network namespace, and are served from outside it.

A socket belongs for ever to the namespace in which it was made. So the namespace of the agents has
nothing but these: one for the gateway to models, and one for each host and port that the scenario
row allows, under an address of its own, to which the host's name resolves.
"""

import contextlib
import fcntl
import socket
import struct
from typing import Final

from tracecore.confinement.readable import Reach
from tracecore.record import record, replace

LOCAL: Final = "127.0.0.1"
MODELS_PORT: Final = 8000  # always the same: agents see it
BACKLOG: Final = 1024
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8913, 0x8914, 0x8916, 1


@record
class Door:
    """One listening socket, as the agent finds it."""

    address: str
    port: int
    relay_to: tuple[str, int] | None = None  # the host and port behind it; none: the gateway

    @property
    def place(self) -> str:
        """``address:port``."""
        return f"{self.address}:{self.port}"


def target_of(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address stands in brackets.

    Raises:
        ValueError: It is none.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(text)
    return host, int(port)


def open_doors(reach: Reach, *, in_namespace: bool) -> list[tuple[Door, socket.socket]]:
    """Make the listening sockets, in the network that the agents will have.

    Args:
        reach: What the agents may reach.
        in_namespace: Whether that network is one of their own. Outside of one there is a door to
            models alone, on a port that is free; what else is allowed is reached directly.

    Raises:
        OSError: The kernel refused.
    """
    doors = [Door(LOCAL, MODELS_PORT if in_namespace else 0)] if reach.models else []
    if in_namespace:
        _raise_loopback()
        for number, text in enumerate(reach.network, 2):
            target = target_of(text)
            address = f"127.0.{number >> 8}.{number & 255}"
            if _is_address(target[0]):  # which no name stands for: it is given to the loopback
                address = target[0]
                if not address.startswith("127."):  # those are there already
                    _add_address(number, address)
            doors.append(Door(address, target[1], target))
    found = []
    for door in doors:
        listener = socket.create_server((door.address, door.port), backlog=BACKLOG)
        found.append((replace(door, port=listener.getsockname()[1]), listener))
    return found


def hosts_text(doors: tuple[Door, ...]) -> str:
    """The file of host names for agents that have these doors."""
    names = {door.relay_to[0]: door.address for door in doors if door.relay_to}
    lines = [f"{address} {name}" for name, address in {"localhost": LOCAL, **names}.items()]
    return "\n".join(lines) + "\n"


def _is_address(host: str) -> bool:
    try:
        return bool(socket.inet_pton(socket.AF_INET, host))
    except OSError:
        return False


def _add_address(number: int, address: str) -> None:
    packed = socket.inet_pton(socket.AF_INET, address)
    request = struct.pack("16sHH4s8x", b"lo:%d" % number, socket.AF_INET, 0, packed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        fcntl.ioctl(some, SIOCSIFADDR, request)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some, contextlib.suppress(OSError):
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(some, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(some, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
