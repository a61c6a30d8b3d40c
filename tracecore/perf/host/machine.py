"""What the machine and the processes of a slice are doing now.

Nothing here raises for want of a figure: it is null then.
"""

import json
import os
from typing import Any, Final

from tracecore import clock, descendants
from tracecore.perf.host.facts import load_averages, read_text
from tracecore.records import JsonObject

PRESSURES: Final = ("cpu", "io", "memory")


class Machine:
    """Reads the machine again and again; percentages cover the time since the reading before.

    Attributes:
        trouble: Why psutil's figures are null, or None.
    """

    def __init__(self) -> None:
        self._psutil: Any = None
        self.trouble: str | None = None
        try:
            import psutil  # noqa: PLC0415  # optional: everything but these figures works without it
        except ImportError:
            self.trouble = "psutil is not installed"
        except Exception as error:  # broken in whatever way: a slice is worth more than its samples
            self.trouble = f"psutil cannot be loaded: {type(error).__name__}: {error}"
        else:
            self._psutil = psutil
        self._stalled_s: dict[str, float] = {}
        self._read_at_s = clock.monotonic_s()
        self.read()  # psutil's first percentages are always 0.0

    def read(self) -> JsonObject:
        """The figures of this moment, under their names in the samples document."""
        now_s = clock.monotonic_s()
        elapsed_s, self._read_at_s = now_s - self._read_at_s, now_s
        rss_bytes, cpu_s, alive = read_tree(os.getpid())
        return {
            **self._psutil_figures(),
            "pressure": self._pressure(elapsed_s),
            "load_averages": load_averages(),
            "tree_rss_bytes": rss_bytes,
            "tree_cpu_s": cpu_s,
            "processes": alive,
        }

    def _psutil_figures(self) -> JsonObject:
        if self._psutil is not None:
            try:
                times = self._psutil.cpu_times_percent()
                iowait = getattr(times, "iowait", None)
                figures = {
                    "cpu_percent": round(max(0.0, 100.0 - times.idle - (iowait or 0.0)), 1),
                    "cpu_percent_per_core": self._psutil.cpu_percent(percpu=True),
                    "steal_percent": getattr(times, "steal", None),
                    "iowait_percent": iowait,
                    "memory_available_bytes": int(self._psutil.virtual_memory().available),
                }
                json.dumps(figures, allow_nan=False)  # raises: what no file could hold is no figure
            # whatever psutil does: a slice is worth more than its samples
            except Exception as error:
                self.trouble = f"psutil: {type(error).__name__}: {error}"
            else:
                return figures
        return dict.fromkeys(
            (
                "cpu_percent",
                "cpu_percent_per_core",
                "steal_percent",
                "iowait_percent",
                "memory_available_bytes",
            )
        )

    def _pressure(self, elapsed_s: float) -> JsonObject | None:
        """Percent of the time in which some, or all, work waited for a resource; null where the
        kernel does not tell.
        """
        stalled_s = {
            name: value for resource in PRESSURES for name, value in _stalled_s(resource).items()
        }
        before, self._stalled_s = self._stalled_s, stalled_s
        if not stalled_s:
            return None
        return {
            f"{name}_percent": round(100 * (value - before[name]) / elapsed_s, 2)
            if name in before and elapsed_s
            else None
            for name, value in stalled_s.items()
        }


def _stalled_s(resource: str) -> dict[str, float]:
    totals = {
        line.split()[0]: int(line.rpartition("total=")[2]) / 1e6
        for line in read_text("/", f"proc/pressure/{resource}").splitlines()
        if "total=" in line
    }
    # All work waiting for a processor is what the kernel itself calls meaningless for a whole
    # machine.
    return {
        f"{resource}_{kind}": total
        for kind, total in totals.items()
        if (resource, kind) != ("cpu", "full")
    }


def read_tree(root: int) -> tuple[int, float, int]:
    """Resident bytes, CPU seconds and processes alive, from ``root`` down: a few small files per
    process, where psutil would read those of every process of the machine.
    """
    ticks_per_s, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    pages = ticks = alive = 0
    todo = [root]
    while todo:
        pid = todo.pop()
        # the fields behind the name, which may hold anything; none when the process is gone
        stat = descendants.read_proc(f"{pid}/stat").rpartition(b")")[2].split()
        if not stat:
            continue
        # Fields 14 to 17 of proc(5): its own time, and that of the children it has waited for.
        ticks += sum(map(int, stat[11:15]))
        pages += int(stat[21])
        alive += stat[0] != b"Z"
        todo += descendants.children_of(pid)
    return pages * page_bytes, ticks / ticks_per_s, alive
