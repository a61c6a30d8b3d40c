"""What somebody who looks on is told while a batch runs."""

import itertools
import time

from tracecore.batch.pool import BatchOptions, run_batch


def sleep(job, _link):
    time.sleep(job)
    return job


def test_the_one_who_looks_on_is_told_what_runs_and_since_when():
    seen = []
    options = BatchOptions(
        slots=2,
        limit_s=lambda _: 30.0,
        on_tick=lambda running: seen.append(list(running)),
        tick_s=0.05,
    )
    before_s = time.monotonic()
    ended = list(run_batch(sleep, [0.4, 0.4], options))
    assert len(ended) == 2
    told = [running for look in seen for running in look]
    assert told
    assert {running.job for running in told} == {0.4}
    assert all(before_s <= running.since_s <= time.monotonic() for running in told)
    assert max(map(len, seen)) <= 2


def test_ticks_come_while_nothing_ends_and_late_ones_are_skipped():
    looks = []

    def look(_running):
        looks.append(time.monotonic())
        time.sleep(0.15)  # three ticks long

    options = BatchOptions(slots=1, limit_s=lambda _: 30.0, on_tick=look, tick_s=0.05)
    assert len(list(run_batch(sleep, [1.0], options))) == 1
    assert len(looks) >= 3
    assert all(later - earlier >= 0.15 for earlier, later in itertools.pairwise(looks))


def test_nobody_who_looks_on_is_fine_too():
    assert len(list(run_batch(sleep, [0.0], BatchOptions(slots=1, limit_s=lambda _: 30.0)))) == 1
