import os
import subprocess
import sys
import time

import pytest

from tracecore.batch import growth
from tracecore.batch.growth import INTERVAL_S, Growth, cpu_s_below, idle_s

CORES = [0, 1]


class Kernel:
    """What the kernel would tell: seconds idle and seconds spent, so far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.idle: float | None = 0.0
        self.own = 0.0
        monkeypatch.setattr(growth, "idle_s", lambda _cores: self.idle)
        monkeypatch.setattr(growth, "cpu_s_below", lambda _pids: self.own)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def look(grows: Growth, kernel: Kernel, *, idle: float | None, own: float, workers: int = 2) -> int:
    """How many it adds after a whole interval in which these shares of the cores were idle, and
    spent by the jobs.
    """
    pids = list(range(workers))
    assert grows.more(0.0, pids, all_ready=True) == 0
    core_s = INTERVAL_S * len(CORES)
    kernel.idle = None if idle is None else idle * core_s
    kernel.own = own * core_s
    return grows.more(INTERVAL_S, pids, all_ready=True)


@pytest.mark.parametrize(
    ("idle", "own", "added"),
    [
        (0.0, 1.0, 0),  # the jobs compute
        (0.1, 0.8, 0),  # with what it costs to start them
        (0.9, 0.1, 2),  # the jobs wait
        (0.3, 0.7, 2),
        (0.0, 0.5, 0),  # others compute, too
        (0.0, 0.1, 2),  # others compute, and the jobs wait
        (None, 1.0, 0),  # nobody tells of the cores
        (None, 0.5, 2),
    ],
)
def test_workers_are_added_while_the_cores_wait(
    kernel: Kernel, idle: float | None, own: float, added: int
) -> None:
    assert look(Growth(64, CORES), kernel, idle=idle, own=own) == added


def test_it_begins_with_the_cores_and_never_has_more_than_are_wanted(kernel: Kernel) -> None:
    assert [Growth(wanted, CORES).at_once for wanted in (1, 2, 64)] == [1, 2, 2]
    assert Growth(64, []).at_once == 1
    assert look(Growth(5, CORES), kernel, idle=1.0, own=0.0, workers=4) == 1
    assert look(Growth(4, CORES), kernel, idle=1.0, own=0.0, workers=4) == 0


def test_the_start_of_workers_is_not_looked_at(kernel: Kernel) -> None:
    grows = Growth(8, CORES)
    assert grows.more(0.0, [1, 2], all_ready=False) == 0
    kernel.idle = 1.0
    assert grows.more(5.0, [1, 2], all_ready=True) == 0  # the first look is taken from here
    assert grows.more(5.0 + INTERVAL_S / 2, [1, 2], all_ready=True) == 0
    kernel.idle = 1.0 + 2 * INTERVAL_S
    assert grows.more(5.0 + INTERVAL_S, [1, 2], all_ready=True) == 2


def test_idle_time_grows_by_no_more_than_time_itself() -> None:
    cores = sorted(os.sched_getaffinity(0))
    before, begun_s = idle_s(cores), time.monotonic()
    time.sleep(0.1)
    after = idle_s(cores)
    assert before is not None
    assert after is not None
    assert 0 <= after - before <= (time.monotonic() - begun_s + 0.05) * len(cores)


def test_nobody_tells_of_cores_that_are_not_there() -> None:
    assert idle_s([100_000]) is None
    assert idle_s([]) is None


def test_processor_time_counts_what_runs_and_what_was_reaped_below() -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass\n"
    code = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}]); print();"
        " sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert cpu_s_below([parent.pid]) >= 0.25
        parent.communicate(b"")
    assert cpu_s_below([parent.pid]) == 0.0
