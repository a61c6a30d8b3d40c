"""Every test leaves the machine as it found it: no process, no descriptor."""

import gc
import multiprocessing.resource_tracker
import os
import pathlib
import sys
import time
from collections.abc import Iterator

import pytest

PATIENCE_S = 3.0  # a killed process needs a moment to be gone


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # it stays, and belongs to no test
    before = _children(), _descriptors()
    yield
    deadline_s = time.monotonic() + PATIENCE_S
    while (left := (_children() - before[0], _descriptors() - before[1])) != (set(), set()):
        gc.collect()
        assert time.monotonic() < deadline_s, (
            f"left behind: processes {left[0]}, descriptors {left[1]}"
        )
        time.sleep(0.02)


def _children() -> set[str]:
    me = os.getpid()
    tracker = multiprocessing.resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    words = pathlib.Path(f"/proc/{me}/task/{me}/children").read_text().split()
    return {f"{pid} {_command(pid)}" for pid in words if pid != str(tracker)}


def _command(pid: str) -> str:
    try:
        return (
            pathlib.Path(f"/proc/{pid}/cmdline")
            .read_text(errors="replace")
            .replace("\0", " ")[:100]
        )
    except OSError:
        return ""


def _descriptors() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            continue  # the one that listed them
    return found
