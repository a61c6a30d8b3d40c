"""Which core each worker keeps to.

A worker and everything below it on one core: a message between two processes costs a tenth there of
what it costs between two cores. It is an optimisation: where a core cannot be had, a worker does
without.
"""

import os
import socket
import sys
from collections.abc import Callable


def usable_cores() -> list[int]:
    """The cores that this process may use; numbers without a meaning where the platform
    has none.
    """
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Cores:
    """Cores that are kept for the workers of this batch, and by no other batch on this machine."""

    def __init__(self, on_note: Callable[[str], None] | None = None) -> None:
        self._on_note = on_note
        self._claims: dict[int, socket.socket] = {}

    def claim(self) -> int | None:
        """The first core that no batch has claimed; ``None`` when each has been: then the kernel
        knows best where there is room.
        """
        for core in usable_cores() if sys.platform == "linux" else ():
            if core in self._claims:
                continue
            # A name in the system's abstract namespace belongs to one socket, and is free when its
            # process is gone.
            held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                held.bind(f"\0tracecore-core-{core}")
            except OSError:
                held.close()
            else:
                self._claims[core] = held
                return core
        return None

    def pin(self, pid: int, core: int | None) -> None:
        """Keep a process, and all that it starts, to a core; or say once that it cannot be."""
        if core is None:
            return
        try:
            os.sched_setaffinity(pid, {core})
        except OSError as error:
            if self._on_note:
                self._on_note(f"workers keep to no core of their own: {error.strerror}")
                self._on_note = None

    def release(self, core: int | None) -> None:
        """Leave a claimed core to others."""
        if core is not None:
            self._claims.pop(core).close()
