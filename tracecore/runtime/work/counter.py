"""How much Python an episode executes: lines and calls, which are the same on every run of the same
code on one version of Python, however busy the machine is.

What depends on the clock is not counted: waiting for the other process, and what labels times.
"""

import gc
import os
import resource
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final

from tracecore import clock, frames
from tracecore.records import JsonObject
from tracecore.runtime.foreign.stable_text import library_places

# Code in these files, and all that it calls: how often it waits is a matter of time.
WAITING: Final = frozenset((frames.__file__, clock.__file__, __file__))
# Code in these is left out alone: what an event loop calls is the agent's own.
LEFT_OUT: Final = (
    "asyncio/",
    "selectors.py",
    "concurrent/",
    "tracecore/runtime/work/second_pass.py",
)

Trace = Callable[[FrameType, str, Any], Any]


class WorkCounter:
    """Counts what this thread executes between ``start`` and ``stop``.

    Args:
        places: Folders, and what stands for each in the names of modules: those of the task and of
            the agent. The longest that holds a file counts.
    """

    def __init__(self, places: tuple[tuple[str, str], ...]) -> None:
        self._places = sorted((*places, *library_places()), key=lambda place: -len(place[0]))
        # each code object's counts, and what counts its lines; none for one that is not counted
        self._known: dict[CodeType, tuple[list[int], Trace] | None] = {}
        self._waits_in: FrameType | None = None

    def start(self) -> None:
        """Begin to count. No garbage is collected meanwhile: when it would be is a matter of
        chance, and finalizers are code.
        """
        gc.collect()
        gc.disable()
        sys.settrace(self._enter)

    def stop(self) -> None:
        """Count no more."""
        sys.settrace(None)
        gc.enable()

    def as_json(self) -> JsonObject:
        """``{"lines": n, "calls": n, "functions": {"module:function": [lines, calls]}}``."""
        functions: dict[str, list[int]] = {}
        for code, entry in self._known.items():
            if entry is not None:
                name = f"{self._module_of(code.co_filename)}:{code.co_qualname}"
                lines, calls = functions.get(name, (0, 0))
                functions[name] = [lines + entry[0][0], calls + entry[0][1]]
        return {
            "lines": sum(lines for lines, _calls in functions.values()),
            "calls": sum(calls for _lines, calls in functions.values()),
            "functions": dict(sorted(functions.items())),
        }

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Trace | None:
        if self._waits_in is not None:
            return None
        code = frame.f_code
        if code not in self._known:
            self._known[code] = self._entry(code)
        entry = self._known[code]
        if entry is not None:
            entry[0][1] += 1
            return entry[1]
        if code.co_filename not in WAITING:
            return None
        self._waits_in = frame
        frame.f_trace_lines = False
        return self._leave

    def _leave(self, frame: FrameType, event: str, _argument: Any) -> Trace:
        if event == "return" and frame is self._waits_in:
            self._waits_in = None
        return self._leave

    def _entry(self, code: CodeType) -> tuple[list[int], Trace] | None:
        path = code.co_filename
        if path in WAITING or self._module_of(path).startswith(LEFT_OUT):
            return None
        counts = [0, 0]

        def count(_frame: FrameType, event: str, _argument: Any) -> Trace:
            if event == "line":
                counts[0] += 1
            return count

        return counts, count

    def _module_of(self, path: str) -> str:
        for folder, name in self._places:
            if path.startswith(f"{folder}/"):
                relative = path[len(folder) + 1 :]
                return relative if name in {"lib", "site-packages"} else f"{name}/{relative}"
        return path if path.startswith("<") else os.path.basename(path)


def page_faults() -> int:
    """Minor page faults of this process since it started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
