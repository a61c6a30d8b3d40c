"""What else went on while a slice ran: load before it, time stolen from the machine, memory of the
harness itself.
"""

import os
from typing import Final

from tracecore.perf.host.facts import read_text
from tracecore.record import record, replace
from tracecore.records import JsonObject

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@record
class HostNoise:
    """What the host did to a slice; None where it is not known."""

    # processes that wanted to run, over the minute before the slice
    load1_before: float | None = None
    # processes of others that wanted to run at the moment the slice began
    running_before: int | None = None
    cpus_total: int | None = None
    cpus_usable: int | None = None
    steal_share: float | None = None  # of all CPU time: taken by other guests of the same machine
    # resident memory of the harness, from before the first episode to after the last
    harness_growth_bytes: int | None = None


class HostWatch:
    """Takes the figures: made before the first episode, asked after the last."""

    def __init__(self, host: JsonObject, root: str = "/") -> None:
        """Begin.

        Args:
            host: The facts of the host as they were just now, its load among them.
            root: Where ``proc`` lies.
        """
        self._root = root
        self._before = HostNoise(
            load1_before=host["load_averages"][0] if host["load_averages"] else None,
            running_before=self._others_running(),
            cpus_total=host["cpus_total"],
            cpus_usable=host["cpus_usable"],
        )
        self._ticks, self._resident_bytes = self._cpu_ticks(), self._own_resident_bytes()

    def figures(self) -> HostNoise:
        """What has happened since."""
        before, after = self._ticks, self._cpu_ticks()
        steal_share = None
        if before and after and sum(after) > sum(before):
            steal_share = (after[7] - before[7]) / (sum(after) - sum(before))
        resident_bytes, growth_bytes = self._own_resident_bytes(), None
        if resident_bytes is not None and self._resident_bytes is not None:
            growth_bytes = resident_bytes - self._resident_bytes
        return replace(self._before, steal_share=steal_share, harness_growth_bytes=growth_bytes)

    def _cpu_ticks(self) -> list[int] | None:
        """User, nice, system, idle, iowait, irq, softirq and steal, of all CPUs; guest time is part
        of user time.
        """
        words = read_text(self._root, "proc/stat").partition("\n")[0].split()
        return (
            [int(word) for word in words[1:9]] if words[:1] == ["cpu"] and len(words) > 8 else None
        )

    def _others_running(self) -> int | None:
        """``/proc/loadavg`` has three averages, then running/existing processes; one of those that
        run is this one.
        """
        running = read_text(self._root, "proc/loadavg").split()[3:4]
        digits = running[0].partition("/")[0] if running else ""
        return int(digits) - 1 if digits.isdecimal() else None

    def _own_resident_bytes(self) -> int | None:
        words = read_text(self._root, "proc/self/statm").split()
        return int(words[1]) * PAGE_BYTES if len(words) > 1 else None
