"""What is said to ``on_tick`` while a batch runs."""

import itertools
import pathlib
import time

from helpers import jobs
from helpers.jobs import Errand

from tracecore.batch.pool import BatchOptions, run_batch


def test_each_tick_is_told_what_runs_and_since_when(tmp_path: pathlib.Path) -> None:
    seen = []

    def look(running):
        seen.append([(one.job.index, one.since_s) for one in running])
        if sum(map(bool, seen)) >= 3:  # ticks that saw a job; the jobs end now
            (tmp_path / "go").touch()

    options = BatchOptions(slots=2, limit_s=lambda _: 300.0, on_tick=look, tick_s=0.05)
    before_s = time.monotonic()
    errands = [Errand(i, str(tmp_path / "go")) for i in range(2)]
    assert len(list(run_batch(jobs.wait_for_file, errands, options))) == 2
    told = {one for look in seen for one in look}
    assert {index for index, _ in told} <= {0, 1}
    assert all(before_s <= since_s <= time.monotonic() for _, since_s in told)
    assert len(told) == len({index for index, _ in told})  # each has begun once
    assert max(map(len, seen)) <= 2


def test_ticks_that_came_too_late_are_skipped(tmp_path: pathlib.Path) -> None:
    looks = []

    def look(_running):
        looks.append(time.monotonic())
        time.sleep(0.15)  # three ticks long
        if len(looks) >= 3:
            (tmp_path / "go").touch()

    options = BatchOptions(slots=1, limit_s=lambda _: 300.0, on_tick=look, tick_s=0.05)
    assert len(list(run_batch(jobs.wait_for_file, [Errand(0, str(tmp_path / "go"))], options))) == 1
    spans = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert min(spans) >= 0.15


def test_without_on_tick_nothing_is_told() -> None:
    options = BatchOptions(slots=1, limit_s=lambda _: 300.0)
    assert len(list(run_batch(jobs.double, [Errand(0)], options))) == 1
